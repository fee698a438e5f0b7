//! A batch as bytes (protocol.md §1.3): written straight into one buffer, since a batch is most of what the agent ever sends.
//!
//! Which notifications stand in a batch, and what an answer to it means, is decided elsewhere.

use crate::time::UnixMs;
use std::fmt;
use time::OffsetDateTime;
use time::macros::format_description;

/// The start of the process as it stands in front of each notification's id: `yyyyMMdd-HHmmss`, UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(String);

impl Stamp {
    /// The stamp of a process that started then; dates that no calendar holds count as the epoch.
    pub fn new(started: UnixMs) -> Self {
        let seconds = i64::try_from(started.seconds()).unwrap_or(0);
        let date = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let format = format_description!("[year][month][day]-[hour][minute][second]");
        Self(date.format(format).unwrap_or_else(|_| String::from("19700101-000000")))
    }

    /// The number of a notification of this process from its id, `None` where the id is another's.
    pub fn number_in(&self, id: &str) -> Option<u64> {
        id.strip_prefix(self.0.as_str())?.strip_prefix('-')?.parse().ok()
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
