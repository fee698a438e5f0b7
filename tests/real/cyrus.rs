//! The Cyrus source against a real Cyrus with the shipped configuration: every change arrives with STATUS's count, alone
//! and with IMAP sweeping beside it, and deliveries do not wait for an agent that is gone. What a healthy one costs
//! them is measured in `harm`.

use mailbadge::counters::SourceCounters;
use mailbadge::event::{Observer, SourceId};
use mailbadge::source::cyrus::{CyrusSource, Settings, start};
use mailbadge::time::driver::Clock;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use support::cloud::Cloud;
use support::cyrus::{Cyrus, PASSWORD};
use support::generation::Generation;
use support::host::Host;
use support::imap_client::ImapClient;
use support::lmtp::LmtpClient;
use support::recorder::Recorder;
use support::script::{STEPS, Scene};
use support::wait_until;
use tempfile::TempDir;

/// Mailboxes where the whole path is walked.
const MAILBOXES: u32 = 6;

/// How long a change may take to arrive; far above what it takes.
const LIMIT: Duration = Duration::from_secs(10);

/// What `packaging/cyrus` ships, with this socket.
fn shipped(socket: &Path) -> String {
    let text = include_str!("../../packaging/cyrus/imapd.conf");
    let moved = text.replace("/run/mailbadge/cyrus.sock", &socket.display().to_string());
    assert_ne!(text, moved, "it names the socket");
    moved
}

/// A source on a socket of its own, telling a recorder.
struct Bench {
    source: Option<CyrusSource>,
    recorder: Arc<Recorder>,
    counters: Arc<SourceCounters>,
    folder: TempDir,
}

impl Bench {
    fn new(generation: Generation) -> Self {
        let folder = generation.folder();
        Self { source: None, recorder: Arc::default(), counters: Arc::default(), folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("cyrus.sock")
    }

    fn start(&mut self) {
        // Cyrus runs as somebody else when the test runs as root.
        let settings = Settings { mode: 0o666, ..Settings::new("cyrus", self.socket()) };
        let observer = Arc::clone(&self.recorder) as Arc<dyn Observer>;
        let source = start(&settings, SourceId(0), observer, Clock::start(), Arc::clone(&self.counters));
        self.source = Some(source.expect("the socket is ours"));
    }
}

fn every_change_of_a_mailbox_arrives_with_the_count_of_status(generation: Generation) {
    let mut bench = Bench::new(generation);
    bench.start();
    let cyrus = Cyrus::start(generation, 2, &shipped(&bench.socket()));
    let mut lmtp = LmtpClient::connect(cyrus.lmtp()).expect("lmtp");
    let mut imap = ImapClient::connect(cyrus.imap(), "u1", PASSWORD).expect("imap");
    let mut witness = ImapClient::connect(cyrus.imap(), "u1", PASSWORD).expect("imap");
    for step in STEPS {
        let before = bench.recorder.last(1);
        step.perform("u1", &mut lmtp, &mut imap).unwrap_or_else(|error| panic!("{step:?}: {error}"));
        let unseen = witness.status_unseen("INBOX").expect("STATUS");
        assert_ne!(before.map(|b| b.1), Some(unseen), "{step:?} changes nothing: it would show nothing");
        let what = format!("{step:?}: STATUS says {unseen}, known {:?}", bench.recorder.last(1));
        wait_until(&what, LIMIT, || bench.recorder.last(1).filter(|last| last.1 == unseen));
    }
    let readings = bench.recorder.readings();
    assert!(readings.iter().all(|reading| reading.uid_validity.is_some()));
    assert!(readings.iter().any(|reading| reading.modseq.is_some()));
    assert_eq!(bench.counters.skipped.get(), 0, "all that Cyrus says is understood");
    assert!(bench.counters.ignored.get() > 0, "Cyrus tells more than counts");
}

fn names() -> Vec<String> {
    (1..=MAILBOXES).map(|number| format!("u{number}")).collect()
}

fn scene<'a>(cloud: &'a Cloud, cyrus: &Cyrus, host: &'a Host) -> Scene<'a> {
    let (imap, lmtp) = (cyrus.imap(), cyrus.lmtp());
    Scene { cloud, host, imap, lmtp, password: PASSWORD, mailboxes: names() }
}

fn every_step_reaches_every_device(generation: Generation, sweeps: bool) {
    let cloud = Cloud::start();
    let mut host = Host::beside(generation);
    let cyrus = Cyrus::start(generation, MAILBOXES, &shipped(&host.cyrus_socket()));
    let sweep = if sweeps { host.cyrus_sweep(&cyrus) } else { String::new() };
    host.configure(&cloud, &format!("{}{sweep}", host.cyrus_source()));
    host.subscribe(&names());
    host.start();
    scene(&cloud, &cyrus, &host).play();
    if sweeps {
        // What happens while the agent is away is told to nobody: only reading again finds it.
        host.kill();
        let mut lmtp = LmtpClient::connect(cyrus.lmtp()).expect("lmtp");
        for name in names() {
            lmtp.deliver(&name).expect("delivery");
        }
        host.start();
        scene(&cloud, &cyrus, &host).all_badges_are_true("after the agent was killed");
    }
    host.stop();
}

fn with_the_cyrus_source_alone_every_device_shows_status_unseen_after_each_step(generation: Generation) {
    every_step_reaches_every_device(generation, false);
}

fn with_imap_sweeping_beside_it_every_device_shows_status_unseen_after_each_step_and_after_a_kill(
    generation: Generation,
) {
    every_step_reaches_every_device(generation, true);
}

/// Deliveries that fill any queue of datagrams, at two datagrams each.
const FLOOD: usize = 60;

fn cyrus_waits_for_one_who_does_not_read_and_never_for_one_who_is_gone(generation: Generation) {
    let bench = Bench::new(generation);
    let deaf = UnixDatagram::bind(bench.socket()).expect("a free path");
    fs::set_permissions(bench.socket(), Permissions::from_mode(0o666)).expect("own file");
    let cyrus = Cyrus::start(generation, 1, &shipped(&bench.socket()));
    let mut lmtp = LmtpClient::connect(cyrus.lmtp()).expect("lmtp");
    let (told, delivered) = mpsc::channel();
    let delivering = thread::spawn(move || {
        for _ in 0..FLOOD {
            lmtp.deliver("u1").expect("delivery");
            let _ = told.send(());
        }
    });
    let mut went_through = 0;
    while delivered.recv_timeout(Duration::from_secs(3)).is_ok() {
        went_through += 1;
    }
    assert!(went_through < FLOOD, "the queue holds more than {FLOOD} deliveries' datagrams");
    // The file stays, as a killed agent leaves it.
    drop(deaf);
    wait_until("the rest to be delivered", LIMIT, || delivering.is_finished().then_some(()));
    delivering.join().expect("every delivery went through");
}

support::each_cyrus! {
    every_change_of_a_mailbox_arrives_with_the_count_of_status,
    cyrus_waits_for_one_who_does_not_read_and_never_for_one_who_is_gone,
    with_the_cyrus_source_alone_every_device_shows_status_unseen_after_each_step,
    with_imap_sweeping_beside_it_every_device_shows_status_unseen_after_each_step_and_after_a_kill,
}
