//! Relay and token service on real sockets: HTTPS, HTTP/1.1 and 2. Listens, reads requests whole, carries out what
//! faults say.
//!
//! Every decision is a peer's; here are the sockets and the waiting.

use super::faulty_stream::{FaultyStream, SharedWire};
use super::{World, clock};
use crate::peers::fault::{Peer, Wire};
use crate::peers::http::{Exchange, Request, Response};
use crate::peers::relay::token_check::Category;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Connections at once, at most; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4096;
/// A TLS handshake takes so long at most.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// A request's head or body takes so long at most.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// What goes into a black hole is forgotten after so long.
const BLACK_HOLE_MAX: Duration = Duration::from_mins(10);
/// How long stopping or starting a listener may take.
const SWITCH_MAX: Duration = Duration::from_secs(5);
/// How often the listener looks whether a fault has begun or ended by itself.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Streams of one HTTP/2 connection at once, at most.
const STREAMS_MAX: u32 = 256;

/// Whether a listener shall be up, which certificate generation connections are of, and the number of this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    is_up: bool,
    certificate: u64,
    order: u64,
}

/// What a listener has come to: whether it is up, and the last order that it has carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) is_up: bool,
    order: u64,
}

/// What a listener and those who switch it share.
pub(super) struct Door {
    address: SocketAddr,
    wanted: watch::Sender<Wanted>,
    state: watch::Sender<State>,
    handshake_failures: AtomicU64,
}

impl Door {
    /// Of a listener at this address, which is up.
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            wanted: watch::Sender::new(Wanted { is_up: true, certificate: 0, order: 0 }),
            state: watch::Sender::new(State { is_up: true, order: 0 }),
            handshake_failures: AtomicU64::new(0),
        }
    }

    /// Where it listens.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the listener down, its connections with it, or brings it up again at the same address. Returns whether that
    /// was done in time.
    pub(super) async fn switch(&self, is_up: bool) -> bool {
        self.orders(|wanted| wanted.is_up = is_up).await && self.state.borrow().is_up == is_up
    }

    /// Has the listener look at the faults that are on. Returns whether it did in time what they ask for.
    pub(super) async fn heeds_faults(&self) -> bool {
        self.orders(|_| {}).await
    }

    /// Changes what is wanted and waits until the listener has done it.
    async fn orders(&self, change: impl FnOnce(&mut Wanted)) -> bool {
        let mut order = 0;
        self.wanted.send_modify(|wanted| {
            change(wanted);
            wanted.order += 1;
            order = wanted.order;
        });
        let mut state = self.state.subscribe();
        let done = state.wait_for(|state| state.order >= order);
        tokio::time::timeout(SWITCH_MAX, done).await.is_ok_and(|done| done.is_ok())
    }

    /// What the listener has come to, now and whenever that changes.
    pub(super) fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Connections of the certificate so far end after the request at hand.
    pub(super) fn renew(&self) {
        self.wanted.send_modify(|wanted| wanted.certificate += 1);
    }

    /// TLS handshakes that failed.
    pub(super) fn handshake_failures(&self) -> u64 {
        self.handshake_failures.load(Ordering::Relaxed)
    }
}

/// Listens for a peer while that is wanted and no fault refuses.
pub(super) struct Listener {
    pub(super) peer: Peer,
    pub(super) world: Arc<World>,
    pub(super) acceptor: TlsAcceptor,
}

impl Listener {
    pub(super) async fn run(self, first: TcpListener) {
        let mut listener = Some(first);
        let mut connections = JoinSet::new();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let door = self.world.door(self.peer);
        let mut wanted = door.wanted.subscribe();
        loop {
            let Wanted { is_up, order, .. } = *wanted.borrow_and_update();
            let shall_listen = is_up && !self.world.is_refusing(self.peer, clock::now());
            if !shall_listen {
                listener = None;
                connections.shutdown().await;
            } else if listener.is_none() {
                listener = TcpListener::bind(door.address).await.ok();
            }
            let is_up = listener.is_some();
            door.state.send_modify(|state| {
                state.is_up = is_up;
                if is_up == shall_listen {
                    state.order = order;
                }
            });
            tokio::select! {
                accepted = accept(listener.as_ref()), if connections.len() < CONNECTIONS_MAX => {
                    if let Ok((stream, _)) = accepted {
                        let world = Arc::clone(&self.world);
                        connections.spawn(serve_connection(stream, self.acceptor.clone(), world, self.peer));
                    }
                }
                Some(_) = connections.join_next() => {}
                // Its sender is the door's, which lives as long as the world here.
                _ = wanted.changed() => {}
                _ = look.tick() => {}
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Serves one connection until either side ends it; with a new certificate it ends after the request at hand.
async fn serve_connection(stream: TcpStream, acceptor: TlsAcceptor, world: Arc<World>, peer: Peer) {
    let mut wanted = world.door(peer).wanted.subscribe();
    let certificate = wanted.borrow().certificate;
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let Ok(Ok(tls)) = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await else {
        world.door(peer).handshake_failures.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let wire = SharedWire::default();
    let io = TokioIo::new(FaultyStream::new(tls, Arc::clone(&wire)));
    let service = hyper::service::service_fn(move |request| {
        answer(Arc::clone(&world), peer, Arc::clone(&wire), request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(REQUEST_MAX);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX);
    let connection = builder.serve_connection(io, service);
    tokio::pin!(connection);
    tokio::select! {
        // An error here is the client's going away or a fault's doing: nothing to be done about either.
        _ = &mut connection => return,
        _ = wanted.wait_for(|wanted| wanted.certificate != certificate) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(REQUEST_MAX, connection).await;
}

async fn answer(
    world: Arc<World>,
    peer: Peer,
    wire: SharedWire,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let body_bytes_max = world.body_bytes_max(peer);
    let request = match tokio::time::timeout(REQUEST_MAX, read(request, body_bytes_max)).await {
        Ok(Ok(request)) => request,
        Ok(Err(status)) => return Ok(plain(status)),
        Err(_) => return Ok(plain(hyper::StatusCode::REQUEST_TIMEOUT)),
    };
    let Exchange { response, delay, wire: travel } = world.exchange(peer, &request);
    if is_bad_signature(&response) {
        // Before a client tries again it shall be known whether the signature is of a new certificate.
        world.read_documents_in_doubt().await;
    }
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    *wire.lock() = travel;
    if travel == Wire::BlackHole {
        tokio::time::sleep(BLACK_HOLE_MAX).await;
    }
    let mut answer = hyper::Response::new(Full::new(response.body));
    *answer.status_mut() = hyper::StatusCode::from_u16(response.status).unwrap_or_default();
    for (name, value) in response.headers {
        let name = hyper::header::HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value.parse()) {
            answer.headers_mut().append(name, value);
        }
    }
    Ok(answer)
}

fn is_bad_signature(response: &Response) -> bool {
    let code = response.header("x-ms-diagnostics").and_then(|text| text.split(';').next()?.parse().ok());
    code == Some(Category::InvalidSignature.code())
}

/// The whole request; the status to answer where it cannot be had.
async fn read(
    request: hyper::Request<Incoming>,
    body_bytes_max: usize,
) -> Result<Request, hyper::StatusCode> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, body_bytes_max).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(hyper::StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => return Err(hyper::StatusCode::BAD_REQUEST),
    };
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let host = head.headers.get(hyper::header::HOST).map(text);
    let authority = head.uri.authority().map(ToString::to_string).or(host).unwrap_or_default();
    Ok(Request {
        method: head.method.as_str().to_owned(),
        authority,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or("").to_owned(),
        headers: head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
        body,
    })
}

fn plain(status: hyper::StatusCode) -> hyper::Response<Full<Bytes>> {
    let mut response = hyper::Response::new(Full::default());
    *response.status_mut() = status;
    response
}
