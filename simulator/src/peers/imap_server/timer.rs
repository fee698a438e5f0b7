//! Every reason for a session to wake by itself, on one page.

use std::time::Duration;

/// Why a session wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The window is over: tell what changed.
    Window,
    /// Say that we are still here.
    Keepalive,
    /// The client has been silent for too long.
    Inactivity,
    /// A log-in's answer was held back.
    Penalty,
    /// A deaf NOTIFY looks by itself.
    DeafLook,
}

const ALL: [Timer; 5] = [Timer::Window, Timer::Keepalive, Timer::Inactivity, Timer::Penalty, Timer::DeafLook];

/// When each timer is due.
#[derive(Debug, Default)]
pub(super) struct Timers([Option<Duration>; ALL.len()]);

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, due: Duration) {
        self.put(timer, Some(due));
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.put(timer, None);
    }

    pub(super) fn stop_all(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.0.get(timer as usize).is_some_and(Option::is_some)
    }

    /// The earliest.
    pub(super) fn next(&self) -> Option<Duration> {
        self.0.iter().flatten().min().copied()
    }

    /// Takes one that is due, the earliest first.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<Timer> {
        let due = |timer: &Timer| self.0.get(*timer as usize).copied().flatten();
        let timer = ALL.into_iter().filter(|timer| due(timer).is_some_and(|at| at <= now)).min_by_key(due)?;
        self.stop(timer);
        Some(timer)
    }

    fn put(&mut self, timer: Timer, due: Option<Duration>) {
        if let Some(slot) = self.0.get_mut(timer as usize) {
            *slot = due;
        }
    }
}
