//! How much a server sends: more in a while than any mailbox has to say is a flood. Eight bytes, since tens of thousands of
//! sessions are idle.

use crate::source::imap::{FLOOD_BYTES, FLOOD_TIME};
use crate::time::Moment;

/// What a line counts besides its bytes: reading it costs as much as reading so many.
const LINE: u32 = 16;

/// What came since the last time that was looked at the clock for it.
#[derive(Debug, Default)]
pub(super) struct Inflow {
    bytes: u32,
    /// In seconds.
    since: u32,
}

impl Inflow {
    /// Of a new connection.
    pub(super) fn begin(now: Moment) -> Self {
        Self { bytes: 0, since: seconds(now) }
    }

    /// Counts bytes; whether they are a flood. The clock counts only when the limit is reached: an honest server takes
    /// longer to get there.
    #[inline]
    pub(super) fn is_flood(&mut self, bytes: usize, now: Moment) -> bool {
        self.bytes = self.bytes.saturating_add(bytes as u32);
        self.bytes > FLOOD_BYTES && self.is_too_soon(now)
    }

    /// Counts a line.
    #[inline]
    pub(super) fn line(&mut self) {
        self.bytes = self.bytes.saturating_add(LINE);
    }

    #[cold]
    fn is_too_soon(&mut self, now: Moment) -> bool {
        let before = std::mem::replace(self, Self::begin(now));
        self.since.wrapping_sub(before.since) < FLOOD_TIME.as_secs() as u32
    }
}

fn seconds(now: Moment) -> u32 {
    (now.micros() / 1_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Whether so many bytes a second, in lines of so many, are taken for a flood within a minute.
    fn is_flood(per_second: usize, line: usize) -> bool {
        let mut now = Moment::START.after(Duration::from_hours(1));
        let mut inflow = Inflow::begin(now);
        (0..60 * 20).any(|_| {
            now = now.after(Duration::from_millis(50));
            (0..per_second / 20 / line).for_each(|_| inflow.line());
            inflow.is_flood(per_second / 20, now)
        })
    }

    #[test]
    fn the_longest_answers_pass_and_what_would_keep_a_core_busy_does_not() {
        const MIB: usize = 1024 * 1024;
        assert_eq!(size_of::<Inflow>(), 8);
        // SEARCH of a million messages every 3 s, and flags of a million messages at once, within 10 s.
        assert!(!is_flood(8 * MIB / 3, 8 * MIB) && !is_flood(4 * MIB, 42));
        assert!(is_flood(20 * MIB, 16 * 1024) && is_flood(4 * MIB, 12));
    }
}
