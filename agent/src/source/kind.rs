//! What the rest of the agent knows of a source: a [`Kind`] says as data what its sources can do and how they are
//! configured, [`Configured`] is one `[[source]]`, [`Running`] is one that was started.
//!
//! [`registry`](super::registry) lists the kinds. The configuration, the daemon and the commands go through these types
//! alone, so that a new kind is its own folder and a row there.

use super::examination::{Examiner, Finding};
use super::keys::Keys;
use super::names::Names;
use super::names::rulebook::{Lookup, Rule};
use super::pulse::Pulse;
use super::socket_file;
use crate::counters::SourceCounters;
use crate::event::{MailboxId, Observer, SourceId};
use crate::time::driver::Clock;
use std::any::Any;
use std::error::Error;
use std::fmt::Debug;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// One kind of source: a row of [`KINDS`](super::registry::KINDS).
#[derive(Debug)]
pub struct Kind {
    /// `kind` in a `[[source]]`, and the default of its `name`.
    pub name: &'static str,
    /// What its sources can do.
    pub abilities: Abilities,
    /// Reads the keys of one `[[source]]`.
    pub read: Read,
    /// Examines the host once for all sources of the kind: their number, then the number of subscribed mailboxes.
    pub examine_host: fn(u64, u64) -> Option<Finding>,
}

/// Reads the keys of a `[[source]]` that only its kind has. `None` where it cannot be used: the keys carry the faults.
pub type Read = fn(&mut dyn Keys, Common, ConfigContext) -> Option<Arc<dyn Configured>>;

/// What the sources of a kind can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Whether they report every change soon, so that a source beside them need not watch.
    pub reports_changes: bool,
    /// What one reading costs the mail server; `None` where a source cannot be asked for one.
    pub asked_at: Option<Cost>,
    /// Whether the mail server waits for them: they answer on a socket, which the service manager may hold.
    pub is_waited_for: bool,
}

/// What one reading of a mailbox costs the mail server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Little: a file, or a row of an answer.
    Low,
    /// A log-in, or a connection that stays open. Spared where another source has read the mailbox.
    LogIn,
}

/// The keys that every `[[source]]` has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// The source's name in logs, errors and metrics.
    pub name: Arc<str>,
    /// How its server spells its users.
    pub names: Names,
}

/// What a source must know of the rest of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigContext {
    /// A source of the configuration reports every change ([`Abilities::reports_changes`]).
    pub has_reports: bool,
    /// `watch-all`: sources look for mailboxes that nobody subscribed to.
    pub watches_all: bool,
}

/// The settings of one `[[source]]`, of whatever kind.
pub trait Configured: Comparable + Debug + Send + Sync {
    /// Its kind.
    fn kind(&self) -> &'static Kind;

    /// Its name, unique in a configuration.
    fn name(&self) -> &str;

    /// How its server spells its users.
    fn names(&self) -> &Names;

    /// How it finds its mailboxes.
    fn lookup(&self) -> Lookup<'_> {
        Lookup::Reported
    }

    /// Connections that its mail server may hold to it; 0 where it connects, or nobody does.
    fn connections_max(&self) -> usize {
        0
    }

    /// How fast it reads mailboxes; `None` where it cannot be asked.
    fn pace(&self) -> Option<Pace> {
        None
    }

    /// Settings that are legal but unwise: the key, then why and what would be wiser.
    fn advice(&self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }

    /// Why so many subscribed mailboxes are too many: the key to change, then the reason and the remedy.
    fn too_many(&self, _mailboxes: usize) -> Option<(&'static str, String)> {
        None
    }

    /// Starts it within the current tokio runtime; no mailbox is watched yet.
    ///
    /// # Errors
    /// [`StartError`]. An unreachable mail server is none: [`Running::failure`] reports it.
    fn start(&self, wiring: Wiring) -> Result<Arc<dyn Running>, StartError>;

    /// Examines it without a running daemon, for `doctor`.
    fn examine(&self, examiner: &Examiner) -> Vec<Finding>;

    /// The unseen count of a mailbox as its server has it now, for `doctor`; `None` where there is no answer.
    fn count(&self, _mailbox: &str, _examiner: &Examiner) -> Option<u32> {
        None
    }
}

impl dyn Configured {
    /// The rule by which its server spells users.
    pub fn rule(&self) -> Rule<'_> {
        Rule { source: self.name(), names: self.names(), lookup: self.lookup() }
    }

    /// Its settings, where they are of this type.
    pub fn settings<T: Configured>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// A reload asks whether a source is still the same.
impl PartialEq for dyn Configured {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other)
    }
}

/// Compares settings whose type is not known. Every type with `PartialEq` has it.
pub trait Comparable: Any {
    /// Whether the other one has the same type and the same value.
    fn is_same(&self, other: &dyn Any) -> bool;
}

impl<T: PartialEq + Any> Comparable for T {
    fn is_same(&self, other: &dyn Any) -> bool {
        other.downcast_ref::<T>().is_some_and(|other| self == other)
    }
}

/// How fast a source reads mailboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Each mailbox is read once within this long.
    pub sweep_interval: Duration,
    /// So many mailboxes a second can be read for the first time; `None` where no log-in is needed.
    pub login_rate: Option<u32>,
}

/// What connects a started source with the agent.
pub struct Wiring {
    /// Its number.
    pub id: SourceId,
    /// Where it delivers.
    pub observer: Arc<dyn Observer>,
    /// What it reads the time from.
    pub clock: Clock,
    /// What it counts.
    pub counters: Arc<SourceCounters>,
    /// Of its random numbers.
    pub seed: u64,
    /// The socket of its name that the service manager holds, if there is one; only for a kind that
    /// [is waited for](Abilities::is_waited_for).
    pub socket: Option<OwnedFd>,
    /// Connections that it may hold at once: there are only so many descriptors.
    pub connections: usize,
}

/// A source that was started. Every call but [`Running::stop`] returns at once and may be repeated; what a kind cannot do,
/// it leaves undone. It must be stopped before the last reference is dropped.
pub trait Running: Debug + Send + Sync {
    /// Watches the mailbox of this name.
    fn watch(&self, _mailbox: MailboxId, _name: &Arc<str>) {}

    /// Nobody wants to know of the mailbox any more: nothing of it stays.
    fn unwatch(&self, _mailbox: MailboxId) {}

    /// Reads the mailbox as soon as possible; the reading goes to the observer.
    fn ask(&self, _mailbox: MailboxId) {}

    /// Another source has read the mailbox: the sweep can spare it for a while.
    fn read_elsewhere(&self, _mailbox: MailboxId) {}

    /// What keeps the whole source from working, for `/readyz`; `None` while all is well.
    fn failure(&self) -> Option<String>;

    /// What keeps it from watching or reading every mailbox as it should, and the remedy, for `/status`.
    fn limit(&self) -> Option<String> {
        None
    }

    /// Why a mailbox is not read, in the server's own words.
    fn words(&self, _mailbox: MailboxId) -> Option<String> {
        None
    }

    /// Beats while the thread that a mail server waits for turns.
    fn pulse(&self) -> Option<Arc<Pulse>> {
        None
    }

    /// Ends it and waits until it has ended, a few seconds at most. A second call does nothing.
    fn stop(&self) -> Stopping<'_>;
}

/// Is ready when a source has ended.
pub type Stopping<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Why a source could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operating system refused a thread or a descriptor.
    #[error("source {name}: cannot start: {reason}")]
    System {
        /// The source's name.
        name: Arc<str>,
        /// What the system said.
        reason: io::Error,
    },
    /// The socket file.
    #[error(transparent)]
    Socket(#[from] socket_file::Error),
    /// The system refused something else, in the words of the kind.
    #[error(transparent)]
    Refused(Box<dyn Error + Send + Sync>),
    /// It can never start as it is configured.
    #[error(transparent)]
    Settings(Box<dyn Error + Send + Sync>),
}

impl StartError {
    /// Whether only another configuration helps.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Settings(_))
    }
}
