//! Whoever may connect to an HTTP socket of the agent cannot take from others what they need: descriptors, memory, an
//! answer. Real processes; what a single connection may do is tested beside `listen/driver.rs`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;
use support::cloud::Cloud;
use support::dict_client::deliver;
use support::host::{Host, badges};
use support::machine;
use support::process::{try_until, wait_until};

/// Longest wait for a thing to happen on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
/// Longest wait of a delivery; without descriptors left, Dovecot would wait for 30 s.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Connections to the admin socket that are held, and its limit.
const HELD: usize = 300;
const ADMIN_MAX: usize = 64;
/// The agent's limit of descriptors: more than it needs with [`ADMIN_MAX`], fewer than [`HELD`].
const DESCRIPTORS: usize = 200;
/// Descriptors that are left in a test where they are short.
const SPARE: usize = 12;
/// Half requests of 60 KB to the endpoint, so many at a time.
const HALVES: [usize; 8] = [250; 8];
/// What they may leave in the agent's memory.
const LEFT_KB_MAX: u64 = 16 * 1024;

/// An agent with a Dovecot source and both endpoints, whose mailbox `u1` has two devices.
struct Scene {
    cloud: Cloud,
    host: Host,
}

impl Scene {
    fn new() -> Self {
        let (cloud, mut host) = (Cloud::start(), Host::new());
        host.open_endpoint();
        host.open_inside();
        host.configure(&cloud, &host.dovecot_source());
        host.subscribe(&["u1".to_owned()]);
        host.start();
        Self { cloud, host }
    }

    /// What Dovecot's plugin says after a delivery, and how long it waited; panics where it waited for long.
    fn deliver(&self, unseen: u32) -> Duration {
        let took = deliver(&self.host.dict_socket(), "u1", unseen);
        assert!(took < AT_ONCE, "{took:?}");
        wait_until("the badge", LIMIT, || (badges(&self.cloud, "u1") == [Some(unseen); 2]).then_some(()));
        took
    }

    /// Connections to the admin socket that send nothing.
    fn hold_admin(&self, count: usize) -> Vec<UnixStream> {
        let admin = self.host.folder().join("admin.sock");
        let connect = |_| {
            let stream = UnixStream::connect(&admin).expect("the agent listens");
            stream.set_read_timeout(Some(LIMIT)).expect("a socket of ours");
            stream
        };
        (0..count).map(connect).collect()
    }

    /// How many descriptors the agent has open.
    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.host.pid())).expect("it runs").count()
    }

    fn limit_descriptors(&self, count: usize) {
        let (pid, limit) = (self.host.pid().to_string(), format!("--nofile={count}"));
        let limited = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
        assert!(limited.expect("util-linux is installed").success());
    }

    fn endpoint(&self) -> String {
        let url = self.host.metadata_url();
        url.split('/').nth(2).expect("it has an authority").to_owned()
    }

    /// A number of `/proc/<pid>/status`, in kB.
    fn memory_kb(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.host.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).expect("a number of kB")
    }
}

/// Until the other side ends the connection.
fn wait_end(stream: &mut (impl Read + ?Sized)) {
    let mut buffer = [0; 4096];
    while let Ok(1..) = stream.read(&mut buffer) {}
}

#[test]
fn connections_held_to_the_admin_socket_take_no_descriptor_from_the_mail_server() {
    let _alone = machine::alone();
    let scene = Scene::new();
    scene.limit_descriptors(DESCRIPTORS);
    let mut held = scene.hold_admin(HELD);
    // The oldest ones made room.
    for stream in &mut held[..HELD - ADMIN_MAX] {
        let ended = stream.read(&mut [0; 1]).expect("it ends in time");
        assert_eq!(ended, 0);
    }
    let took = scene.deliver(3);
    println!(
        "{HELD} held connections: a delivery waited {took:?}; {} descriptors are open",
        scene.descriptors()
    );
    let ready = scene.host.ask("/readyz");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let log = scene.host.log();
    assert!(!log.contains("cannot accept"), "{log}");
}

#[test]
fn where_descriptors_are_short_the_admin_socket_gives_way() {
    let _alone = machine::alone();
    let scene = Scene::new();
    scene.deliver(1);
    scene.limit_descriptors(scene.descriptors() + SPARE);
    let held = scene.hold_admin(HELD);
    wait_until("descriptors to be short", LIMIT, || scene.host.log().contains("cannot accept").then_some(()));
    scene.deliver(2);
    drop(held);
    wait_until("/readyz", LIMIT, || scene.host.ask("/readyz").starts_with("HTTP/1.1 200").then_some(()));
}

#[test]
fn half_requests_leave_no_memory_behind_and_keep_nobody_waiting() {
    let _alone = machine::alone();
    let scene = Scene::new();
    let endpoint = scene.endpoint();
    let half = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(60_000));
    let fits = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(8000));
    let before = scene.memory_kb("VmRSS");
    for count in HALVES {
        let mut held = Vec::new();
        for number in 0..count {
            let mut stream = TcpStream::connect(&endpoint).expect("the agent listens");
            stream.set_read_timeout(Some(LIMIT)).expect("a socket of ours");
            // Where the agent has refused the head before it was sent, that fails.
            let sent = stream.write_all(if number % 2 == 0 { &half } else { &fits }.as_bytes());
            held.push(sent.map(|()| stream));
        }
        for stream in held.iter_mut().step_by(2).flatten() {
            wait_end(stream);
        }
        let metadata = get(&endpoint, "/autodiscover/metadata/json/1");
        assert!(metadata.starts_with("HTTP/1.1 200"), "{metadata}");
    }
    scene.deliver(4);
    let grown = || scene.memory_kb("VmRSS").saturating_sub(before);
    let (count, most) = (HALVES.iter().sum::<usize>(), scene.memory_kb("VmHWM"));
    println!("{count} half requests: {before} kB before, {most} kB at most, {} kB more after", grown());
    let is_back = try_until(LIMIT, || (grown() <= LEFT_KB_MAX).then_some(()));
    assert!(is_back.is_some(), "{} kB more than the {before} kB before", grown());
}

/// One GET on a connection of its own.
fn get(endpoint: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(endpoint).expect("the agent listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a socket of ours");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").expect("the agent reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in time");
    answer
}

#[test]
fn neither_socket_speaks_http_2() {
    let _alone = machine::alone();
    let scene = Scene::new();
    // The preface (RFC 9113 §3.4) and an empty SETTINGS frame.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let admin = UnixStream::connect(scene.host.folder().join("admin.sock")).expect("the agent listens");
    admin.set_read_timeout(Some(LIMIT)).expect("a socket of ours");
    let endpoint = TcpStream::connect(scene.endpoint()).expect("the agent listens");
    endpoint.set_read_timeout(Some(LIMIT)).expect("a socket of ours");
    check_preface(admin, preface);
    check_preface(endpoint, preface);
}

fn check_preface(mut stream: impl Read + Write, preface: &[u8]) {
    stream.write_all(preface).expect("the agent reads");
    let mut answer = Vec::new();
    // An end with unread bytes is a reset.
    stream.read_to_end(&mut answer).ok();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
}
