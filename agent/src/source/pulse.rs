//! Whether a thread that a mail server waits for still turns: it beats between its work, and the watchdog looks.
//! Knows no thread and no clock.

use crate::time::Moment;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often a thread beats while nothing else is to be done.
pub const BEAT_EVERY: Duration = Duration::from_millis(250);
/// A thread that did not beat for this long stands still: no piece of its work takes nearly as long.
pub const STILL_AFTER: Duration = Duration::from_secs(1);

/// When a thread last showed that it turns.
#[derive(Debug)]
pub struct Pulse(AtomicU64);

impl Pulse {
    /// Of a thread that begins now.
    pub fn new(now: Moment) -> Self {
        Self(AtomicU64::new(now.micros()))
    }

    /// The thread turns.
    pub fn beat(&self, now: Moment) {
        self.0.store(now.micros(), Ordering::Relaxed);
    }

    /// Whether it turned lately.
    pub fn is_beating(&self, now: Moment) -> bool {
        now.since(Moment::from_micros(self.0.load(Ordering::Relaxed))) < STILL_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_did_not_beat_for_a_second_stands_still() {
        let begun = Moment::from_micros(7);
        let pulse = Pulse::new(begun);
        assert!(pulse.is_beating(begun.after(STILL_AFTER / 2)));
        assert!(!pulse.is_beating(begun.after(STILL_AFTER)));
        pulse.beat(begun.after(STILL_AFTER));
        assert!(pulse.is_beating(begun.after(STILL_AFTER + BEAT_EVERY)));
    }
}
