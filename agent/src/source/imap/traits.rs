//! What connections learn about their server while they work, shared by all of one source, forgotten when it ends.

use super::NOTIFY_MAX;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

/// What connections learn about their server, shared by all of one source.
#[derive(Debug, Default)]
pub struct Traits {
    /// 0 not known yet, 1 `RETURN (COUNT)` counts right, 2 it answers with the total (sources.md §1).
    esearch: AtomicU8,
    flags_in_idle: AtomicBool,
    /// Longest time between two `* OK Still here` in one IDLE, in seconds; 0 while none was seen.
    rhythm_s: AtomicU32,
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

    /// How regularly the server says `* OK Still here` during IDLE (sources.md §4.3); `None` while it was not seen to.
    pub fn rhythm(&self) -> Option<Duration> {
        let seconds = self.rhythm_s.load(Ordering::Relaxed);
        (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
    }

    pub(super) fn learn_rhythm(&self, gap: Duration) {
        self.rhythm_s.fetch_max(u32::try_from(gap.as_secs()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    pub(super) fn learn_count(&self, is_right: bool) {
        self.esearch.store(if is_right { 1 } else { 2 }, Ordering::Relaxed);
    }

    pub(super) fn learn_flags_in_idle(&self) {
        self.flags_in_idle.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_is_the_rhythm_and_a_crowd_begins_past_the_limit() {
        let traits = Traits::default();
        assert_eq!((traits.rhythm(), traits.is_crowd()), (None, false));
        for (gap, rhythm) in [(120, 120), (30, 120), (121, 121)] {
            traits.learn_rhythm(Duration::from_secs(gap));
            assert_eq!(traits.rhythm(), Some(Duration::from_secs(rhythm)));
        }
        for (mailboxes, is_crowd) in [(NOTIFY_MAX, false), (NOTIFY_MAX + 1, true), (1, false)] {
            traits.learn_mailboxes(mailboxes);
            assert_eq!(traits.is_crowd(), is_crowd, "{mailboxes}");
        }
    }
}
