//! Mailboxes that are there only since a source reported their names: nobody subscribes to them, and no server lists them
//! as its users. Whoever may write to a source's socket can invent names, so that they are bounded and forgotten.

use crate::event::MailboxId;
use crate::time::Moment;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Such mailboxes at once, at most; as many as there are known ones, where that is more. Further names are left out.
pub const REPORTED_MAX: usize = 8192;
/// One that no source said anything of for so long is forgotten.
pub const REPORTED_KEPT: Duration = Duration::from_hours(24);
/// How often those are looked for.
const LOOK_EVERY: Duration = Duration::from_mins(10);

/// The mailboxes, shared with whoever hears which names are listed. Apart from the ledger, which may be waiting for the disk.
#[derive(Debug)]
pub struct Reported {
    state: Mutex<State>,
    room: AtomicUsize,
    left_out: AtomicU64,
}

impl Default for Reported {
    fn default() -> Self {
        Self { state: Mutex::default(), room: AtomicUsize::new(REPORTED_MAX), left_out: AtomicU64::new(0) }
    }
}

#[derive(Debug, Default)]
struct State {
    /// Since when each is there.
    since: HashMap<MailboxId, Moment>,
    looked_at: Moment,
}

impl Reported {
    /// A source reported the mailbox, which nobody knew.
    pub fn add(&self, mailbox: MailboxId, now: Moment) {
        self.state.lock().since.insert(mailbox, now);
    }

    /// Somebody subscribes to the mailbox, or its server lists it: it is known from now on.
    pub fn is_known(&self, mailbox: MailboxId) {
        self.state.lock().since.remove(&mailbox);
    }

    /// These were forgotten.
    pub fn forgotten(&self, mailboxes: &[MailboxId]) {
        let mut state = self.state.lock();
        for mailbox in mailboxes {
            state.since.remove(mailbox);
        }
        state.since.shrink_to(REPORTED_MAX);
    }

    /// All places are given anew.
    pub fn clear(&self) {
        self.state.lock().since.clear();
    }

    /// For how many more there was room when that was last counted.
    pub fn room(&self) -> usize {
        self.room.load(Ordering::Relaxed)
    }

    /// Counts for how many more there is room, of `named` mailboxes in all.
    pub fn count_room(&self, named: usize) -> usize {
        let reported = self.state.lock().since.len();
        let room = REPORTED_MAX.max(named.saturating_sub(reported)).saturating_sub(reported);
        self.room.store(room, Ordering::Relaxed);
        room
    }

    /// Names that there was no room for were left out.
    pub fn leave_out(&self, names: u64) {
        self.left_out.fetch_add(names, Ordering::Relaxed);
    }

    /// How many there are, and how often a name was left out.
    pub fn counts(&self) -> (usize, u64) {
        (self.state.lock().since.len(), self.left_out.load(Ordering::Relaxed))
    }

    /// Those that no source has said anything of for [`REPORTED_KEPT`]; `heard_at` says when one did last. None between
    /// two looks.
    pub fn due(&self, now: Moment, heard_at: impl Fn(MailboxId) -> Option<Moment>) -> Vec<MailboxId> {
        let mut state = self.state.lock();
        if now.since(state.looked_at) < LOOK_EVERY {
            return Vec::new();
        }
        state.looked_at = now;
        let all: Vec<(MailboxId, Moment)> = state.since.iter().map(|(mailbox, at)| (*mailbox, *at)).collect();
        drop(state);
        let is_due = |(mailbox, since): &(MailboxId, Moment)| {
            let last = heard_at(*mailbox).map_or(*since, |at| at.max(*since));
            now.since(last) >= REPORTED_KEPT
        };
        all.into_iter().filter(is_due).map(|(mailbox, _)| mailbox).collect()
    }
}
