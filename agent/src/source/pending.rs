//! What a mail server told and was not handed on yet: newest readings by user, overwriting, bounded.
//!
//! Stands between the thread that a mail server waits for and the one that calls the observer ([`driver`]), in the
//! sources that are told of changes. Pure; the lock around it is the driver's.

pub mod driver;

use crate::event::Reading;
use crate::time::Now;
use foldhash::HashMap;

/// Users that can wait at once. More than that wait only while the observer stands still for long; what does not
/// fit is dropped and found by the sweep.
pub const WAITING_MAX: usize = 1 << 20;

/// A mail server's statement about one user's INBOX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The user as the mail server spells it.
    pub user: Box<str>,
    /// What its INBOX's status is.
    pub reading: Reading,
}

/// One user's newest readings, for handing on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The reading before it, where both say something: the mailbox as it was before its UIDVALIDITY changed, or the
    /// MODSEQ that the newest one lacks.
    pub before: Option<(Reading, Now)>,
    /// The newest reading and when it came.
    pub newest: (Reading, Now),
}

/// The table.
#[derive(Debug)]
pub struct Pending {
    waiting: HashMap<Box<str>, Waiting>,
    limit: usize,
}

impl Pending {
    /// An empty table for `limit` users at most.
    pub fn new(limit: usize) -> Self {
        Self { waiting: HashMap::default(), limit }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes a reading; false when it did not fit.
    ///
    /// Processes commit in any order, so of two readings that MODSEQ orders the lower is dropped; else the later
    /// arrival stands.
    pub fn put(&mut self, update: Update, now: Now) -> bool {
        let arrived = (update.reading, now);
        if let Some(waiting) = self.waiting.get_mut(&update.user) {
            waiting.overwrite(arrived);
            return true;
        }
        if self.waiting.len() >= self.limit {
            return false;
        }
        self.waiting.insert(update.user, Waiting { before: None, newest: arrived });
        true
    }

    /// All that waits, in no order: at most one entry a user.
    pub fn take(&mut self) -> HashMap<Box<str>, Waiting> {
        std::mem::take(&mut self.waiting)
    }
}

impl Waiting {
    fn overwrite(&mut self, arrived: (Reading, Now)) {
        let (reading, newest) = (&arrived.0, &self.newest.0);
        if is_older(reading, newest) || self.before.is_some_and(|(before, _)| is_older(reading, &before)) {
            return;
        }
        if newest.uid_validity == reading.uid_validity {
            if newest.modseq.is_some() && reading.modseq.is_none() {
                self.before = Some(self.newest);
            }
            self.newest = arrived;
            return;
        }
        // Which of the two mailboxes is the present one is not for us to say: both are handed on.
        match self.before.as_mut().filter(|before| before.0.uid_validity == reading.uid_validity) {
            Some(before) => *before = arrived,
            None => self.before = Some(std::mem::replace(&mut self.newest, arrived)),
        }
    }
}

/// Whether MODSEQ puts `reading` before `other`, of the same UIDVALIDITY.
fn is_older(reading: &Reading, other: &Reading) -> bool {
    reading.uid_validity == other.uid_validity
        && matches!((reading.modseq, other.modseq), (Some(this), Some(that)) if this < that)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ModSeq, UidValidity};
    use crate::time::{Moment, UnixMs};
    use std::num::{NonZeroU32, NonZeroU64};

    /// (uidvalidity, modseq, unseen); zero where unknown.
    type Case = (u32, u64, u32);

    fn update(user: &str, (uid_validity, modseq, unseen): Case) -> Update {
        let reading = Reading {
            unseen,
            uid_validity: NonZeroU32::new(uid_validity).map(UidValidity),
            modseq: NonZeroU64::new(modseq).map(ModSeq),
            asked_at: None,
        };
        Update { user: user.into(), reading }
    }

    fn now(micros: u64) -> Now {
        Now { moment: Moment::from_micros(micros), unix: UnixMs(0) }
    }

    #[test]
    fn the_newest_reading_stays_whatever_the_order_of_arrival() {
        // What arrives for one user, then what is handed on: what stood before, and the newest.
        let cases: &[(&[Case], Option<Case>, Case)] = &[
            (&[(1, 5, 3)], None, (1, 5, 3)),
            (&[(1, 5, 3), (1, 6, 2)], None, (1, 6, 2)),
            (&[(1, 6, 2), (1, 5, 3)], None, (1, 6, 2)),
            (&[(1, 6, 2), (1, 6, 9)], None, (1, 6, 9)),
            (&[(0, 0, 2), (0, 0, 1)], None, (0, 0, 1)),
            (&[(1, 6, 2), (1, 0, 7)], Some((1, 6, 2)), (1, 0, 7)),
            (&[(1, 6, 2), (1, 0, 7), (1, 5, 4)], Some((1, 6, 2)), (1, 0, 7)),
            (&[(1, 6, 2), (1, 0, 7), (1, 0, 8)], Some((1, 6, 2)), (1, 0, 8)),
            (&[(1, 6, 2), (1, 0, 7), (1, 7, 4)], Some((1, 6, 2)), (1, 7, 4)),
            (&[(1, 9, 2), (2, 1, 0)], Some((1, 9, 2)), (2, 1, 0)),
            (&[(1, 9, 2), (2, 1, 0), (1, 8, 4)], Some((1, 9, 2)), (2, 1, 0)),
            (&[(1, 9, 2), (2, 1, 0), (1, 10, 4)], Some((1, 10, 4)), (2, 1, 0)),
            (&[(1, 9, 2), (2, 1, 0), (3, 1, 7)], Some((2, 1, 0)), (3, 1, 7)),
        ];
        for (arrivals, before, newest) in cases {
            let mut pending = Pending::new(1);
            for (at, arrival) in arrivals.iter().enumerate() {
                assert!(pending.put(update("u1", *arrival), now(at as u64)), "{arrivals:?}");
            }
            let waiting = pending.take().remove("u1").expect("u1 waits");
            assert_eq!(waiting.newest.0, update("u1", *newest).reading, "{arrivals:?}");
            assert_eq!(waiting.before.map(|b| b.0), before.map(|b| update("u1", b).reading), "{arrivals:?}");
            assert!(pending.is_empty());
        }
    }

    #[test]
    fn a_full_table_still_takes_news_of_those_who_wait() {
        let mut pending = Pending::new(2);
        assert!(pending.put(update("u1", (1, 1, 1)), now(0)));
        assert!(pending.put(update("u2", (1, 1, 1)), now(0)));
        assert!(!pending.put(update("u3", (1, 1, 1)), now(0)));
        assert!(pending.put(update("u1", (1, 2, 0)), now(1)));
        assert_eq!(pending.take().len(), 2);
        assert!(pending.put(update("u3", (1, 1, 1)), now(2)));
    }
}
