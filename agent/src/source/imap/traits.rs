//! What connections learn about their server while they work, shared by all of one source, forgotten when it ends.

use super::NOTIFY_MAX;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// What connections learn about their server, shared by all of one source.
#[derive(Debug, Default)]
pub struct Traits {
    /// 0 not known yet, 1 `RETURN (COUNT)` counts right, 2 it answers with the total (sources.md §1).
    esearch: AtomicU8,
    flags_in_idle: AtomicBool,
    /// More mailboxes are watched there than NOTIFY is good for.
    is_crowd: AtomicBool,
}

impl Traits {
    /// Whether the server was seen to answer `RETURN (COUNT) UNSEEN` with the number of all messages.
    pub fn is_count_total(&self) -> bool {
        self.esearch.load(Ordering::Relaxed) == 2
    }

    /// Whether `RETURN (COUNT)` was seen to count right.
    pub fn is_count_proven(&self) -> bool {
        self.esearch.load(Ordering::Relaxed) == 1
    }

    /// Whether the server was seen to send flag changes during IDLE (sources.md §4.3).
    pub fn sends_flags_in_idle(&self) -> bool {
        self.flags_in_idle.load(Ordering::Relaxed)
    }

    /// Whether the source watches more than [`NOTIFY_MAX`] mailboxes.
    pub fn is_crowd(&self) -> bool {
        self.is_crowd.load(Ordering::Relaxed)
    }

    /// So many mailboxes are watched at this server.
    pub fn learn_mailboxes(&self, mailboxes: usize) {
        self.is_crowd.store(mailboxes > NOTIFY_MAX, Ordering::Relaxed);
    }

    pub(super) fn learn_count(&self, is_right: bool) {
        self.esearch.store(if is_right { 1 } else { 2 }, Ordering::Relaxed);
    }

    pub(super) fn learn_flags_in_idle(&self) {
        self.flags_in_idle.store(true, Ordering::Relaxed);
    }
}
