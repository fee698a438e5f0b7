//! The Dovecot dict source against a real Dovecot: every change arrives with STATUS's count, and deliveries wait for nothing.
//!
//! Without the rest of the agent: an observer that only records stands in for it.

use mailbadge::counters::SourceCounters;
use mailbadge::event::{Observer, SourceId};
use mailbadge::source::dovecot::{DovecotSource, Listen, Settings, start};
use mailbadge::time::driver::Clock;
use parking_lot::RwLock;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::sync::Arc;
use std::time::Duration;
use support::delivery::costs_next_to_nothing;
use support::dovecot::{Dovecot, Options, USER_PASSWORD};
use support::imap_client::ImapClient;
use support::lmtp::LmtpClient;
use support::recorder::Recorder;
use support::script::STEPS;
use support::{required, wait_until};
use tempfile::TempDir;

/// How long a change may take to arrive; far above what it takes.
const LIMIT: Duration = Duration::from_secs(10);

/// Held for reading by tests that only need the machine, for writing by the one that measures.
static MEASURING: RwLock<()> = RwLock::new(());

/// A source on a socket of its own, telling a recorder.
struct Bench {
    source: Option<DovecotSource>,
    recorder: Arc<Recorder>,
    counters: Arc<SourceCounters>,
    settings: Settings,
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("mb").tempdir_in("/tmp").expect("a temporary folder");
        open_to_all(&folder);
        let listen = Listen::Unix(folder.path().join("dict.sock"));
        // Mail processes run as somebody else when the test runs as root.
        let settings = Settings { mode: 0o666, ..Settings::new("dovecot", listen) };
        let mut bench =
            Self { source: None, recorder: Arc::default(), counters: Arc::default(), settings, folder };
        bench.start();
        bench
    }

    fn start(&mut self) {
        let observer = Arc::clone(&self.recorder) as Arc<dyn Observer>;
        let counters = Arc::clone(&self.counters);
        let source = start(&self.settings, SourceId(0), observer, Clock::start(), counters);
        self.source = Some(source.expect("the socket is ours"));
    }

    fn stop(&mut self) {
        self.source = None;
    }

    /// As Dovecot's configuration names it.
    fn dict(&self) -> String {
        format!("proxy:{}:unseen", self.folder.path().join("dict.sock").display())
    }

    fn dovecot(&self) -> Dovecot {
        Dovecot::start(Options { dict: Some(self.dict()), ..Options::default() })
    }
}

fn open_to_all(folder: &TempDir) {
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("own folder");
}

#[test]
fn every_change_of_a_mailbox_arrives_with_the_count_of_status() {
    if !required("dovecot") {
        return;
    }
    let _others = MEASURING.read();
    let bench = Bench::new();
    let dovecot = bench.dovecot();
    let mut lmtp = LmtpClient::connect(dovecot.lmtp()).expect("lmtp");
    let mut imap = ImapClient::connect(dovecot.imap(), "u1", USER_PASSWORD).expect("imap");
    let mut witness = ImapClient::connect(dovecot.imap(), "u1", USER_PASSWORD).expect("imap");
    for deed in STEPS {
        let before = bench.recorder.last(1);
        deed.perform("u1", &mut lmtp, &mut imap).unwrap_or_else(|error| panic!("{deed:?}: {error}"));
        let unseen = witness.status_unseen("INBOX").expect("STATUS");
        assert_ne!(before.map(|b| b.1), Some(unseen), "{deed:?} changes nothing: it would show nothing");
        let what = format!("{deed:?}: STATUS says {unseen}, known {:?}", bench.recorder.last(1));
        wait_until(&what, LIMIT, || bench.recorder.last(1).filter(|last| last.1 == unseen));
    }
    let told = bench.recorder.readings();
    assert!(told.iter().all(|reading| reading.uid_validity.is_some() && reading.modseq.is_some()));
    assert_eq!(bench.counters.skipped.get(), 0, "all that Dovecot says is understood");
    assert_eq!(dovecot.complaints(), Vec::<String>::new());
}

#[test]
fn a_delivery_does_not_wait_for_an_observer_that_stands_still() {
    if !required("dovecot") {
        return;
    }
    let _others = MEASURING.read();
    let bench = Bench::new();
    let dovecot = bench.dovecot();
    let mut lmtp = LmtpClient::connect(dovecot.lmtp()).expect("lmtp");
    lmtp.deliver("u1").expect("delivery");
    wait_until("the first reading", LIMIT, || bench.recorder.last(1).filter(|last| last.1 == 1));
    bench.recorder.stall(true);
    for user in ["u1", "u2", "u1", "u3", "u1"] {
        let delivery = lmtp.deliver(user).expect("delivery");
        // An answer that does not come costs 16 s and more.
        assert!(delivery.took < Duration::from_secs(3), "{user} waited {:?}", delivery.took);
    }
    assert_eq!(bench.recorder.last(1).map(|last| last.1), Some(1), "it stood still");
    bench.recorder.stall(false);
    wait_until("the newest reading", LIMIT, || bench.recorder.last(1).filter(|last| last.1 == 4));
    wait_until("others' readings", LIMIT, || bench.recorder.last(3).filter(|last| last.1 == 1));
    assert_eq!(dovecot.complaints(), Vec::<String>::new());
}

#[test]
fn dovecot_connects_again_after_an_idle_connection_made_place_or_the_source_was_restarted() {
    if !required("dovecot") {
        return;
    }
    let _others = MEASURING.read();
    let mut bench = Bench::new();
    bench.stop();
    bench.settings.connections_max = 1;
    bench.start();
    // Else 2.3.19 ends each connection after its commit.
    let dict = bench.dict().replacen("proxy:", "proxy:idle_msecs=60000:", 1);
    let dovecot = Dovecot::start(Options { dict: Some(dict), ..Options::default() });
    let mut sessions: Vec<_> = ["u1", "u2", "u3"]
        .map(|user| ImapClient::connect(dovecot.imap(), user, USER_PASSWORD).expect("imap"))
        .into();
    for round in 1..=3 {
        for (number, imap) in (1..).zip(&mut sessions) {
            imap.append("INBOX", "", 1).expect("append");
            let what = format!("u{number} in round {round}");
            wait_until(&what, LIMIT, || bench.recorder.last(number).filter(|last| last.1 == round));
        }
        bench.stop();
        bench.start();
    }
    assert_eq!(dovecot.complaints(), Vec::<String>::new());
}

/// The plugin's configuration as it is shipped for 2.3.
const SHIPPED: &str = include_str!("../packaging/dovecot/mailbadge-2.3.conf");

/// The same for 2.4, which no test machine has.
const SHIPPED_2_4: &str = include_str!("../packaging/dovecot/mailbadge-2.4.conf");

/// Where both look for the agent.
const SHIPPED_PATH: &str = "/run/mailbadge/dict.sock";

#[test]
fn the_shipped_configuration_loads_and_tells_of_a_delivery_through_a_socket_of_mode_0660() {
    if !required("dovecot") {
        return;
    }
    let _others = MEASURING.read();
    let mut bench = Bench::new();
    bench.stop();
    bench.settings.mode = 0o660;
    bench.start();
    let path = bench.folder.path().join("dict.sock");
    let mut extra = SHIPPED.replace(SHIPPED_PATH, &path.display().to_string());
    let groups = "mail_access_groups = mailbadge\n";
    assert!(extra.contains(groups) && SHIPPED.contains(SHIPPED_PATH));
    if std::fs::metadata(&path).expect("the socket").uid() == 0 {
        // Mail processes run as nobody: only the group can let them in.
        chown(&path, None, Some(group_id("daemon"))).expect("root may");
        extra = extra.replace(groups, "mail_access_groups = daemon\n");
    } else {
        extra = extra.replace(groups, "");
    }
    let dovecot = Dovecot::start(Options { extra, ..Options::default() });
    LmtpClient::connect(dovecot.lmtp()).and_then(|mut lmtp| lmtp.deliver("u1")).expect("delivery");
    wait_until("the reading", LIMIT, || bench.recorder.last(1).filter(|last| last.1 == 1));
    let mut imap = ImapClient::connect(dovecot.imap(), "u1", USER_PASSWORD).expect("imap");
    imap.select("INBOX").and_then(|_| imap.store("1", '+', "\\Seen")).expect("a flag");
    wait_until("the reading", LIMIT, || bench.recorder.last(1).filter(|last| last.1 == 0));
    let told = bench.recorder.readings();
    assert!(told.iter().all(|reading| reading.uid_validity.is_some() && reading.modseq.is_some()));
    assert_eq!((bench.counters.skipped.get(), dovecot.complaints()), (0, Vec::new()));
}

#[test]
fn the_shipped_configuration_for_2_4_names_the_same_socket_and_values() {
    let value = |text: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix("notify_status_value = "));
        line.expect("a value").trim_matches('\'').replace("%%", "%")
    };
    assert_eq!(value(SHIPPED_2_4), value(SHIPPED));
    assert!(SHIPPED_2_4.contains(&format!("socket_path = {SHIPPED_PATH}\n")));
}

fn group_id(name: &str) -> u32 {
    let groups = std::fs::read_to_string("/etc/group").expect("/etc/group");
    let group = groups
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|group| group.first() == Some(&name));
    group.and_then(|group| group.get(2)?.parse().ok()).unwrap_or_else(|| panic!("no group {name}"))
}

/// With dbox the plugin's own part is small and the difference is ours. With Maildir it is larger, and grows with the
/// mailbox: the plugin has Dovecot read the whole folder once more in each delivery, whoever listens.
#[test]
fn a_healthy_listener_costs_a_delivery_no_more_than_a_millisecond_at_the_median_and_at_p99() {
    if !required("dovecot") {
        return;
    }
    let _alone = MEASURING.write();
    let bench = Bench::new();
    let dbox = "mail_location = sdbox:~/sdbox\n".to_owned();
    let with =
        Dovecot::start(Options { dict: Some(bench.dict()), extra: dbox.clone(), ..Options::default() });
    let without = Dovecot::start(Options { extra: dbox, ..Options::default() });
    let clients = [&with, &without].map(|dovecot| LmtpClient::connect(dovecot.lmtp()).expect("lmtp"));
    costs_next_to_nothing(clients, &["u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8"]);
}
