//! The whole path with real parts: Dovecot, the agent as a process, the relay over HTTPS, devices with their icons.

#![expect(clippy::print_stdout, reason = "figures for docs/performance.md")]

use mailbadge::time::driver::Clock;
use mailbadge_sim::peers::device::{App, Arrival, Device, DeviceListener};
use mailbadge_sim::peers::unix_time::UnixMicros;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use support::cloud::Cloud;
use support::dovecot::{Dovecot, Format, Options, USER_PASSWORD};
use support::generation::Generation;
use support::host::{Host, device_id};
use support::imap_client::ImapClient;
use support::lmtp::LmtpClient;
use support::machine;
use support::script::Scene;
use support::{required, wait_until};

/// Mailboxes, each with two devices.
const MAILBOXES: u32 = 50;

/// How long a count may take to its devices; far above what it takes.
const LIMIT: Duration = Duration::from_secs(90);

fn names() -> Vec<String> {
    (1..=MAILBOXES).map(|number| format!("u{number}")).collect()
}

/// These mailboxes, this agent, this relay.
fn scene<'a>(cloud: &'a Cloud, dovecot: &Dovecot, host: &'a Host) -> Scene<'a> {
    let (imap, lmtp) = (dovecot.imap(), dovecot.lmtp());
    Scene { cloud, host, imap, lmtp, password: USER_PASSWORD, mailboxes: names() }
}

fn every_step_reaches_every_device(generation: Generation, dict: bool, format: Format) {
    let _others = machine::shared();
    let cloud = Cloud::start();
    let mut host = Host::beside(generation);
    let dict_address = dict.then(|| host.dict());
    let options = Options { generation, users: MAILBOXES, dict: dict_address, format, ..Options::default() };
    let dovecot = Dovecot::start(options);
    let source = if dict { host.dovecot_source() } else { host.imap_source(&dovecot, "auto") };
    host.configure(&cloud, &source);
    host.subscribe(&names());
    host.start();
    scene(&cloud, &dovecot, &host).play();
    host.stop();
    assert_eq!(dovecot.complaints(), Vec::<String>::new());
}

fn with_the_dict_source_alone_every_device_shows_status_unseen_after_each_step(generation: Generation) {
    every_step_reaches_every_device(generation, true, Format::Maildir);
}

#[test]
fn with_the_dict_source_and_sdbox_every_device_shows_status_unseen_after_each_step() {
    if !required("dovecot") {
        return;
    }
    every_step_reaches_every_device(Generation::Debian12, true, Format::Sdbox);
}

fn with_the_imap_source_alone_every_device_shows_status_unseen_after_each_step(generation: Generation) {
    every_step_reaches_every_device(generation, false, Format::Maildir);
}

#[test]
fn with_the_imap_source_and_sdbox_every_device_shows_status_unseen_after_each_step() {
    if !required("dovecot") {
        return;
    }
    every_step_reaches_every_device(Generation::Debian12, false, Format::Sdbox);
}

/// A host whose mailboxes are told of by dict and swept over IMAP, with a relay that knows it; the daemon runs.
fn dict_and_sweep(generation: Generation) -> (Cloud, Host, Dovecot) {
    let cloud = Cloud::start();
    let mut host = Host::beside(generation);
    let dict = Some(host.dict());
    let dovecot = Dovecot::start(Options { generation, users: MAILBOXES, dict, ..Options::default() });
    let sources = format!("{}{}", host.dovecot_source(), host.imap_source(&dovecot, "sweep"));
    host.configure(&cloud, &sources);
    host.subscribe(&names());
    host.start();
    (cloud, host, dovecot)
}

/// Notifications that repeated what a device showed already: when they came, and when that count had come before.
#[derive(Default)]
struct Repetitions {
    last: Mutex<HashMap<(App, Box<str>), UnixMicros>>,
    found: Mutex<Vec<(UnixMicros, UnixMicros)>>,
}

impl DeviceListener for Repetitions {
    fn arrived(&self, device: &Device, arrival: Arrival, now: UnixMicros) {
        let before = self.last.lock().insert((device.app, device.id.clone()), now);
        if let (Arrival::Repeated, Some(before)) = (arrival, before) {
            self.found.lock().push((before, now));
        }
    }
}

/// Delivers and reads, over and over, until told to stop. A delivery may take seconds while no agent listens.
fn load(dovecot: &Dovecot, seed: u64, is_over: &AtomicBool) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut lmtp = LmtpClient::connect(dovecot.lmtp()).expect("lmtp");
    while !is_over.load(Ordering::Relaxed) {
        let name = format!("u{}", random.u32(1..=MAILBOXES));
        if random.u8(0..4) > 0 {
            lmtp.deliver(&name).expect("delivery");
            continue;
        }
        let mut imap = ImapClient::connect(dovecot.imap(), &name, USER_PASSWORD).expect("imap");
        if imap.select("INBOX").expect("select") > 0 {
            imap.store("1:*", random.choice(['+', '-']).unwrap_or('+'), "\\Seen").expect("store");
        }
    }
}

/// Kills, each at a random moment under load.
const KILLS: usize = 20;

/// What an acknowledged count may be behind in the store: the last second before a kill is sent again.
const WRITE_BEHIND: Duration = Duration::from_secs(1);

#[test]
fn killed_at_random_moments_under_load_the_agent_loses_nothing_and_repeats_the_last_second_at_most() {
    if !required("dovecot") {
        return;
    }
    let _others = machine::shared();
    let (cloud, mut host, dovecot) = dict_and_sweep(Generation::Debian12);
    let repetitions = Arc::new(Repetitions::default());
    cloud.set_listener(Arc::clone(&repetitions) as Arc<dyn DeviceListener>);
    let clock = Clock::start();
    let mut random = fastrand::Rng::with_seed(7);
    let mut kills = Vec::new();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..3 {
            let (dovecot, is_over) = (&dovecot, &is_over);
            scope.spawn(move || load(dovecot, seed, is_over));
        }
        for _ in 0..KILLS {
            thread::sleep(Duration::from_millis(random.u64(20..800)));
            kills.push(UnixMicros::from_ms(clock.now().unix.0));
            host.kill();
            host.start();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    scene(&cloud, &dovecot, &host).all_badges_are_true("after the kills");
    for (before, again) in &*repetitions.found.lock() {
        let is_excused = kills.iter().any(|kill| before.after(WRITE_BEHIND) >= *kill && again >= kill);
        assert!(is_excused, "acknowledged at {before:?}, sent again at {again:?}, killed at {kills:?}");
    }
    host.stop();
}

/// How long the relay is away.
const RELAY_AWAY: Duration = Duration::from_secs(30);

#[test]
fn all_badges_are_true_after_relay_certificate_and_mail_server_went_and_came() {
    if !required("dovecot") {
        return;
    }
    let _others = machine::shared();
    let (cloud, mut host, mut dovecot) = dict_and_sweep(Generation::Debian12);
    let deliver = |dovecot: &Dovecot, step: usize| {
        let mut lmtp = LmtpClient::connect(dovecot.lmtp()).expect("lmtp");
        for name in names().iter().step_by(step) {
            lmtp.deliver(name).expect("delivery");
        }
    };
    deliver(&dovecot, 1);
    scene(&cloud, &dovecot, &host).all_badges_are_true("before anything failed");

    cloud.set_up(false);
    deliver(&dovecot, 1);
    thread::sleep(RELAY_AWAY);
    deliver(&dovecot, 3);
    cloud.set_up(true);
    scene(&cloud, &dovecot, &host).all_badges_are_true("after the relay came back");

    cloud.renew_certificate();
    deliver(&dovecot, 2);
    scene(&cloud, &dovecot, &host).all_badges_are_true("after the relay's certificate changed");

    dovecot.stop();
    dovecot.start_again().expect("on the same ports");
    deliver(&dovecot, 2);
    scene(&cloud, &dovecot, &host).all_badges_are_true("after Dovecot was stopped and started");

    dovecot.kill();
    dovecot.start_again().expect("on the same ports");
    deliver(&dovecot, 1);
    scene(&cloud, &dovecot, &host).all_badges_are_true("after Dovecot was killed and started");
    host.stop();
}

/// Deliveries that are timed: by dict, and over IMAP, where each waits for the server's window of 500 ms.
const TIMED: [(&str, u32); 2] = [("dovecot", 500), ("imap", 60)];

/// Delays from the 250 to the device, shortest first.
fn delays(cloud: &Cloud, lmtp: &mut LmtpClient, deliveries: u32) -> Vec<Duration> {
    let clock = Clock::start();
    let time = |number: u32| {
        let name = format!("u{}", 1 + number % MAILBOXES);
        let count = 1 + number / MAILBOXES;
        let accepted = lmtp.deliver(&name).expect("delivery").accepted_at;
        let device = device_id(&name);
        wait_until(&name, LIMIT, || (cloud.badge(App::Iphone, &device) == Some(count)).then_some(()));
        clock.instant(clock.now().moment).saturating_duration_since(accepted)
    };
    let mut delays: Vec<_> = (0..deliveries).map(time).collect();
    delays.sort_unstable();
    delays
}

/// Prints what docs/performance.md tells; how fast a machine is, is nothing to fail for.
fn each_delivery_reaches_the_device_and_the_delays_are_told(generation: Generation) {
    let _alone = machine::alone();
    for (kind, deliveries) in TIMED {
        let is_dict = kind == "dovecot";
        let cloud = Cloud::start();
        let mut host = Host::beside(generation);
        let dict = is_dict.then(|| host.dict());
        let dovecot = Dovecot::start(Options { generation, users: MAILBOXES, dict, ..Options::default() });
        let source = if is_dict { host.dovecot_source() } else { host.imap_source(&dovecot, "notify") };
        // Each delivery is to find a quiet agent: what is held for company is no matter of speed.
        host.configure_with(&cloud, "max-hold = \"1ms\"", &source);
        host.subscribe(&names());
        host.start();
        let mut lmtp = LmtpClient::connect(dovecot.lmtp()).expect("lmtp");
        let delays = delays(&cloud, &mut lmtp, deliveries);
        let at = |percent: usize| *delays.get(delays.len() * percent / 100).expect("a part of all");
        let (p50, p90, p99) = (at(50), at(90), at(99));
        println!(
            "{generation:?}, {kind}: {deliveries} deliveries, from the 250 to the device: p50 {p50:?}, p90 {p90:?}, p99 {p99:?}"
        );
        host.stop();
    }
}

support::each_dovecot! {
    each_delivery_reaches_the_device_and_the_delays_are_told,
    with_the_dict_source_alone_every_device_shows_status_unseen_after_each_step,
    with_the_imap_source_alone_every_device_shows_status_unseen_after_each_step,
}
