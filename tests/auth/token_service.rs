//! Counts by tokens of a token service, from `setup` to the icon: registered, rolled over, down and up again. Real
//! processes; how often and when a token is asked for is `token::keeper`'s, in virtual time.

use mailbadge_sim::client::Call;
use mailbadge_sim::peers::fault::{Kind, Peer};
use mailbadge_sim::peers::mail_store::MailStore;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use support::cloud::{Cloud, ORGANIZATION};
use support::host::{Host, badges};
use support::process::wait_until;

/// Longest wait: attempts at a token are a minute apart after failures, and the machine may be busy.
const LIMIT: Duration = Duration::from_secs(100);

/// A relay that takes the token service's tokens alone, and an agent that has read its document.
struct Scene {
    cloud: Cloud,
    host: Host,
    store: Arc<Mutex<MailStore>>,
    names: Vec<String>,
}

impl Scene {
    fn new(token_life: Duration) -> Self {
        let cloud = Cloud::by_token_service(MailStore::new(3, ORGANIZATION), token_life);
        let (store, imap) = cloud.mail_store().expect("it was given one");
        let names: Vec<String> = store.lock().names().map(|(_, name)| name.to_string()).collect();
        let host = Host::new();
        let source = host.imap_source_at(imap, "notify");
        host.configure_by_token_service(&cloud, "max-hold = \"10ms\"", &source);
        host.subscribe(&names);
        Self { cloud, host, store, names }
    }

    fn command(&self, arguments: &[&str]) -> String {
        self.host.command(arguments).expect("it succeeds")
    }

    fn deliver(&self) {
        let mut store = self.store.lock();
        for name in &self.names {
            let account = store.find(name).expect("it is there");
            store.deliver(account).expect("it takes messages");
        }
    }

    /// What each mailbox holds and what its devices show.
    fn is_true(&self) -> bool {
        let store = self.store.lock();
        self.names.iter().all(|name| {
            let status = store.find(name).and_then(|account| store.status(account)).expect("it is there");
            badges(&self.cloud, name) == [Some(status.unseen); 2]
        })
    }

    fn wait_true(&self, step: &str) {
        wait_until(step, LIMIT, || self.is_true().then_some(()));
    }

    fn rotate(&self, step: &str) {
        self.cloud.control(Call::post("/control/token-service/rotate", &json!({ "step": step })));
    }

    /// What the token service was asked, newest last.
    fn requests(&self) -> Vec<Value> {
        let mut answer = self.cloud.control(Call::get("/control/tokens"));
        let requests = answer.get_mut("requests").map(Value::take);
        requests.and_then(|requests| requests.as_array().cloned()).expect("a list")
    }
}

#[test]
fn from_setup_to_the_icon_by_the_token_service_alone() {
    let mut scene = Scene::new(Duration::from_hours(24));
    let probe = scene.command(&["probe"]);
    assert!(probe.contains("Succeeded"), "{probe}");
    let token = scene.command(&["token", "--decode"]);
    assert!(token.contains("identityprovider"), "{token}");

    let asked_before = scene.requests().len();
    scene.host.start();
    for step in ["the first count", "the second", "the third"] {
        scene.deliver();
        scene.wait_true(step);
    }
    assert_eq!(scene.requests().len(), asked_before + 1, "one token does for all");

    scene.rotate("publish");
    scene.rotate("use");
    scene.deliver();
    scene.wait_true("after the service announced a key and took it into use");
    scene.rotate("forget");
    scene.deliver();
    scene.wait_true("after the service forgot the key that signed our token");
    let metrics = scene.host.ask("/metrics");
    assert!(metrics.contains("mailbadge_batches_total{result=\"halted\"} 0"), "{metrics}");
    scene.host.stop();
}

/// Far less than the minute and more that it took while tokens began when they were signed.
const AT_ONCE: Duration = Duration::from_secs(30);

#[test]
fn a_relay_and_a_token_service_that_are_two_seconds_behind_without_tolerance_take_the_first_token() {
    let mut scene = Scene::new(Duration::from_hours(24));
    for peer in [Peer::Relay, Peer::TokenService] {
        scene.cloud.fail_at(peer, Kind::NoTolerance);
        scene.cloud.fail_at(peer, Kind::ClockOffset { ms: -2_000 });
    }
    scene.host.start();
    scene.deliver();
    wait_until("the first count", AT_ONCE, || scene.is_true().then_some(()));
    assert_eq!(scene.requests().len(), 1, "one token does");
    scene.host.stop();
}

/// So short that renewal and end come within a test, and longer than the gap between two attempts.
const SHORT_LIFE: Duration = Duration::from_secs(24);

#[test]
fn while_the_token_service_is_down_a_good_token_is_used_and_without_one_batches_wait() {
    let mut scene = Scene::new(SHORT_LIFE);
    scene.host.start();
    scene.deliver();
    scene.wait_true("with the first token");
    let issued = scene.requests().len();
    wait_until("a renewal", LIMIT, || (scene.requests().len() > issued).then_some(()));

    scene.cloud.set_token_service_up(false);
    scene.deliver();
    scene.wait_true("by the token in hand");
    wait_until("the token's end is told", LIMIT, || {
        let readyz = scene.host.ask("/readyz");
        (readyz.starts_with("HTTP/1.1 503") && readyz.contains("token")).then_some(())
    });
    scene.deliver();
    wait_until("counts wait", LIMIT, || {
        scene.host.ask("/metrics").contains("mailbadge_behind 3").then_some(())
    });
    assert!(!scene.is_true(), "no token, no badge");
    let readyz = scene.host.ask("/readyz");

    scene.cloud.set_token_service_up(true);
    scene.wait_true("after the service came back");
    wait_until("ready again", LIMIT, || scene.host.ask("/readyz").starts_with("HTTP/1.1 200").then_some(()));
    assert!(readyz.contains("token service"), "{readyz}");
    scene.host.stop();
}
