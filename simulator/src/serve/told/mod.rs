//! Who is told of changes in the mail store, where the mail host is a server that tells: a dict server as Dovecot tells
//! it, a notify socket as Cyrus does. What is said is the machines' in `peers`; here is who hears it, and what is done
//! where nobody does: the store never waits, and what could not be told is counted and said once.

pub(crate) mod conversation;
mod cyrus;
mod dict;

use crate::peers::mail_store::{Change, MailStore, Quirks, Status, Teller};
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
pub(crate) struct Told {
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
pub(super) struct Tellers {
    dict: Option<Arc<Line>>,
    cyrus: Option<Arc<Line>>,
}

impl Tellers {
    /// Tells of every change of the store from now on, and gives the tasks that do. Needs a tokio runtime around it.
    pub(super) fn start(
        options: Options,
        store: &Mutex<MailStore>,
        seed: u64,
    ) -> std::io::Result<(Self, Vec<JoinHandle<()>>)> {
        let mut tellers = Self::default();
        let mut tasks = Vec::new();
        if let Some(address) = options.dict {
            let (line, changes) = Line::new(&address);
            tasks.push(tokio::spawn(dict::tell(address, changes, Arc::clone(&line.figures), seed)));
            tellers.dict = Some(line.hear(store));
        }
        if let Some(path) = options.cyrus {
            let (line, changes) = Line::new(path.display());
            cyrus::start(path, changes, Arc::downgrade(&line.figures), seed)?;
            tellers.cyrus = Some(line.hear(store));
        }
        Ok((tellers, tasks))
    }

    /// Whether there is somebody to be told this way.
    pub(super) const fn has(&self, teller: Teller) -> bool {
        match teller {
            Teller::Dict => self.dict.is_some(),
            Teller::Cyrus => self.cyrus.is_some(),
        }
    }

    /// What came of it so far, for the control API.
    pub(super) fn view(&self) -> Value {
        let view = |line: &Option<Arc<Line>>| line.as_ref().map(|line| line.figures.view());
        json!({ "dict": view(&self.dict), "cyrus": view(&self.cyrus) })
    }
}

/// A change with the quirks that held for its mailbox when it happened.
type Odd = (Told, Quirks);

/// From the store to one teller.
struct Line {
    changes: mpsc::Sender<Odd>,
    figures: Arc<Figures>,
}

impl Line {
    fn new(place: impl Display) -> (Self, mpsc::Receiver<Odd>) {
        let (changes, waiting) = mpsc::channel(WAITING_MAX);
        (Self { changes, figures: Arc::new(Figures::new(place.to_string())) }, waiting)
    }

    /// Hears of the store's changes for as long as it is kept.
    fn hear(self, store: &Mutex<MailStore>) -> Arc<Self> {
        let line = Arc::new(self);
        let weak = Arc::downgrade(&line);
        store.lock().subscribe(move |change| {
            if let (Some(line), Change::Inbox { name, status, quirks, .. }) = (Weak::upgrade(&weak), change) {
                line.put(Told { name: Arc::clone(name), status: *status }, *quirks);
            }
        });
        line
    }

    /// Under the store's lock: never waits.
    fn put(&self, told: Told, quirks: Quirks) {
        self.figures.changes.fetch_add(1, Ordering::Relaxed);
        if self.changes.try_send((told, quirks)).is_err() {
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
