//! Certificates change while counts flow: the daemon signs with the next one from its date on, the relay learns it by
//! its key credential, and no badge is late. Real processes; the rules in all their cases are `identity`'s tests.

use mailbadge::time::UnixMs;
use mailbadge::time::driver::Clock;
use mailbadge_sim::client::Call;
use mailbadge_sim::peers::mail_store::MailStore;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use support::cloud::{Cloud, ORGANIZATION};
use support::host::{Host, badges};
use support::process::wait_until;

/// Longest wait for a thing to happen on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
const MAILBOXES: usize = 8;

/// A mail server, a relay, an agent that signs with one certificate and keeps another.
struct Scene {
    cloud: Cloud,
    host: Host,
    store: Arc<Mutex<MailStore>>,
    names: Vec<String>,
    first: String,
    second: String,
}

impl Scene {
    fn new() -> Self {
        let cloud = Cloud::start_with(Some(MailStore::new(MAILBOXES, ORGANIZATION)));
        let (store, imap) = cloud.mail_store().expect("it was given one");
        let names: Vec<String> = store.lock().names().map(|(_, name)| name.to_string()).collect();
        let mut host = Host::new();
        host.open_endpoint();
        host.configure(&cloud, &host.imap_source_at(imap, "notify"));
        host.subscribe(&names);
        let [first, second] = ["show", "new"].map(|what| {
            let shown = said(&host, &["certificate", what]);
            shown.get("Thumbprint").and_then(Value::as_str).expect("a thumbprint").to_owned()
        });
        let scene = Self { cloud, host, store, names, first, second };
        let url = scene.cloud.credentials_url();
        said(&scene.host, &["auth", "credential", "--certificate", &scene.second, "--register", &url]);
        scene
    }

    /// Announces the second certificate for a date this near; gives the date.
    fn announce(&self, wait: Duration) -> UnixMs {
        let date = Clock::start().now().unix.after(wait);
        let text = date.to_string();
        said(&self.host, &["auth", "config", "set", "--next", &self.second, "--effective", &text, "--force"]);
        date
    }

    /// Everybody gets a message.
    fn deliver(&self) {
        let mut store = self.store.lock();
        for name in &self.names {
            let account = store.find(name).expect("it is there");
            store.deliver(account).expect("it takes messages");
        }
    }

    fn wait_shown(&self) {
        for name in &self.names {
            wait_until(&format!("{name} shows its count"), LIMIT, || {
                let store = self.store.lock();
                let account = store.find(name).expect("it is there");
                let unseen = store.status(account).expect("it is there").unseen;
                (badges(&self.cloud, name) == [Some(unseen); 2]).then_some(())
            });
        }
    }

    /// The thumbprint that the daemon signs with.
    fn signs(&self) -> Option<String> {
        let answer = self.host.ask("/status");
        let status: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        Some(status.pointer("/certificate/thumbprint")?.as_str()?.to_owned())
    }

    /// A number of `/metrics` as it stands there.
    fn metric(&self, name: &str) -> Option<String> {
        let metrics = self.host.ask("/metrics");
        metrics.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
    }

    /// That no batch was halted, nor, where that is asked, sent again.
    fn check_none(&self, results: &[&str]) {
        for result in results {
            let count = self.metric(&format!("mailbadge_batches_total{{result=\"{result}\"}}"));
            assert_eq!(count.as_deref(), Some("0"), "{result}: {}", self.host.log());
        }
    }

    fn has_gauge(&self, role: &str) -> bool {
        let name = format!("mailbadge_certificate_expiry_timestamp_seconds{{role=\"{role}\"}}");
        self.metric(&name).is_some()
    }
}

/// Runs a command that must succeed.
fn said(host: &Host, arguments: &[&str]) -> Value {
    let out = host.command(&[arguments, &["--json"]].concat()).expect("it succeeds");
    serde_json::from_str(&out).expect("it is JSON")
}

#[test]
fn the_daemon_changes_certificates_on_the_date_and_no_batch_is_refused() {
    let mut scene = Scene::new();
    scene.host.start();
    scene.deliver();
    scene.wait_shown();
    assert_eq!(scene.signs().as_ref(), Some(&scene.first));
    let date = scene.announce(Duration::from_secs(2));
    wait_until("the gauge of the next one", LIMIT, || scene.has_gauge("next").then_some(()));
    wait_until("the next certificate signs", LIMIT, || {
        scene.deliver();
        (scene.signs().as_ref() == Some(&scene.second)).then_some(())
    });
    let late = Clock::start().now().unix.0.saturating_sub(date.0);
    eprintln!("the next certificate signs {late} ms after the second of its date");
    scene.deliver();
    scene.wait_shown();
    scene.check_none(&["halted", "retried"]);
    assert!(scene.has_gauge("previous") && !scene.has_gauge("next"));

    // The relay forgets the first one: only tokens of the second are good now.
    scene.cloud.distrust(&scene.first);
    said(&scene.host, &["auth", "config", "clear-previous"]);
    scene.deliver();
    scene.wait_shown();
    scene.check_none(&["halted"]);
    wait_until("the gauge is gone", LIMIT, || (!scene.has_gauge("previous")).then_some(()));
    let log = scene.host.log();
    assert!(log.contains("the next certificate signs from now on"), "{log}");
    scene.host.stop();
}

#[test]
fn a_relay_that_trusts_the_hosts_document_learns_the_next_certificate_from_it() {
    let mut scene = Scene::new();
    scene.host.start();
    let url = scene.host.metadata_url();
    let trust = json!({ "url": url, "kind": "partner", "realm": ORGANIZATION });
    scene.cloud.control(Call::post(&format!("/control/tenants/{ORGANIZATION}/documents"), &trust));
    scene.cloud.distrust(&scene.first);
    scene.cloud.distrust(&scene.second);
    scene.deliver();
    scene.wait_shown();

    scene.announce(Duration::from_secs(2));
    wait_until("the next certificate signs", LIMIT, || {
        scene.deliver();
        (scene.signs().as_ref() == Some(&scene.second)).then_some(())
    });
    scene.deliver();
    scene.wait_shown();
    scene.check_none(&["halted"]);
    said(&scene.host, &["auth", "config", "clear-previous"]);
    wait_until("the gauge is gone", LIMIT, || (!scene.has_gauge("previous")).then_some(()));
    scene.cloud.control(Call::post(&format!("/control/tenants/{ORGANIZATION}/refresh"), &json!({})));
    scene.deliver();
    scene.wait_shown();
    scene.check_none(&["halted"]);
    scene.host.stop();
}

#[test]
fn a_date_that_passes_while_the_daemon_is_down_is_made_up_for_at_its_start() {
    let mut scene = Scene::new();
    let date = scene.announce(Duration::from_secs(1));
    let clock = Clock::start();
    wait_until("the date", LIMIT, || (clock.now().unix > date).then_some(()));
    scene.cloud.distrust(&scene.first);
    scene.deliver();
    scene.host.start();
    scene.wait_shown();
    assert_eq!(scene.signs().as_ref(), Some(&scene.second));
    scene.host.stop();
}

#[test]
fn a_certificate_made_current_by_hand_is_taken_up_while_the_daemon_runs() {
    let mut scene = Scene::new();
    scene.host.start();
    said(&scene.host, &["auth", "config", "set", "--certificate", &scene.second]);
    scene.cloud.distrust(&scene.first);
    wait_until("it signs", LIMIT, || (scene.signs().as_ref() == Some(&scene.second)).then_some(()));
    scene.deliver();
    scene.wait_shown();
    scene.host.stop();
}
