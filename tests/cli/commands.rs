//! The command line as people and programs meet it: what each command prints, as text and as JSON, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

use serde_json::Value;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use support::command_line::Host;

const IPHONE: &str = "--app-id com.microsoft.exchange.iphone --device-id \
                      00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

#[test]
fn what_the_command_line_does_not_know_ends_with_64_and_help_with_0() {
    let host = Host::new();
    for line in
        ["", "frobnicate", "proxy", "proxy enable --uri", "subscription add --mailbox u1", "check --prind"]
    {
        let ended = host.run(line);
        assert_eq!(ended.code, 64, "{line}: {}", ended.err);
        assert!(ended.err.contains("--help") || ended.err.contains("Usage"), "{line}: {}", ended.err);
    }
    for line in ["--help", "--version", "proxy --help"] {
        assert_eq!(host.run(line).code, 0, "{line}");
    }
    assert!(host.run("--version").out.starts_with("mailbadge "));
}

#[test]
fn a_missing_or_wrong_configuration_ends_with_78_and_names_file_line_and_key() {
    let host = Host::new();
    fs::remove_file(host.path("mailbadge.toml")).unwrap();
    host.run("proxy show").refused(78, &["mailbadge.toml", "No such file"]);
    host.configure("organization = \"fabrikam.com\"\n[relay]\ntimeoud = \"1s\"\n");
    for line in ["check", "proxy show", "setup", "status", "subscription list", "certificate list"] {
        host.run(line).refused(78, &["mailbadge.toml:3: relay.timeoud: unknown key", "timeout"]);
    }
    let ended = host.run("check --json");
    let told = ended.json();
    assert_eq!(
        (ended.code, &told["Errors"][0]["Line"], &told["Errors"][0]["Key"]),
        (78, &3.into(), &"relay.timeoud".into())
    );
}

#[test]
fn a_secret_that_others_can_read_ends_with_77() {
    let host = Host::with(
        "[[source]]\nkind = \"imap\"\nhost = \"localhost\"\nmaster-user = \"agent\"\npassword-file = \"pw\"\n",
    );
    fs::write(host.path("pw"), "s3cret\n").unwrap();
    fs::set_permissions(host.path("pw"), Permissions::from_mode(0o640)).unwrap();
    let ended = host.run("check");
    ended.refused(77, &["pw: mode 0640", "chmod 600"]);
    assert!(!ended.err.contains("s3cret"));
    fs::set_permissions(host.path("pw"), Permissions::from_mode(0o600)).unwrap();
    let printed = host.run("check --print");
    assert_eq!(printed.code, 0, "{}", printed.err);
    assert!(!printed.out.contains("s3cret"), "{}", printed.out);
}

#[test]
fn state_that_others_can_enter_ends_with_77_and_a_damaged_store_with_74() {
    let host = Host::new();
    host.run("proxy show").refused(78, &["there is no database", "mailbadge setup"]);
    assert!(!host.path("state").exists(), "who only reads makes nothing");
    assert_eq!(host.run("setup").code, 0);
    assert_eq!(host.run("proxy show").code, 0);
    fs::set_permissions(host.path("state"), Permissions::from_mode(0o755)).unwrap();
    host.run("proxy show").refused(77, &["state: mode 0755", "chmod 700"]);
    fs::set_permissions(host.path("state"), Permissions::from_mode(0o700)).unwrap();
    fs::write(host.path("state/mailbadge.db"), "rubbish".repeat(1000)).unwrap();
    host.run("proxy show").refused(74, &["mailbadge.db", "damaged", "left untouched"]);
    assert!(fs::read(host.path("state/mailbadge.db")).unwrap().starts_with(b"rubbish"));
}

#[test]
fn check_says_valid_advises_and_prints_every_default() {
    let host = Host::new();
    let ended = host.run("check");
    assert_eq!(ended.code, 0);
    assert!(ended.out.contains("mailbadge.toml: valid\nadvice: source: there is none"), "{}", ended.out);
    let printed = host.run("check --print").out;
    for line in
        ["organization = \"fabrikam.com\"", "[relay]", "batch-max = 256  # default", "# ca-file is not set"]
    {
        assert!(printed.lines().any(|found| found == line), "{line} is not in {printed}");
    }
    host.configure(include_str!("../../fixtures/config/good/product.toml"));
    for (name, mode) in [("ca.pem", 0o644), ("imap.password", 0o600)] {
        fs::copy(format!("fixtures/config/files/{name}"), host.path(name)).unwrap();
        fs::set_permissions(host.path(name), Permissions::from_mode(mode)).unwrap();
    }
    let whole = host.run("check --print").out;
    host.configure(&whole);
    let again = host.run("check --print");
    assert_eq!(
        (again.code, again.out),
        (0, whole.replace("  # default", "")),
        "what was printed is a configuration"
    );
    let told = host.json("check --print");
    assert_eq!(told["Errors"], Value::Array(Vec::new()));
    let keys: Vec<_> =
        told["Settings"].as_array().unwrap().iter().map(|it| it["Key"].as_str().unwrap()).collect();
    assert!(keys.contains(&"expiration") && keys.contains(&"application-id"), "{keys:?}");
}

#[test]
fn the_proxy_is_enabled_shown_and_disabled_as_the_cmdlets_do() {
    let host = Host::new();
    assert_eq!(host.run("setup").code, 0);
    host.run("proxy enable").refused(64, &["--organization"]);
    host.run("proxy enable --organization fabrikam").refused(64, &["DNS domain"]);
    host.run("proxy enable --organization fabrikam.com --uri ftp://relay.example").refused(64, &["ftp"]);
    host.run("proxy enable --organization fabrikam.com --uri http://relay.example").refused(64, &["https"]);
    assert_eq!(host.json("proxy show")["Enabled"], false, "nothing was written");
    let enabled =
        host.run("proxy enable --organization fabrikam.com --uri https://relay.example/PushNotifications");
    assert_eq!(enabled.code, 0, "{}", enabled.err);
    let names: Vec<_> = enabled.out.lines().map(|line| line.split(" : ").next().unwrap().trim()).collect();
    let expected = [
        "DisplayName",
        "Enabled",
        "Organization",
        "Uri",
        "Identity",
        "IsValid",
        "Name",
        "Guid",
        "WhenChanged",
        "WhenCreated",
        "WhenChangedUTC",
        "WhenCreatedUTC",
        "ObjectState",
    ];
    assert_eq!(names, expected);
    assert!(
        enabled.out.starts_with("DisplayName    : On Premises Proxy app\nEnabled        : True\n"),
        "{}",
        enabled.out
    );
    let changed = host.json("proxy enable --uri https://other.example");
    assert_eq!(
        (&changed["Organization"], &changed["Uri"]),
        (&"fabrikam.com".into(), &"https://other.example".into())
    );
    let disabled = host.json("proxy disable --yes");
    assert_eq!((&disabled["Enabled"], &disabled["Uri"]), (&false.into(), &"https://other.example".into()));
    assert_eq!(disabled["Guid"], changed["Guid"]);
}

#[test]
fn what_if_changes_nothing_and_disabling_asks() {
    let host = Host::new();
    assert_eq!(host.run("setup").code, 0);
    assert_eq!(host.run("proxy enable --organization fabrikam.com").code, 0);
    let before = host.json("proxy show");
    let what_if = host.run("proxy enable --uri https://other.example --what-if");
    assert!(what_if.out.starts_with("What if: Uri would change from"), "{}", what_if.out);
    assert!(
        what_if.out.contains("\nUri            : https://outlook.office365.com/PushNotifications\n"),
        "{}",
        what_if.out
    );
    let told = host.json("proxy disable --what-if");
    assert_eq!(told["WhatIf"].as_array().unwrap().len(), 1);
    assert_eq!(host.json("proxy show"), before);
    host.run("proxy disable").refused(64, &["--yes"]);
    let declined = host.run_with_input("proxy disable", "n\n");
    assert!(declined.code == 0 && declined.err.contains("Nothing was changed."), "{}", declined.err);
    assert_eq!(host.json("proxy show"), before);
    assert_eq!(host.run_with_input("proxy disable", "y\n").code, 0);
    assert_eq!(host.json("proxy show")["Enabled"], false);
}

#[test]
fn a_subscription_is_added_renewed_moved_listed_and_removed() {
    let host = Host::new();
    let added =
        host.json(&format!("subscription add --mailbox u1 {IPHONE} --unread 5 --installation-id DEV-A1"));
    assert_eq!(added["SubscriptionId"], "MOWA-iPhone-DEV-A1");
    assert_eq!((&added["InboxUnreadCount"], &added["SubscriptionOption"]), (&5.into(), &47.into()));
    let renewed = host.run(&format!("subscription add --mailbox u1 {IPHONE} --installation-id DEV-A1"));
    assert!(renewed.out.starts_with("Renewed MOWA-iPhone-DEV-A1 for u1 until "), "{}", renewed.out);
    assert_eq!(host.json("subscription list")[0]["InboxUnreadCount"], Value::Null);
    assert_eq!(host.run(&format!("subscription add --mailbox u2 {IPHONE}")).code, 0);
    let list = host.json("subscription list");
    assert_eq!((list.as_array().unwrap().len(), &list[0]["Mailbox"]), (1, &"u2".into()));
    let table = host.run("subscription list --mailbox u2").out;
    assert!(
        table.starts_with("MAILBOX  SUBSCRIPTION ID") && table.contains("\nu2       MOWA-iPhone-"),
        "{table}"
    );
    assert_eq!(host.json("subscription list --mailbox u1"), Value::Array(Vec::new()));
    assert_eq!(host.json("subscription remove --mailbox u2 --subscription-id other")["Removed"], 0);
    assert_eq!(host.run("subscription remove --mailbox u2").out, "Removed 1 subscription of u2.\n");
}

#[test]
fn a_subscription_that_makes_no_sense_is_refused_by_its_member() {
    let host = Host::new();
    let rows = [
        ("--app-id a --device-id short", "DeviceNotificationId"),
        ("--app-id a --device-id d --type FAX", "DeviceNotificationType"),
        ("--app-id a --device-id d --type GCM --unread=-1", "InboxUnreadCount"),
    ];
    for (options, member) in rows {
        host.run(&format!("subscription add --mailbox u1 {options}")).refused(64, &[member]);
    }
    assert_eq!(host.json("subscription list"), Value::Array(Vec::new()));
}

#[test]
fn many_subscriptions_come_from_a_file_all_or_none() {
    let host = Host::new();
    let line = |n: usize| {
        format!(
            r#"{{"Mailbox":"u{n}","AppId":"com.microsoft.exchange.mowa","DeviceNotificationId":"reg-{n}","DeviceNotificationType":"GCM"}}"#
        )
    };
    let text: String = (0..1000).map(|n| line(n) + "\n").collect();
    fs::write(host.path("all.jsonl"), &text).unwrap();
    let added = host.json("subscription add --from all.jsonl");
    assert_eq!((&added["Added"], &added["Replaced"]), (&1000.into(), &0.into()));
    let again = host.run_with_input("subscription add --from -", &text);
    assert_eq!(
        again.out, "Added 1000 subscriptions, 1000 of them in place of former ones.\n",
        "{}",
        again.err
    );
    fs::write(host.path("bad.jsonl"), format!("{}\n{{\"Mailbox\":1}}\n", line(5000))).unwrap();
    host.run("subscription add --from bad.jsonl").refused(64, &["bad.jsonl:2:", "nothing was added"]);
    host.run("subscription add --from nowhere.jsonl").refused(74, &["nowhere.jsonl: No such file"]);
    assert_eq!(host.json("subscription list").as_array().unwrap().len(), 1000);
}

#[test]
fn status_says_how_to_start_a_daemon_that_does_not_run() {
    let host = Host::new();
    host.configure(&format!(
        "organization = \"a.b\"\nstate-dir = \"state\"\n[admin]\nlisten = \"{}\"\n",
        host.path("admin.sock").display()
    ));
    host.run("status").refused(69, &["not running", "admin.sock", "mailbadge run"]);
    host.configure("organization = \"a.b\"\n[admin]\nlisten = \"off\"\n");
    host.run("status").refused(78, &["admin.listen"]);
}

#[test]
fn status_shows_what_the_daemon_answers_and_refuses_what_is_not_one() {
    let answer = include_str!("../../fixtures/status/answer.json");
    let (host, _server) = answered_by(&format!("HTTP/1.0 200 OK\r\n\r\n{answer}"));
    let ended = host.run("status");
    assert_eq!(ended.code, 0, "{}", ended.err);
    for part in [
        "mailbadge 0.1.0 (pid 4711) is not ready",
        "  relay: halted",
        "; from 2098-01-01T12:00:00Z on B058EA2A1F123CB0AA54B4B6E47A6173EA06E46D\n  the current certificate ends soon; make another",
        "2 behind, the oldest for 1.5 s",
        "SOURCE",
        "main",
        "retried in 2 s",
    ] {
        assert!(ended.out.contains(part), "{part:?} is not in {}", ended.out);
    }
    let (host, _server) = answered_by(&format!("HTTP/1.0 200 OK\r\n\r\n{answer}"));
    let expected: Value = serde_json::from_str(answer).unwrap();
    assert_eq!(host.json("status"), expected);
    let (host, _server) = answered_by("SSH-2.0-OpenSSH\r\n");
    host.run("status").refused(69, &["something else"]);
}

/// A host whose admin endpoint is played by a thread that answers once.
fn answered_by(answer: &str) -> (Host, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = Host::with(&format!("[admin]\nlisten = \"{}\"\n", listener.local_addr().unwrap()));
    let answer = answer.to_owned();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        // What was asked is read, so that closing does not reset the connection.
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
    });
    (host, server)
}

#[test]
fn no_color_reaches_a_pipe() {
    let host = Host::new();
    assert!(!host.run("subscription list").out.contains('\x1b'));
}
