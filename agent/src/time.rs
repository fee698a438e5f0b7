//! Time as an argument: the monotonic and the wall clock side by side, read once per step by a driver.
//!
//! Nothing here reads a clock; [`driver::Clock`] does, and the simulation makes up its own [`Now`].

pub mod driver;

use ::time::OffsetDateTime;
use ::time::format_description::well_known::Rfc3339;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

/// A point on the monotonic clock: microseconds since that clock was started, counted from 1 so that thousands of
/// `Option<Moment>` take no more room than a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(NonZeroU64);

impl Default for Moment {
    fn default() -> Self {
        Self::START
    }
}

impl Moment {
    /// The start of the clock.
    pub const START: Self = Self(NonZeroU64::MIN);

    /// The moment this many microseconds after the start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(micros))
    }

    /// Microseconds since the start.
    pub const fn micros(self) -> u64 {
        self.0.get() - 1
    }

    /// This moment plus `wait`, the last representable moment at most.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero where it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.micros().saturating_sub(earlier.micros()))
    }
}

/// Milliseconds since the UNIX epoch, UTC: what tokens, certificates and subscriptions are dated with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// Whole seconds since the UNIX epoch, as JWT's NumericDate (RFC 7519 §2).
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// From whole seconds since the UNIX epoch.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// This instant plus `span`.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// RFC 3339 in UTC, whole seconds: `2026-01-01T12:00:00Z`.
impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.seconds()).unwrap_or(i64::MAX);
        let rfc3339 =
            OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|at| at.format(&Rfc3339).ok());
        // Past the year 9999 RFC 3339 has no form; such a date is only ever somebody's mistake, shown as it stands.
        f.pad(&rfc3339.unwrap_or_else(|| format!("@{seconds}")))
    }
}

impl FromStr for UnixMs {
    type Err = ::time::error::Parse;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at = OffsetDateTime::parse(text, &Rfc3339)?;
        Ok(Self(u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)))
    }
}

/// As its RFC 3339 text.
impl Serialize for UnixMs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnixMs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Another's clock that differs from ours by so much that it breaks tokens (protocol.md §5.8). Displayed as
/// `600 s ahead of ours`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset {
    is_ahead: bool,
    size: Duration,
}

impl ClockOffset {
    /// The largest difference that is not worth a word.
    pub const HARMLESS_MAX: Duration = Duration::from_mins(2);

    /// A clock that is `ms` milliseconds ahead of ours, where that is worth a word.
    pub fn notable(ms: i64) -> Option<Self> {
        let size = Duration::from_millis(ms.unsigned_abs());
        (size > Self::HARMLESS_MAX).then_some(Self { is_ahead: ms > 0, size })
    }

    /// Whether the other clock is ahead.
    pub fn is_ahead(self) -> bool {
        self.is_ahead
    }

    /// How far both lie apart.
    pub fn size(self) -> Duration {
        self.size
    }
}

impl fmt::Display for ClockOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.is_ahead { "ahead of" } else { "behind" };
        write!(f, "{} s {side} ours", self.size.as_secs())
    }
}

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For waiting and ordering; never jumps.
    pub moment: Moment,
    /// For dates that others read; may jump.
    pub unix: UnixMs,
}

impl Now {
    /// Both clocks `wait` later: for tests and the simulation.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self { moment: self.moment.after(wait), unix: self.unix.after(wait) }
    }

    /// The date of a moment to come, as far as the host's clock goes on as it does now; of a past one, now.
    pub fn date_of(self, moment: Moment) -> UnixMs {
        self.unix.after(moment.since(self.moment))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.micros() / 1_000_000, self.micros() % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::{ClockOffset, UnixMs};

    #[test]
    fn a_clock_is_spoken_of_from_two_minutes_on() {
        let cases = [
            (0, None),
            (120_000, None),
            (-120_000, None),
            (121_999, Some("121 s ahead of ours")),
            (-600_000, Some("600 s behind ours")),
        ];
        for (ms, expected) in cases {
            let told = ClockOffset::notable(ms).map(|offset| offset.to_string());
            assert_eq!(told.as_deref(), expected, "{ms}");
        }
        assert!(ClockOffset::notable(i64::MIN).is_some());
    }

    #[test]
    fn an_instant_is_written_and_read_as_rfc_3339() {
        for (ms, text) in [(0, "1970-01-01T00:00:00Z"), (1_767_268_500_000, "2026-01-01T11:55:00Z")] {
            assert_eq!(UnixMs(ms).to_string(), text);
            assert_eq!(text.parse::<UnixMs>().unwrap(), UnixMs(ms));
        }
        assert_eq!("2026-01-01T12:55:00.25+01:00".parse::<UnixMs>().unwrap(), UnixMs(1_767_268_500_250));
        assert_eq!(UnixMs(u64::MAX).to_string(), format!("@{}", u64::MAX / 1000));
        assert!("yesterday".parse::<UnixMs>().is_err());
    }
}
