//! The state directory under a running daemon's feet: moved away, exchanged, missing. Nobody works on an empty one in its
//! place, and nobody is told that all is well.

use mailbadge_sim::peers::mail_store::MailStore;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use support::cloud::{Cloud, ORGANIZATION};
use support::command_line::Host as Commands;
use support::host::Host;
use support::required_if;

pub(crate) fn scene() -> (Cloud, Host) {
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
    let subscribed = host.command(&["subscription", "list"]).expect("it is there");
    host.start();
    let [state, away] = ["state", "state.gone"].map(|name| host.folder().join(name));
    fs::rename(&state, &away).expect("own folder");
    let said = host.ends_by_itself();
    assert!(said.contains("moved away or exchanged while mailbadge runs; put it back"), "{said}");
    for line in ["subscription list", "proxy show", "certificate list", "proxy disable --yes"] {
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
    assert_eq!(host.command(&["subscription", "list"]).expect("it is back"), subscribed);
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

/// `certificates/` was root's, and the agent could not read its own key.
#[test]
fn what_root_makes_in_the_state_belongs_to_its_owner() {
    let host = Commands::new();
    let state = host.path("state");
    fs::create_dir(&state).expect("own folder");
    let is_root = fs::metadata(&state).expect("it was made").uid() == 0;
    if !required_if("root", "a shell of root", is_root) {
        return;
    }
    fs::set_permissions(&state, Permissions::from_mode(0o700)).expect("own folder");
    chown(&state, Some(1234), Some(1235)).expect("root may");
    let add = "subscription add --mailbox u1 --app-id com.microsoft.exchange.mowa --device-id a";
    for line in [
        "setup",
        add,
        "certificate new",
        "backup state/backup",
        "restore state/backup --replace",
        "subscription list",
    ] {
        let ended = host.run(line);
        assert_eq!(ended.code, 0, "{line}: {}", ended.err);
    }
    let (mut left, mut seen) = (vec![state], 0);
    while let Some(path) = left.pop() {
        let metadata = fs::metadata(&path).expect("it can be read");
        assert_eq!((metadata.uid(), metadata.gid()), (1234, 1235), "{}", path.display());
        seen += 1;
        if metadata.is_dir() {
            left.extend(
                fs::read_dir(&path).expect("own folder").map(|entry| entry.expect("it can be read").path()),
            );
        }
    }
    assert_eq!(seen, 8, "directory, database, the former one, backup, lock, certificates, two keys");
}
