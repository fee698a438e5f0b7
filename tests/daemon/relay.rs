//! What a relay says of itself and of waiting, who is trusted to be it, and from where it reads documents.

use mailbadge_sim::client::Call;
use mailbadge_sim::peers::fault::Kind;
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::cloud::{Cloud, ORGANIZATION};
use support::dict_client::deliver;
use support::host::{Host, badges};
use support::process::wait_until;
use support::scripted::{ScriptedServer, within_tls};

/// Longest wait for a thing to happen on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

/// A challenge whose realm would end in another audience.
const CHALLENGE: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\nWWW-Authenticate: Bearer \
    client_id=\"00000002-0000-0ff1-ce00-000000000000\", realm=\"fabrikam.com/x@elsewhere.example\", \
    trusted_issuers=\"00000002-0000-0ff1-ce00-000000000000@fabrikam.com\"\r\n\r\n";

#[test]
fn a_realm_that_would_make_another_audience_is_refused_and_nothing_is_signed_for_it() {
    let (cloud, mut host) = (Cloud::start(), Host::new());
    let with_token = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&with_token);
    let server = ScriptedServer::start(within_tls(&cloud, move |mut stream| {
        let mut request = vec![0; 8192];
        let read = stream.read(&mut request).unwrap_or(0);
        let request = String::from_utf8_lossy(request.get(..read).unwrap_or_default()).into_owned();
        // How the JSON of every token begins.
        seen.fetch_add(usize::from(request.contains("Bearer eyJ")), Ordering::Relaxed);
        // It may be gone.
        stream.write_all(CHALLENGE.as_bytes()).ok();
    }));
    host.configure(&cloud, &host.dovecot_source());
    let uri = format!("https://{}/PushNotifications", server.address());
    host.command(&["proxy", "enable", "--organization", ORGANIZATION, "--uri", &uri]).expect("enabled");
    host.subscribe(&["u1".to_owned()]);
    host.start_unready();
    wait_until("the true words", LIMIT, || {
        host.ask("/readyz").contains("the relay's challenge is malformed: its realm").then_some(())
    });
    assert_eq!(with_token.load(Ordering::Relaxed), 0);
    host.stop();
}

#[test]
fn a_relay_that_asks_for_time_is_quoted_with_the_time() {
    let (cloud, mut host) = (Cloud::start(), Host::new());
    host.configure(&cloud, &host.dovecot_source());
    host.subscribe(&["u1".to_owned()]);
    host.start();
    deliver(&host.dict_socket(), "u1", 1);
    wait_until("the badge", LIMIT, || (badges(&cloud, "u1") == [Some(1); 2]).then_some(()));
    cloud.fail(Kind::TooManyRequests { retry_after_s: 600 });
    deliver(&host.dict_socket(), "u1", 2);
    let is_told = |text: &str| text.contains("429") && text.contains("until 20");
    wait_until("/readyz", LIMIT, || is_told(&host.ask("/readyz")).then_some(()));
    wait_until("the log", LIMIT, || is_told(&host.log()).then_some(()));
    let status = host.command(&["status"]).unwrap_or_else(|error| error.to_string());
    assert!(is_told(&status), "{status}");
    host.stop();
}

#[test]
fn authorities_of_the_system_are_trusted_unless_those_of_the_file_are_the_only_ones() {
    let (cloud, mut host) = (Cloud::start(), Host::new());
    host.configure(&cloud, &host.dovecot_source());
    // The system trusts the relay's authority, the file names another one.
    host.set_variable("SSL_CERT_FILE", cloud.ca_file().to_owned());
    fs::write(host.folder().join("other-ca.pem"), include_str!("../../fixtures/config/files/ca.pem"))
        .expect("own folder");
    let file = host.folder().join("mailbadge.toml");
    let written = fs::read_to_string(&file).expect("it was written");
    let other = written.replace(&cloud.ca_file().display().to_string(), "other-ca.pem");
    fs::write(&file, &other).expect("own folder");
    host.command(&["probe"]).expect("the system trusts the relay");
    fs::write(&file, other.replace("other-ca.pem\"\n", "other-ca.pem\"\nca-only = true\n"))
        .expect("own folder");
    let refused = host.command(&["probe"]).expect_err("the file does not").to_string();
    assert!(refused.contains("exit status: 69"), "{refused}");
}

#[test]
fn the_simulator_reads_no_document_over_plain_http_from_elsewhere() {
    let cloud = Cloud::start();
    let trust = json!({ "url": "http://192.0.2.1/metadata" });
    let path = format!("/control/tenants/{ORGANIZATION}/documents");
    let tenant = cloud.control(Call::post(&path, &trust)).to_string();
    assert!(tenant.contains("loopback only"), "{tenant}");
}
