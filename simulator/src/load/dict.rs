//! Dovecot's processes under load: many connections to the agent's dict server, each of which writes a line for a
//! change and waits for its answer, as a delivery would.

use crate::peers::dovecot_client::{Dialect, DovecotClient, Settings};
use crate::peers::mail_store::AccountId;
use crate::serve::notifiers::StatusChange;
use crate::serve::notifiers::conversation::{Limits, converse};
use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Changes that wait for one connection, at most; then the generator waits, and those who wait are charged for it.
const WAITING_MAX: usize = 256;
/// The longest wait that is told apart.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// How to connect.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// The agent's socket.
    pub(super) socket: PathBuf,
    /// Connections at once; with the oldest dialect each mailbox has its own instead.
    pub(super) connections: usize,
    /// How they speak.
    pub(super) client: Settings,
    /// Decides which connection tells of which change.
    pub(super) seed: u64,
}

/// The connections.
pub(super) struct DictPool {
    senders: Vec<mpsc::Sender<StatusChange>>,
    figures: Arc<Figures>,
    is_by_user: bool,
    random: fastrand::Rng,
    // Ends the connections with the pool.
    _tasks: JoinSet<()>,
}

/// What all connections count together.
struct Figures {
    started: Instant,
    waits: Mutex<Histogram<u64>>,
    unanswered: AtomicU64,
    broken: Mutex<Option<String>>,
}

impl DictPool {
    /// Connects.
    pub(super) async fn connect(options: &Options, mailboxes: usize, started: Instant) -> Result<Self> {
        let is_by_user = options.client.dialect == Dialect::V2;
        let connections = if is_by_user { mailboxes } else { options.connections.max(1) };
        let waits =
            Histogram::new_with_bounds(1, WAIT_MAX.as_micros() as u64, 3).context("bounds of waits")?;
        let figures = Arc::new(Figures {
            started,
            waits: Mutex::new(waits),
            unanswered: AtomicU64::new(0),
            broken: Mutex::new(None),
        });
        let mut random = fastrand::Rng::with_seed(options.seed);
        let mut tasks = JoinSet::new();
        let mut senders = Vec::with_capacity(connections);
        for _ in 0..connections {
            let stream = connect(&options.socket).await?;
            let client = DovecotClient::new(options.client, random.u64(..));
            let (sender, changes) = mpsc::channel(WAITING_MAX);
            tasks.spawn(serve(stream, client, changes, Arc::clone(&figures)));
            senders.push(sender);
        }
        Ok(Self { senders, figures, is_by_user, random, _tasks: tasks })
    }

    /// Tells of a change over one of the connections; waits where that one is full. Not to be called from a task.
    pub(super) fn tell_blocking(&mut self, account: AccountId, change: StatusChange) {
        self.figures.unanswered.fetch_add(1, Ordering::Relaxed);
        if let Some(sender) = self.sender(account) {
            // A connection that has ended is told of by `failure`.
            _ = sender.blocking_send(change);
        }
    }

    /// The same from a task.
    pub(super) async fn tell(&mut self, account: AccountId, change: StatusChange) {
        self.figures.unanswered.fetch_add(1, Ordering::Relaxed);
        if let Some(sender) = self.sender(account) {
            _ = sender.send(change).await;
        }
    }

    /// Forgets the waits measured so far.
    pub(super) fn begin(&self) {
        self.figures.waits.lock().reset();
    }

    /// How long commits waited for their answer, in microseconds.
    pub(super) fn waits(&self) -> Histogram<u64> {
        self.figures.waits.lock().clone()
    }

    /// Changes told whose commit is not answered yet.
    pub(super) fn unanswered(&self) -> u64 {
        self.figures.unanswered.load(Ordering::Relaxed)
    }

    /// What the first connection that failed said.
    pub(super) fn failure(&self) -> Option<String> {
        self.figures.broken.lock().clone()
    }

    fn sender(&mut self, account: AccountId) -> Option<mpsc::Sender<StatusChange>> {
        let any = if self.is_by_user { account.0 as usize } else { self.random.usize(0..self.senders.len()) };
        self.senders.get(any).cloned()
    }
}

async fn connect(socket: &Path) -> Result<UnixStream> {
    UnixStream::connect(socket).await.with_context(|| format!("cannot connect to {}", socket.display()))
}

async fn serve(
    stream: UnixStream,
    mut client: DovecotClient,
    mut changes: mpsc::Receiver<StatusChange>,
    figures: Arc<Figures>,
) {
    let answered = |waited: Duration| {
        figures.waits.lock().saturating_record(waited.as_micros().max(1) as u64);
        figures.unanswered.fetch_sub(1, Ordering::Relaxed);
    };
    let talk = converse(stream, &mut client, &mut changes, figures.started, Limits::default(), answered);
    if let Err(trouble) = talk.await {
        figures.broken.lock().get_or_insert_with(|| format!("the agent's dict server: {trouble}"));
        changes.close();
    }
}
