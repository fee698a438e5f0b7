//! What rooms count while they work: plain atomics, shared with `admin`, which alone knows the metrics' names.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only this process writes. Relaxed: each is read for display only.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// One less; for gauges, each paired with a [`Count::one`] before it.
    pub fn less_one(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Replaces the number; for gauges.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one source counts.
#[derive(Debug, Default)]
pub struct SourceCounters {
    /// Readings delivered.
    pub readings: Count,
    /// Hints delivered.
    pub hints: Count,
    /// Lines, commands or datagrams skipped because they could not be understood.
    pub skipped: Count,
    /// News about mailboxes nobody subscribed to.
    pub unknown: Count,
    /// Log-ins that worked.
    pub logins_ok: Count,
    /// Log-ins the server refused.
    pub logins_refused: Count,
    /// Connections that failed or ended before or after log-in.
    pub connections_lost: Count,
    /// Counts that only a sweep found.
    pub sweep_corrections: Count,
    /// Mailboxes watched now (gauge).
    pub watched: Count,
    /// Mailboxes assigned but not watched yet: connecting, backing off, waiting for a log-in slot (gauge).
    pub waiting: Count,
}
