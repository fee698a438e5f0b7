//! An observer that only records: stands in for the rest of the agent where a source is tested alone.

use mailbadge::event::{MailboxId, News, Observer, Reading, SourceId, Verdict};
use mailbadge::time::Now;
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;

/// Remembers what it was told; stands still on demand.
#[derive(Debug, Default)]
pub struct Recorder {
    told: Mutex<HashMap<MailboxId, Vec<Reading>>>,
    is_stalled: Mutex<bool>,
    goes_on: Condvar,
}

impl Recorder {
    /// Has it stand still, or go on.
    pub fn stall(&self, is_stalled: bool) {
        *self.is_stalled.lock() = is_stalled;
        self.goes_on.notify_all();
    }

    /// How many readings came of `u<number>`, and the last one's count.
    pub fn last(&self, number: u32) -> Option<(usize, u32)> {
        let told = self.told.lock();
        let readings = told.get(&MailboxId(number))?;
        Some((readings.len(), readings.last()?.unseen))
    }

    /// All readings, of each mailbox in their order.
    pub fn readings(&self) -> Vec<Reading> {
        self.told.lock().values().flatten().copied().collect()
    }
}

impl Observer for Recorder {
    fn find(&self, name: &str) -> Option<MailboxId> {
        name.strip_prefix('u')?.parse().ok().map(MailboxId)
    }

    fn observe(&self, mailbox: MailboxId, _source: SourceId, news: News, _now: Now) -> Verdict {
        let mut is_stalled = self.is_stalled.lock();
        while *is_stalled {
            self.goes_on.wait(&mut is_stalled);
        }
        if let News::Reading(reading) = news {
            self.told.lock().entry(mailbox).or_default().push(reading);
        }
        Verdict::Changed
    }
}
