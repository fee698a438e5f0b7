//! The notify socket as a real one, with a made-up Cyrus on the other side.

use super::*;
use crate::event::{MailboxId, News, Verdict};
use crate::time::{Moment, Now};
use parking_lot::{Condvar, Mutex};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use tempfile::TempDir;

/// Longest wait for anything that must come.
const LIMIT: Duration = Duration::from_secs(10);

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
        let settings = Settings::new("cyrus", folder.path().join("cyrus.sock"));
        Self { recorder: Arc::default(), counters: Arc::default(), settings, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("cyrus.sock")
    }

    fn try_start(&self) -> Result<CyrusSource, StartError> {
        let observer = Arc::clone(&self.recorder) as Arc<dyn Observer>;
        start(&self.settings, SourceId(0), observer, Clock::start(), Arc::clone(&self.counters))
    }

    fn start(&self) -> CyrusSource {
        self.try_start().expect("it starts")
    }

    fn say(&self, bytes: &[u8]) {
        let cyrus = UnixDatagram::unbound().expect("a socket");
        cyrus.set_write_timeout(Some(LIMIT)).expect("a limit");
        cyrus.send_to(bytes, self.path()).expect("somebody reads");
    }

    fn tell(&self, user: &str, unseen: u32, modseq: u32) {
        let json = format!(
            r#"{{"event":"MessageNew","uri":"imap://h/user/{user};UIDVALIDITY=1","modseq":{modseq},"vnd.cmu.unseenMessages":{unseen}}}"#
        );
        self.say(format!("mailbadge\0EVENT\0\0\0\x000\0{json}\0").as_bytes());
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

#[test]
fn an_event_reaches_the_observer_and_everything_else_is_counted() {
    let bench = Bench::new();
    let source = bench.start();
    bench.tell("u1", 3, 7);
    bench.wait_for(&[(1, 3)]);
    bench.tell("stranger", 1, 1);
    bench.say(b"garbage");
    bench.say(b"");
    bench.say(&vec![b'x'; DATAGRAM_MAX * 2]);
    bench.say(b"mailbadge\0EVENT\0\0\0\x000\0{\"event\":\"MailboxModseq\"}\0");
    let counted = || {
        let it = &bench.counters;
        (it.readings.get(), it.unknown.get(), it.skipped.get(), it.ignored.get())
    };
    wait_until("counters", || counted() == (1, 1, 3, 1));
    bench.tell("u2", 5, 1);
    bench.wait_for(&[(1, 3), (2, 5)]);
    assert_eq!(source.failure(), None);
}

#[test]
fn datagrams_are_read_while_the_observer_stands_still_and_the_newest_count_is_told_after() {
    let bench = Bench::new();
    let _source = bench.start();
    bench.recorder.stall(true);
    for unseen in 0..500 {
        bench.tell(if unseen % 2 == 0 { "u1" } else { "u2" }, unseen, unseen + 1);
    }
    // All of them are read once this one is.
    bench.say(b"mailbadge\0EVENT\0\0\0\x000\0{\"event\":\"MailboxModseq\"}\0");
    wait_until("the last datagram to be read", || bench.counters.ignored.get() == 1);
    bench.recorder.stall(false);
    wait_until("both newest counts", || {
        let told = bench.recorder.told.lock();
        told.contains(&(1, 498)) && told.contains(&(2, 499))
    });
    let told = bench.recorder.told.lock().clone();
    assert!(told.len() < 10, "what waited was overwritten, not queued: {told:?}");
}

#[test]
fn what_was_sent_is_told_though_the_source_stops_and_nobody_is_there_after() {
    let bench = Bench::new();
    let source = bench.start();
    bench.tell("u1", 3, 7);
    drop(source);
    assert_eq!(*bench.recorder.told.lock(), [(1, 3)]);
    assert!(!bench.path().exists(), "no file is left behind");
    let cyrus = UnixDatagram::unbound().expect("a socket");
    assert_eq!(cyrus.send_to(b"x", bench.path()).expect_err("nobody").kind(), ErrorKind::NotFound);
}

#[test]
fn the_socket_has_its_mode() {
    let mut bench = Bench::new();
    for mode in [0o660, 0o666, 0o600] {
        bench.settings.mode = mode;
        let _source = bench.start();
        let found = fs::metadata(bench.path()).expect("the socket is there");
        assert_eq!(found.permissions().mode() & 0o777, mode);
    }
}

#[test]
fn a_dead_agents_socket_is_taken_over_and_anything_else_is_refused() {
    let bench = Bench::new();
    // Gone without removing its file: what a killed agent leaves.
    drop(UnixDatagram::bind(bench.path()).expect("a free path"));
    let source = bench.start();
    bench.tell("u1", 3, 7);
    bench.wait_for(&[(1, 3)]);
    let error = bench.try_start().expect_err("in use").to_string();
    assert!(error.contains("another process answers"), "{error}");
    bench.tell("u1", 2, 8);
    bench.wait_for(&[(1, 3), (1, 2)]);
    drop(source);

    fs::write(bench.path(), "precious").expect("own folder");
    let error = bench.try_start().expect_err("no socket").to_string();
    assert!(error.contains("is not a socket"), "{error}");
    assert_eq!(fs::read(bench.path()).expect("still there"), b"precious");
}
