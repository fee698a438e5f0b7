//! Dovecot's processes in small: connections to a dict server, made when there is something to tell and ended when
//! there is nothing for a while. Mailboxes that speak alike share one, but for those that cannot.

use super::conversation::{Limits, Trouble, converse};
use super::{DictAddress, Figures, QuirkyChange, StatusChange};
use crate::peers::dovecot_client::{Dialect, DovecotClient, Output, Settings};
use crate::peers::mail_store::{Quirk, Quirks};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendError;
use tokio::task::JoinSet;

/// Nobody listening is borne that long (sources.md §2); then what waits is lost.
const CONNECT_MAX: Duration = Duration::from_millis(4600);
/// Between two attempts to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);
/// A dict server that listens and is silent is borne that long (sources.md §2).
const ANSWER_MAX: Duration = Duration::from_secs(16);
/// A connection without a change ends after that.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// With `dict-out-of-order` a change waits that long to be overtaken: time enough for a person to make another.
const HOLD: Duration = Duration::from_millis(500);
/// Connections to which changes go, at most; one more ends one of them as soon as it has told what it was given.
const CONNECTIONS_MAX: usize = 256;
/// Changes that wait for one connection, at most; then all wait for it.
const WAITING_MAX: usize = 256;

/// Which changes share a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Route {
    settings: Settings,
    /// Whose alone it is: the oldest dialect says the user once, and only the mailbox's own changes are to be overtaken.
    user: Option<Arc<str>>,
}

impl Route {
    fn of(name: &Arc<str>, quirks: Quirks) -> Self {
        let is_out_of_order = quirks.has(Quirk::DictOutOfOrder);
        let is_in_capitals = quirks.has(Quirk::DictDomainInCapitals);
        let settings = Settings { dialect: Dialect::of(quirks), is_out_of_order, is_in_capitals, hold: HOLD };
        let is_alone = is_out_of_order || settings.dialect == Dialect::V2;
        Self { settings, user: is_alone.then(|| Arc::clone(name)) }
    }
}

/// Tells a dict server of changes until there are no more.
pub(super) async fn tell(
    address: DictAddress,
    mut changes: mpsc::Receiver<QuirkyChange>,
    figures: Arc<Figures>,
    seed: u64,
) {
    let mut connections = Connections {
        address,
        figures,
        open: HashMap::new(),
        tasks: JoinSet::new(),
        seeds: fastrand::Rng::with_seed(seed),
        started: clock(),
    };
    while let Some((change, quirks)) = changes.recv().await {
        connections.tell(change, quirks).await;
    }
}

struct Connections {
    address: DictAddress,
    figures: Arc<Figures>,
    open: HashMap<Route, mpsc::Sender<StatusChange>>,
    // Ends the connections with us.
    tasks: JoinSet<()>,
    seeds: fastrand::Rng,
    started: Instant,
}

impl Connections {
    async fn tell(&mut self, change: StatusChange, quirks: Quirks) {
        let route = Route::of(&change.name, quirks);
        let change = match self.open.get(&route) {
            // Its limits end a wait for one that is full.
            Some(open) => match open.send(change).await {
                Ok(()) => return,
                Err(SendError(change)) => change,
            },
            None => change,
        };
        let sender = self.connect(route.settings);
        // Its queue is empty, and nobody has ended it yet.
        _ = sender.try_send(change);
        self.make_room();
        self.open.insert(route, sender);
    }

    fn connect(&mut self, settings: Settings) -> mpsc::Sender<StatusChange> {
        let (sender, changes) = mpsc::channel(WAITING_MAX);
        let client = DovecotClient::new(settings, self.seeds.u64(..));
        let (address, figures) = (self.address.clone(), Arc::clone(&self.figures));
        self.tasks.spawn(serve(address, client, changes, figures, self.started));
        sender
    }

    fn make_room(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.open.retain(|_, sender| !sender.is_closed());
        if self.open.len() >= CONNECTIONS_MAX {
            let any = self.open.keys().next().cloned();
            any.map(|route| self.open.remove(&route));
        }
    }
}

/// One connection from its beginning to its end; what it could not tell is lost.
async fn serve(
    address: DictAddress,
    mut client: DovecotClient,
    mut changes: mpsc::Receiver<StatusChange>,
    figures: Arc<Figures>,
    started: Instant,
) {
    let limits = Limits { idle: Some(IDLE_MAX), answer: Some(ANSWER_MAX) };
    let outcome = match connect(&address, &figures).await {
        Ok(stream) => {
            converse(stream, &mut client, &mut changes, started, limits, |_| figures.went_well()).await
        }
        Err(trouble) => Err(trouble),
    };
    if let Err(trouble) = outcome {
        changes.close();
        let mut lost = client.outstanding() as u64;
        // Answers behind one that Dovecot does not bear reach nobody.
        while let Some(output) = client.poll_output() {
            lost += u64::from(matches!(output, Output::Committed { .. }));
        }
        while changes.recv().await.is_some() {
            lost += 1;
        }
        // A dict server that goes while nobody tells it anything harms nobody.
        if lost > 0 || !matches!(trouble, Trouble::Closed) {
            figures.failed(lost, &trouble);
        }
    }
}

/// Bytes to and fro, whatever carries them.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects, again and again as Dovecot does.
async fn connect(address: &DictAddress, figures: &Figures) -> Result<Box<dyn Stream>, Trouble> {
    let connected = async {
        loop {
            match dial(address).await {
                Ok(stream) => return stream,
                Err(error) => figures.failed(0, &error),
            }
            tokio::time::sleep(CONNECT_PAUSE).await;
        }
    };
    tokio::time::timeout(CONNECT_MAX, connected).await.map_err(|_| Trouble::Away(CONNECT_MAX))
}

async fn dial(address: &DictAddress) -> io::Result<Box<dyn Stream>> {
    Ok(match address {
        DictAddress::Unix(path) => Box::new(UnixStream::connect(path).await?),
        DictAddress::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            // A commit must not wait for the acknowledgement of the one before.
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
    })
}

#[expect(clippy::disallowed_methods, reason = "the driver of the simulated Dovecot reads the clock")]
fn clock() -> Instant {
    Instant::now()
}
