//! Which mailboxes' counts can be relied on: a mailbox is known and true within its sweep period, or it is named
//! (adr/0029).
//!
//! A mailbox is *seen* when a reading of it is believed: the answer to a question, or a count that a source reported by
//! itself. A hint, a reading that is dropped as older, and one that is only a reason to ask do not count. Where a source
//! can be asked, each subscribed mailbox is either
//!
//! - *known*: seen within twice the sweep period;
//! - *awaited*: not seen since the start, since it was subscribed, or since the source was started, and its turn is not
//!   over. Its turn ends [`FIRST_READ_MAX`] after all mailboxes could have logged in at the configured rate;
//! - or *unknown*.
//!
//! Where no source can be asked a mailbox is *known* once anything was reported of it, and *unconfirmed* before that:
//! silence may mean that nothing changed. Everything here is pure; the daemon and the simulation both ask.

use crate::event::MailboxId;
use crate::time::Moment;
use std::time::Duration;

/// How long the first reading of a mailbox may take from the end of its turn to log in.
pub const FIRST_READ_MAX: Duration = Duration::from_mins(1);
/// Sweep periods after which a mailbox that was not seen is unknown: one read may fail and be repeated.
pub const SWEEPS_MAX: u32 = 2;
/// Mailboxes that a [`Census`] lists of each kind, at most; all are counted.
pub const LISTED_MAX: usize = 1000;

/// When a mailbox was last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Never in this process.
    Never {
        /// When somebody subscribed to it.
        since: Moment,
    },
    /// It was seen.
    At {
        /// The last time; where it `is_stale`, when somebody subscribed to it again.
        at: Moment,
        /// Nobody subscribed to it for a while, and it was not seen since.
        is_stale: bool,
    },
}

/// What the sources that can be asked have promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Each mailbox is read once within this long.
    pub sweep: Duration,
    /// So many mailboxes a second can be read for the first time; `None` where no log-in is needed.
    pub login_rate: Option<u32>,
    /// When the sources were started.
    pub since: Moment,
}

impl Terms {
    /// The terms of two sources that can both be asked: those of the slower one, for a mailbox may be only there.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            sweep: self.sweep.max(other.sweep),
            login_rate: match (self.login_rate, other.login_rate) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            },
            since: self.since.max(other.since),
        }
    }

    /// Until when a mailbox that was subscribed at `since` may wait for its first reading, as one of so many.
    fn first_read_by(&self, since: Moment, mailboxes: usize) -> Moment {
        let rate = u64::from(self.login_rate.unwrap_or(u32::MAX).max(1));
        let turn = Duration::from_secs((mailboxes as u64).div_ceil(rate));
        self.since.max(since).after(turn + FIRST_READ_MAX)
    }
}

/// How far the count of a mailbox can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assurance {
    /// It was seen in time.
    Known,
    /// Its turn to be read is not over.
    Awaited,
    /// A source could read it and did not.
    Unknown,
    /// No source can be asked, and nothing was reported of it.
    Unconfirmed,
}

/// How far the count of a mailbox that was seen then can be relied on now, as one of so many; `terms` is `None` where no
/// source can be asked.
pub fn judge(seen: Seen, terms: Option<&Terms>, mailboxes: usize, now: Moment) -> Assurance {
    let Some(terms) = terms else {
        return match seen {
            Seen::Never { .. } => Assurance::Unconfirmed,
            Seen::At { .. } => Assurance::Known,
        };
    };
    let first_read_by = |since| terms.first_read_by(since, mailboxes);
    let (seen_until, read_by) = match seen {
        Seen::Never { since } => (None, first_read_by(since)),
        Seen::At { at, is_stale: true } => (None, first_read_by(at)),
        Seen::At { at, is_stale: false } => {
            (Some(at.after(terms.sweep * SWEEPS_MAX)), first_read_by(Moment::START))
        }
    };
    if seen_until.is_some_and(|until| now <= until) {
        Assurance::Known
    } else if now <= read_by {
        Assurance::Awaited
    } else {
        Assurance::Unknown
    }
}

/// How many mailboxes cannot be relied on, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Unknown ones.
    pub unknown: usize,
    /// Unconfirmed ones.
    pub unconfirmed: usize,
    /// Those whose turn is not over.
    pub awaited: usize,
    /// The first unknown ones, [`LISTED_MAX`] at most, ascending.
    pub listed_unknown: Vec<MailboxId>,
    /// The first unconfirmed ones, likewise.
    pub listed_unconfirmed: Vec<MailboxId>,
}

impl Census {
    /// Takes in one mailbox.
    pub fn add(&mut self, mailbox: MailboxId, assurance: Assurance) {
        let (count, listed) = match assurance {
            Assurance::Known => return,
            Assurance::Awaited => {
                self.awaited += 1;
                return;
            }
            Assurance::Unknown => (&mut self.unknown, &mut self.listed_unknown),
            Assurance::Unconfirmed => (&mut self.unconfirmed, &mut self.listed_unconfirmed),
        };
        *count += 1;
        if listed.len() < LISTED_MAX {
            listed.push(mailbox);
        }
    }
}

/// What the log has said of unknown mailboxes.
#[derive(Debug, Default)]
pub struct UnknownLog {
    listed: Vec<MailboxId>,
    unknown: usize,
}

/// What changed since the last look.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownChanges {
    /// Mailboxes that became unknown.
    pub begun: Vec<MailboxId>,
    /// Mailboxes that are known again.
    pub ended: Vec<MailboxId>,
}

impl UnknownLog {
    /// What of this census is worth a line, once; `None` where nothing changed.
    pub fn look(&mut self, census: &Census) -> Option<UnknownChanges> {
        let gone = |from: &[MailboxId], others: &[MailboxId]| -> Vec<MailboxId> {
            from.iter().copied().filter(|mailbox| others.binary_search(mailbox).is_err()).collect()
        };
        let changes = UnknownChanges {
            begun: gone(&census.listed_unknown, &self.listed),
            ended: gone(&self.listed, &census.listed_unknown),
        };
        self.listed.clone_from(&census.listed_unknown);
        self.unknown = census.unknown;
        (!changes.begun.is_empty() || !changes.ended.is_empty()).then_some(changes)
    }

    /// How many were unknown at the last look.
    pub fn unknown(&self) -> usize {
        self.unknown
    }
}

#[cfg(test)]
mod tests;
