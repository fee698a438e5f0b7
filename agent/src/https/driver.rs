//! The HTTPS client: a small set of kept-alive HTTP/1.1 connections, nothing else.
//!
//! What is asked, and what an answer means, is its callers'. HTTP/1.1 and not 2: with a few large requests at a
//! time its slowest percentile is a fifth.

mod counted;

use super::url::Url;
use super::{Authorities, CONTENT_BYTES_MAX, Error, Failure, Response};
use bytes::{Bytes, BytesMut};
use counted::{Counted, Received};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Uri};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use std::error::Error as _;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

/// How long one address may take to accept a connection and to shake hands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How many of a name's addresses are tried.
const ADDRESSES_MAX: usize = 4;
/// A connection that was unused for longer is not trusted to be alive: what lies between may have forgotten
/// it.
const IDLE_MAX: Duration = Duration::from_secs(50);
/// How long a connection may need to be done with the request before: it was answered, but may not have been
/// read whole.
const READY_TIMEOUT: Duration = Duration::from_secs(1);
/// The largest head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The most that a connection may give from one request to the next, where its caller sets no other limit: head, content in
/// small chunks, and what is read ahead.
const ANSWER_BYTES_MAX: u64 = 4 * (HEAD_BYTES_MAX + CONTENT_BYTES_MAX) as u64;

/// How long an answer of any length may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerLimit {
    /// From the request to its end, connecting included.
    pub time: Duration,
    /// Head and body, as they come.
    pub bytes: u64,
}

/// How servers are reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which certificate authorities are trusted, where TLS is spoken.
    pub roots: Roots,
    /// How many requests may be under way, and connections open, at once; at least one.
    pub concurrency: usize,
    /// The longest that a request may take, connecting included.
    pub timeout: Duration,
    /// `User-Agent`.
    pub user_agent: String,
}

/// The certificate authorities that are trusted.
#[derive(Clone, Debug)]
pub struct Roots {
    /// The key of the configuration that sets them, for errors: `relay.ca-file`.
    pub key: String,
    /// Which they are.
    pub authorities: Authorities,
}

/// A request. Its `Host` and `User-Agent` are the client's.
#[derive(Clone)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: Method,
    /// Where to.
    pub url: Arc<Url>,
    /// Further headers; those with secrets are marked as sensitive.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Without headers and body, which may hold a token.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {}, {} bytes)", self.method, self.url, self.body.len())
    }
}

/// The client. Cloning shares its connections.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    roots: Roots,
    /// Made for the first https URL: plain http needs no roots.
    tls: Mutex<Option<TlsConnector>>,
    slots: Semaphore,
    idle: Mutex<Vec<Connection>>,
    timeout: Duration,
    user_agent: HeaderValue,
}

struct Connection {
    url: Arc<Url>,
    sender: SendRequest<Full<Bytes>>,
    received: Received,
    last_used: Instant,
}

/// Why an exchange on a connection gave no answer.
struct Broken {
    failure: Failure,
    /// Not one byte of the answer had come: had the connection been kept alive, the server may have ended it before the
    /// request came.
    is_before_answer: bool,
}

impl Connection {
    /// What made reading fail: the server, where it sent more than it may.
    fn blamed(&self, failure: Failure) -> Failure {
        if self.received.is_flooded() {
            let bytes = self.received.bytes();
            return Failure::Flooded(format!("{bytes} bytes came on it, more than an answer has"));
        }
        failure
    }
}

impl Client {
    /// A client that trusts the system's roots and those of the settings. Connects to nothing and reads no roots yet.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let user_agent = HeaderValue::from_str(&settings.user_agent)
            .map_err(|_| Error::UserAgent(settings.user_agent.clone()))?;
        Ok(Self(Arc::new(Shared {
            roots: settings.roots.clone(),
            tls: Mutex::default(),
            slots: Semaphore::new(settings.concurrency.max(1)),
            idle: Mutex::new(Vec::new()),
            timeout: settings.timeout,
            user_agent,
        })))
    }

    /// Makes ready what a request to `url` needs: TLS and its roots where it is https. A host without roots is found out
    /// here, where this is called at a start, and else by the first request.
    pub fn prepare(&self, url: &Url) -> Result<(), Error> {
        if url.is_tls() { self.0.tls().map(|_| ()) } else { Ok(()) }
    }

    /// Sends, and reads the answer up to [`CONTENT_BYTES_MAX`]. Any status is an answer.
    ///
    /// Goes out a second time only where a kept-alive connection ended without one byte of an answer (protocol.md §1.6):
    /// whoever asks must not mind being heard twice.
    pub async fn send(&self, request: Request) -> Result<Response, Failure> {
        within(self.0.timeout, self.0.send(request)).await
    }

    /// Sends, and hands each piece of the answer's body on as it comes, with the status, up to `limit`: for answers that may
    /// be long. `take` says whether it wants more. Gives the status.
    pub async fn receive(
        &self,
        request: Request,
        limit: AnswerLimit,
        take: impl FnMut(u16, &[u8]) -> bool + Send,
    ) -> Result<u16, Failure> {
        within(limit.time, self.0.receive(request, limit.bytes, take)).await
    }
}

async fn within<T>(limit: Duration, answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = |_| Failure::Timeout(format!("no whole answer within {} s", limit.as_secs_f32()));
    timeout(limit, answer).await.map_err(late)?
}

impl Shared {
    /// TLS with the roots. Where there are none it looks again the next time.
    fn tls(&self) -> Result<TlsConnector, Error> {
        let mut tls = self.tls.lock();
        if let Some(tls) = &*tls {
            return Ok(tls.clone());
        }
        let made = TlsConnector::from(Arc::new(tls_config(&self.roots)?));
        *tls = Some(made.clone());
        Ok(made)
    }

    async fn send(&self, request: Request) -> Result<Response, Failure> {
        let _slot = self.slots.acquire().await.map_err(|error| Failure::Closed(error.to_string()))?;
        let (connection, response) = self.respond(request, ANSWER_BYTES_MAX).await?;
        let response = read(response).await.map_err(|failure| connection.blamed(failure))?;
        if !response.is_cut {
            self.keep(connection);
        }
        Ok(response)
    }

    async fn receive(
        &self,
        request: Request,
        bytes_max: u64,
        mut take: impl FnMut(u16, &[u8]) -> bool + Send,
    ) -> Result<u16, Failure> {
        let _slot = self.slots.acquire().await.map_err(|error| Failure::Closed(error.to_string()))?;
        let (connection, response) = self.respond(request, bytes_max).await?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| connection.blamed(Failure::Read(error.to_string())))?;
            if frame.data_ref().is_some_and(|bytes| !take(status, bytes)) {
                return Ok(status);
            }
        }
        self.keep(connection);
        Ok(status)
    }

    /// The answer's head, its body unread, and the connection that it comes by.
    async fn respond(
        &self,
        mut request: Request,
        bytes_max: u64,
    ) -> Result<(Connection, hyper::Response<Incoming>), Failure> {
        let host = HeaderValue::from_str(&request.url.authority());
        request.headers.insert(header::HOST, host.map_err(|error| Failure::Write(error.to_string()))?);
        request.headers.insert(header::USER_AGENT, self.user_agent.clone());
        let mut first_failure = None;
        if let Some(connection) = self.kept_alive(&request.url).await {
            match self.exchange(connection, &request, bytes_max).await {
                Ok(response) => return Ok(response),
                Err(Broken { is_before_answer: true, failure }) => first_failure = Some(failure),
                Err(Broken { failure, .. }) => return Err(failure),
            }
        }
        // The first request may have arrived: a second connection that fails does not say that nothing did.
        let connection =
            self.connect(&request.url).await.map_err(|failure| first_failure.unwrap_or(failure))?;
        self.exchange(connection, &request, bytes_max).await.map_err(|broken| broken.failure)
    }

    /// The most recently used connection to `url` that is still open. Those that are closed, too old or lead
    /// elsewhere are dropped.
    async fn kept_alive(&self, url: &Url) -> Option<Connection> {
        loop {
            let mut connection = self.idle.lock().pop()?;
            let is_fit = connection.url.is_same_server(url) && connection.last_used.elapsed() < IDLE_MAX;
            if is_fit && matches!(timeout(READY_TIMEOUT, connection.sender.ready()).await, Ok(Ok(()))) {
                return Some(connection);
            }
        }
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        request: &Request,
        bytes_max: u64,
    ) -> Result<(Connection, hyper::Response<Incoming>), Broken> {
        let unfit = |failure| Broken { failure, is_before_answer: false };
        let target: Result<Uri, _> = request.url.target().parse();
        let mut head = hyper::Request::new(Full::new(request.body.clone()));
        *head.method_mut() = request.method.clone();
        head.headers_mut().clone_from(&request.headers);
        *head.uri_mut() = target.map_err(|_| unfit(Failure::Write(String::from("the path is no URL's"))))?;
        let before = connection.received.bytes();
        connection.received.allow(bytes_max);
        match connection.sender.send_request(head).await {
            Ok(response) => Ok((connection, response)),
            Err(error) => {
                let broken = broken(&error, connection.received.bytes() == before);
                Err(Broken { failure: connection.blamed(broken.failure), ..broken })
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "only here is known how long a socket was unused")]
    fn keep(&self, connection: Connection) {
        self.idle.lock().push(Connection { last_used: Instant::now(), ..connection });
    }

    /// A new connection to the first of the server's addresses that takes one.
    async fn connect(&self, url: &Arc<Url>) -> Result<Connection, Failure> {
        let found = timeout(CONNECT_TIMEOUT, lookup_host((url.host(), url.port()))).await;
        let late = || format!("{}: no answer within {} s", url.host(), CONNECT_TIMEOUT.as_secs());
        let found = found.map_err(|_| Failure::Dns(late()))?;
        let addresses = found.map_err(|error| Failure::Dns(format!("{}: {error}", url.host())))?;
        let mut failure = Failure::Dns(format!("{} has no address that may be used", url.host()));
        for address in
            addresses.filter(|address| url.is_tls() || address.ip().is_loopback()).take(ADDRESSES_MAX)
        {
            match self.connect_to(address, url).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Within [`CONNECT_TIMEOUT`]. Nothing was sent where that is over: no request can have arrived.
    #[expect(clippy::disallowed_methods, reason = "a socket and its handshake share one limit")]
    async fn connect_to(&self, address: SocketAddr, url: &Arc<Url>) -> Result<Connection, Failure> {
        let until = Instant::now() + CONNECT_TIMEOUT;
        let seconds = CONNECT_TIMEOUT.as_secs();
        let refused = |error: io::Error| Failure::Connect(format!("{address}: {error}"));
        let late = |what| Failure::Connect(format!("{address}: no {what} within {seconds} s"));
        let stream = timeout_at(until, TcpStream::connect(address)).await;
        let stream = stream.map_err(|_| late("TCP connection"))?.map_err(refused)?;
        stream.set_nodelay(true).map_err(refused)?;
        if !url.is_tls() {
            return speak_http(stream, url).await;
        }
        let tls = self.tls().map_err(|error| Failure::Tls(error.to_string()))?;
        let stream = timeout_at(until, tls.connect(url.server_name().clone(), stream)).await;
        let stream = stream.map_err(|_| late("TLS handshake"))?;
        speak_http(stream.map_err(|error| handshake_failure(address, &error))?, url).await
    }
}

#[expect(clippy::disallowed_methods, reason = "only here is known how long a socket was unused")]
async fn speak_http<S>(stream: S, url: &Arc<Url>) -> Result<Connection, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stream, received) = Counted::new(stream, ANSWER_BYTES_MAX);
    let mut http = http1::Builder::new();
    http.max_header_size(HEAD_BYTES_MAX).max_buf_size(2 * HEAD_BYTES_MAX);
    let (sender, connection) =
        http.handshake(TokioIo::new(stream)).await.map_err(|error| Failure::Connect(error.to_string()))?;
    // It ends with the sender or the socket; what it has to say of its end, the sender's next request says as
    // well.
    tokio::spawn(connection);
    Ok(Connection { url: Arc::clone(url), sender, received, last_used: Instant::now() })
}

/// Without rustls' own words an end of the connection during the handshake is trouble on the way, not one of
/// trust.
fn handshake_failure(address: SocketAddr, error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => Failure::Tls(format!("{address}: {error}")),
        None => Failure::Connect(format!("{address}, in the TLS handshake: {error}")),
    }
}

/// `is_silent`: no byte came since the request was handed over. One that was never handed to the connection
/// (`is_canceled`) got no answer either, whatever came unasked.
fn broken(error: &hyper::Error, is_silent: bool) -> Broken {
    let is_before_answer = error.is_canceled() || (is_silent && !error.is_user());
    let text = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let failure = if is_before_answer { Failure::Closed(text) } else { Failure::Read(text) };
    Broken { failure, is_before_answer }
}

async fn read(response: hyper::Response<Incoming>) -> Result<Response, Failure> {
    let (head, body) = response.into_parts();
    let (content, is_cut) = read_content(body).await?;
    Ok(Response { status: head.status.as_u16(), headers: head.headers, content, is_cut })
}

/// The body's first [`CONTENT_BYTES_MAX`] bytes, and whether there was more.
async fn read_content(mut body: Incoming) -> Result<(Bytes, bool), Failure> {
    let mut content = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.map_err(|error| Failure::Read(error.to_string()))?.into_data() else {
            continue;
        };
        let room = CONTENT_BYTES_MAX.saturating_sub(content.len());
        content.extend_from_slice(bytes.get(..room).unwrap_or(&bytes));
        if bytes.len() > room {
            return Ok((content.freeze(), true));
        }
    }
    Ok((content.freeze(), false))
}

/// TLS 1.2 and 1.3 with the system's roots and the extra ones. The provider is named, lest another one in the tree be
/// taken.
fn tls_config(Roots { key, authorities }: &Roots) -> Result<ClientConfig, Error> {
    let provider = Arc::new(default_provider());
    let verifier =
        authorities.verifier(&provider).map_err(|error| match (authorities.extra.as_slice(), error) {
            ([], rustls::Error::General(reason)) => Error::NoRoots { key: key.clone(), reason },
            ([], error) => Error::NoRoots { key: key.clone(), reason: error.to_string() },
            (_, error) => Error::ExtraRoots { key: key.clone(), reason: error.to_string() },
        })?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Tls(error.to_string()))?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests;
