//! The Dovecot dict source against a real Dovecot: every change arrives with STATUS's count, and deliveries do not
//! wait for who takes the counts. What a healthy agent costs them is measured in `harm`.
//!
//! Without the rest of the agent: an observer that only records stands in for it.

use mailbadge::counters::SourceCounters;
use mailbadge::event::{Observer, SourceId};
use mailbadge::source::dovecot::{DovecotSource, Listen, Settings, start};
use mailbadge::time::driver::Clock;
use std::os::unix::fs::{MetadataExt, chown};
use std::sync::Arc;
use std::time::Duration;
use support::dovecot::{Dovecot, Options, USER_PASSWORD};
use support::generation::Generation;
use support::imap_client::ImapClient;
use support::lmtp::LmtpClient;
use support::recorder::Recorder;
use support::script::STEPS;
use support::wait_until;
use tempfile::TempDir;

/// How long a change may take to arrive; far above what it takes.
const LIMIT: Duration = Duration::from_secs(10);

/// A source on a socket of its own, telling a recorder.
struct Bench {
    source: Option<DovecotSource>,
    recorder: Arc<Recorder>,
    counters: Arc<SourceCounters>,
    settings: Settings,
    generation: Generation,
    folder: TempDir,
}

impl Bench {
    fn new(generation: Generation) -> Self {
        let folder = generation.folder();
        let listen = Listen::Unix(folder.path().join("dict.sock"));
        // Mail processes run as somebody else when the test runs as root.
        let settings = Settings { mode: 0o666, ..Settings::new("dovecot", listen) };
        let mut bench = Self {
            source: None,
            recorder: Arc::default(),
            counters: Arc::default(),
            settings,
            generation,
            folder,
        };
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
        Dovecot::start(Options { dict: Some(self.dict()), ..self.options() })
    }

    fn options(&self) -> Options {
        Options { generation: self.generation, ..Options::default() }
    }
}

fn every_change_of_a_mailbox_arrives_with_the_count_of_status(generation: Generation) {
    let bench = Bench::new(generation);
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

fn a_delivery_does_not_wait_for_an_observer_that_stands_still(generation: Generation) {
    let bench = Bench::new(generation);
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

fn dovecot_connects_again_after_an_idle_connection_made_place_or_the_source_was_restarted(
    generation: Generation,
) {
    let mut bench = Bench::new(generation);
    bench.stop();
    bench.settings.connections_max = 1;
    bench.start();
    // Else 2.3.19 ends each connection after its commit.
    let dict = bench.dict().replacen("proxy:", "proxy:idle_msecs=60000:", 1);
    let dovecot = Dovecot::start(Options { dict: Some(dict), ..bench.options() });
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

/// Where the shipped files look for the agent.
const SHIPPED_PATH: &str = "/run/mailbadge/dict.sock";

/// The plugin's configuration as it is shipped.
fn shipped(generation: Generation) -> &'static str {
    match generation {
        Generation::Debian12 => include_str!("../../packaging/dovecot/mailbadge-2.3.conf"),
        Generation::Debian13 => include_str!("../../packaging/dovecot/mailbadge-2.4.conf"),
    }
}

fn the_shipped_configuration_reports_each_change_through_a_socket_of_mode_0660(generation: Generation) {
    check_shipped(generation, "");
}

fn the_shipped_configuration_reports_each_change_where_the_inbox_namespace_has_a_prefix(
    generation: Generation,
) {
    check_shipped(generation, "INBOX.");
}

fn check_shipped(generation: Generation, prefix: &'static str) {
    let mut bench = Bench::new(generation);
    bench.stop();
    bench.settings.mode = 0o660;
    bench.start();
    let path = bench.folder.path().join("dict.sock");
    let text = shipped(generation);
    let mut extra = text.replace(SHIPPED_PATH, &path.display().to_string());
    let groups = "mail_access_groups = mailbadge\n";
    assert!(extra.contains(groups) && text.contains(SHIPPED_PATH));
    if std::fs::metadata(&path).expect("the socket").uid() == 0 {
        // Mail processes run as nobody: only the group can let them in.
        chown(&path, None, Some(group_id("daemon"))).expect("root may");
        extra = extra.replace(groups, "mail_access_groups = daemon\n");
    } else {
        extra = extra.replace(groups, "");
    }
    let dovecot = Dovecot::start(Options { extra, prefix, ..bench.options() });
    let mut lmtp = LmtpClient::connect(dovecot.lmtp()).expect("lmtp");
    let mut imap = ImapClient::connect(dovecot.imap(), "u1", USER_PASSWORD).expect("imap");
    let arrives = |unseen: u32, step: &str| {
        wait_until(step, LIMIT, || bench.recorder.last(1).filter(|last| last.1 == unseen));
    };
    lmtp.deliver("u1").expect("delivery");
    arrives(1, "a delivery");
    imap.select("INBOX").and_then(|_| imap.store("1", '+', "\\Seen")).expect("a flag");
    arrives(0, "a message that was read");
    // Changes of other folders, where they are reported, are not INBOX's.
    imap.append(&format!("{prefix}Trash"), "", 3).expect("append");
    lmtp.deliver("u1").expect("delivery");
    arrives(1, "a delivery after changes of another folder");
    let counts: Vec<u32> = bench.recorder.readings().iter().map(|reading| reading.unseen).collect();
    assert!(counts.iter().all(|unseen| *unseen <= 1), "{counts:?}");
    let readings = bench.recorder.readings();
    assert!(readings.iter().all(|reading| reading.uid_validity.is_some() && reading.modseq.is_some()));
    assert_eq!((bench.counters.skipped.get(), dovecot.complaints()), (0, Vec::new()));
}

#[test]
fn the_shipped_configurations_name_the_same_socket_and_values() {
    let [older, newer] = [Generation::Debian12, Generation::Debian13].map(shipped);
    let value = |text: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix("notify_status_value = "));
        line.expect("a value").trim_matches('\'').replace("%%", "%")
    };
    assert_eq!(value(newer), value(older));
    assert!(newer.contains(&format!("socket_path = {SHIPPED_PATH}\n")));
}

fn group_id(name: &str) -> u32 {
    let groups = std::fs::read_to_string("/etc/group").expect("/etc/group");
    let group = groups
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|group| group.first() == Some(&name));
    group.and_then(|group| group.get(2)?.parse().ok()).unwrap_or_else(|| panic!("no group {name}"))
}

support::each_dovecot! {
    every_change_of_a_mailbox_arrives_with_the_count_of_status,
    a_delivery_does_not_wait_for_an_observer_that_stands_still,
    dovecot_connects_again_after_an_idle_connection_made_place_or_the_source_was_restarted,
    the_shipped_configuration_reports_each_change_through_a_socket_of_mode_0660,
    the_shipped_configuration_reports_each_change_where_the_inbox_namespace_has_a_prefix,
}
