//! What a stranger on the mail host can do to an agent whose sockets he may open: real processes, and what each flood
//! costs a delivery, in answers and memory.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use support::cloud::Cloud;
use support::dict_client::deliver;
use support::host::{Host, badges};
use support::machine;
use support::process::wait_until;

/// Longest wait for a thing to happen on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for the answer to a commit, on a busy machine. Mail servers give up after 30 s.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Memory that a flood may cost the agent.
const MEMORY_MAX: u64 = 16 * 1024 * 1024;
/// Connections of the flood; a process may open 1,024 files, if nobody allows it more.
const HOARDERS: usize = 900;
/// What each of them writes of a line.
const HALF_LINE: usize = 60 * 1024;

/// Bytes of memory that a process holds.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is there");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}

/// Opens a connection and leaves a line without its end there, or says nothing.
fn hoard(socket: &Path, number: usize) -> UnixStream {
    let mut stream = UnixStream::connect(socket).expect("somebody listens");
    if !number.is_multiple_of(3) {
        let mut half = b"H3\t2\t0\t\tunseen\nB1\tu1\nS1\tpriv/status/INBOX\t".to_vec();
        half.resize(HALF_LINE, b'x');
        stream.set_write_timeout(Some(LIMIT)).expect("a limit");
        // The agent may have ended it meanwhile.
        let _sent = stream.write_all(&half);
    }
    stream
}

fn is_ended(stream: &mut UnixStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    match stream.read(&mut [0]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[test]
fn half_lines_at_the_dict_socket_cost_no_delivery_and_little_memory_and_end_in_time() {
    let _alone = machine::alone();
    let cloud = Cloud::start();
    let mut host = Host::new();
    host.configure(&cloud, &format!("{}connections-max = 200\n", host.dovecot_source()));
    host.subscribe(&["u1".to_owned()]);
    host.start();
    let socket = host.dict_socket();
    let before = deliver(&socket, "u1", 1);
    let idle = resident(host.pid());
    let mut hoarders: Vec<UnixStream> = (0..HOARDERS).map(|number| hoard(&socket, number)).collect();
    let flooded: Vec<Duration> = (2..12).map(|unseen| deliver(&socket, "u1", unseen)).collect();
    let cost = resident(host.pid()).saturating_sub(idle);
    println!(
        "a commit took {before:?} before the flood and {flooded:?} in it; {} KiB more memory",
        cost / 1024
    );
    assert!(flooded.iter().all(|took| *took < ANSWER_MAX), "{flooded:?}");
    assert!(cost < MEMORY_MAX, "{cost} bytes");
    wait_until("the badge", LIMIT, || (badges(&cloud, "u1") == [Some(11); 2]).then_some(()));
    wait_until("the last half line to be ended", LIMIT, || hoarders.iter_mut().all(is_ended).then_some(()));
}
