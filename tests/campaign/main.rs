//! The fault campaign with real processes: the agent, the relay over HTTPS, a mail server, a disk; changes by the thousand
//! while something fails. Prints what docs/reliability.md tells in its table.
//!
//! `MAILBADGE_CAMPAIGN=1000000,100 cargo test --release --test campaign -- --nocapture` makes it a long one: so many
//! changes, so many kills, and every fault of the relay.

mod short;

use mailbadge_sim::peers::device::App;
use mailbadge_sim::peers::fault::{Kind, Peer};
use std::env;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::campaign::{LIMIT, Scene};
use support::host::Host;
use support::machine;
use support::process::{try_until, wait_until};
use support::tmpfs::Tmpfs;

/// Mailboxes, each with two devices.
const MAILBOXES: usize = 100;
/// Changes and kills where nothing else is asked for.
const SHORT: (u64, u64) = (20_000, 5);
/// Changes while one fault is on.
const CHANGES: u64 = 3_000;
/// How long a fault lasts, at least.
const FAULT: Duration = Duration::from_millis(1500);

/// How many changes and kills, and whether that is the long campaign.
fn size() -> (u64, u64, bool) {
    let Ok(text) = env::var("MAILBADGE_CAMPAIGN") else { return (SHORT.0, SHORT.1, false) };
    let read = || {
        let (changes, kills) = text.split_once(',')?;
        Some((changes.parse().ok()?, kills.parse().ok()?, true))
    };
    read().unwrap_or_else(|| panic!("MAILBADGE_CAMPAIGN={text:?}: expected changes,kills"))
}

fn row(fault: &str, scene: &Scene, took: Duration) -> String {
    let (made, told) = (&scene.counted.made, &scene.counted.told);
    let (made, told) = (made.load(Ordering::Relaxed), told.load(Ordering::Relaxed));
    format!("| {fault} | {made} | {told} | 0 | {:.1} s |", took.as_secs_f64())
}

#[test]
fn killed_again_and_again_no_badge_is_wrong_and_no_acknowledged_subscription_is_lost() {
    let _alone = machine::alone();
    let (changes, kills, _) = size();
    let mut scene = Scene::new(MAILBOXES);
    let names = scene.names().to_vec();
    let mut random = fastrand::Rng::with_seed(7);
    scene.host.start();
    let subscribed: Vec<(String, String)> = scene.meanwhile(changes, |host, _, counted| {
        let of_kill = |kill: u64| {
            let at = changes * kill / (kills + 1);
            wait_until("changes", LIMIT, || (counted.made.load(Ordering::Relaxed) >= at).then_some(()));
            let (mailbox, device) = (random.choice(&names).unwrap().clone(), format!("reg-{kill}"));
            let app = ["--app-id", App::Mowa.id(), "--type", "GCM"];
            let add = ["subscription", "add", "--mailbox", &mailbox, "--device-id", &device];
            host.command(&[&add[..], &app[..]].concat()).unwrap();
            std::thread::sleep(Duration::from_millis(random.u64(0..50)));
            host.kill();
            host.start();
            (mailbox, device)
        };
        (1..=kills).map(of_kill).collect()
    });
    let took = scene.all_true("after the kills");
    let list = scene.host.command(&["subscription", "list", "--json"]).unwrap();
    for (mailbox, device) in &subscribed {
        assert!(list.contains(&format!("\"{device}\"")), "{device} of {mailbox} is lost");
        let truth = scene.truth(mailbox);
        wait_until(device, LIMIT, || (scene.cloud.badge(App::Mowa, device) == truth).then_some(()));
    }
    println!(
        "{}",
        row(&format!("{kills} × KILL of the agent, {} subscriptions added", subscribed.len()), &scene, took)
    );
    scene.host.stop();
}

/// Faults of the relay by name; those of the long campaign end in a wait of a minute.
fn faults(is_long: bool) -> Vec<(&'static str, Kind)> {
    let mut faults = vec![
        ("refuse", Kind::Refuse),
        ("reset", Kind::Reset),
        ("black-hole", Kind::BlackHole),
        ("delay of 300 ms", Kind::Delay { ms: 300 }),
        ("200 bytes/s", Kind::SlowBytes { rate_bytes: 200 }),
        ("cut in mid-answer", Kind::Cut { after_bytes: 20 }),
        ("403 with a back-off of 2 s", Kind::BackOff { ms: 2_000 }),
        ("403, queue full", Kind::CanRetry),
        ("413", Kind::TooLarge),
        ("429, Retry-After 2", Kind::TooManyRequests { retry_after_s: 2 }),
        ("503, Retry-After 2", Kind::Unavailable { retry_after_s: 2 }),
        ("500", Kind::Internal),
        ("HTML, 502", Kind::Html { status: 502 }),
        ("HTML, 200", Kind::Html { status: 200 }),
        ("answer lost", Kind::AnswerLost),
        ("duplicate", Kind::Duplicate),
        ("400", Kind::BadRequest),
    ];
    if is_long {
        faults.extend([
            ("401", Kind::Unauthorized),
            ("clock 10 min ahead", Kind::ClockOffset { ms: 600_000 }),
            ("clock 10 min behind", Kind::ClockOffset { ms: -600_000 }),
            ("over budget", Kind::OverBudget),
            ("redirect", Kind::Redirect { location: "https://elsewhere.example/".to_owned() }),
        ]);
    }
    faults
}

#[test]
fn every_fault_of_the_relay_is_outlived() {
    let _alone = machine::alone();
    let (_, _, is_long) = size();
    let mut scene = Scene::new(MAILBOXES);
    scene.host.start();
    for (name, kind) in faults(is_long) {
        let is_put_aside = kind == Kind::BadRequest;
        scene.meanwhile(CHANGES, |_, cloud, counted| {
            cloud.fail(kind);
            std::thread::sleep(FAULT);
            let before = counted.made.load(Ordering::Relaxed);
            let is_under_way = || (counted.made.load(Ordering::Relaxed) > before).then_some(());
            let _ = try_until(FAULT, is_under_way);
            cloud.heal();
        });
        if is_put_aside {
            // What a relay called invalid waits for the next change of its mailbox.
            scene.touch_all();
        }
        let took = scene.all_true(name);
        println!("{}", row(&format!("relay: {name}"), &scene, took));
    }
    scene.host.stop();
}

/// Tokens that live so short that each fault of the token service meets a renewal.
const TOKEN_LIFE: Duration = Duration::from_secs(16);

/// Faults of the token service by name.
fn token_faults(is_long: bool) -> Vec<(&'static str, Kind)> {
    let mut faults = vec![
        ("refuse", Kind::Refuse),
        ("401, invalid_client", Kind::Unauthorized),
        ("503, Retry-After 2", Kind::Unavailable { retry_after_s: 2 }),
    ];
    if is_long {
        faults.extend([
            ("reset", Kind::Reset),
            ("black-hole", Kind::BlackHole),
            ("delay of 300 ms", Kind::Delay { ms: 300 }),
            ("200 bytes/s", Kind::SlowBytes { rate_bytes: 200 }),
            ("cut in mid-answer", Kind::Cut { after_bytes: 20 }),
            ("429, Retry-After 2", Kind::TooManyRequests { retry_after_s: 2 }),
            ("500", Kind::Internal),
            ("HTML, 502", Kind::Html { status: 502 }),
            ("HTML, 200", Kind::Html { status: 200 }),
            ("answer lost", Kind::AnswerLost),
            ("redirect", Kind::Redirect { location: "https://elsewhere.example/".to_owned() }),
            ("clock 10 min ahead", Kind::ClockOffset { ms: 600_000 }),
            ("clock 10 min behind", Kind::ClockOffset { ms: -600_000 }),
        ]);
    }
    faults
}

#[test]
fn every_fault_of_the_token_service_is_outlived() {
    let _alone = machine::alone();
    let (_, _, is_long) = size();
    let mut scene = Scene::by_token_service(MAILBOXES, TOKEN_LIFE);
    scene.host.start();
    for (name, kind) in token_faults(is_long) {
        scene.meanwhile(CHANGES, |host, cloud, _| {
            cloud.fail_at(Peer::TokenService, kind);
            // A refused connection is no request: the agent tells of it.
            let is_met =
                || cloud.hits(Peer::TokenService) > 0 || host.ask("/readyz").contains("token service");
            wait_until("a renewal meets the fault", LIMIT, || is_met().then_some(()));
            std::thread::sleep(FAULT);
            cloud.heal();
        });
        scene.touch_all();
        let took = scene.all_true(name);
        println!("{}", row(&format!("token service: {name}"), &scene, took));
    }
    scene.host.stop();
}

#[test]
fn on_a_full_disk_counts_go_on_subscriptions_are_refused_and_after_a_kill_all_is_true() {
    let _alone = machine::alone();
    let host = Host::new();
    let Some(disk) = Tmpfs::mount(&host.folder().join("state"), 2) else { return };
    let mut scene = Scene::with(host, MAILBOXES);
    scene.host.start();
    scene.meanwhile(CHANGES, |_, _, _| ());
    scene.all_true("before the disk was full");
    disk.fill();
    let add = ["subscription", "add", "--mailbox", "u1@fabrikam.com", "--device-id", "reg-full"];
    let app = ["--app-id", App::Mowa.id(), "--type", "GCM"];
    scene.host.command(&[&add[..], &app[..]].concat()).expect_err("nothing can be kept");
    scene.meanwhile(CHANGES, |_, _, _| ());
    let took = scene.all_true("on the full disk");
    println!("{}", row("disk full", &scene, took));
    let log = scene.host.log();
    assert!(
        log.contains("No space left on device") || log.contains("disk is full"),
        "nobody was told: {log}"
    );
    scene.meanwhile(CHANGES, |host, _, _| host.kill());
    disk.free();
    scene.host.start();
    let took = scene.all_true("after the kill on the full disk");
    println!("{}", row("KILL while the disk is full", &scene, took));
    scene.host.stop();
    drop(scene);
}

/// What is done to a file of this length.
type Harm = fn(&File, u64);

#[test]
fn a_damaged_database_is_refused_and_left_as_it_is() {
    let _alone = machine::alone();
    let mut scene = Scene::new(MAILBOXES);
    scene.host.start();
    scene.meanwhile(CHANGES, |_, _, _| ());
    scene.host.stop();
    let path = scene.host.folder().join("state/mailbadge.db");
    let sound = fs::read(&path).unwrap();
    let harms: [(&str, Harm); 3] = [
        ("torn", |file, length| file.set_len(length / 2 + 100).unwrap()),
        ("overwritten in its middle", |file, length| file.write_all_at(&[0xA5; 8192], length / 2).unwrap()),
        ("overwritten at its head", |file, _| file.write_all_at(&[0xA5; 100], 0).unwrap()),
    ];
    for (name, harm) in harms {
        let file = File::options().write(true).open(&path).unwrap();
        harm(&file, sound.len() as u64);
        let damaged = fs::read(&path).unwrap();
        let refusal = scene.host.start_in_vain();
        assert!(refusal.contains("mailbadge.db"), "{name}: {refusal}");
        assert!(fs::read(&path).unwrap() == damaged, "{name}: it was touched");
        file.set_len(0).unwrap();
        file.write_all_at(&sound, 0).unwrap();
        println!("| database {name} | | | refused | |");
    }
    scene.touch_all();
    scene.host.start();
    let took = scene.all_true("with the sound database again");
    println!("{}", row("the sound database again", &scene, took));
    scene.host.stop();
}
