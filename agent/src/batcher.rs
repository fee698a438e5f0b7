//! When a batch goes: at once after a quiet time, else when it is full or its first change has waited long enough.
//!
//! Pure: what is in a batch the tracker knows, whether one may go at all the outbox does.

use crate::time::Moment;
use std::time::Duration;

/// How batches are put together (protocol.md §2).
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Mailboxes per batch, at most.
    pub batch_max: usize,
    /// A change waits at most this long for others to share its batch.
    pub hold_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { batch_max: 256, hold_max: Duration::from_secs(1) }
    }
}

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
#[derive(Clone, Copy, Debug, Default)]
pub struct Batcher {
    settings: Settings,
    departed_at: Option<Moment>,
}

impl Batcher {
    /// No batch left yet: the first change goes at once.
    pub fn new(settings: Settings) -> Self {
        Self { settings, departed_at: None }
    }

    /// Changes the limits; what was held under longer ones goes by the new ones.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Mailboxes per batch, at most.
    pub fn batch_max(&self) -> usize {
        self.settings.batch_max
    }

    /// Whether a batch goes, with `ready` mailboxes waiting.
    ///
    /// Every change waits less than `hold_max`: it became ready after the last departure, and the next one is due
    /// `hold_max` after that.
    pub fn decide(&self, ready: usize, now: Moment) -> Departure {
        let quiet_from = self.departed_at.map_or(Moment::START, |at| at.after(self.settings.hold_max));
        if ready == 0 {
            Departure::Never
        } else if ready >= self.settings.batch_max || now >= quiet_from {
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
            let mut batcher = Batcher::new(Settings::default());
            if let Some(ms) = departed {
                batcher.departed(at(ms));
            }
            assert_eq!(batcher.decide(ready, at(now)), expected, "{departed:?} {ready} {now}");
        }
    }

    #[test]
    fn shorter_holds_set_later_apply_to_what_waits() {
        let mut batcher = Batcher::new(Settings::default());
        batcher.departed(at(0));
        batcher.set(Settings { hold_max: Duration::from_millis(10), ..Settings::default() });
        assert_eq!(batcher.decide(1, at(10)), Departure::Now);
    }
}
