//! Virtual time: a clock that only the story moves, and the queue of events to come.

use crate::peers::unix_time::UnixMicros;
use std::collections::BTreeMap;
use std::time::Duration;

/// When stories begin: 2026-11-23T08:00:00Z, while the certificates of the fixtures are valid.
pub const EPOCH: UnixMicros = UnixMicros::from_seconds(1_795_420_800);

/// Time in a story: microseconds since it began, the true date, and what the wall clock of the mail host says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    micros: u64,
    jumped_ms: i64,
}

impl Clock {
    /// Since the story began.
    pub const fn elapsed(&self) -> Duration {
        Duration::from_micros(self.micros)
    }

    /// Since the story began, microseconds.
    pub const fn micros(&self) -> u64 {
        self.micros
    }

    /// The true date.
    pub const fn date(&self) -> UnixMicros {
        UnixMicros(EPOCH.0 + self.micros)
    }

    /// What the mail host takes for the date: true but for a jump.
    pub fn host_date(&self) -> UnixMicros {
        self.date().shifted_ms(self.jumped_ms)
    }

    /// Time passes; it never goes back.
    pub fn advance(&mut self, micros: u64) {
        self.micros = self.micros.max(micros);
    }

    /// From now on the mail host's wall clock is so far ahead of the true date; negative: behind.
    pub const fn jump(&mut self, ahead_ms: i64) {
        self.jumped_ms = ahead_ms;
    }
}

/// What is to happen: by time, and in the order of its being noted where the time is the same.
#[derive(Debug)]
pub struct EventQueue<E> {
    entries: BTreeMap<(u64, u64), E>,
    noted: u64,
}

impl<E> Default for EventQueue<E> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), noted: 0 }
    }
}

impl<E> EventQueue<E> {
    /// Notes what is to happen at this microsecond.
    pub fn note(&mut self, micros: u64, event: E) {
        self.noted += 1;
        self.entries.insert((micros, self.noted), event);
    }

    /// When the next event is due.
    pub fn next(&self) -> Option<u64> {
        self.entries.keys().next().map(|(at, _)| *at)
    }

    /// The next event that is due by then.
    pub fn take(&mut self, micros: u64) -> Option<E> {
        let entry = self.entries.first_entry().filter(|entry| entry.key().0 <= micros)?;
        Some(entry.remove())
    }

    /// How many events were ever noted.
    pub const fn noted(&self) -> u64 {
        self.noted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_of_their_noting() {
        let mut queue = EventQueue::default();
        for (at, name) in [(5, "late"), (3, "first"), (3, "second")] {
            queue.note(at, name);
        }
        let all: Vec<_> = std::iter::from_fn(|| queue.take(4)).collect();
        assert_eq!((all, queue.next()), (vec!["first", "second"], Some(5)));
    }

    #[test]
    fn a_jump_moves_the_hosts_date_alone() {
        let mut clock = Clock::default();
        clock.advance(7_000_000);
        clock.jump(-600_000);
        assert_eq!(clock.date().0 - clock.host_date().0, 600_000_000);
        clock.advance(1);
        assert_eq!(clock.micros(), 7_000_000);
    }
}
