//! How many refused log-ins a server is shown: some servers ban an address for them (Stalwart: 100 a day).

use crate::time::Moment;
use std::time::Duration;

/// Log-ins of mailboxes whose last log-in was refused, most in any 24 h, all mailboxes together. A log-in of a mailbox that
/// was not refused before is never held back, since most of these work; it is counted when it is refused.
pub const REFUSED_PER_DAY_MAX: u32 = 60;
/// Of these, so many may come at once after a quiet day; the rest is spread over the day.
const AT_ONCE: u32 = REFUSED_PER_DAY_MAX / 2;
/// Between two of them after that.
const SPACING: Duration = Duration::from_secs(24 * 3600 / (REFUSED_PER_DAY_MAX - AT_ONCE) as u64);

/// A token bucket of refused log-ins.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// When the bucket will be full again.
    full_at: Moment,
}

impl Budget {
    /// Before when no refused mailbox may try again.
    pub(super) fn free_at(&self) -> Moment {
        let held = SPACING.saturating_mul(AT_ONCE - 1);
        Moment::from_micros(self.full_at.micros().saturating_sub(held.as_micros() as u64))
    }

    /// A log-in was refused, or one begins that probably will be. What is owed never exceeds a full bucket.
    pub(super) fn charge(&mut self, now: Moment) {
        let most = now.after(SPACING.saturating_mul(AT_ONCE));
        self.full_at = self.full_at.max(now).after(SPACING).min(most);
    }

    /// A log-in that was charged was not refused.
    pub(super) fn refund(&mut self) {
        let full_at = self.full_at.micros().saturating_sub(SPACING.as_micros() as u64);
        self.full_at = Moment::from_micros(full_at);
    }
}

/// A log-in under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) begun: Moment,
    /// Whether the budget was charged for it.
    pub(super) is_charged: bool,
}
