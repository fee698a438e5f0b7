//! What a host runs short of: descriptors, memory, room on the disk, and the right time. The agent lives on, says what is
//! wrong while it lasts, and every badge is true afterwards.

use super::{CHANGES, FAULT, MAILBOXES, row};
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::campaign::{LIMIT, Scene};
use support::host::Host;
use support::machine;
use support::process::wait_until;
use support::tmpfs::Tmpfs;
use support::{is_long, required, required_if};

/// Descriptors left to the agent, and connections that want one each.
const DESCRIPTORS: (u32, usize) = (40, 100);

#[test]
fn without_descriptors_the_agent_lives_on_and_is_right_once_it_has_some() {
    let _alone = machine::alone();
    if !required("prlimit") {
        return;
    }
    let mut scene = Scene::new(MAILBOXES);
    scene.host.start();
    scene.meanwhile(CHANGES, |host, _, _| {
        let limit = |most: u32| {
            let (pid, most) = (host.pid().to_string(), format!("--nofile={most}:"));
            assert!(Command::new("prlimit").args(["--pid", &pid, &most]).status().unwrap().success());
        };
        limit(DESCRIPTORS.0);
        let open = || UnixStream::connect(host.dict_socket());
        let connections: Vec<_> = (0..DESCRIPTORS.1).filter_map(|_| open().ok()).collect();
        std::thread::sleep(FAULT);
        limit(1024);
        drop(connections);
    });
    scene.touch_all();
    let took = scene.all_true("with descriptors again");
    println!("{}", row("no descriptors left", &scene, took));
    scene.host.stop();
}

/// Connections that strangers hold to the agent's sockets, which has fewer descriptors.
const HELD: usize = 150;

#[test]
fn with_few_descriptors_from_the_start_each_keeps_its_share() {
    let _alone = machine::alone();
    if !required("prlimit") {
        return;
    }
    for most in [64, 200] {
        let mut host = Host::new();
        host.limit(&format!("--nofile={most}:{most}"));
        let mut scene = Scene::with(host, MAILBOXES);
        scene.host.start();
        let ready = scene.meanwhile(CHANGES, |host, _, _| {
            let admin = host.folder().join("admin.sock");
            let hold = |path: &Path| UnixStream::connect(path).expect("the agent listens");
            let _held: Vec<_> = (0..HELD).map(|_| [hold(&admin), hold(&host.dict_socket())]).collect();
            let ready = host.ask("/readyz");
            wait_until("to be told", LIMIT, || {
                host.ask("/readyz").contains("notice: admin.listen: ").then_some(())
            });
            ready
        });
        assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
        let took = scene.all_true("with few descriptors");
        println!("{}", row(&format!("{most} descriptors, {} connections held", 2 * HELD), &scene, took));
        let log = scene.host.log();
        assert!(!log.contains("Too many open files"), "{log}");
        scene.host.stop();
    }
}

/// What the agent may take of memory that it can write to, in bytes.
const MEMORY: u64 = 64 << 20;

#[test]
fn with_64_mib_of_memory_all_badges_become_true() {
    let _alone = machine::alone();
    if !required("prlimit") {
        return;
    }
    let mut host = Host::new();
    host.limit(&format!("--data={MEMORY}"));
    let mut scene = Scene::with(host, MAILBOXES);
    scene.host.start();
    scene.meanwhile(CHANGES, |host, _, _| {
        let hold = |_| UnixStream::connect(host.dict_socket()).ok();
        let _held: Vec<_> = (0..HELD).map(hold).collect();
    });
    let took = scene.all_true("with 64 MiB");
    println!("{}", row("64 MiB of memory", &scene, took));
    scene.host.stop();
}

/// Bytes left on the disk when the agent starts; the others with `MAILBADGE_LONG`.
const LEFT: (&[usize], &[usize]) = (
    &[0, 64 << 10, 300 << 10],
    &[4 << 10, 8 << 10, 16 << 10, 32 << 10, 48 << 10, 96 << 10, 128 << 10, 192 << 10, 264 << 10, 400 << 10],
);

#[test]
fn wherever_the_disk_is_full_the_mail_server_is_answered_and_nothing_is_lost() {
    let _alone = machine::alone();
    let left = LEFT.0.iter().chain(if is_long() { LEFT.1 } else { &[] });
    for &left in left {
        let host = Host::new();
        let Some(disk) = Tmpfs::mount(&host.folder().join("state"), 4) else { return };
        let mut scene = Scene::with(host, MAILBOXES);
        scene.host.start();
        scene.meanwhile(CHANGES, |_, _, _| ());
        scene.all_true("before the disk was full");
        scene.host.stop();
        disk.fill_but(left);
        scene.host.start_unready();
        scene.meanwhile(CHANGES, |_, _, _| ());
        disk.free();
        wait_until("it to go on", LIMIT, || {
            scene.host.ask("/readyz").starts_with("HTTP/1.1 200").then_some(())
        });
        let took = scene.all_true("with room again");
        println!("{}", row(&format!("start with {} KiB left on the disk", left >> 10), &scene, took));
        scene.host.stop();
    }
}

/// Where Debian keeps the library that gives a process another clock (libfaketime).
fn another_clock() -> Option<PathBuf> {
    let found = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found =
        found.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|file| file.is_file());
    required_if("faketime", "faketime", found.is_some()).then_some(found)?
}

#[test]
fn a_clock_that_steps_a_day_is_named_and_leaves_no_badge_wrong() {
    let _alone = machine::alone();
    let Some(library) = another_clock() else { return };
    let mut host = Host::new();
    let clock = host.folder().join("clock");
    fs::write(&clock, "+0").unwrap();
    for (name, value) in [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", clock.clone()),
        ("FAKETIME_NO_CACHE", "1".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
    ] {
        host.set_variable(name, value);
    }
    let mut scene = Scene::with(host, MAILBOXES);
    scene.host.start();
    for (step, text) in [("a day ahead", "+1d"), ("a day behind", "-1d")] {
        fs::write(&clock, text).unwrap();
        scene.meanwhile(CHANGES, |host, _, _| {
            wait_until("the clock to be named", LIMIT, || {
                let ready = host.ask("/readyz");
                (ready.starts_with("HTTP/1.1 503") && ready.contains("clock: ")).then_some(())
            });
        });
        fs::write(&clock, "+0").unwrap();
        scene.touch_all();
        let took = scene.all_true("with the right time again");
        println!("{}", row(&format!("clock {step}, then right again"), &scene, took));
    }
    wait_until("it to be ready", Duration::from_mins(3), || {
        scene.host.ask("/readyz").starts_with("HTTP/1.1 200").then_some(())
    });
    scene.host.stop();
}
