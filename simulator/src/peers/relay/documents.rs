//! Which metadata documents the relay trusts by, and when each is read (again). Pure: a driver fetches.
//!
//! A document is read when it is new, once a day, when someone asks for it, and when a token of its issuer has a
//! signature that none of its certificates made; never because of tokens more than once in [`DOUBT_EVERY`].

use crate::peers::tenant::Tenants;
use crate::peers::unix_time::UnixMicros;
use std::collections::BTreeMap;
use std::time::Duration;

/// A document that was read is read again after so long.
pub const READ_EVERY: Duration = Duration::from_hours(24);
/// One that could not be read is tried again after so long.
pub const RETRY_EVERY: Duration = Duration::from_secs(30);
/// Bad signatures have it read so often at most.
pub const DOUBT_EVERY: Duration = Duration::from_secs(2);

/// What became of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// When it is to be read.
    pub due: UnixMicros,
    /// When it was, or was tried to be.
    pub read_at: Option<UnixMicros>,
    /// How many certificates it held, or what was wrong.
    pub outcome: Option<Result<usize, String>>,
}

/// All documents that tenants name.
#[derive(Debug, Default)]
pub struct Documents {
    /// Of the tenants when they were looked at last.
    generation: Option<u64>,
    readings: BTreeMap<String, Reading>,
}

impl Documents {
    /// What became of the document at a URL.
    pub fn reading(&self, url: &str) -> Option<&Reading> {
        self.readings.get(url)
    }

    /// Follows what tenants name now: new documents are due at once.
    pub(super) fn follow(&mut self, tenants: &Tenants, now: UnixMicros) {
        if self.generation.replace(tenants.generation()) == Some(tenants.generation()) {
            return;
        }
        let named = tenants.documents();
        self.readings.retain(|url, _| named.contains_key(url.as_str()));
        for (url, is_read) in named {
            match self.readings.get_mut(url) {
                // A tenant that was put anew has lost what its document said.
                Some(Reading { due, outcome: Some(Ok(_)), .. }) if !is_read => *due = now,
                Some(_) => {}
                None => {
                    self.readings.insert(url.to_owned(), Reading { due: now, ..Reading::default() });
                }
            }
        }
    }

    /// A document that is to be read now.
    pub(super) fn due(&self, now: UnixMicros) -> Option<&str> {
        self.readings.iter().find(|(_, reading)| reading.due <= now).map(|(url, _)| url.as_str())
    }

    /// Someone signed as this document does not say.
    pub(super) fn doubt(&mut self, url: &str, now: UnixMicros) {
        if let Some(reading) = self.readings.get_mut(url) {
            let soonest = reading.read_at.map_or(now, |read_at| read_at.after(DOUBT_EVERY));
            if soonest <= now {
                reading.due = reading.due.min(now);
            }
        }
    }

    /// Someone wants it to be read.
    pub(super) fn ask(&mut self, url: &str, now: UnixMicros) {
        if let Some(reading) = self.readings.get_mut(url) {
            reading.due = now;
        }
    }

    /// It was read, or could not be.
    pub(super) fn note(&mut self, url: &str, outcome: Result<usize, String>, now: UnixMicros) {
        if let Some(reading) = self.readings.get_mut(url) {
            reading.due = now.after(if outcome.is_ok() { READ_EVERY } else { RETRY_EVERY });
            reading.read_at = Some(now);
            reading.outcome = Some(outcome);
        }
    }
}
