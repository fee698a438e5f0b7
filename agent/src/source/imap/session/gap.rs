//! The gap between a count and the IDLE after it: some servers report only what changes once IDLE has begun (Stalwart,
//! sources.md §9.3), so that what changed in the gap is known to nobody. Hence one more count some seconds later, until one
//! finds nothing new. A server that was seen to report its gaps is spared that.

use super::link::Link;
use crate::time::Now;

/// From the start of IDLE to the count that looks into the gap before it: after a burst of changes, not in its midst.
const GAP_WAIT_MS: std::ops::RangeInclusive<u64> = 3_000..=6_000;

/// What is known of the gap before an IDLE.
#[derive(Debug)]
pub(super) struct Gap {
    /// A change was reported since the last count was asked for: changes come in bursts.
    is_told: bool,
    /// One was reported before that, which the count covers.
    was_told: bool,
    /// The last count found nothing new.
    is_quiet: bool,
}

impl Default for Gap {
    fn default() -> Self {
        Self { is_told: true, was_told: false, is_quiet: false }
    }
}

impl Gap {
    /// The server reported a change.
    pub(super) fn told(&mut self) {
        self.is_told = true;
    }

    /// A count is asked for.
    pub(super) fn asking(&mut self) {
        self.was_told |= std::mem::take(&mut self.is_told);
    }

    /// The count is done. Says whether it found something that was never reported.
    pub(super) fn counted(&mut self, is_other: bool) -> bool {
        let is_told = std::mem::take(&mut self.was_told) || self.is_told;
        self.is_quiet = !is_told && !is_other;
        is_other && !is_told
    }

    /// IDLE begins anew without a count.
    pub(super) fn opened(&mut self) {
        self.is_quiet = false;
    }

    /// IDLE was sent: what changed before it is looked for in some seconds, where that is necessary.
    pub(super) fn look_into(&self, link: &mut Link, now: Now) {
        if !self.is_quiet {
            link.question_within(now, GAP_WAIT_MS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_looked_into_until_a_count_finds_nothing_new() {
        let mut gap = Gap::default();
        let count = |gap: &mut Gap, is_other| {
            gap.asking();
            (gap.counted(is_other), gap.is_quiet)
        };
        assert_eq!(count(&mut gap, true), (false, false), "the first count is no surprise");
        assert_eq!(count(&mut gap, false), (false, true));
        gap.told();
        assert_eq!(count(&mut gap, false), (false, false), "a count after news is followed by one more");
        assert_eq!(count(&mut gap, true), (true, false), "found, and reported by nobody");
        assert_eq!(count(&mut gap, false), (false, true));
        gap.asking();
        gap.told();
        assert!(!gap.counted(false) && !gap.is_quiet, "reported while the count was under way");
        assert_eq!(count(&mut gap, true), (false, false), "and found by the next");
        count(&mut gap, false);
        gap.opened();
        assert!(!gap.is_quiet);
    }
}
