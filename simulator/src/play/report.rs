//! How a story went, for people and for programs.

use super::checker::Broken;
use crate::world::{Profile, Seed};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// How one story went. The same plan gives the same report, byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoryReport {
    /// Its seed.
    pub seed: u64,
    /// From which kind of story it was drawn.
    pub profile: &'static str,
    /// Broken expectations; empty when all is well.
    pub broken: Vec<Broken>,
    /// Events that happened.
    pub steps: u64,
    /// Times a mailbox changed.
    pub changes: u64,
    /// Batches that left the agent.
    pub batches: u64,
    /// Faults: deeds, and messages that the network did not just pass on.
    pub faults: u64,
    /// From the end of the last fault until every live device showed the truth, milliseconds.
    pub settled_after_ms: Option<u64>,
    /// How long it may have taken, milliseconds.
    pub bound_ms: u64,
    /// A sum over everything that happened, and when.
    pub fingerprint: u64,
}

impl StoryReport {
    /// Of a story that is about to begin.
    pub const fn new(seed: Seed, profile: Profile, bound: Duration) -> Self {
        Self {
            seed: seed.0,
            profile: profile.name(),
            broken: Vec::new(),
            steps: 0,
            changes: 0,
            batches: 0,
            faults: 0,
            settled_after_ms: None,
            bound_ms: bound.as_millis() as u64,
            fingerprint: 0,
        }
    }

    /// Whether all expectations held.
    pub const fn is_clean(&self) -> bool {
        self.broken.is_empty()
    }

    /// How to tell this story once more.
    pub fn replay(&self) -> String {
        format!("cargo sim -- --seed {} --profile {} -v", self.seed, self.profile)
    }
}

/// The first and the last line tell how to replay it.
impl fmt::Display for StoryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, profile, steps, changes, batches, faults, .. } = self;
        let replay = self.replay();
        writeln!(f, "seed {seed}, profile {profile}; replay by `{replay}`")?;
        for broken in &self.broken {
            writeln!(f, "{broken}")?;
        }
        writeln!(f, "{steps} steps, {changes} changes, {batches} batches, {faults} faults")?;
        let bound = self.bound_ms as f64 / 1000.0;
        match self.settled_after_ms {
            Some(ms) => writeln!(f, "true {} s after the last fault, bound {bound} s", ms as f64 / 1000.0)?,
            None => writeln!(f, "not true within the bound of {bound} s")?,
        }
        let verdict = match self.broken.len() {
            0 => "clean".to_owned(),
            count => format!("{count} expectations broken"),
        };
        write!(f, "{verdict}; replay by `{replay}`")
    }
}

/// What many stories add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Stories.
    pub stories: u64,
    /// Of these, how many broke an expectation.
    pub broken: u64,
    /// Events.
    pub steps: u64,
    /// Changes of mailboxes.
    pub changes: u64,
    /// Batches.
    pub batches: u64,
    /// Faults.
    pub faults: u64,
    /// The longest that it took until all was true after the last fault, milliseconds.
    pub slowest_ms: u64,
}

impl Totals {
    /// Adds a story.
    pub fn add(&mut self, report: &StoryReport) {
        self.stories += 1;
        self.broken += u64::from(!report.is_clean());
        self.steps += report.steps;
        self.changes += report.changes;
        self.batches += report.batches;
        self.faults += report.faults;
        self.slowest_ms = self.slowest_ms.max(report.settled_after_ms.unwrap_or(report.bound_ms));
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stories, broken, steps, changes, batches, faults, slowest_ms } = self;
        let slowest = *slowest_ms as f64 / 1000.0;
        write!(
            f,
            "{stories} stories, {broken} broken: {steps} steps, {changes} changes, {batches} batches, {faults} faults; \
             all true {slowest} s after the last fault at the latest"
        )
    }
}
