//! A start on a full disk: mail servers are answered at once, the daemon says why it is not ready, goes on by itself once
//! there is room, and has lost nothing of what was reported meanwhile.

use std::fs;
use std::time::Duration;
use support::cloud::Cloud;
use support::dict_client::deliver;
use support::host::{Host, badges};
use support::process::wait_until;
use support::tmpfs::Tmpfs;

/// Longest wait for a thing to happen on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// Longest wait of a delivery, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);

#[test]
fn a_start_on_a_full_disk_answers_the_mail_server_says_why_and_goes_on_when_there_is_room() {
    let (cloud, mut host) = (Cloud::start(), Host::new());
    let state = host.folder().join("state");
    let Some(disk) = Tmpfs::mount(&state, 2) else { return };
    host.configure(&cloud, &host.dovecot_source());
    host.subscribe(&["u1".to_owned()]);
    host.start();
    deliver(&host.dict_socket(), "u1", 1);
    wait_until("the badge", LIMIT, || (badges(&cloud, "u1") == [Some(1); 2]).then_some(()));
    // A kill would leave a log of the database that a start may write into, full disk or not.
    host.stop();
    disk.fill();
    host.start_unready();
    let took = deliver(&host.dict_socket(), "u1", 2);
    assert!(took < AT_ONCE, "{took:?}");
    let ready = host.ask("/readyz");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("free some room there"), "{ready}");
    assert!(ready.contains("No space left on device"), "{ready}");
    let status = host.command(&["status"]).expect("it runs");
    assert!(
        status.contains("No space left") && !status.contains("none"),
        "nothing is said that is not known: {status}"
    );
    assert_eq!(badges(&cloud, "u1"), [Some(1); 2], "nothing is sent before it is known to whom");
    disk.free();
    wait_until("it to go on", LIMIT, || host.ask("/readyz").starts_with("HTTP/1.1 200").then_some(()));
    wait_until("the badge", LIMIT, || (badges(&cloud, "u1") == [Some(2); 2]).then_some(()));
    let took = deliver(&host.dict_socket(), "u1", 3);
    assert!(took < AT_ONCE, "{took:?}");
    wait_until("the badge", LIMIT, || (badges(&cloud, "u1") == [Some(3); 2]).then_some(()));
    let pages = fs::read_dir(&state).expect("own folder").flatten();
    let pages = pages.filter(|entry| entry.file_name().to_string_lossy().starts_with("doubt-")).count();
    assert!(pages <= 2, "{pages} pages of notes");
    host.stop();
}

#[test]
fn a_stop_while_the_disk_is_full_is_a_stop() {
    let (cloud, mut host) = (Cloud::start(), Host::new());
    let Some(disk) = Tmpfs::mount(&host.folder().join("state"), 2) else { return };
    host.configure(&cloud, &host.dovecot_source());
    disk.fill();
    host.start_unready();
    host.stop();
}
