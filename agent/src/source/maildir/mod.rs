//! Maildirs as a source: the files themselves are counted, whoever wrote them (sources.md §5).
//!
//! [`template`] says where a mailbox's Maildir is, [`message`] which entry is an unseen message, [`watcher`] which mailbox
//! is looked at when, pure; [`driver`] has inotify, the directories and the thread. No state of a message is kept: what
//! stirs is read again, so that memory grows with mailboxes alone and no event can make a count wrong for long.

mod configured;
pub mod driver;
pub mod message;
pub mod template;
pub mod watcher;

pub use configured::KIND;
pub use driver::{MaildirSource, start};

use super::names::Names;
use message::Separator;
use std::sync::Arc;
use std::time::Duration;
use template::Template;

/// Every mailbox is read at least this often when nothing else is configured.
pub const SWEEP_INTERVAL_DEFAULT: Duration = Duration::from_mins(15);

/// What a configuration says of one Maildir source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The source's name in logs, errors and metrics.
    pub name: Arc<str>,
    /// Where the Maildir of a user is.
    pub path: Template,
    /// What stands before a message's flags.
    pub separator: Separator,
    /// How its users are spelled.
    pub names: Names,
    /// Every mailbox is read at least this often, whatever inotify told.
    pub sweep_interval: Duration,
    /// Whether everyone's Maildir is looked for, as often as that, and its owner named to the observer.
    pub is_searching: bool,
}

impl Settings {
    /// Settings with defaults for all but the place of the Maildirs.
    pub fn new(name: impl Into<Arc<str>>, path: Template) -> Self {
        let (names, sweep_interval) = (Names::default(), SWEEP_INTERVAL_DEFAULT);
        let separator = Separator::default();
        Self { name: name.into(), path, separator, names, sweep_interval, is_searching: false }
    }
}
