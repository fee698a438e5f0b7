//! When a session must wake: every reason on one page.

use crate::time::Moment;

/// Every reason to wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The log-in or the command in flight must be over.
    Deadline,
    /// Time to repeat NOTIFY or IDLE.
    Renew,
    /// Time to read the mailbox.
    Question,
    /// The server broke its keep-alive rhythm.
    Silence,
    /// Time to try a better way of watching than the one that was left.
    Upgrade,
}

const TIMERS: usize = 5;

/// When each [`Timer`] is due.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timers([Option<Moment>; TIMERS]);

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Moment) {
        if let Some(place) = self.0.get_mut(timer as usize) {
            *place = Some(at);
        }
    }

    /// Sets it to the earlier of what it is and `at`.
    pub(super) fn advance(&mut self, timer: Timer, at: Moment) {
        self.set(timer, self.get(timer).map_or(at, |set| set.min(at)));
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        if let Some(place) = self.0.get_mut(timer as usize) {
            *place = None;
        }
    }

    pub(super) fn get(&self, timer: Timer) -> Option<Moment> {
        self.0.get(timer as usize).copied().flatten()
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.0.iter().flatten().min().copied()
    }

    /// Stops the timer and says whether it was due.
    pub(super) fn take_due(&mut self, timer: Timer, now: Moment) -> bool {
        let is_due = self.get(timer).is_some_and(|at| at <= now);
        if is_due {
            self.stop(timer);
        }
        is_due
    }
}
