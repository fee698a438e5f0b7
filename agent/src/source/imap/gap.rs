//! The gap between a count and the IDLE after it: some servers report only what changes once IDLE has begun (Stalwart,
//! sources.md §9.3), so that what changed in the gap is known to nobody. Hence one more count some seconds later, until one
//! finds nothing new. A server that was seen to report its gaps is spared that.

use super::session::{Phase, Session};
use crate::time::Now;
use std::time::Duration;

/// From the start of IDLE to the count that looks into the gap before it: after a burst of changes, not in its midst.
const GAP_WAIT_MS: std::ops::RangeInclusive<u64> = 3_000..=6_000;

/// What is known of the gap before an IDLE.
#[derive(Debug)]
pub(super) struct Gap {
    /// A change was reported since the last count: changes come in bursts.
    is_told: bool,
    /// The last count found nothing new.
    is_quiet: bool,
}

impl Default for Gap {
    fn default() -> Self {
        Self { is_told: true, is_quiet: false }
    }
}

impl Gap {
    /// The server reported a change.
    pub(super) fn told(&mut self) {
        self.is_told = true;
    }

    /// A count is done. Says whether it found something that was never reported.
    pub(super) fn counted(&mut self, is_other: bool) -> bool {
        let was_told = std::mem::take(&mut self.is_told);
        self.is_quiet = !was_told && !is_other;
        is_other && !was_told
    }

    /// IDLE begins anew without a count.
    pub(super) fn opened(&mut self) {
        self.is_quiet = false;
    }
}

impl Session {
    /// IDLE was sent: what changed before it is looked for in some seconds, where that is necessary.
    pub(super) fn look_into_gap(&mut self, now: Now) {
        let is_quiet = match &self.phase {
            Phase::Idle(idle) => idle.gap.is_quiet || self.traits.reports_gap(),
            Phase::Unselected(unselected) => unselected.gap.is_quiet,
            _ => true,
        };
        if !is_quiet {
            let wait = Duration::from_millis(self.rng.u64(GAP_WAIT_MS));
            self.question_after(now, wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_looked_into_until_a_count_finds_nothing_new() {
        let mut gap = Gap::default();
        assert!(!gap.counted(true), "the first count is no surprise");
        assert!(!gap.is_quiet);
        assert!(!gap.counted(false));
        assert!(gap.is_quiet);
        gap.told();
        assert!(!gap.counted(false));
        assert!(!gap.is_quiet, "a count after news is followed by one more");
        assert!(gap.counted(true), "found, and reported by nobody");
        assert!(!gap.is_quiet);
        gap.counted(false);
        gap.opened();
        assert!(!gap.is_quiet);
    }
}
