//! Tells the service manager's watchdog that the mail server is answered (sd_watchdog_enabled(3)): only while each
//! thread that a mail server waits for turns. A frozen agent says nothing, and is ended and started again.

use super::tell_manager;
use crate::source::pulse::{BEAT_EVERY, Pulse};
use crate::time::Moment;
use crate::time::driver::Clock;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::watch;

/// The threads that a mail server waits for.
#[derive(Debug, Default)]
pub(super) struct Pulses(Mutex<Vec<Arc<Pulse>>>);

impl Pulses {
    /// Replaces what is looked at.
    pub(super) fn set(&self, pulses: Vec<Arc<Pulse>>) {
        *self.0.lock() = pulses;
    }

    /// Whether none of them stands still.
    fn are_beating(&self, now: Moment) -> bool {
        self.0.lock().iter().all(|pulse| pulse.is_beating(now))
    }
}

/// Speaks to the watchdog, where there is one, until the daemon is `closed`.
pub(super) async fn keep(pulses: Arc<Pulses>, clock: Clock, mut closed: watch::Receiver<bool>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut rhythm = tokio::time::interval((limit / 4).max(BEAT_EVERY));
    let mut was_well = true;
    loop {
        tokio::select! {
            _ = rhythm.tick() => {}
            // An error would mean that the daemon is gone.
            _ = closed.wait_for(|is_closed| *is_closed) => return,
        }
        let is_well = pulses.are_beating(clock.now().moment);
        if is_well {
            tell_manager(&[sd_notify::NotifyState::Watchdog]);
        } else if was_well {
            tracing::error!("a thread that the mail server waits for stands still; the watchdog is not told");
        }
        was_well = is_well;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_thread_that_stands_still_is_enough_to_say_nothing() {
        let (pulses, later) = (Pulses::default(), Moment::START.after(Duration::from_hours(1)));
        assert!(pulses.are_beating(later), "nobody waits for any thread");
        let [one, other] = [Moment::START; 2].map(|now| Arc::new(Pulse::new(now)));
        pulses.set(vec![Arc::clone(&one), Arc::clone(&other)]);
        assert!(pulses.are_beating(Moment::START) && !pulses.are_beating(later));
        one.beat(later);
        assert!(!pulses.are_beating(later));
        other.beat(later);
        assert!(pulses.are_beating(later));
    }
}
