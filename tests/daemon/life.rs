//! The daemon's life as a service manager and an administrator see it: ready, reloaded, stopped. Real processes, the
//! simulated mail server and relay; what it does with counts meanwhile is `whole_path.rs`'s.

use mailbadge_sim::peers::fault::Kind;
use mailbadge_sim::peers::mail_store::MailStore;
use parking_lot::Mutex;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use support::cloud::{Cloud, ORGANIZATION};
use support::host::{Host, badges};
use support::process::wait_until;

/// Longest wait for a thing to happen on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// A mail server with two mailboxes, a relay, and an agent that is configured by `sources`.
struct Scene {
    cloud: Cloud,
    host: Host,
    store: Arc<Mutex<MailStore>>,
    imap: SocketAddr,
    names: Vec<String>,
}

impl Scene {
    fn new() -> Self {
        let cloud = Cloud::start_with(Some(MailStore::new(2, ORGANIZATION)));
        let (store, imap) = cloud.mail_store().expect("it was given one");
        let names = store.lock().names().map(|(_, name)| name.to_string()).collect();
        let scene = Self { cloud, host: Host::new(), store, imap, names };
        scene.host.configure(&scene.cloud, &scene.source("first"));
        scene.host.subscribe(&scene.names);
        scene
    }

    fn source(&self, name: &str) -> String {
        format!("{}name = \"{name}\"\n", self.host.imap_source_at(self.imap, "notify"))
    }

    fn name(&self, mailbox: usize) -> &str {
        self.names.get(mailbox).expect("there are two")
    }

    fn deliver(&self, mailbox: usize) -> u32 {
        let mut store = self.store.lock();
        let account = store.find(self.name(mailbox)).expect("it is there");
        store.deliver(account).expect("it takes messages");
        store.status(account).expect("it is there").unseen
    }

    fn wait_shown(&self, mailbox: usize, count: u32) {
        let name = self.name(mailbox);
        wait_until(&format!("{name} shows {count}"), LIMIT, || {
            (badges(&self.cloud, name) == [Some(count); 2]).then_some(())
        });
    }

    /// Writes the file, tells the daemon, waits until `/readyz` says this.
    fn reload(&self, relay: &str, sources: &str, readyz: &str) {
        self.host.write_configuration(&self.cloud, relay, sources);
        self.host.signal("HUP");
        wait_until(readyz, LIMIT, || self.host.ask("/readyz").contains(readyz).then_some(()));
    }

    /// A number of `/metrics`.
    fn metric(&self, name: &str) -> Option<f64> {
        let metrics = self.host.ask("/metrics");
        metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    fn logins(&self, source: &str) -> Option<f64> {
        self.metric(&format!("mailbadge_logins_total{{source=\"{source}\",result=\"ok\"}}"))
    }
}

#[test]
fn a_reload_takes_over_what_changed_and_leaves_alone_what_did_not() {
    let mut scene = Scene::new();
    scene.host.start();
    let first = scene.deliver(0);
    scene.wait_shown(0, first);
    assert_eq!(scene.logins("first"), Some(2.0), "a connection each mailbox");
    assert_eq!(scene.logins("second"), None);

    let both = scene.source("first") + &scene.source("second");
    scene.reload("max-hold = \"10ms\"\nbatch-max = 1", &both, "200 OK");
    wait_until("the new source logs in", LIMIT, || (scene.logins("second") == Some(2.0)).then_some(()));
    assert_eq!(scene.logins("first"), Some(2.0), "the source that did not change kept its connections");

    scene.reload("max-hold = \"soon\"", &both, "max-hold");
    let reason = scene.host.ask("/readyz");
    assert!(reason.starts_with("HTTP/1.1 503") && reason.contains("mailbadge.toml:"), "{reason}");
    let second = scene.deliver(1);
    scene.wait_shown(1, second);
    assert_eq!(scene.logins("second"), Some(2.0), "a faulty file changes nothing");

    scene.reload("", &scene.source("second"), "200 OK");
    wait_until("the first source is gone", LIMIT, || scene.logins("first").is_none().then_some(()));
    let third = scene.deliver(0);
    scene.wait_shown(0, third);
    assert_eq!(scene.logins("second"), Some(2.0), "the source that stays kept its connections");
    scene.host.stop();
}

#[test]
fn the_service_manager_is_told_and_a_stop_delivers_what_is_under_way() {
    let mut scene = Scene::new();
    let socket = scene.host.folder().join("manager.sock");
    let manager = UnixDatagram::bind(&socket).expect("own folder");
    manager.set_read_timeout(Some(LIMIT)).expect("a socket of ours");
    let told = |expected: &str| {
        let mut datagram = [0; 256];
        loop {
            let length = manager.recv(&mut datagram).unwrap_or_else(|error| panic!("{expected}: {error}"));
            let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
            if text.lines().any(|line| line == expected) {
                return;
            }
        }
    };
    scene.host.set_variable("NOTIFY_SOCKET", socket.clone());
    scene.host.start();
    told("READY=1");
    let shown = scene.deliver(0);
    scene.wait_shown(0, shown);
    scene.host.signal("HUP");
    told("RELOADING=1");
    told("READY=1");

    scene.cloud.fail(Kind::Delay { ms: 1500 });
    let late = scene.deliver(0);
    wait_until("the batch is under way", LIMIT, || {
        scene.host.ask("/status").contains("\"in_flight\":1").then_some(())
    });
    scene.host.stop();
    told("STOPPING=1");
    assert_eq!(badges(&scene.cloud, scene.name(0)), [Some(late); 2], "it arrived before the end");
    scene.cloud.heal();
    scene.host.start();
    let again = scene.deliver(1);
    scene.wait_shown(1, again);
    scene.host.stop();
}

#[test]
fn the_log_says_once_that_counts_wait_and_that_they_are_sent_again() {
    let mut scene = Scene::new();
    scene.host.start();
    let shown = scene.deliver(0);
    scene.wait_shown(0, shown);
    scene.cloud.fail(Kind::Internal);
    let count = scene.deliver(0);
    let retried = "mailbadge_batches_total{result=\"retried\"}";
    wait_until("attempts", LIMIT, || (scene.metric(retried)? >= 3.0).then_some(()));
    scene.cloud.heal();
    scene.wait_shown(0, count);
    wait_until("it is told", LIMIT, || scene.host.log().contains("counts are sent again").then_some(()));
    let log = scene.host.log();
    assert_eq!(log.matches("counts wait: relay: ").count(), 1, "{log}");
    scene.host.stop();
}

/// What a stop may take (`run::DRAIN_MAX`), and what a busy machine adds to it.
const STOP_MAX: Duration = Duration::from_secs(12);

#[test]
fn a_relay_that_never_answers_does_not_keep_the_daemon_from_stopping() {
    let mut scene = Scene::new();
    scene.host.start();
    let shown = scene.deliver(0);
    scene.wait_shown(0, shown);
    scene.cloud.fail(Kind::BlackHole);
    let count = scene.deliver(0);
    wait_until("the batch is under way", LIMIT, || {
        scene.host.ask("/status").contains("\"in_flight\":1").then_some(())
    });
    let clock = mailbadge::time::driver::Clock::start();
    scene.host.stop();
    let took = clock.now().moment.since(mailbadge::time::Moment::START);
    assert!(took < STOP_MAX, "{took:?}");
    scene.cloud.heal();
    scene.host.start();
    scene.wait_shown(0, count);
    scene.host.stop();
}

/// A host whose system trusts no certificate authority.
fn without_roots() -> Host {
    let mut host = Host::new();
    host.set_variable("SSL_CERT_FILE", PathBuf::from("/dev/null"));
    host.set_variable("SSL_CERT_DIR", PathBuf::from("/nonexistent"));
    host
}

/// A doveadm on plain http that answers every question with this; gives where it is.
fn doveadm(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("a bound socket has an address");
    // It ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // One who goes away in between asks again.
            answer_once(stream, answer).ok();
        }
    });
    address
}

fn answer_once(stream: TcpStream, answer: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or_default();
        }
        line.clear();
    }
    reader.read_exact(&mut vec![0; length])?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
    reader.into_inner().write_all((head + answer).as_bytes())
}

/// A source of the kind `doveadm` that speaks to `base`.
fn doveadm_source(host: &Host, base: &str) -> String {
    let key = host.folder().join("doveadm.key");
    fs::write(&key, "key").expect("own folder");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("own file");
    format!("[[source]]\nkind = \"doveadm\"\nurl = \"{base}/doveadm/v1\"\napi-key-file = \"doveadm.key\"\n")
}

#[test]
fn a_source_on_plain_http_starts_where_the_system_trusts_no_authority() {
    let (cloud, mut host) = (Cloud::start(), without_roots());
    let at =
        doveadm(r#"[["doveadmResponse",[{"username":"u1","mailbox":"INBOX","unseen":"3"}],"everyone"]]"#);
    host.configure(&cloud, &doveadm_source(&host, &format!("http://{at}")));
    host.subscribe(&["u1".to_owned()]);
    host.start();
    wait_until("u1 shows 3", LIMIT, || (badges(&cloud, "u1") == [Some(3); 2]).then_some(()));
    host.stop();
}

#[test]
fn an_https_peer_without_an_authority_is_named_with_the_key_that_cures_it() {
    let (cloud, mut host) = (Cloud::start(), without_roots());
    host.configure(&cloud, &doveadm_source(&host, "https://127.0.0.1:9"));
    let said = host.start_in_vain();
    let cure = "install the system's CA certificates or set source.doveadm.ca-file";
    assert!(said.contains("source doveadm: no certificate authority is trusted: "), "{said}");
    assert!(said.contains(cure) && !said.contains("relay.ca-file"), "{said}");

    let file = host.folder().join("mailbadge.toml");
    host.write_configuration(&cloud, "", &host.dovecot_source());
    let text = fs::read_to_string(&file).expect("it was written");
    let without_ca: Vec<&str> = text.lines().filter(|line| !line.starts_with("ca-file")).collect();
    fs::write(&file, without_ca.join("\n")).expect("own folder");
    let cure = "no certificate authority is trusted: No CA certificates were loaded from the system; \
                install the system's CA certificates or set relay.ca-file";
    host.start_unready();
    wait_until(cure, LIMIT, || host.ask("/readyz").contains(cure).then_some(()));
}
