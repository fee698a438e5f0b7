//! `doctor`, and `probe` where a token service stands between: everything that can be wrong is told by name, with the
//! remedy.

use mailbadge_sim::client::Call;
use mailbadge_sim::peers::fault::Kind;
use mailbadge_sim::peers::mail_store::{AccountId, MailStore};
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use support::cloud::{Cloud, ORGANIZATION};
use support::command_line::{Ended, Host};
use support::dovecot::{MASTER_PASSWORD, MASTER_USER};
use support::host::badges;

/// The mailbox that is subscribed.
const MAILBOX: &str = "u1@fabrikam.com";

/// A relay that takes tokens of its token service alone, a host that is set up for it, and a mail server.
struct Scene {
    cloud: Cloud,
    host: Host,
}

impl Scene {
    fn new() -> Self {
        let cloud = Cloud::by_token_service(MailStore::new(1, ORGANIZATION), Duration::from_hours(24));
        let scene = Self { cloud, host: Host::new() };
        fs::write(scene.host.path("imap.password"), MASTER_PASSWORD).expect("own folder");
        scene.chmod("imap.password", 0o600);
        scene.configure("dict.sock");
        assert_eq!(scene.host.run("setup").code, 0);
        scene.point_at(&scene.cloud.auth_metadata_url());
        let uri = scene.cloud.url();
        scene.succeeds(&format!("proxy enable --organization {ORGANIZATION} --uri {uri}"));
        scene
    }

    /// With Dovecot's socket at this place in the host's folder.
    fn configure(&self, socket: &str) {
        let (_, imap) = self.cloud.mail_store().expect("it was given one");
        self.host.configure(&format!(
            "organization = \"{ORGANIZATION}\"\nstate-dir = \"state\"\n[relay]\nca-file = \"{}\"\n[[source]]\n\
             kind = \"dovecot\"\nlisten = \"{}\"\n[[source]]\nkind = \"imap\"\nhost = \"127.0.0.1\"\nport = {}\n\
             tls = \"none\"\nmaster-user = \"{MASTER_USER}\"\npassword-file = \"imap.password\"\n[admin]\nlisten = \"off\"\n",
            self.cloud.ca_file().display(),
            self.host.path(socket).display(),
            imap.port()
        ));
    }

    fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.host.path(name), Permissions::from_mode(mode)).expect("own file");
    }

    fn succeeds(&self, line: &str) -> Ended {
        let ended = self.host.run(line);
        assert_eq!(ended.code, 0, "{line}: {}{}", ended.out, ended.err);
        ended
    }

    fn point_at(&self, url: &str) {
        self.succeeds(&format!("setup --auth-metadata-url {url}"));
    }

    fn register(&self) {
        self.succeeds(&format!("auth credential --register {}", self.cloud.credentials_url()));
    }

    /// What `doctor` says of one check.
    fn finding(&self, check: &str) -> (String, String) {
        let ended = self.host.run("doctor --json");
        let all = ended.json();
        let found = all.as_array().into_iter().flatten().find(|one| text(one, "/Check") == check);
        let found = found.unwrap_or_else(|| panic!("no {check} in {all:#}"));
        (text(found, "/Result"), format!("{} {}", text(found, "/Found"), text(found, "/Remedy")))
    }

    #[track_caller]
    fn is_ill(&self, check: &str, parts: &[&str]) {
        let (result, told) = self.finding(check);
        assert_eq!(result, "ill", "{check}: {told}");
        for part in parts {
            assert!(told.contains(part), "{part:?} is not in {told:?}");
        }
        let shown = self.host.run("doctor");
        assert_eq!(shown.code, 69, "{}", shown.err);
        assert!(shown.out.contains(&format!("✗ {check}")) && shown.out.contains("→ "), "{}", shown.out);
    }

    fn fault(&self, fault: &Value) {
        let mut fault = fault.clone();
        if let Some(members) = fault.as_object_mut() {
            members.insert("peer".to_owned(), "token-service".into());
        }
        self.cloud.control(Call::delete("/control/faults?peer=token-service"));
        self.cloud.control(Call::post("/control/faults", &fault));
    }
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[test]
fn one_who_is_well_is_told_so_line_by_line() {
    let scene = Scene::new();
    scene.register();
    let shown = scene.succeeds(&format!("doctor --mailbox u1@{ORGANIZATION}"));
    for part in [
        "✓ configuration",
        "✓ state",
        "✓ certificate, current",
        "✓ descriptors",
        "✓ relay",
        "took a probe",
        "of token service MicrosoftSts",
        "by row 3",
        "✓ clock",
        "✓ token service MicrosoftSts  00000001-0000-0000-c000-000000000000@",
        "✓ source dovecot",
        "✓ source imap",
        "logs in, 0 unseen, watched by the sweep",
        "– daemon",
    ] {
        assert!(shown.out.contains(part), "{part:?} is not in\n{}", shown.out);
    }
    assert!(!shown.out.contains('✗'), "{}", shown.out);
}

#[test]
fn each_thing_that_is_wrong_is_told_with_its_remedy() {
    let scene = Scene::new();
    scene.is_ill("relay", &["Authentication", "AADSTS", "mailbadge auth credential"]);
    scene.register();
    assert_eq!(scene.finding("relay").0, "well");
    assert_eq!(scene.finding("source imap").0, "skipped");

    scene.configure("nowhere/dict.sock");
    scene.is_ill("source dovecot", &["nowhere", "make it"]);
    scene.configure("dict.sock");
    scene.succeeds("proxy disable --yes");
    scene.is_ill("proxy", &["disabled", "mailbadge proxy enable"]);
    scene.succeeds("proxy enable");

    scene.cloud.set_up(false);
    scene.is_ill("relay", &["Networking", "firewall"]);
    assert_eq!(scene.finding("token service MicrosoftSts").0, "well");
    scene.cloud.set_up(true);

    scene.chmod("state", 0o755);
    scene.is_ill("state", &["0755", "chmod"]);
    scene.chmod("state", 0o700);
    scene.chmod("imap.password", 0o644);
    scene.is_ill("configuration", &["imap.password", "chmod"]);
    scene.chmod("imap.password", 0o600);
}

#[test]
fn before_anything_is_set_up_the_first_steps_are_named() {
    let host = Host::with("[admin]\nlisten = \"off\"\n");
    let shown = host.run("doctor");
    assert_eq!(shown.code, 69, "{}", shown.err);
    for part in ["✗ state", "mailbadge setup"] {
        assert!(shown.out.contains(part), "{part:?} is not in\n{}", shown.out);
    }
    assert_eq!(host.run("setup").code, 0);
    let shown = host.run("doctor");
    assert_eq!(shown.code, 69, "{}", shown.err);
    for part in ["✗ relay", "mailbadge proxy enable", "✗ source"] {
        assert!(shown.out.contains(part), "{part:?} is not in\n{}", shown.out);
    }
    host.configure("nonsense");
    let shown = host.run("doctor");
    assert!(shown.code == 69 && shown.out.starts_with("✗ configuration"), "{}{}", shown.out, shown.err);
}

#[test]
fn maildirs_and_the_watches_they_need_are_looked_at() {
    let host = Host::new();
    let template = host.path("{user}/Maildir").display().to_string();
    let sources = |template: &str| {
        host.configure(&format!(
            "organization = \"fabrikam.com\"\nstate-dir = \"state\"\n[admin]\nlisten = \"off\"\n[[source]]\n\
             kind = \"maildir\"\npath = \"{template}\"\nnames = \"local-part\"\n[[source]]\nkind = \"cyrus\"\nlisten = \"{}\"\n",
            host.path("cyrus.sock").display()
        ));
        assert_eq!(host.run("setup").code, 0);
        host.run("doctor --mailbox kim@fabrikam.com").out
    };
    let shown = sources(&template);
    for part in
        ["✓ inotify watches", "0 are subscribed", "– source maildir", "has no Maildir by", "✓ source cyrus"]
    {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
    let shown = host.run("doctor").out;
    assert!(shown.contains("✗ source maildir") && shown.contains("nobody has a Maildir by"), "{shown}");
    for name in ["new/one", "new/two", "cur/three:2,S"] {
        let message = host.path("kim/Maildir").join(name);
        fs::create_dir_all(message.parent().expect("a folder")).expect("own folder");
        fs::write(message, "").expect("own folder");
    }
    let shown = sources(&template);
    assert!(shown.contains("kim@fabrikam.com has a Maildir, 2 unseen"), "{shown}");
    let shown = host.run("doctor").out;
    assert!(shown.contains("✓ source maildir") && shown.contains("1 Maildirs by"), "{shown}");
    for name in ["cur/four;2,S", "cur/five;2,"] {
        fs::write(host.path("kim/Maildir").join(name), "").expect("own folder");
    }
    let shown = sources(&template);
    assert!(shown.contains("✗ source maildir") && shown.contains("flags behind ';', not ':'"), "{shown}");
    assert!(shown.contains("flag-separator = \";\""), "{shown}");
    let shown = sources(&format!("{}/{{user}}", host.path("kim/Maildir/new/one").display()));
    assert!(shown.contains("✗ source maildir"), "{shown}");
    assert!(shown.contains("let the user that runs the daemon read"), "{shown}");
}

/// An agent that runs beside a simulated mail server, which it only sweeps.
struct Sweeping {
    cloud: Cloud,
    host: support::host::Host,
}

impl Sweeping {
    fn start() -> Self {
        let cloud = Cloud::start_with(Some(MailStore::new(2, ORGANIZATION)));
        let (_, imap) = cloud.mail_store().expect("it was given one");
        let mut host = support::host::Host::new();
        host.configure(&cloud, &host.imap_source_at(imap, "sweep"));
        host.subscribe(&[MAILBOX.to_owned()]);
        host.start();
        let scene = Self { cloud, host };
        let shows = || (badges(&scene.cloud, MAILBOX) == [Some(0); 2]).then_some(());
        support::wait_until("devices show the first count", Duration::from_secs(30), shows);
        scene
    }

    fn deliver(&self) {
        let (store, _) = self.cloud.mail_store().expect("it was given one");
        store.lock().deliver(AccountId(0)).expect("the first account");
    }

    /// What `doctor` says of the counts.
    fn counts(&self, mailbox: &str) -> String {
        let mut command = std::process::Command::new(support::process::program());
        command.args(["agent", "doctor", "--mailbox", mailbox, "--config", "mailbadge.toml"]);
        let output = command.current_dir(self.host.folder()).output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr);
        let mut lines = told.lines().skip_while(|line| !line.contains(" counts "));
        let line = lines.next().unwrap_or_else(|| panic!("no counts in {told}{said}"));
        let remedy = lines.next().filter(|line| line.contains('→')).unwrap_or_default();
        format!("{line}{remedy}")
    }
}

#[test]
fn the_servers_count_is_compared_with_the_daemons_and_with_what_devices_show() {
    let mut scene = Sweeping::start();
    let told = scene.counts(MAILBOX);
    assert!(told.starts_with("✓ counts") && told.contains("server 0, daemon 0 (by imap, "), "{told}");
    assert!(told.ends_with("devices 0, 0"), "{told}");

    // Nobody reports it, and the next sweep is minutes away.
    scene.deliver();
    let told = scene.counts("u1@Fabrikam.COM");
    assert!(
        told.starts_with("✗ counts") && told.contains("u1@fabrikam.com: server 1, daemon 0 (by imap, "),
        "{told}"
    );
    assert!(
        told.contains("devices 0, 0") && told.contains("→ the daemon was not told of a change"),
        "{told}"
    );
    assert!(told.contains("sweep-interval"), "{told}");

    // The daemon hears of it, the relay does not.
    scene.cloud.fail(Kind::Internal);
    scene.host.kill();
    scene.host.start();
    let hears = || scene.host.ask("/mailbox?name=u1%40fabrikam.com").contains("\"unseen\":1").then_some(());
    support::wait_until("the daemon reads it", Duration::from_secs(30), hears);
    let told = scene.counts(MAILBOX);
    assert!(told.starts_with("✗ counts") && told.contains("server 1, daemon 1 (by imap, "), "{told}");
    assert!(told.contains("→ the relay has not acknowledged it"), "{told}");

    scene.cloud.heal();
    let shows = || (badges(&scene.cloud, MAILBOX) == [Some(1); 2]).then_some(());
    support::wait_until("devices show it", Duration::from_secs(90), shows);
    let told = scene.counts(MAILBOX);
    assert!(told.starts_with("✓ counts") && told.contains("server 1, daemon 1 (by imap, "), "{told}");
    assert!(told.ends_with("devices 1, 1"), "{told}");
    assert!(scene.counts("u2@fabrikam.com").contains("nobody subscribed to u2@fabrikam.com"));
    scene.host.kill();
    let told = scene.counts(MAILBOX);
    assert!(told.starts_with("– counts") && told.contains("the daemon does not run"), "{told}");
}

#[test]
fn a_probe_names_every_trouble_of_a_token_service() {
    let scene = Scene::new();
    scene.register();
    scene.succeeds("probe");
    let cases = [
        (json!({ "kind": "unauthorized" }), "Authentication", "mailbadge auth credential"),
        (json!({ "kind": "clock-offset", "ms": 1_200_000 }), "Authentication", "s ahead of ours"),
        (json!({ "kind": "internal" }), "Authentication", "answered 500"),
        (json!({ "kind": "html", "status": 200 }), "Authentication", "its answer is of no use"),
        (json!({ "kind": "redirect", "location": "https://127.0.0.1:1/" }), "Authentication", "answered 307"),
        (json!({ "kind": "unavailable", "retryAfterS": 30 }), "Authentication", "answered 503"),
        (json!({ "kind": "answer-lost" }), "Authentication", "ends the connection"),
        (json!({ "kind": "refuse" }), "Networking", "that the token service MicrosoftSts runs"),
    ];
    for (fault, component, part) in cases {
        scene.fault(&fault);
        let ended = scene.host.run("probe");
        assert_eq!(ended.code, 69, "{fault}: {}", ended.out);
        assert!(ended.out.contains(&format!("Error      : {component}: ")), "{fault}: {}", ended.out);
        assert!(ended.out.contains(part), "{part:?} is not in {}", ended.out);
        assert!(!ended.out.contains("eyJ") && !ended.err.contains("eyJ"), "no token is shown");
    }
    scene.cloud.control(Call::delete("/control/faults?peer=token-service"));
    scene.succeeds("probe");
}

#[test]
fn a_token_says_who_issued_it_and_why() {
    let scene = Scene::new();
    let refused = scene.host.run("token");
    refused.refused(69, &["invalid_client", "mailbadge auth credential"]);
    scene.register();
    let shown = scene.succeeds("token --decode");
    for part in ["\"identityprovider\"", "IssuedBy", "token service MicrosoftSts", "by row 3", "Lifetime"] {
        assert!(shown.out.contains(part), "{part:?} is not in {}", shown.out);
    }
    let told = scene.host.json("token");
    assert_eq!((text(&told, "/Token").as_str(), told.pointer("/Row")), ("", Some(&3.into())));
}

#[test]
fn a_document_that_cannot_be_read_is_named_where_it_is_missed() {
    let scene = Scene::new();
    scene.register();
    scene.point_at("https://127.0.0.1:1/metadata");
    let ended = scene.host.run("probe");
    assert_eq!(ended.code, 69, "{}", ended.out);
    for part in ["Authentication: ", "MicrosoftSts", "https://127.0.0.1:1/metadata", "no connection"] {
        assert!(ended.out.contains(part), "{part:?} is not in {}", ended.out);
    }
}
