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
    /// What a source said that is no matter of ours: events without a count, of other mailboxes.
    pub ignored: Count,
    /// News about mailboxes nobody subscribed to.
    pub unknown: Count,
    /// Log-ins that worked.
    pub logins_ok: Count,
    /// Log-ins the server refused.
    pub logins_refused: Count,
    /// Connections that failed or ended before or after log-in.
    pub connections_lost: Count,
    /// Connections of the mail server that ended to make room for others.
    pub connections_evicted: Count,
    /// Counts that only a sweep found.
    pub sweep_corrections: Count,
    /// Mailboxes watched now (gauge).
    pub watched: Count,
    /// Mailboxes assigned but not watched yet: connecting, backing off, waiting for a log-in slot (gauge).
    pub waiting: Count,
}

/// A histogram with fixed upper bounds, in the unit of its name. Observing is two relaxed additions.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Box<[Count]>,
    sum_micros: Count,
}

impl Histogram {
    /// Empty; `bounds` ascend, values above the last fall into a bucket of their own.
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| Count::default()).collect();
        Self { bounds, counts, sum_micros: Count::default() }
    }

    /// Counts one value.
    pub fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.one();
        }
        self.sum_micros.add((value * 1e6) as u64);
    }

    /// Upper bounds with how many values fell at or under each but over the one before; the last bound is infinite.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().map(Count::get))
    }

    /// Sum of all values, exact to a millionth of the unit each.
    pub fn sum(&self) -> f64 {
        self.sum_micros.get() as f64 / 1e6
    }
}

/// What the way from ready mailboxes to the relay counts.
#[derive(Debug)]
pub struct FlowCounters {
    /// Counts that moved.
    pub changes: Count,
    /// Recipients a relay took.
    pub acknowledged: Count,
    /// Recipients a relay reported as gone.
    pub gone: Count,
    /// Recipients a relay reported as invalid, and those of notifications put aside after a 400.
    pub invalid: Count,
    /// Recipients a relay reported as throttled.
    pub throttled: Count,
    /// Batches answered 2xx.
    pub batches_accepted: Count,
    /// Batches that will be sent again: retries, waits, 401.
    pub batches_retried: Count,
    /// Batches that were taken apart: 400, 413.
    pub batches_split: Count,
    /// Batches that halted the relay: a second 401, statuses nobody foresaw.
    pub batches_halted: Count,
    /// Notifications in a batch.
    pub batch_size: Histogram,
    /// Seconds from a change observed to its acknowledgement.
    pub change_to_ack_seconds: Histogram,
}

impl Default for FlowCounters {
    fn default() -> Self {
        Self {
            changes: Count::default(),
            acknowledged: Count::default(),
            gone: Count::default(),
            invalid: Count::default(),
            throttled: Count::default(),
            batches_accepted: Count::default(),
            batches_retried: Count::default(),
            batches_split: Count::default(),
            batches_halted: Count::default(),
            batch_size: Histogram::new(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]),
            change_to_ack_seconds: Histogram::new(&[
                0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
                600.0,
            ]),
        }
    }
}
