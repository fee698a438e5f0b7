//! When a batch goes: at once after a quiet time, else when it is full or its first change has waited long enough.
//!
//! Pure: what is in a batch the tracker knows, whether one may go at all the outbox does.

use crate::time::Moment;
use std::time::Duration;

/// The answer to "shall a batch go?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Now.
    Now,
    /// Not before then, unless it fills up.
    At(Moment),
    /// There is nothing to send.
    Never,
}

/// Remembers when the last batch left.
#[derive(Clone, Copy, Debug)]
pub struct Batcher {
    hold_max: Duration,
    departed_at: Option<Moment>,
}

impl Batcher {
    /// No batch left yet: the first change goes at once. A change waits at most `hold_max` for others to share its
    /// batch (protocol.md §2).
    pub fn new(hold_max: Duration) -> Self {
        Self { hold_max, departed_at: None }
    }

    /// Changes the limit; what was held under a longer one goes by the new one.
    pub fn set(&mut self, hold_max: Duration) {
        self.hold_max = hold_max;
    }

    /// Whether a batch goes, with `ready` mailboxes waiting where `full` fill a batch.
    ///
    /// Every change waits less than `hold_max`: it became ready after the last departure, and the next one is due
    /// `hold_max` after that.
    pub fn decide(&self, ready: usize, full: usize, now: Moment) -> Departure {
        let quiet_from = self.departed_at.map_or(Moment::START, |at| at.after(self.hold_max));
        if ready == 0 {
            Departure::Never
        } else if ready >= full || now >= quiet_from {
            Departure::Now
        } else {
            Departure::At(quiet_from)
        }
    }

    /// A batch left.
    pub fn departed(&mut self, now: Moment) {
        self.departed_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_micros(ms * 1000)
    }

    #[test]
    fn a_batch_goes_when_it_is_full_or_after_a_quiet_time() {
        // last departure, ready, now (ms) → decision
        let cases = [
            (None, 0, 0, Departure::Never),
            (None, 1, 0, Departure::Now),
            (Some(1000), 1, 1000, Departure::At(at(2000))),
            (Some(1000), 255, 1999, Departure::At(at(2000))),
            (Some(1000), 256, 1001, Departure::Now),
            (Some(1000), 1, 2000, Departure::Now),
            (Some(1000), 0, 9000, Departure::Never),
        ];
        for (departed, ready, now, expected) in cases {
            let mut batcher = Batcher::new(Duration::from_secs(1));
            if let Some(ms) = departed {
                batcher.departed(at(ms));
            }
            assert_eq!(batcher.decide(ready, 256, at(now)), expected, "{departed:?} {ready} {now}");
        }
    }

    #[test]
    fn shorter_holds_set_later_apply_to_what_waits() {
        let mut batcher = Batcher::new(Duration::from_secs(1));
        batcher.departed(at(0));
        batcher.set(Duration::from_millis(10));
        assert_eq!(batcher.decide(1, 256, at(10)), Departure::Now);
    }
}
