//! The client against a relay on loopback that misbehaves: late, endless, redirecting, closing, untrusted.

use super::*;
use crate::https::driver::Roots;
use crate::https::{Authorities, CONTENT_BYTES_MAX};
use crate::time::UnixMs;
use crate::token::challenge::Challenge;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

const JSON: &str = "{\"notifications\":[]}";
const SECRET: &str = "aaaa.bbbb.cccc";

/// What a relay does with a connection: `exchanges` of request and answer, then it closes.
#[derive(Clone)]
struct Relay {
    /// Written after each request, one connection after the other; the last serves all further ones.
    answers: Vec<Vec<Vec<u8>>>,
    /// Keeps writing this after the answers of a connection.
    endless: Option<Vec<u8>>,
    /// Holds the connection open in silence afterwards.
    holds: bool,
}

/// A relay that runs, what it was sent, and how often it was connected to.
struct Running {
    url: Arc<RelayUrl>,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

fn answer(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

fn ok() -> Vec<u8> {
    answer("HTTP/1.1 200 OK\nContent-Length: 2\n\nOK")
}

impl Relay {
    fn answering(answers: Vec<Vec<u8>>) -> Self {
        Self { answers: vec![answers], endless: None, holds: false }
    }

    async fn run(self, acceptor: Option<TlsAcceptor>, host: &str) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let url = Arc::new(RelayUrl::parse(&format!("{scheme}://{host}:{port}/P")).unwrap());
        let running = Running { url, requests: Arc::default(), connections: Arc::default() };
        let (requests, connections) = (Arc::clone(&running.requests), Arc::clone(&running.connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = connections.fetch_add(1, Ordering::Relaxed);
                let (relay, requests) = (self.clone(), Arc::clone(&requests));
                match &acceptor {
                    None => drop(tokio::spawn(relay.serve(stream, number, requests))),
                    Some(acceptor) => {
                        let handshake = acceptor.accept(stream);
                        tokio::spawn(async move {
                            if let Ok(stream) = handshake.await {
                                relay.serve(stream, number, requests).await;
                            }
                        });
                    }
                }
            }
        });
        running
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        mut stream: S,
        number: usize,
        seen: Arc<Mutex<Vec<String>>>,
    ) {
        let answers = self.answers.get(number).or(self.answers.last()).cloned().unwrap_or_default();
        for answer in answers {
            let Some(request) = read_request(&mut stream).await else { return };
            seen.lock().push(request);
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
        while let Some(bytes) = &self.endless {
            if stream.write_all(bytes).await.is_err() {
                return;
            }
        }
        if self.holds {
            // Until the client gives up.
            while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
        }
        let _ = stream.shutdown().await;
    }
}

/// Head and body as text; the bodies of these tests are [`JSON`].
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut request = Vec::new();
    while !request.ends_with(JSON.as_bytes()) {
        match stream.read_buf(&mut request).await {
            Ok(read) if read > 0 => {}
            _ => return None,
        }
    }
    String::from_utf8(request).ok()
}

fn settings(extra: Vec<CertificateDer<'static>>) -> Settings {
    let authorities = Authorities { extra, is_only: false };
    Settings {
        roots: Roots { key: "relay.ca-file".to_owned(), authorities },
        concurrency: 2,
        timeout: Duration::from_secs(20),
        user_agent: String::from("mailbadge/test"),
    }
}

/// The system's roots may be absent where tests run; a root of our own makes up for them.
fn client(timeout: Duration) -> Client {
    let ca = Authority::new();
    Client::new(&Settings { timeout, ..settings(vec![ca.der()]) }).unwrap()
}

fn post(running: &Running) -> Post {
    Post {
        url: Arc::clone(&running.url),
        request_id: Uuid::from_u128(0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF),
        bearer: Bearer::Token(Arc::new(SecretString::from(SECRET))),
        is_probe: false,
        body: Bytes::from_static(JSON.as_bytes()),
    }
}

fn on_runtime(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(Duration::from_secs(30), test).await.expect("the test ends in time") });
}

/// One post to a relay that gives `bytes` and closes, over http.
fn outcome_of(bytes: &[u8]) -> Result<Answer, Failure> {
    let mut outcome = None;
    on_runtime(async {
        let running = Relay::answering(vec![bytes.to_vec()]).run(None, "127.0.0.1").await;
        outcome = Some(client(Duration::from_secs(20)).post(post(&running)).await);
    });
    outcome.unwrap()
}

/// A CA that signs the relay's certificate.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        Self::named("Test CA")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn acceptor(&self, host: &str, last_year: i32) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.not_after = date_time_ymd(last_year, 12, 31);
        let leaf = params.signed_by(&key, &self.0).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

#[test]
fn a_request_carries_the_headers_of_the_protocol() {
    on_runtime(async {
        let running = Relay::answering(vec![ok(); 3]).run(None, "127.0.0.1").await;
        let client = client(Duration::from_secs(20));
        client.post(post(&running)).await.unwrap();
        client.post(Post { bearer: Bearer::Empty, is_probe: true, ..post(&running) }).await.unwrap();
        let requests = running.requests.lock().clone();
        let line = "POST /P/service.svc/PublishOnPremNotifications HTTP/1.1\r\n";
        let common = [
            format!("host: {}\r\n", running.url.authority()),
            String::from("content-type: application/json\r\n"),
            format!("content-length: {}\r\n", JSON.len()),
            String::from("client-request-id: 00112233-4455-6677-8899-aabbccddeeff\r\n"),
            String::from("return-client-request-id: True\r\n"),
            String::from("user-agent: mailbadge/test\r\n"),
            String::from("prefer: return=representation\r\n"),
        ];
        for request in &requests {
            assert!(request.starts_with(line), "{request}");
            assert!(common.iter().all(|header| request.contains(header)), "{request}");
        }
        assert!(
            requests[0].contains("authorization: Bearer aaaa.bbbb.cccc\r\n")
                && !requests[0].contains("x-probetype")
        );
        assert!(requests[1].contains("authorization: Bearer\r\n"), "{}", requests[1]);
        assert!(requests[1].contains("x-probetype: X-MS-ClientAccess-LocalProbe\r\n"), "{}", requests[1]);
    });
}

#[test]
fn what_an_answer_says_is_read() {
    let answer = outcome_of(&answer(concat!(
        "HTTP/1.1 401 Unauthorized\nDate: Thu, 01 Jan 2026 12:00:00 GMT\nRetry-After: 5\n",
        "WWW-Authenticate: Negotiate\nWWW-Authenticate: Bearer client_id=x\nx-ms-diagnostics: 2000000;reason=\"y\"\n",
        "Preference-Applied: return=representation\nTransfer-Encoding: chunked\n\n3\nabc\n2\nde\n0\n\n",
    )))
    .unwrap();
    assert_eq!(answer.status, 401);
    assert_eq!(answer.date, Some(UnixMs(1_767_268_800_000)));
    assert_eq!(answer.retry_after.as_deref(), Some("5"));
    assert_eq!(Challenge::parse(&answer.www_authenticate).unwrap().client_id, "x");
    assert_eq!(answer.diagnostics.as_deref(), Some("2000000;reason=\"y\""));
    assert!(answer.is_report && !answer.is_cut);
    assert_eq!(answer.content, "abcde");
}

#[test]
fn connections_are_kept_and_those_closed_by_the_relay_are_replaced() {
    on_runtime(async {
        // Two answers a connection, then it is closed: every second post finds a closed one or one about to
        // be.
        let running = Relay::answering(vec![ok(), ok()]).run(None, "127.0.0.1").await;
        let client = client(Duration::from_secs(20));
        for _ in 0..8 {
            assert_eq!(client.post(post(&running)).await.map(|answer| answer.status), Ok(200));
        }
        assert_eq!(running.connections.load(Ordering::Relaxed), 4);
    });
}

#[test]
fn a_kept_connection_that_dies_under_a_request_is_tried_once_more() {
    on_runtime(async {
        // The second request on the first connection is read, and answered by closing.
        let dying = vec![ok(), Vec::new()];
        let relay = Relay { answers: vec![dying.clone(), vec![ok()]], endless: None, holds: false };
        let running = relay.run(None, "127.0.0.1").await;
        let client = client(Duration::from_secs(20));
        for _ in 0..2 {
            assert_eq!(client.post(post(&running)).await.map(|answer| answer.status), Ok(200));
        }
        assert_eq!(running.requests.lock().len(), 3, "the second went out twice");
        // Where the repeat is not answered either, that is it.
        let relay = Relay { answers: vec![dying, vec![Vec::new()]], endless: None, holds: false };
        let running = relay.run(None, "127.0.0.1").await;
        assert_eq!(client.post(post(&running)).await.map(|answer| answer.status), Ok(200));
        assert!(matches!(client.post(post(&running)).await, Err(Failure::Closed(_))));
        assert_eq!(running.requests.lock().len(), 3);
    });
}

#[test]
fn a_relay_that_took_a_request_and_went_away_is_not_one_that_was_never_reached() {
    on_runtime(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://127.0.0.1:{}/P", listener.local_addr().unwrap().port());
        let url = Arc::new(RelayUrl::parse(&url).unwrap());
        let relay = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(&ok()).await.unwrap();
            read_request(&mut stream).await
        });
        let running = Running { url, requests: Arc::default(), connections: Arc::default() };
        let client = client(Duration::from_secs(20));
        assert_eq!(client.post(post(&running)).await.map(|answer| answer.status), Ok(200));
        assert!(matches!(client.post(post(&running)).await, Err(Failure::Closed(_))));
        assert!(relay.await.unwrap().is_some(), "the second request was read whole");
    });
}

#[test]
fn a_redirect_is_an_answer_and_nothing_more() {
    on_runtime(async {
        let elsewhere = Relay::answering(vec![ok()]).run(None, "127.0.0.1").await;
        let redirect =
            format!("HTTP/1.1 307 Temporary Redirect\nLocation: {}\nContent-Length: 0\n\n", elsewhere.url);
        let running = Relay::answering(vec![answer(&redirect)]).run(None, "127.0.0.1").await;
        let answered = client(Duration::from_secs(20)).post(post(&running)).await;
        assert_eq!(answered.map(|answer| answer.status), Ok(307));
        assert_eq!(elsewhere.connections.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn of_an_endless_body_only_the_beginning_is_read() {
    on_runtime(async {
        let head = answer("HTTP/1.1 200 OK\n\n");
        let endless = Some(vec![b'x'; 10_000]);
        let running = Relay { answers: vec![vec![head]], endless, holds: false }.run(None, "127.0.0.1").await;
        let client = client(Duration::from_secs(20));
        for _ in 0..2 {
            let answer = client.post(post(&running)).await.unwrap();
            assert!(answer.is_cut && answer.content.len() == CONTENT_BYTES_MAX);
        }
        assert_eq!(running.connections.load(Ordering::Relaxed), 2, "such a connection is not used again");
    });
}

#[test]
fn a_body_of_exactly_the_limit_is_whole() {
    let head = format!("HTTP/1.1 200 OK\nContent-Length: {CONTENT_BYTES_MAX}\n\n");
    let bytes = [answer(&head), vec![b'x'; CONTENT_BYTES_MAX]].concat();
    let answer = outcome_of(&bytes).unwrap();
    assert!(!answer.is_cut && answer.content.len() == CONTENT_BYTES_MAX);
}

#[test]
fn a_silent_relay_ends_the_wait_in_time() {
    on_runtime(async {
        let begun = answer("HTTP/1.1 200 OK\nContent-Length: 5\n\nab");
        for bytes in [Vec::new(), answer("HTTP/1.1 200"), begun] {
            let relay = Relay { answers: vec![vec![bytes]], endless: None, holds: true };
            let running = relay.run(None, "127.0.0.1").await;
            let failure = client(Duration::from_millis(150)).post(post(&running)).await.unwrap_err();
            assert_eq!(failure, Failure::Timeout(String::from("no whole answer within 0.15 s")));
        }
    });
}

#[test]
fn what_is_no_whole_answer_is_a_failure() {
    type Case<'a> = (&'a str, fn(&Failure) -> bool);
    let endless_head = format!("HTTP/1.1 200 OK\nX: {}\n\n", "x".repeat(128 * 1024));
    let cases: [Case<'_>; 6] = [
        ("", |failure| matches!(failure, Failure::Closed(_))),
        ("HTTP/1.1 20", |failure| matches!(failure, Failure::Read(_))),
        ("220 smtp.example ESMTP\n", |failure| matches!(failure, Failure::Read(_))),
        ("HTTP/1.1 200 OK\nContent-Length: 5\n\nab", |failure| matches!(failure, Failure::Read(_))),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nzz\n", |failure| {
            matches!(failure, Failure::Read(_))
        }),
        (&endless_head, |failure| matches!(failure, Failure::Read(_))),
    ];
    for (text, is_expected) in cases {
        let failure = outcome_of(&answer(text)).unwrap_err();
        assert!(is_expected(&failure), "{text:.60}: {failure:?}");
    }
}

#[test]
fn where_nobody_listens_there_is_no_connection() {
    on_runtime(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let url = RelayUrl::parse(&format!("https://127.0.0.1:{port}")).unwrap();
        let running = Running { url: Arc::new(url), requests: Arc::default(), connections: Arc::default() };
        let failure = client(Duration::from_secs(20)).post(post(&running)).await.unwrap_err();
        assert!(matches!(failure, Failure::Connect(_)), "{failure}");
        let nowhere = Arc::new(RelayUrl::parse("https://name.invalid").unwrap());
        let failure =
            client(Duration::from_secs(20)).post(Post { url: nowhere, ..post(&running) }).await.unwrap_err();
        assert!(matches!(failure, Failure::Dns(_)), "{failure}");
    });
}

#[test]
fn only_trusted_certificates_of_the_right_name_get_a_token() {
    on_runtime(async {
        let (own, other, renewed) = (Authority::new(), Authority::named("Other CA"), Authority::new());
        let cases = [
            (&own, "localhost", 2999, "localhost", None),
            (&own, "127.0.0.1", 2999, "127.0.0.1", None),
            (&other, "localhost", 2999, "localhost", Some("UnknownIssuer")),
            (&renewed, "localhost", 2999, "localhost", Some("BadSignature")),
            (&own, "relay.example", 2999, "localhost", Some("not valid for name")),
            (&own, "localhost", 2020, "localhost", Some("expired")),
        ];
        for (signed_by, certified, last_year, host, expected) in cases {
            let acceptor = signed_by.acceptor(certified, last_year);
            let running = Relay::answering(vec![ok()]).run(Some(acceptor), host).await;
            let outcome = Client::new(&settings(vec![own.der()])).unwrap().post(post(&running)).await;
            match (outcome, expected) {
                (Ok(answer), None) => assert_eq!(answer.status, 200),
                (Err(Failure::Tls(text)), Some(expected)) => assert!(text.contains(expected), "{text}"),
                (outcome, _) => panic!("{certified}: {outcome:?}"),
            }
            assert_eq!(running.requests.lock().len(), usize::from(expected.is_none()), "{certified}");
        }
    });
}

#[test]
fn a_port_that_speaks_no_tls_is_named_as_that() {
    on_runtime(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = RelayUrl::parse(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                let _ = stream.read(&mut [0; 4096]).await;
            }
        });
        let running = Running { url: Arc::new(url), requests: Arc::default(), connections: Arc::default() };
        let failure = client(Duration::from_secs(20)).post(post(&running)).await.unwrap_err();
        assert!(matches!(failure, Failure::Tls(_)), "{failure:?}");
    });
}

#[test]
fn a_root_that_is_none_is_refused() {
    for is_only in [false, true] {
        let mut settings = settings(vec![CertificateDer::from(vec![0, 1, 2])]);
        settings.roots.authorities.is_only = is_only;
        let client = Client::new(&settings).unwrap();
        let error = client.prepare(&RelayUrl::parse("https://relay.example").unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("relay.ca-file: "), "{error}");
    }
}

#[test]
fn a_token_that_no_header_can_carry_is_not_sent_and_not_shown() {
    on_runtime(async {
        let running = Relay::answering(vec![ok()]).run(None, "127.0.0.1").await;
        let bearer = Bearer::Token(Arc::new(SecretString::from("a\r\nX-Evil: b")));
        let post = Post { bearer, ..post(&running) };
        assert!(!format!("{post:?}").contains("Evil"));
        let failure = client(Duration::from_secs(20)).post(post).await.unwrap_err();
        assert!(matches!(&failure, Failure::Write(text) if !text.contains("Evil")), "{failure}");
        assert_eq!(running.connections.load(Ordering::Relaxed), 0);
    });
}
