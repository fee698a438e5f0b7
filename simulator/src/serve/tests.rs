//! The servers on real sockets, loopback: what a client sees over HTTP/1.1 and 2, and what each fault does to it.

mod token_service;

use super::*;
use crate::client::{Call, call};
use crate::peers::device::App;
use crate::peers::fault::{Kind, Order};
use crate::peers::relay::EXCHANGE_APPLICATION_ID;
use crate::peers::tenant::Issuer;
use crate::peers::tenant::credential::KeyCredential;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
/// Longer than anything here takes; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(20);

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// An agent's key and certificate, made once: RSA keys take their time.
fn agent() -> &'static (rcgen::KeyPair, Vec<u8>) {
    static AGENT: OnceLock<(rcgen::KeyPair, Vec<u8>)> = OnceLock::new();
    AGENT.get_or_init(|| {
        let size = rcgen::RsaKeySize::_2048;
        let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).expect("a key");
        let certificate = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate");
        let der = certificate.der().to_vec();
        (key, der)
    })
}

async fn running() -> Running {
    let credential = KeyCredential::from_der(&agent().1).expect("an RSA certificate");
    let partner = Issuer::new(EXCHANGE_APPLICATION_ID, "fabrikam.com").with(credential);
    let tenant = Tenant {
        id: TENANT.to_owned(),
        accepted_domains: vec!["fabrikam.com".to_owned()],
        partner_applications: vec![partner],
        ..Tenant::default()
    };
    let store = Arc::new(Mutex::new(MailStore::new(3, "fabrikam.com")));
    let options = Options { tenants: vec![tenant], mail_store: Some(store), ..Options::default() };
    start(options).await.expect("free ports")
}

fn address(url: &str) -> &str {
    url.split('/').nth(2).expect("a URL")
}

fn token(running: &Running) -> String {
    let principal = format!("{EXCHANGE_APPLICATION_ID}@fabrikam.com");
    signed(&json!({ "iss": principal, "nameid": principal, "aud": resource(running) }))
}

/// The relay's audience.
fn resource(running: &Running) -> String {
    format!("{EXCHANGE_APPLICATION_ID}/{}@{TENANT}", address(&running.relay_url))
}

/// These claims for ten minutes, signed by the agent.
fn signed(claims: &Value) -> String {
    let now = clock::now().seconds();
    let mut claims = claims.clone();
    (claims["nbf"], claims["exp"]) = (json!(now), json!(now + 600));
    let parts = [json!({ "typ": "JWT", "alg": "RS256" }), claims];
    let message = parts.map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let key = RsaKeyPair::from_pkcs8(&agent().0.serialize_der()).expect("the agent's key");
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
        .expect("a signature");
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

async fn connect(running: &Running, protocol: &str) -> Result<TlsStream<TcpStream>, Failed> {
    connect_trusting(&running.ca_pem_path, address(&running.relay_url), protocol).await
}

async fn connect_trusting(
    ca_pem_path: &Path,
    address: &str,
    protocol: &str,
) -> Result<TlsStream<TcpStream>, Failed> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca_pem_path)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("127.0.0.1")?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

/// One connection to the relay.
enum Client {
    One(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Two(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
}

impl Client {
    async fn open(running: &Running, protocol: &str) -> Result<Self, Failed> {
        let io = TokioIo::new(connect(running, protocol).await?);
        if protocol == "h2" {
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            return Ok(Self::Two(sender));
        }
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(connection);
        Ok(Self::One(sender))
    }

    async fn post(&mut self, running: &Running, bearer: &str, body: String) -> Result<(u16, Bytes), Failed> {
        let url = format!("{}/service.svc/PublishOnPremNotifications", running.relay_url);
        let request = hyper::Request::post(&url)
            .header("host", address(&url))
            .header("authorization", format!("Bearer {bearer}"))
            .header("prefer", "return=representation")
            .body(Full::new(Bytes::from(body)))?;
        let response = match self {
            Self::One(sender) => sender.send_request(request).await?,
            Self::Two(sender) => sender.send_request(request).await?,
        };
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}

fn batch(count: u32) -> String {
    let recipient =
        json!({ "appId": App::Mowa.id(), "deviceId": "reg-1", "lastSubscriptionUpdate": "/Date(1)/" });
    json!({ "notifications": [{
        "id": format!("20261123-080000-{count}"),
        "payload": { "tenantId": "", "unseenEmailCount": count },
        "recipients": [recipient],
    }] })
    .to_string()
}

fn badge(running: &Running) -> Option<u32> {
    running.world.relay.lock().devices.badge(App::Mowa, "reg-1")
}

/// A batch on a connection of its own.
async fn publish(running: &Running, count: u32) -> Result<(u16, Bytes), Failed> {
    publish_with(running, &token(running), count).await
}

async fn publish_with(running: &Running, token: &str, count: u32) -> Result<(u16, Bytes), Failed> {
    Client::open(running, "http/1.1").await?.post(running, token, batch(count)).await
}

#[tokio::test]
async fn a_count_reaches_its_device_over_both_versions_of_http() {
    let running = running().await;
    for (count, protocol) in [(3, "http/1.1"), (4, "h2")] {
        let mut client = Client::open(&running, protocol).await.expect("a connection");
        let challenged = client.post(&running, "", batch(count)).await.expect("an answer");
        assert_eq!(challenged.0, 401, "{protocol}");
        let (status, body) = client.post(&running, &token(&running), batch(count)).await.expect("an answer");
        assert_eq!((status, &body[..]), (200, &br#"{"accepted":1,"rejected":[]}"#[..]), "{protocol}");
        assert_eq!(badge(&running), Some(count), "{protocol}");
    }
    running.stop().await;
}

#[tokio::test]
async fn each_fault_of_the_wire_is_what_a_client_sees() {
    let running = running().await;
    let started = clock::now();
    // Whether an answer comes whole, and whether the count arrives.
    let cases = [
        (Kind::Reset, false, false),
        (Kind::AnswerLost, false, true),
        (Kind::Cut { after_bytes: 10 }, false, true),
        (Kind::SlowBytes { rate_bytes: 2000 }, true, true),
        (Kind::Delay { ms: 50 }, true, true),
        (Kind::Duplicate, true, true),
    ];
    for (count, (kind, is_answered, is_shown)) in (1..).zip(cases) {
        running.world.relay.lock().faults.add(Order::times(kind.clone(), 1), clock::now());
        let answer = tokio::time::timeout(LONG, publish(&running, count)).await.expect("an end");
        assert_eq!(answer.is_ok(), is_answered, "{kind:?}: {answer:?}");
        assert_eq!(badge(&running) == Some(count), is_shown, "{kind:?}");
    }
    assert!(clock::now().since(started) >= Duration::from_millis(50), "the delay takes its time");
    running.stop().await;
}

#[tokio::test]
async fn into_a_black_hole_a_request_goes_without_an_answer() {
    let running = running().await;
    running.world.relay.lock().faults.add(Order::times(Kind::BlackHole, 1), clock::now());
    let patience = Duration::from_millis(200);
    assert!(tokio::time::timeout(patience, publish(&running, 1)).await.is_err());
    assert_eq!(badge(&running), None);
    assert_eq!(publish(&running, 2).await.expect("an answer").0, 200);
    running.stop().await;
}

#[tokio::test]
async fn a_stopped_relay_refuses_and_comes_back_at_its_address() {
    let running = running().await;
    let mut client = Client::open(&running, "http/1.1").await.expect("a connection");
    assert_eq!(client.post(&running, "", String::new()).await.expect("an answer").0, 401);
    running.world.set_up(Peer::Relay, false).await.expect("it stops");
    assert!(client.post(&running, "", String::new()).await.is_err(), "open connections end with it");
    assert!(publish(&running, 1).await.is_err());
    running.world.set_up(Peer::Relay, true).await.expect("it starts");
    assert_eq!(publish(&running, 1).await.expect("an answer").0, 200);
    running.stop().await;
}

#[tokio::test]
async fn a_refusing_relay_is_one_that_nobody_can_connect_to_from_one_answer_of_the_control_api_to_the_other()
{
    let running = running().await;
    for peer in ["relay", "token-service"] {
        let url = if peer == "relay" { &running.relay_url } else { &running.token_service_url };
        for _ in 0..20 {
            let order = json!({ "kind": "refuse", "peer": peer });
            let added = control(&running, Call::post("/control/faults", &order), 200).await;
            assert!(TcpStream::connect(address(url)).await.is_err(), "{peer} is down once the fault is on");
            let fault = format!("/control/faults/{}?peer={peer}", added["id"]);
            control(&running, Call::delete(&fault), 200).await;
            assert!(TcpStream::connect(address(url)).await.is_ok(), "{peer} is up once the fault is gone");
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn a_relay_refuses_and_serves_again_when_a_fault_ends_by_itself() {
    let running = running().await;
    let order = Order { duration_ms: Some(200), ..Order::always(Kind::Refuse) };
    running
        .world
        .change_faults(Peer::Relay, |faults| faults.add(order, clock::now()))
        .await
        .expect("it goes down");
    let mut state = running.world.door(Peer::Relay).state();
    tokio::time::timeout(LONG, state.wait_for(|state| state.is_up)).await.expect("soon").expect("a listener");
    assert_eq!(publish(&running, 1).await.expect("an answer").0, 200);
    running.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_another_one_of_the_same_authority() {
    let running = running().await;
    let leaf = async || {
        let stream = connect(&running, "http/1.1").await.expect("trusted");
        stream.get_ref().1.peer_certificates().expect("a chain")[0].clone()
    };
    let before = leaf().await;
    let mut client = Client::open(&running, "http/1.1").await.expect("a connection");
    assert_eq!(client.post(&running, "", String::new()).await.expect("an answer").0, 401);
    running.world.renew_certificate(None).expect("our own authority");
    assert_ne!(leaf().await, before);
    let Client::One(sender) = &mut client else { panic!("HTTP/1.1") };
    let ended = tokio::time::timeout(LONG, async {
        while sender.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    ended.await.expect("connections of the old certificate end");
    running.stop().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_answered_without_being_kept() {
    let running = running().await;
    let mut client = Client::open(&running, "h2").await.expect("a connection");
    let body = " ".repeat(running.world.body_bytes_max(Peer::Relay) + 1);
    assert_eq!(client.post(&running, "", body).await.expect("an answer").0, 413);
    running.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_authority_is_counted() {
    let running = running().await;
    let stranger = tempfile::tempdir().expect("a directory");
    let other = Certificates::open(stranger.path(), None).expect("an authority");
    assert!(connect_trusting(&other.ca_pem_path, address(&running.relay_url), "http/1.1").await.is_err());
    let counted = async {
        while running.world.handshake_failures() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, counted).await.expect("soon");
    running.stop().await;
}

#[test]
fn the_authority_outlives_a_restart_and_its_key_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a directory");
    let read = || {
        Certificates::open(folder.path(), None).expect("an authority");
        std::fs::read(folder.path().join("ca.pem")).expect("written")
    };
    assert_eq!(read(), read());
    let mode = std::fs::metadata(folder.path().join("ca.key.pem")).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Calls the control API and checks the status.
async fn control(running: &Running, request: Call, expected: u16) -> Value {
    let described = format!("{request:?}");
    let (status, answer) = call(&running.page_url, request).await.expect("an answer");
    assert_eq!(status, expected, "{described}: {answer}");
    answer
}

#[tokio::test]
async fn the_control_api_shows_and_changes_everything() {
    let running = running().await;
    let device = json!({ "appId": App::Mowa.id(), "deviceId": "reg-1", "mailbox": "u1@fabrikam.com" });
    control(&running, Call::post("/control/devices", &device), 200).await;
    publish(&running, 7).await.expect("an answer");

    let devices = control(&running, Call::get("/control/devices?mailbox=u1@fabrikam.com"), 200).await;
    assert_eq!(devices["devices"][0]["badge"], 7);
    let batches = control(&running, Call::get("/control/notifications"), 200).await;
    assert_eq!(batches["batches"][0]["notifications"][0]["unseenEmailCount"], 7);
    let tokens = control(&running, Call::get("/control/tokens"), 200).await;
    assert_eq!(tokens["tokens"][0]["claims"]["iss"], format!("{EXCHANGE_APPLICATION_ID}@fabrikam.com"));
    let signature = token(&running).rsplit_once('.').expect("parts").1.to_owned();
    let state = control(&running, Call::get("/control/state"), 200).await;
    assert!(!state.to_string().contains(&signature) && !tokens.to_string().contains(&signature));
    assert_eq!(state["figures"]["totals"]["shown"], 1);

    control(&running, Call::post("/control/mailboxes/u2@fabrikam.com/deliver", &json!({})), 200).await;
    let boxes = control(&running, Call::get("/control/mailboxes?offset=1&limit=1"), 200).await;
    assert_eq!((&boxes["mailboxes"][0]["unseen"], &boxes["count"]), (&json!(1), &json!(3)));

    let quirk = json!({ "quirk": "silent-drop" });
    let quirks = control(&running, Call::post("/control/quirks", &quirk), 200).await;
    assert_eq!(quirks["everywhere"], json!(["silent-drop"]));

    let thumbprint = KeyCredential::from_der(&agent().1).expect("a certificate").thumbprint();
    let path = format!("/control/tenants/fabrikam.com/credentials/{thumbprint}");
    control(&running, Call::delete(&path), 200).await;
    assert_eq!(publish(&running, 8).await.expect("an answer").0, 401);
    control(&running, Call::delete(&path), 404).await;

    let fault =
        control(&running, Call::post("/control/faults", &json!({ "kind": "internal", "count": 1 })), 200)
            .await;
    control(&running, Call::delete(&format!("/control/faults/{}", fault["id"])), 200).await;
    control(&running, Call::post("/control/relay/stop", &json!({})), 200).await;
    control(&running, Call::post("/control/relay/start", &json!({})), 200).await;
    control(&running, Call::post("/control/relay/certificate", &json!({})), 200).await;
    running.stop().await;
}

#[tokio::test]
async fn an_uploaded_key_credential_counts_for_the_token_service_and_for_direct_trust() {
    let running = running().await;
    let path = "/control/tenants/fabrikam.com/credentials";
    let fixture = |name: &str| {
        let path = format!("{}/../fixtures/certificates/{name}.cer", env!("CARGO_MANIFEST_DIR"));
        STANDARD.encode(std::fs::read(path).expect("the fixture"))
    };
    let credential = json!({
        "type": "AsymmetricX509Cert", "usage": "Verify", "key": fixture("agent"),
        "startDate": "2026-01-01T00:00:00Z", "endDate": "2030-12-31T00:00:00Z", "applicationId": EXCHANGE_APPLICATION_ID,
    });
    let answer = control(&running, Call::post(path, &credential), 200).await;
    assert_eq!(answer["kinds"], json!(["service-principal", "partner"]));
    assert_eq!(answer["thumbprint"], "59413F962745C4AA967D1CC44DD1EA461B2EE706");
    assert_eq!(answer["isNew"], true);
    assert_eq!(control(&running, Call::post(path, &credential), 200).await["isNew"], false);
    let other = json!({ "key": fixture("sts") });
    let asked = format!("{path}?kind=service-principal");
    assert_eq!(
        control(&running, Call::post(&asked, &other), 200).await["kinds"],
        json!(["service-principal"])
    );

    let tenants = control(&running, Call::get("/control/tenants"), 200).await;
    let tenant = &tenants["tenants"][0];
    assert_eq!(tenant["servicePrincipals"][0]["realm"], TENANT);
    let thumbprints = |issuer: &Value| {
        let list = issuer["credentials"].as_array().expect("a list").iter();
        list.map(|c| c["thumbprint"].as_str().expect("text").to_owned()).collect::<Vec<String>>()
    };
    let (agent, sts) =
        ("59413F962745C4AA967D1CC44DD1EA461B2EE706", "A11A9944111A316D25EE4A85F2473E99B3284FBA");
    assert_eq!(thumbprints(&tenant["servicePrincipals"][0]), [agent, sts]);
    assert_eq!(thumbprints(&tenant["partnerApplications"][0])[1..], [agent]);
    running.stop().await;
}

#[tokio::test]
async fn what_the_control_api_does_not_understand_it_refuses_in_words() {
    let running = running().await;
    let post = |path, body: Value| Call::post(path, &body);
    let cases = [
        (Call::get("/control/nothing"), 404, "no such control call"),
        (post("/control/faults", json!({ "kind": "sabotage" })), 400, "unknown variant `sabotage`"),
        (post("/control/faults", json!({ "kind": "reset", "rate": 2 })), 400, "rate is a share"),
        (Call::delete("/control/faults/77"), 404, "no fault 77 is on"),
        (post("/control/devices", json!({ "appId": "x", "deviceId": "y" })), 400, "unknown appId"),
        (post("/control/tenants", json!({ "id": "fabrikam" })), 400, "is not a GUID"),
        (post("/control/tenants/x/credentials", json!({ "certificate": "x" })), 400, "not a certificate"),
        (
            post("/control/tenants/fabrikam.com/credentials", json!({ "key": "", "usage": "Sign" })),
            400,
            "the usage Verify",
        ),
        (
            post("/control/tenants/fabrikam.com/credentials", json!({ "key": "", "startDate": "tomorrow" })),
            400,
            "is no date",
        ),
        (Call::delete("/control/tenants/nobody"), 404, "no tenant nobody"),
        (post("/control/mailboxes/nobody/deliver", json!({})), 404, "no mailbox nobody"),
        (post("/control/mailboxes/u1@fabrikam.com/burn", json!({})), 404, "unknown action"),
        (post("/control/quirks", json!({ "quirk": "moody" })), 400, "unknown quirk"),
        (post("/control/relay/certificate", json!({ "key": "x" })), 400, "go together"),
    ];
    for (request, status, words) in cases {
        let answer = control(&running, request, status).await;
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(words)), "{answer}: {words}");
    }
    running.stop().await;
}

#[tokio::test]
async fn watchers_are_told_what_changes() {
    let running = running().await;
    let stream = TcpStream::connect(address(&running.page_url)).await.expect("the page");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    let request = hyper::Request::get("/control/events").header("host", address(&running.page_url));
    let request = request.body(Full::<Bytes>::default()).expect("a request");
    let mut body = sender.send_request(request).await.expect("an answer").into_body();
    let mut heard = String::new();
    publish(&running, 41).await.expect("an answer");
    let all = ["event: devices", "\"badge\":41", "event: mailboxes", "event: batches", "event: relay"];
    let hearing = async {
        while !all.iter().all(|word| heard.contains(word)) {
            let frame = body.frame().await.expect("more").expect("whole");
            heard.push_str(&String::from_utf8_lossy(frame.data_ref().expect("bytes")));
        }
    };
    tokio::time::timeout(LONG, hearing).await.expect("soon");
    running.stop().await;
}
