//! What Dovecot's plugin says to the agent after a delivery, without a Dovecot.

use mailbadge::time::Moment;
use mailbadge::time::driver::Clock;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Longest wait for an answer: mail servers give up after 30 s.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// For how long Dovecot tries to connect, and its pause between two attempts, at the mean: 10 to 100 ms.
const CONNECT_MAX: Duration = Duration::from_secs(1);
const CONNECT_PAUSE: Duration = Duration::from_millis(55);
/// Its pause before it connects again where a connection ended.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Says that `user` has so many unseen messages, on a connection of its own; returns how long the answer took. Panics where
/// there is none. HIGHESTMODSEQ grows with the count.
pub fn deliver(socket: &Path, user: &str, unseen: u32) -> Duration {
    let clock = Clock::start();
    let status = format!("{{\"unseen\":{unseen},\"uidvalidity\":1,\"modseq\":{}}}", unseen + 10);
    let said = format!("H3\t2\t0\t\tunseen\nB1\t{user}\nS1\tpriv/status/INBOX\t{status}\nC1\n");
    loop {
        let mut stream = connect(socket);
        stream.set_read_timeout(Some(ANSWER_MAX)).expect("a socket of ours");
        let mut answer = [0; 3];
        let answered = stream.write_all(said.as_bytes()).and_then(|()| stream.read_exact(&mut answer));
        let took = clock.now().moment.since(Moment::START);
        match answered {
            Ok(()) => {
                assert_eq!(&answer, b"O1\n");
                return took;
            }
            // It was sent away before it had spoken: Dovecot comes again after a second.
            Err(error) if is_sent_away(&error) && took < ANSWER_MAX => thread::sleep(AGAIN_AFTER),
            Err(error) => panic!("the agent answers: {error}"),
        }
    }
}

fn is_sent_away(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof)
}

/// Connects as Dovecot does: without waiting, and where the agent's queue is full again and again after a pause, for a second
/// at most. Panics where that was for nothing.
fn connect(socket: &Path) -> UnixStream {
    let clock = Clock::start();
    let address = SocketAddrUnix::new(socket).expect("a short path");
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a descriptor");
        match rustix::net::connect(&fd, &address) {
            Ok(()) => {
                let stream = UnixStream::from(fd);
                stream.set_nonblocking(false).expect("a socket of ours");
                return stream;
            }
            Err(Errno::AGAIN) if clock.now().moment.since(Moment::START) < CONNECT_MAX => {
                thread::sleep(CONNECT_PAUSE);
            }
            Err(error) => panic!("the agent listens: {error}"),
        }
    }
}
