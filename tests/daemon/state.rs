//! The state directory under a running daemon's feet: moved away, exchanged, missing. Nobody works on an empty one in its
//! place, and nobody is told that all is well.

use mailbadge_sim::peers::mail_store::MailStore;
use std::fs;
use support::cloud::{Cloud, ORGANIZATION};
use support::host::Host;

fn scene() -> (Cloud, Host) {
    let cloud = Cloud::start_with(Some(MailStore::new(1, ORGANIZATION)));
    let (store, imap) = cloud.mail_store().expect("it was given one");
    let names: Vec<String> = store.lock().names().map(|(_, name)| name.to_string()).collect();
    let host = Host::new();
    host.configure(&cloud, &host.imap_source_at(imap, "notify"));
    host.subscribe(&names);
    (cloud, host)
}

#[test]
fn a_state_that_is_moved_away_ends_the_daemon_and_is_made_anew_by_nobody() {
    let (_cloud, mut host) = scene();
    host.start();
    let [state, away] = ["state", "state.gone"].map(|name| host.folder().join(name));
    fs::rename(&state, &away).expect("own folder");
    let said = host.ends_by_itself();
    assert!(said.contains("moved away or exchanged while mailbadge runs; put it back"), "{said}");
    for line in ["subscription list", "proxy get", "certificate list", "proxy disable"] {
        let words: Vec<&str> = line.split(' ').collect();
        let refused = host.command(&words).expect_err("there is no database").to_string();
        assert!(
            refused.contains("exit status: 78") && refused.contains("there is no database"),
            "{line}: {refused}"
        );
    }
    let refused = host.start_in_vain();
    assert!(
        refused.contains("there is no database; run `mailbadge setup`, or restore a backup"),
        "{refused}"
    );
    assert!(!state.exists(), "nobody made anything in its place");
    fs::rename(&away, &state).expect("own folder");
    host.start();
    assert!(host.command(&["subscription", "list"]).expect("it is back").contains("2 "), "as it was");
    host.stop();
}

#[test]
fn a_database_that_is_exchanged_ends_the_daemon() {
    let (_cloud, mut host) = scene();
    host.start();
    let database = host.folder().join("state/mailbadge.db");
    fs::copy(&database, database.with_extension("copy")).expect("own folder");
    fs::rename(database.with_extension("copy"), &database).expect("own folder");
    let said = host.ends_by_itself();
    assert!(said.contains("mailbadge.db: moved away or exchanged"), "{said}");
}

#[test]
fn beside_a_daemon_whose_state_is_elsewhere_none_is_begun() {
    let (cloud, mut host) = scene();
    host.start();
    let text = fs::read_to_string(host.folder().join("mailbadge.toml")).expect("it is configured");
    let elsewhere = text.replace("state-dir = \"state\"", "state-dir = \"elsewhere\"");
    fs::write(host.folder().join("mailbadge.toml"), elsewhere).expect("own folder");
    let refused = host.command(&["setup"]).expect_err("a daemon runs").to_string();
    assert!(refused.contains("mailbadge runs (pid "), "{refused}");
    assert!(!host.folder().join("elsewhere").exists());
    host.stop();
    host.command(&["setup"]).expect("nobody runs now");
    drop(cloud);
}
