//! Places of the table whose mailbox was forgotten. Threads of sources may still hold one by its number, and say something
//! of a mailbox that is no more: so a place rests before another mailbox gets it.

use crate::event::MailboxId;
use crate::time::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// How long a place rests. Whatever a source still had to say of its mailbox was said long before.
pub(super) const RESTS: Duration = Duration::from_hours(1);

/// Places that were left.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// In the order in which they were left.
    resting: VecDeque<(Moment, MailboxId)>,
    free: Vec<MailboxId>,
}

impl Places {
    /// The mailbox was forgotten.
    pub(super) fn leave(&mut self, place: MailboxId, now: Moment) {
        self.resting.push_back((now.after(RESTS), place));
    }

    /// Frees those that have rested.
    pub(super) fn release(&mut self, now: Moment) {
        while let Some((_, place)) = self.resting.pop_front_if(|(until, _)| *until <= now) {
            self.free.push(place);
        }
    }

    /// One that is free.
    pub(super) fn take(&mut self) -> Option<MailboxId> {
        self.free.pop()
    }
}
