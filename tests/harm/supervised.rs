//! What a delivery by a real Dovecot waits for an agent that is killed or stands still, under a service manager that
//! keeps its socket and watches it (product.md §1, promise 2). What a healthy one costs is measured in `healthy.rs`.

#![expect(clippy::print_stdout, reason = "figures for docs/performance.md")]

use std::fs;
use std::time::Duration;
use support::cloud::Cloud;
use support::cyrus::Cyrus;
use support::dovecot::{Dovecot, Options};
use support::generation::Generation;
use support::host::{Host, badges};
use support::lmtp::LmtpClient;
use support::machine;
use support::process::{freeze, signal, wait_until};
use support::supervisor::Supervisor;

/// Longest wait for a badge on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
/// How often the agent is killed, and as many deliveries are measured without one.
const ROUNDS: u32 = 7;
/// What a killed agent may cost a delivery.
const KILLED_MAX: Duration = Duration::from_millis(300);
/// What a frozen one may.
const FROZEN_MAX: Duration = Duration::from_secs(5);

/// A real Dovecot whose plugin tells an agent that a service manager keeps.
struct Scene {
    supervisor: Supervisor,
    lmtp: LmtpClient,
    cloud: Cloud,
    _host: Host,
    _dovecot: Dovecot,
}

impl Scene {
    fn new(generation: Generation) -> Self {
        let cloud = Cloud::start();
        let host = Host::beside(generation);
        host.configure(&cloud, &host.dovecot_source());
        host.subscribe(&["u1".to_owned()]);
        let supervisor = Supervisor::start(host.folder(), &host.folder().join("dict.sock"), "dovecot");
        let dovecot = Dovecot::start(Options { generation, dict: Some(host.dict()), ..Options::default() });
        let mut lmtp = LmtpClient::connect(dovecot.lmtp()).expect("lmtp");
        lmtp.deliver("u1").expect("delivery");
        let scene = Self { supervisor, lmtp, cloud, _host: host, _dovecot: dovecot };
        scene.wait_shown(1);
        scene
    }

    fn deliver(&mut self) -> Duration {
        self.lmtp.deliver("u1").expect("delivery").took
    }

    fn wait_shown(&self, count: u32) {
        let what = format!("u1 shows {count}");
        wait_until(&what, LIMIT, || (badges(&self.cloud, "u1") == [Some(count); 2]).then_some(()));
    }
}

fn median(mut of: Vec<Duration>) -> Duration {
    of.sort_unstable();
    *of.get(of.len() / 2).expect("some")
}

fn a_killed_agent_whose_socket_is_kept_costs_a_delivery_less_than_300_ms_and_loses_no_count(
    generation: Generation,
) {
    let _alone = machine::alone();
    let mut scene = Scene::new(generation);
    let healthy = median((0..ROUNDS).map(|_| scene.deliver()).collect());
    let mut killed = Vec::new();
    for round in 1..=ROUNDS {
        signal(scene.supervisor.pid(), "KILL").expect("its pid is ours");
        killed.push(scene.deliver());
        scene.supervisor.wait_starts(round + 1);
    }
    println!("a delivery took {healthy:?} with a healthy agent, and right after a kill {killed:?}");
    let cost = median(killed).saturating_sub(healthy);
    assert!(cost < KILLED_MAX, "{cost:?}");
    scene.wait_shown(1 + 2 * ROUNDS);
}

fn a_frozen_agent_is_ended_by_the_watchdog_and_costs_a_delivery_less_than_5_s(generation: Generation) {
    let _alone = machine::alone();
    let mut scene = Scene::new(generation);
    freeze(scene.supervisor.pid()).expect("its pid is ours");
    let took = scene.deliver();
    println!("a delivery to a frozen agent took {took:?}");
    assert!(took < FROZEN_MAX, "{took:?}");
    scene.supervisor.wait_starts(2);
    assert_eq!(scene.supervisor.frozen(), 1);
    scene.wait_shown(2);
}

/// Deliveries that fill Cyrus's queue of datagrams, two each, where nobody reads it.
const FLOOD: u32 = 40;

/// Cyrus's socket is the agent's own: what happens while nobody reads it is lost, and read again after the start.
fn cyrus_waits_for_no_killed_agent_and_less_than_5_s_for_a_frozen_one(generation: Generation) {
    let _alone = machine::alone();
    let cloud = Cloud::start();
    let host = Host::beside(generation);
    let shipped = include_str!("../../packaging/cyrus/imapd.conf");
    let socket = host.cyrus_socket().display().to_string();
    let cyrus = Cyrus::start(generation, 1, &shipped.replace("/run/mailbadge/cyrus.sock", &socket));
    // The supervisor hands a socket over, as the shipped units do: Dovecot's, which nobody uses here.
    let sources = [host.dovecot_source(), host.cyrus_source(), host.cyrus_sweep(&cyrus)].concat();
    host.configure(&cloud, &sources);
    host.subscribe(&["u1".to_owned()]);
    let supervisor = Supervisor::start(host.folder(), &host.folder().join("dict.sock"), "dovecot");
    let mut lmtp = LmtpClient::connect(cyrus.lmtp()).expect("lmtp");
    let mut deliver = |count: u32| -> Vec<Duration> {
        (0..count).map(|_| lmtp.deliver("u1").expect("delivery").took).collect()
    };
    let shows = |count: u32| {
        let what = format!("u1 shows {count}, not {:?}", badges(&cloud, "u1"));
        wait_until(&what, LIMIT, || (badges(&cloud, "u1") == [Some(count); 2]).then_some(()));
    };
    let healthy = median(deliver(ROUNDS));
    shows(ROUNDS);
    let mut killed = Vec::new();
    for round in 1..=ROUNDS {
        signal(supervisor.pid(), "KILL").expect("its pid is ours");
        killed.extend(deliver(1));
        supervisor.wait_starts(round + 1);
    }
    println!("Cyrus delivered in {healthy:?} with a healthy agent, and right after a kill in {killed:?}");
    assert!(median(killed.clone()).saturating_sub(healthy) < KILLED_MAX, "{killed:?}");
    shows(2 * ROUNDS);
    freeze(supervisor.pid()).expect("its pid is ours");
    let frozen = deliver(FLOOD);
    let longest = frozen.iter().max().expect("some");
    println!("with a frozen agent the longest of {FLOOD} deliveries took {longest:?}");
    assert!(*longest < FROZEN_MAX, "{frozen:?}");
    assert_eq!(supervisor.frozen(), 1, "Cyrus waited for it: else this shows nothing");
    supervisor.wait_starts(ROUNDS + 2);
    shows(2 * ROUNDS + FLOOD);
}

#[test]
fn a_socket_that_no_source_is_called_after_is_refused_by_name() {
    let _alone = machine::alone();
    let cloud = Cloud::start();
    let host = Host::new();
    host.configure(&cloud, &(host.dovecot_source() + "name = \"other\"\n"));
    let supervisor = Supervisor::begin(host.folder(), &host.folder().join("dict.sock"), "dovecot");
    let log = host.folder().join("agent.log");
    wait_until("it says why", LIMIT, || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.contains("a socket called \"dovecot\", and no source").then_some(())
    });
    drop(supervisor);
}

/// The units as they are shipped.
const SERVICE: &str = include_str!("../../packaging/systemd/mailbadge.service");
const SOCKET: &str = include_str!("../../packaging/systemd/mailbadge-dict.socket");

#[test]
fn the_shipped_units_agree_with_the_agents_defaults_and_with_dovecots_configuration() {
    let dovecot = include_str!("../../packaging/dovecot/mailbadge-2.3.conf");
    let settings = include_str!("../../mailbadge.toml");
    let path = "/run/mailbadge/dict.sock";
    assert!(
        SOCKET.contains(&format!("ListenStream={path}\n")) && SOCKET.contains("FileDescriptorName=dovecot\n")
    );
    assert!(dovecot.contains(path) && settings.contains(path));
    // A stopped process takes no signal but KILL, and is to be ended well within the 5 s.
    assert!(SERVICE.contains("WatchdogSignal=SIGKILL\n") && SERVICE.contains("WatchdogSec=3\n"));
    assert!(SERVICE.contains("Type=notify\n") && SERVICE.contains("Restart=always\n"));
}

support::each_dovecot! {
    a_killed_agent_whose_socket_is_kept_costs_a_delivery_less_than_300_ms_and_loses_no_count,
    a_frozen_agent_is_ended_by_the_watchdog_and_costs_a_delivery_less_than_5_s,
}

support::each_cyrus! {
    cyrus_waits_for_no_killed_agent_and_less_than_5_s_for_a_frozen_one,
}
