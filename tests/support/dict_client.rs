//! What Dovecot's plugin says to the agent after a delivery, without a Dovecot.

use mailbadge::time::Moment;
use mailbadge::time::driver::Clock;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest wait for an answer: mail servers give up after 30 s.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Says that `user` has so many unseen messages, on a connection of its own; returns how long the answer took. Panics where
/// there is none. HIGHESTMODSEQ grows with the count.
pub fn deliver(socket: &Path, user: &str, unseen: u32) -> Duration {
    let clock = Clock::start();
    let mut stream = UnixStream::connect(socket).expect("the agent listens");
    stream.set_read_timeout(Some(ANSWER_MAX)).expect("a socket of ours");
    let status = format!("{{\"unseen\":{unseen},\"uidvalidity\":1,\"modseq\":{}}}", unseen + 10);
    let said = format!("H3\t2\t0\t\tunseen\nB1\t{user}\nS1\tpriv/status/INBOX\t{status}\nC1\n");
    stream.write_all(said.as_bytes()).expect("the agent reads");
    let mut answer = [0; 3];
    stream.read_exact(&mut answer).expect("the agent answers");
    assert_eq!(&answer, b"O1\n");
    clock.now().moment.since(Moment::START)
}
