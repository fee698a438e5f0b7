//! The dict server on real sockets, with a made-up Dovecot on the other side.

use super::*;
use crate::event::{MailboxId, News, Verdict};
use crate::source::dovecot::Listen;
use crate::time::{Moment, Now};
use parking_lot::{Condvar, Mutex};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Longest wait for anything that must come.
const LIMIT: Duration = Duration::from_secs(10);

/// What Dovecot says at the beginning of a connection, and for one change of u1.
const HELLO: &str = "H3\t2\t0\t\tunseen\n";
const CHANGE: &str = "B1\tu1\nS1\tpriv/status/INBOX\t{\"unseen\":3,\"uidvalidity\":1,\"modseq\":7}\nC1\n";

/// Knows u1, u2, …; remembers counts; stands still on demand.
#[derive(Default)]
struct Recorder {
    told: Mutex<Vec<(u32, u32)>>,
    is_stalled: Mutex<bool>,
    goes_on: Condvar,
}

impl Recorder {
    fn stall(&self, is_stalled: bool) {
        *self.is_stalled.lock() = is_stalled;
        self.goes_on.notify_all();
    }
}

impl Observer for Recorder {
    fn find(&self, name: &str) -> Option<MailboxId> {
        let mut is_stalled = self.is_stalled.lock();
        while *is_stalled {
            self.goes_on.wait(&mut is_stalled);
        }
        name.strip_prefix('u')?.parse().ok().map(MailboxId)
    }

    fn observe(&self, mailbox: MailboxId, _source: SourceId, news: News, _now: Now) -> Verdict {
        if let News::Reading(reading) = news {
            self.told.lock().push((mailbox.0, reading.unseen));
        }
        Verdict::Changed
    }
}

struct Bench {
    recorder: Arc<Recorder>,
    counters: Arc<SourceCounters>,
    settings: Settings,
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let settings = Settings::new("dovecot", Listen::Unix(folder.path().join("dict.sock")));
        Self { recorder: Arc::default(), counters: Arc::default(), settings, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("dict.sock")
    }

    fn try_start(&self) -> Result<DovecotSource, StartError> {
        let observer = Arc::clone(&self.recorder) as Arc<dyn Observer>;
        start(&self.settings, SourceId(0), observer, Clock::start(), Arc::clone(&self.counters))
    }

    fn start(&self) -> DovecotSource {
        self.try_start().expect("it starts")
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).expect("somebody listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream
    }

    fn wait_for(&self, told: &[(u32, u32)]) {
        wait_until("readings", || *self.recorder.told.lock() == told);
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let clock = Clock::start();
    while !condition() {
        assert!(clock.now().moment.since(Moment::START) < LIMIT, "waited in vain for {what}");
        thread::yield_now();
    }
}

/// Says something and reads exactly what must be said to it, no byte before.
fn say(stream: &mut (impl Read + Write), words: &str, answer: &str) {
    stream.write_all(words.as_bytes()).expect("it listens");
    let mut heard = vec![0; answer.len()];
    stream.read_exact(&mut heard).expect("it answers");
    assert_eq!(String::from_utf8_lossy(&heard), answer, "to {words}");
}

fn is_ended(stream: &mut impl Read) -> bool {
    matches!(stream.read(&mut [0]), Ok(0))
}

#[test]
fn a_commit_is_answered_and_the_hello_never() {
    let bench = Bench::new();
    let source = bench.start();
    let mut dovecot = bench.connect();
    say(&mut dovecot, &format!("{HELLO}{CHANGE}"), "O1\n");
    bench.wait_for(&[(1, 3)]);
    say(&mut dovecot, "B2\tstranger\nS2\tpriv/status/INBOX\t{\"unseen\":1}\nC2\nX\n", "O2\n");
    wait_until("counters", || bench.counters.unknown.get() == 1 && bench.counters.skipped.get() == 1);
    assert_eq!(bench.counters.readings.get(), 1);
    assert_eq!(source.failure(), None);
}

#[test]
fn commits_are_answered_while_the_observer_stands_still_and_the_newest_count_is_told_after() {
    let bench = Bench::new();
    let _source = bench.start();
    bench.recorder.stall(true);
    for unseen in 0..50 {
        let mut dovecot = bench.connect();
        let change = format!(
            "B1\tu{}\nS1\tpriv/status/INBOX\t{{\"unseen\":{unseen},\"uidvalidity\":1,\"modseq\":{}}}\nC1\n",
            1 + unseen % 2,
            unseen + 1
        );
        say(&mut dovecot, &format!("{HELLO}{change}"), "O1\n");
    }
    bench.recorder.stall(false);
    wait_until("both newest counts", || {
        let told = bench.recorder.told.lock();
        told.contains(&(1, 48)) && told.contains(&(2, 49))
    });
    let told = bench.recorder.told.lock().clone();
    assert!(told.len() < 10, "what waited was overwritten, not queued: {told:?}");
}

#[test]
fn what_was_committed_is_told_though_the_source_stops() {
    let bench = Bench::new();
    let source = bench.start();
    say(&mut bench.connect(), &format!("{HELLO}{CHANGE}"), "O1\n");
    drop(source);
    assert_eq!(*bench.recorder.told.lock(), [(1, 3)]);
}

#[test]
fn tcp_is_served_too() {
    let mut bench = Bench::new();
    bench.settings.listen = Listen::Tcp((Ipv4Addr::LOCALHOST, 0).into());
    let source = bench.start();
    let address = source.tcp_address().expect("a TCP address");
    let mut dovecot = TcpStream::connect(address).expect("somebody listens");
    dovecot.set_read_timeout(Some(LIMIT)).expect("a limit");
    say(&mut dovecot, &format!("{HELLO}{CHANGE}"), "O1\n");
    bench.wait_for(&[(1, 3)]);
    bench.settings.listen = Listen::Tcp(address);
    let error = bench.try_start().expect_err("the port is taken").to_string();
    assert!(error.starts_with(&format!("{address}: cannot listen:")), "{error}");
}

#[test]
fn the_socket_has_its_mode_and_goes_with_the_source() {
    let mut bench = Bench::new();
    for mode in [0o660, 0o666, 0o600] {
        bench.settings.mode = mode;
        let source = bench.start();
        let found = fs::metadata(bench.path()).expect("the socket is there");
        assert_eq!(found.permissions().mode() & 0o777, mode);
        drop(source);
        assert!(!bench.path().exists(), "no file is left behind");
    }
}

#[test]
fn a_stale_socket_is_taken_over_and_anything_else_is_refused() {
    let bench = Bench::new();
    // A listener that is gone without removing its file: what a killed agent leaves.
    drop(UnixListener::bind(bench.path()).expect("a free path"));
    let source = bench.start();
    say(&mut bench.connect(), &format!("{HELLO}{CHANGE}"), "O1\n");
    let error = bench.try_start().expect_err("in use").to_string();
    assert!(error.contains("another process answers"), "{error}");
    say(&mut bench.connect(), &format!("{HELLO}{CHANGE}"), "O1\n");
    drop(source);

    fs::write(bench.path(), "precious").expect("own folder");
    let error = bench.try_start().expect_err("no socket").to_string();
    assert!(error.contains("is not a socket"), "{error}");
    assert_eq!(fs::read(bench.path()).expect("still there"), b"precious");
    fs::remove_file(bench.path()).expect("own file");

    let mut nowhere = bench;
    nowhere.settings.listen = Listen::Unix(nowhere.folder.path().join("missing/dict.sock"));
    let error = nowhere.try_start().expect_err("no such folder").to_string();
    assert!(error.contains("the directory must exist"), "{error}");
}

#[test]
fn a_socket_that_another_took_meanwhile_is_left_alone() {
    let bench = Bench::new();
    let source = bench.start();
    fs::remove_file(bench.path()).expect("own file");
    let _other = UnixListener::bind(bench.path()).expect("a free path");
    drop(source);
    assert!(bench.path().exists());
}

#[test]
fn an_inherited_listener_is_served_and_its_file_stays() {
    let bench = Bench::new();
    let listener = UnixListener::bind(bench.path()).expect("a free path");
    let inherited = Listener::inherited(listener.into()).expect("it listens");
    let observer = Arc::clone(&bench.recorder) as Arc<dyn Observer>;
    let counters = Arc::clone(&bench.counters);
    let source = start_on(inherited, &bench.settings, SourceId(0), observer, Clock::start(), counters)
        .expect("it starts");
    say(&mut bench.connect(), &format!("{HELLO}{CHANGE}"), "O1\n");
    drop(source);
    assert!(bench.path().exists(), "the service manager's file is not ours");
    let (one, _other) = UnixStream::pair().expect("a pair");
    assert!(Listener::inherited(one.into()).is_err(), "a connection is no listener");
}

#[test]
fn past_the_limit_the_connection_that_was_silent_longest_makes_place() {
    let mut bench = Bench::new();
    bench.settings.connections_max = 7;
    let _source = bench.start();
    let (mut busy, mut first, mut second) = (bench.connect(), bench.connect(), bench.connect());
    // In the middle of a transaction: idle ones go first, though it was silent the longest.
    busy.write_all(format!("{HELLO}B9\tu9\n").as_bytes()).expect("it listens");
    say(&mut first, &format!("{HELLO}{CHANGE}"), "O1\n");
    say(&mut second, &format!("{HELLO}{CHANGE}"), "O1\n");
    let mut third = bench.connect();
    say(&mut third, &format!("{HELLO}{CHANGE}"), "O1\n");
    assert!(is_ended(&mut first));
    say(&mut second, "B2\tu2\nC2\n", "O2\n");
    say(&mut busy, "C9\n", "O9\n");
}

#[test]
fn half_lines_and_silent_connections_keep_no_delivery_waiting() {
    let mut bench = Bench::new();
    bench.settings.connections_max = 20;
    let _source = bench.start();
    let mut hoarders: Vec<UnixStream> = (0..60)
        .map(|number| {
            let mut hoarder = bench.connect();
            if number % 2 == 0 {
                hoarder.write_all(b"H3\t2\t0\t\tunseen\nB1\tu1\nS1\tpriv/status/IN").expect("a socket");
            }
            hoarder
        })
        .collect();
    let mut delivery = bench.connect();
    say(&mut delivery, &format!("{HELLO}{CHANGE}"), "O1\n");
    bench.wait_for(&[(1, 3)]);
    assert!(hoarders.iter_mut().take(41).all(is_ended));
}

#[test]
fn a_client_that_cannot_be_answered_is_hung_up_on() {
    let bench = Bench::new();
    let _source = bench.start();
    let mut dovecot = bench.connect();
    say(&mut dovecot, &format!("{HELLO}B1\tu1\nC1\nCx\n"), "O1\n");
    assert!(is_ended(&mut dovecot));
}

#[test]
fn a_client_that_reads_no_answers_holds_up_nobody() {
    let bench = Bench::new();
    let _source = bench.start();
    let mut deaf = bench.connect();
    deaf.set_nonblocking(true).expect("a socket option");
    // Until the sockets' buffers are full in both directions.
    let lookups = "L\n".repeat(4096);
    let full = (0..10_000).any(
        |_| matches!(deaf.write(lookups.as_bytes()), Err(error) if error.kind() == ErrorKind::WouldBlock),
    );
    assert!(full, "it stops reading from one that does not read");
    say(&mut bench.connect(), &format!("{HELLO}{CHANGE}"), "O1\n");
    bench.wait_for(&[(1, 3)]);
}
