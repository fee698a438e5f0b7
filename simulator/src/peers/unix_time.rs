//! The wall clock as the peers get it told: never read here.

use serde::Serialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since the UNIX epoch, UTC. Fine enough to measure how long a count took to its device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct UnixMicros(pub u64);

impl UnixMicros {
    /// From milliseconds since the epoch.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms.saturating_mul(1000))
    }

    /// From seconds since the epoch.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Whole milliseconds since the epoch.
    pub const fn ms(self) -> u64 {
        self.0 / 1000
    }

    /// Whole seconds since the epoch.
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    /// This instant plus `span`.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }

    /// This instant as a clock shows it that is wrong by `offset_ms`.
    #[must_use]
    pub const fn shifted_ms(self, offset_ms: i64) -> Self {
        Self(self.0.saturating_add_signed(offset_ms.saturating_mul(1000)))
    }

    /// How long ago `earlier` was; zero where it lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The HTTP date of this instant (RFC 9110 §5.6.7), for the years that have one.
    pub fn http_date(self) -> String {
        /// 9999-12-31T23:59:59Z, the last date that HTTP can write.
        const SECONDS_MAX: u64 = 253_402_300_799;
        let instant: SystemTime = UNIX_EPOCH + Duration::from_secs(self.seconds().min(SECONDS_MAX));
        httpdate::fmt_http_date(instant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_http_dates_and_never_overflow() {
        assert_eq!(UnixMicros::from_seconds(1_704_110_400).http_date(), "Mon, 01 Jan 2024 12:00:00 GMT");
        assert!(
            UnixMicros(u64::MAX).http_date().contains("2554") || !UnixMicros(u64::MAX).http_date().is_empty()
        );
        assert_eq!(UnixMicros::from_ms(5).shifted_ms(-10), UnixMicros(0));
    }
}
