//! The simulated IMAP server on real sockets: accepts, carries bytes and TLS, keeps the timers and tells sessions of
//! changes. What is said is the machine's in `peers::imap_server`.
//!
//! An idle connection holds no buffer: reads go through one buffer per thread, and a session keeps only the bytes of
//! an unfinished command.

use crate::peers::imap_server::{Input, Output, Session, Settings};
use crate::peers::mail_store::{AccountId, Change, MailStore};
use parking_lot::Mutex;
use rustls::ServerConfig;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

/// What one read takes, at most.
const READ_BYTES: usize = 16 * 1024;
/// A TLS handshake ends within that time, or the connection does.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that does not read for that long is disconnected.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// How connections are protected.
#[derive(Clone, Default)]
pub enum Tls {
    /// Not at all.
    #[default]
    None,
    /// Plain at first; log-in only after STARTTLS.
    StartTls(Arc<ServerConfig>),
    /// From the first byte.
    Implicit(Arc<ServerConfig>),
}

/// Where and how to listen.
#[derive(Clone)]
pub struct Options {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Protection of connections.
    pub tls: Tls,
    /// How sessions behave; `requires_starttls` is set from `tls`.
    pub settings: Settings,
    /// Connections at once; further ones are closed as soon as they are accepted.
    pub connections_max: usize,
    /// Decides what real servers leave to chance.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: Tls::None,
            settings: Settings::default(),
            connections_max: 20_000,
            seed: 0,
        }
    }
}

/// A listening IMAP server. Dropping it ends every connection at once, without BYE.
pub struct ImapListener {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl ImapListener {
    /// Listens, and serves the store's mailboxes until stopped. Needs a tokio runtime around it.
    pub fn start(options: Options, store: Arc<Mutex<MailStore>>) -> io::Result<Self> {
        let socket = if options.listen.is_ipv4() {
            tokio::net::TcpSocket::new_v4()?
        } else {
            tokio::net::TcpSocket::new_v6()?
        };
        socket.set_reuseaddr(true)?;
        socket.bind(options.listen)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(&options, store));
        shared.hear_changes();
        let accepting = tokio::spawn(accept(listener, options, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that have logged in.
    pub fn connections(&self) -> usize {
        self.shared.awaiting.lock().values().map(Vec::len).sum()
    }

    /// Log-ins that succeeded since the start.
    pub fn logins(&self) -> u64 {
        self.shared.logins.load(Ordering::Relaxed)
    }

    /// Closes the listener and every connection.
    pub async fn stop(mut self) {
        self.accepting.abort();
        // Cancelled is what we asked for.
        _ = (&mut self.accepting).await;
    }
}

impl Drop for ImapListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What all connections share.
struct Shared {
    store: Arc<Mutex<MailStore>>,
    settings: Arc<Settings>,
    started: Instant,
    logins: AtomicU64,
    awaiting: Mutex<HashMap<AccountId, Vec<Arc<Waker>>>>,
}

/// How the store's changes reach one connection.
#[derive(Default)]
struct Waker {
    notify: Notify,
    /// A window is open: what changes now is told when it closes. Written and read under the store's lock.
    is_covered: AtomicBool,
}

impl Shared {
    fn new(options: &Options, store: Arc<Mutex<MailStore>>) -> Self {
        let requires_starttls = matches!(options.tls, Tls::StartTls(_));
        Self {
            store,
            settings: Arc::new(Settings { requires_starttls, ..options.settings.clone() }),
            started: clock(),
            logins: AtomicU64::new(0),
            awaiting: Mutex::default(),
        }
    }

    fn hear_changes(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        self.store.lock().subscribe(move |change| {
            if let Some(shared) = Weak::upgrade(&weak) {
                shared.wake(change);
            }
        });
    }

    fn wake(&self, change: &Change) {
        let awaiting = self.awaiting.lock();
        match change {
            Change::Inbox { account, .. } => {
                for waker in awaiting.get(account).into_iter().flatten() {
                    if !waker.is_covered.load(Ordering::Relaxed) {
                        waker.notify.notify_one();
                    }
                }
            }
            Change::Quirks(Some(account)) => {
                awaiting.get(account).into_iter().flatten().for_each(|waker| waker.notify.notify_one());
            }
            Change::Quirks(None) => awaiting.values().flatten().for_each(|waker| waker.notify.notify_one()),
        }
    }

    fn now(&self) -> Duration {
        clock().duration_since(self.started)
    }
}

#[expect(clippy::disallowed_methods, reason = "the driver of the simulated server reads the clock")]
fn clock() -> Instant {
    Instant::now()
}

async fn accept(listener: TcpListener, options: Options, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut seeds = fastrand::Rng::with_seed(options.seed);
    loop {
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "cannot accept an IMAP connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if connections.len() >= options.connections_max {
            continue;
        }
        let connection = Connection::new(Arc::clone(&shared), seeds.u64(..));
        connections.spawn(serve(connection, stream, options.tls.clone()));
    }
}

async fn serve(mut connection: Connection, stream: TcpStream, tls: Tls) {
    // Without it a pushed line may wait for an acknowledgement; a connection that cannot take it still works.
    _ = stream.set_nodelay(true);
    let outcome = match tls {
        Tls::None => connection.begin_plain(stream).await.map(drop),
        Tls::Implicit(config) => {
            connection.run_over_tls(stream, config, Input::Connected { is_tls: true }).await
        }
        Tls::StartTls(config) => match connection.begin_plain(stream).await {
            Ok(Some(stream)) => connection.run_over_tls(stream, config, Input::TlsStarted).await,
            other => other.map(drop),
        },
    };
    if let Err(error) = outcome {
        debug!(%error, "IMAP connection ended");
    }
}

/// One connection's session and its place among those who wait for changes.
struct Connection {
    session: Session,
    shared: Arc<Shared>,
    waker: Arc<Waker>,
    account: Option<AccountId>,
}

impl Connection {
    fn new(shared: Arc<Shared>, seed: u64) -> Self {
        let session = Session::new(Arc::clone(&shared.settings), seed);
        Self { session, shared, waker: Arc::default(), account: None }
    }

    async fn begin_plain(&mut self, stream: TcpStream) -> io::Result<Option<TcpStream>> {
        self.handle(Input::Connected { is_tls: false });
        self.run(stream).await
    }

    async fn run_over_tls(
        &mut self,
        stream: TcpStream,
        config: Arc<ServerConfig>,
        first: Input<'static>,
    ) -> io::Result<()> {
        let handshake = Box::pin(TlsAcceptor::from(config).accept(stream));
        let stream = timeout(HANDSHAKE_TIMEOUT, handshake).await??;
        self.handle(first);
        Box::pin(self.run(stream)).await.map(drop)
    }

    /// Serves until the connection ends, or gives it back for a TLS handshake.
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(&mut self, mut stream: S) -> io::Result<Option<S>> {
        loop {
            while let Some(output) = self.session.poll_output() {
                match output {
                    Output::Send(bytes) => timeout(WRITE_TIMEOUT, send(&mut stream, &bytes)).await??,
                    Output::StartTls => return Ok(Some(stream)),
                    Output::Close => {
                        stream.shutdown().await?;
                        return Ok(None);
                    }
                }
            }
            if self.step(&mut stream).await?.is_none() {
                return Ok(None);
            }
        }
    }

    /// Waits for the next thing that happens and hands it to the session; `None` at the end of the stream.
    async fn step<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<Option<()>> {
        let due = self.session.poll_timeout().map(|due| self.shared.started + due);
        let expired = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            bytes = read(stream) => {
                let bytes = bytes?;
                if bytes.is_empty() {
                    return Ok(None);
                }
                self.handle(Input::Bytes(&bytes));
            }
            () = self.waker.notify.notified() => self.handle(Input::StoreChanged),
            () = expired => self.handle(Input::Timeout),
        }
        Ok(Some(()))
    }

    fn handle(&mut self, input: Input<'_>) {
        let store = Arc::clone(&self.shared.store);
        let now = self.shared.now();
        let mut store = store.lock();
        self.session.handle(now, input, &mut store);
        if self.account.is_none() && self.session.account().is_some() {
            self.join();
            self.session.handle(now, Input::StoreChanged, &mut store);
        }
        self.waker.is_covered.store(self.session.is_window_open(), Ordering::Relaxed);
    }

    /// Joins those who hear of the account's changes. Called under the store's lock, so none is missed.
    fn join(&mut self) {
        let Some(account) = self.session.account() else { return };
        self.account = Some(account);
        self.shared.logins.fetch_add(1, Ordering::Relaxed);
        self.shared.awaiting.lock().entry(account).or_default().push(Arc::clone(&self.waker));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let store = Arc::clone(&self.shared.store);
        let mut store = store.lock();
        self.session.handle(self.shared.now(), Input::Closed, &mut store);
        let mut awaiting = self.shared.awaiting.lock();
        if let Some(account) = self.account
            && let Some(wakers) = awaiting.get_mut(&account)
        {
            wakers.retain(|waker| !Arc::ptr_eq(waker, &self.waker));
            if wakers.is_empty() {
                awaiting.remove(&account);
            }
        }
    }
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Reads what is there, through the thread's buffer; empty at the end of the stream.
async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    poll_fn(|context| {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(buffer.filled().to_vec())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            }
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt, BufReader};

    /// Sends each command and gives all lines up to the tagged answer.
    async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>, command: &str) -> Vec<String> {
        stream.write_all(format!("t {command}\r\n").as_bytes()).await.unwrap();
        let mut lines = Vec::new();
        while !lines.last().is_some_and(|line: &String| line.starts_with("t ")) {
            lines.push(line(stream).await);
        }
        lines
    }

    async fn line<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>) -> String {
        let mut line = String::new();
        timeout(Duration::from_secs(10), stream.read_line(&mut line)).await.unwrap().unwrap();
        line.trim_end().to_owned()
    }

    fn store() -> Arc<Mutex<MailStore>> {
        Arc::new(Mutex::new(MailStore::new(3, "")))
    }

    async fn connect(server: &ImapListener) -> BufReader<TcpStream> {
        BufReader::new(TcpStream::connect(server.address()).await.unwrap())
    }

    const ARM: &str = "NOTIFY SET STATUS (MAILBOXES INBOX (MessageNew MessageExpunge FlagChange))";

    #[tokio::test]
    async fn a_change_in_the_store_reaches_a_real_connection() {
        let store = store();
        let settings = Settings { window: Duration::from_millis(5), ..Settings::default() };
        let options = Options { settings, ..Options::default() };
        let server = ImapListener::start(options, Arc::clone(&store)).unwrap();
        let mut stream = connect(&server).await;
        assert!(line(&mut stream).await.starts_with("* OK"));
        ask(&mut stream, "LOGIN user2 secret").await;
        assert_eq!((server.connections(), server.logins()), (1, 1));
        ask(&mut stream, ARM).await;
        for unseen in 1..=20 {
            store.lock().deliver(AccountId(1));
            store.lock().deliver(AccountId(0));
            assert!(line(&mut stream).await.contains(&format!("UNSEEN {unseen} ")));
        }
        server.stop().await;
        assert_eq!(line(&mut stream).await, "");
    }

    #[tokio::test]
    async fn a_closed_connection_gives_its_place_back() {
        let settings = Settings { connections_max: 1, ..Settings::default() };
        let server = ImapListener::start(Options { settings, ..Options::default() }, store()).unwrap();
        for _ in 0..3 {
            let mut stream = connect(&server).await;
            line(&mut stream).await;
            let answer = ask(&mut stream, "LOGIN user1 secret").await;
            assert!(answer.last().unwrap().starts_with("t OK"), "{answer:?}");
            ask(&mut stream, "LOGOUT").await;
            assert_eq!(line(&mut stream).await, "");
        }
        let gone = async {
            while server.connections() > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), gone).await.unwrap();
    }

    fn tls() -> (Arc<ServerConfig>, tokio_rustls::TlsConnector) {
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(certificate.signing_key.serialize_der());
        let chain = vec![certificate.cert.der().clone()];
        let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let server = server.with_no_client_auth().with_single_cert(chain.clone(), key.into()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(chain[0].clone()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider());
        let client = client.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        (Arc::new(server), Arc::new(client.with_no_client_auth()).into())
    }

    #[tokio::test]
    async fn tls_protects_a_connection_from_the_start_or_after_starttls() {
        let (config, connector) = tls();
        for tls in [Tls::Implicit(Arc::clone(&config)), Tls::StartTls(config)] {
            let is_starttls = matches!(tls, Tls::StartTls(_));
            let server = ImapListener::start(Options { tls, ..Options::default() }, store()).unwrap();
            let mut plain = connect(&server).await;
            if is_starttls {
                assert!(line(&mut plain).await.contains("LOGINDISABLED"));
                ask(&mut plain, "STARTTLS").await;
            }
            let stream =
                connector.connect("localhost".try_into().unwrap(), plain.into_inner()).await.unwrap();
            let mut stream = BufReader::new(stream);
            if !is_starttls {
                line(&mut stream).await;
            }
            let answer = ask(&mut stream, "LOGIN user1 secret").await;
            assert!(answer.last().unwrap().starts_with("t OK"), "{answer:?}");
        }
    }
}
