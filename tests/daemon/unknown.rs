//! An agent never pretends: what it says of mailboxes whose count nobody knows, in real processes. When a mailbox is unknown
//! is decided by `tracker/assurance.rs`, and proven there and by the simulation in virtual time.

use mailbadge_sim::peers::mail_store::{AccountId, MailStore};
use mailbadge_sim::serve::notifiers::{DictAddress, Options};
use std::time::Duration;
use support::cloud::{Cloud, ORGANIZATION};
use support::host::Host;
use support::process::wait_until;

/// Longest wait for a thing to happen on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn what_a_dict_alone_never_reported_is_unconfirmed_at_once_and_confirmed_by_its_first_report() {
    let mut host = Host::new();
    let told = Options { dict: Some(DictAddress::Unix(host.dict_socket())), cyrus: None };
    let cloud = Cloud::start_telling(MailStore::new(3, ORGANIZATION), told);
    let (store, _) = cloud.mail_store().expect("it was given one");
    let names: Vec<String> = store.lock().names().map(|(_, name)| name.to_string()).collect();
    let (subscribed, stranger) = names.split_at(2);
    host.configure(&cloud, &host.dovecot_source());
    host.subscribe(subscribed);
    host.start();

    let screen = host.command(&["status"]).expect("the daemon runs");
    let expected = format!("2 unconfirmed ({})", subscribed.join(", "));
    assert!(screen.contains(&expected) && !screen.contains(", none behind"), "{screen}");
    assert!(host.ask("/readyz").starts_with("HTTP/1.1 200"), "silence is no reason against it");
    assert!(host.ask("/metrics").contains("mailbadge_unconfirmed 2"), "it is counted");
    assert!(host.ask("/metrics").contains("mailbadge_unknown 0"), "nobody could have read it");

    store.lock().deliver(AccountId(2)).expect("it takes messages");
    let hint = stranger.concat();
    wait_until("the stranger is named", LIMIT, || host.ask("/status").contains(&hint).then_some(()));
    for account in [AccountId(0), AccountId(1)] {
        store.lock().deliver(account).expect("it takes messages");
    }
    let is_confirmed = || host.ask("/metrics").contains("mailbadge_unconfirmed 0").then_some(());
    wait_until("both are confirmed", LIMIT, is_confirmed);
    let status = host.ask("/status");
    assert!(!status.contains(&hint), "no subscribed mailbox is silent: {status}");
    host.stop();
}

/// Longest wait for a mailbox to be called unknown: a minute after its turn, and a busy machine.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(100);

#[test]
fn a_mailbox_that_its_server_refuses_is_unknown_and_named_with_the_servers_words() {
    let cloud = Cloud::start_with(Some(MailStore::new(1, ORGANIZATION)));
    let (store, imap) = cloud.mail_store().expect("it was given one");
    let known = store.lock().name(AccountId(0)).expect("its name").to_string();
    let mut host = Host::new();
    host.configure(&cloud, &host.imap_source_at(imap, "auto"));
    host.subscribe(&[known, format!("nobody@{ORGANIZATION}")]);
    host.start();
    let answer = wait_until("the daemon is not ready any more", UNKNOWN_LIMIT, || {
        Some(host.ask("/readyz")).filter(|answer| answer.starts_with("HTTP/1.1 503"))
    });
    let named = format!("nobody@{ORGANIZATION}: ");
    assert!(answer.contains("1 not read in time") && answer.contains(&named), "{answer}");
    assert!(answer.contains("AUTHORIZATIONFAILED"), "the server's words are missing: {answer}");
    assert!(host.ask("/metrics").contains("mailbadge_unknown 1"), "it is counted");
    // The log is brought up to date every few seconds.
    wait_until("it is logged", LIMIT, || host.log().contains("counts are unknown").then_some(()));
    host.command(&["subscription", "remove", "--mailbox", &format!("nobody@{ORGANIZATION}")])
        .expect("removed");
    wait_until("the daemon is ready again", LIMIT, || {
        host.ask("/readyz").starts_with("HTTP/1.1 200").then_some(())
    });
    host.stop();
}
