//! Only drivers touch the world: sockets, files, clocks, threads, processes and the environment. A driver is called
//! `driver.rs` or lives in a folder `driver/`; the few other files that touch the world are listed with their reason.

use crate::imports::Names;
use crate::sources::{Source, none, sources};
use std::collections::BTreeSet;

/// What only drivers name: these paths, and those that continue them.
const WORLD: &[&str] = &[
    "std::env::args",
    "std::env::var",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os::unix::net",
    "std::process::Command",
    "std::thread::sleep",
    "std::thread::spawn",
    "std::thread::Builder",
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "tokio::fs",
    "tokio::net",
    "tokio::process",
    "tokio::signal",
    "tokio::spawn",
    "tokio::task::spawn",
    "tokio::time",
    "inotify::Inotify",
    "listenfd::",
    "rusqlite::Connection::open",
    "rustix::",
    "sd_notify::",
];

/// Last segments that reach the world wherever they come from.
const WORLD_ENDS: &[&str] = &["OsRng", "thread_rng"];

/// Files of the agent that touch the world without being called a driver, and why.
const LISTED: &[(&str, &str)] = &[
    ("agent/src/commands/doctor/counts.rs", "waits between two looks at a running daemon"),
    ("agent/src/commands/doctor/host.rs", "asks for the limit of descriptors"),
    ("agent/src/commands/status.rs", "connects to the daemon"),
    ("agent/src/run.rs", "starts and ends all parts of the daemon, and takes its signals"),
    ("agent/src/run/socket_activation.rs", "takes sockets from the service manager"),
    ("agent/src/run/ledger.rs", "ticks, and calls the store where a thread may wait for the disk"),
    ("agent/src/run/relay.rs", "carries out what the flow asks for"),
    ("agent/src/run/standby.rs", "tries the state again and again"),
    ("agent/src/run/state.rs", "locks the state directory, and finds out whether there is room"),
    ("agent/src/run/state_place.rs", "looks whether the state is still at its place"),
    ("agent/src/run/watchdog.rs", "reports to the service manager"),
    ("agent/src/store/keys.rs", "keeps private keys in files"),
    ("agent/src/store/pages.rs", "keeps the notes of doubt in files"),
    ("agent/src/store/sqlite/backup.rs", "copies and exchanges the database file"),
    ("agent/src/store/sqlite/connection.rs", "opens the database"),
    ("agent/src/store/sqlite/log.rs", "reads the database's log"),
    ("agent/src/store/sqlite/create.rs", "makes the database file"),
];

/// Of a hundred lines of the agent's code, so many are in drivers and listed files, at most.
const DRIVER_LINES_PERCENT_MAX: usize = 30;

/// Folders of the simulator that put its machines on real sockets.
const SIMULATOR: &[&str] =
    &["simulator/src/serve/", "simulator/src/load/", "simulator/src/cli/", "simulator/src/client/"];

/// What a driver is called.
fn is_driver(path: &str) -> bool {
    path.ends_with("/driver.rs") || path.contains("/driver/") || path.ends_with("/main.rs")
}

/// The lines that touch the world, with what they name there.
fn touches(source: &Source) -> BTreeSet<(usize, String)> {
    let names = Names::read(&source.text);
    let touching = names.all.iter().filter(|named| {
        let text = named.text();
        WORLD.iter().any(|world| text.starts_with(world))
            || named.segments.iter().any(|segment| WORLD_ENDS.contains(&segment.as_str()))
    });
    touching.map(|named| (named.line, named.text())).collect()
}

#[test]
fn only_drivers_touch_the_world() {
    let mut complaints = Vec::new();
    for source in sources(&["agent/src", "simulator/src"]) {
        let is_free = is_driver(&source.path)
            || source.is_test()
            || SIMULATOR.iter().any(|folder| source.path.starts_with(folder))
            || LISTED.iter().any(|(path, _)| *path == source.path);
        if !is_free {
            let touches = touches(&source).into_iter();
            complaints.extend(
                touches.map(|(line, named)| format!("{}:{line}: `{named}` outside a driver", source.path)),
            );
        }
    }
    none(&complaints);
}

#[test]
fn every_listed_file_touches_the_world() {
    let sources = sources(&["agent/src"]);
    let touching =
        |path: &str| sources.iter().any(|source| source.path == path && !touches(source).is_empty());
    let idle = LISTED.iter().filter(|(path, _)| !touching(path));
    none(&idle.map(|(path, _)| format!("{path} touches nothing: take it off LISTED")).collect::<Vec<_>>());
}

#[test]
fn few_of_the_agents_lines_are_drivers() {
    let (mut drivers, mut all) = (0, 0);
    for source in sources(&["agent/src"]).iter().filter(|source| !source.is_test()) {
        let lines = source.code_lines();
        all += lines;
        if is_driver(&source.path) || LISTED.iter().any(|(path, _)| *path == source.path) {
            drivers += lines;
        }
    }
    let told = format!("{drivers} of the agent's {all} lines of code are in drivers or listed files");
    println!("{told}");
    assert!(drivers * 100 <= all * DRIVER_LINES_PERCENT_MAX, "{told}; {DRIVER_LINES_PERCENT_MAX} % at most");
}
