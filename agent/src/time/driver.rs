//! The real clocks: the one place in the agent that reads them.

use super::{Moment, Now, UnixMs};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The machine's clocks; a [`Moment`] counts from [`Clock::start`].
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts the monotonic clock at zero.
    #[expect(clippy::disallowed_methods, reason = "this driver is where clocks are read")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Reads both clocks.
    #[expect(clippy::disallowed_methods, reason = "this driver is where clocks are read")]
    pub fn now(&self) -> Now {
        let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            moment: Moment::from_micros(micros),
            unix: UnixMs(u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// The machine's own instant of `moment`, for a timer.
    pub fn instant(&self, moment: Moment) -> Instant {
        self.start + std::time::Duration::from_micros(moment.micros())
    }
}
