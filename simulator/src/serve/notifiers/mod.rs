//! Who is told of changes in the mail store, where the mail host is a server that tells: a dict server as Dovecot tells
//! it, a notify socket as Cyrus does. What is said is the machines' in `peers`; here is who hears it, and what is done
//! where nobody does: the store never waits, and what could not be told is counted and said once.

pub(crate) mod conversation;
mod cyrus;
mod dict;

use crate::peers::mail_store::{Change, MailStore, Notifier, Quirks, Status};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// Changes that wait to be told, at most; further ones are lost.
const WAITING_MAX: usize = 4096;

/// A mailbox's numbers on their way to the agent.
#[derive(Clone, Debug)]
pub(crate) struct StatusChange {
    /// Whose.
    pub(crate) name: Arc<str>,
    /// What STATUS says.
    pub(crate) status: Status,
}

/// Where a dict server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DictAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// Host and port, with a colon between.
    Tcp(String),
}

impl FromStr for DictAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return Ok(Self::Unix(text.into()));
        }
        let is_address = text
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
        if is_address {
            Ok(Self::Tcp(text.to_owned()))
        } else {
            Err(format!("expected a path with / in it, or host:port, and not {text:?}"))
        }
    }
}

impl Display for DictAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

/// Who is to be told; by default nobody.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A dict server, as Dovecot's `notify_status` plugin tells it.
    pub dict: Option<DictAddress>,
    /// The path of a notify socket, as Cyrus tells it.
    pub cyrus: Option<PathBuf>,
}

/// Those who are told while the servers run.
#[derive(Default)]
pub(super) struct Notifiers {
    dict: Option<Arc<ChangeQueue>>,
    cyrus: Option<Arc<ChangeQueue>>,
}

impl Notifiers {
    /// Tells of every change of the store from now on, and gives the tasks that do. Needs a tokio runtime around it.
    pub(super) fn start(
        options: Options,
        store: &Mutex<MailStore>,
        seed: u64,
    ) -> std::io::Result<(Self, Vec<JoinHandle<()>>)> {
        let mut notifiers = Self::default();
        let mut tasks = Vec::new();
        if let Some(address) = options.dict {
            let (queue, changes) = ChangeQueue::new(&address);
            tasks.push(tokio::spawn(dict::tell(address, changes, Arc::clone(&queue.figures), seed)));
            notifiers.dict = Some(queue.subscribe_to(store));
        }
        if let Some(path) = options.cyrus {
            let (queue, changes) = ChangeQueue::new(path.display());
            cyrus::start(path, changes, Arc::downgrade(&queue.figures), seed)?;
            notifiers.cyrus = Some(queue.subscribe_to(store));
        }
        Ok((notifiers, tasks))
    }

    /// Whether there is somebody to be told this way.
    pub(super) const fn has(&self, notifier: Notifier) -> bool {
        match notifier {
            Notifier::Dict => self.dict.is_some(),
            Notifier::Cyrus => self.cyrus.is_some(),
        }
    }

    /// What came of it so far, for the control API.
    pub(super) fn view(&self) -> Value {
        let view = |queue: &Option<Arc<ChangeQueue>>| queue.as_ref().map(|queue| queue.figures.view());
        json!({ "dict": view(&self.dict), "cyrus": view(&self.cyrus) })
    }
}

/// A change with the quirks that held for its mailbox when it happened.
type QuirkyChange = (StatusChange, Quirks);

/// From the store to one notifier.
struct ChangeQueue {
    changes: mpsc::Sender<QuirkyChange>,
    figures: Arc<Figures>,
}

impl ChangeQueue {
    fn new(place: impl Display) -> (Self, mpsc::Receiver<QuirkyChange>) {
        let (changes, waiting) = mpsc::channel(WAITING_MAX);
        (Self { changes, figures: Arc::new(Figures::new(place.to_string())) }, waiting)
    }

    /// Hears of the store's changes for as long as it is kept.
    fn subscribe_to(self, store: &Mutex<MailStore>) -> Arc<Self> {
        let queue = Arc::new(self);
        let weak = Arc::downgrade(&queue);
        store.lock().subscribe(move |change| {
            if let (Some(queue), Change::Inbox { name, status, quirks, .. }) = (Weak::upgrade(&weak), change)
            {
                queue.put(StatusChange { name: Arc::clone(name), status: *status }, *quirks);
            }
        });
        queue
    }

    /// Under the store's lock: never waits.
    fn put(&self, change: StatusChange, quirks: Quirks) {
        self.figures.changes.fetch_add(1, Ordering::Relaxed);
        if self.changes.try_send((change, quirks)).is_err() {
            self.figures.failed(1, &format!("{WAITING_MAX} changes wait already"));
        }
    }
}

/// How the telling goes.
struct Figures {
    place: String,
    changes: AtomicU64,
    told: AtomicU64,
    lost: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl Figures {
    fn new(place: String) -> Self {
        let (changes, told, lost) = Default::default();
        Self { place, changes, told, lost, trouble: Mutex::new(None) }
    }

    /// A change was told.
    fn went_well(&self) {
        self.told.fetch_add(1, Ordering::Relaxed);
        if self.trouble.lock().take().is_some() {
            info!("{} is told of changes again", self.place);
        }
    }

    /// So many changes were lost, or will be if it goes on; said in the log once until it goes well again.
    fn failed(&self, lost: u64, why: &dyn Display) {
        self.lost.fetch_add(lost, Ordering::Relaxed);
        let mut trouble = self.trouble.lock();
        if trouble.is_none() {
            warn!("changes cannot be told to {}: {why}", self.place);
        }
        *trouble = Some(why.to_string());
    }

    fn view(&self) -> Value {
        let number = |number: &AtomicU64| number.load(Ordering::Relaxed);
        json!({
            "at": self.place,
            "changes": number(&self.changes),
            "told": number(&self.told),
            "lost": number(&self.lost),
            "trouble": *self.trouble.lock(),
        })
    }
}

#[cfg(test)]
mod tests;
