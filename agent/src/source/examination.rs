//! What `mailbadge doctor` finds, and what it gives to a source that examines itself.

use crate::time::driver::Clock;
use serde::Serialize;
use tokio::runtime::Runtime;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Finding {
    /// What was checked: `source main`.
    pub check: String,
    /// How it is.
    pub result: Condition,
    /// One line: what is there, or what is wrong.
    pub found: String,
    /// What to do, where something is wrong.
    pub remedy: Option<String>,
}

/// How something is that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// As it must be.
    Well,
    /// Wrong.
    Ill,
    /// Not tried, or not a fault.
    Skipped,
}

impl Finding {
    /// All is well.
    pub fn well(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), result: Condition::Well, found: found.into(), remedy: None }
    }

    /// Something is wrong.
    pub fn ill(check: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { check: check.into(), result: Condition::Ill, found: found.into(), remedy }
    }

    /// It could not be tried, and that is no fault.
    pub fn skipped(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), result: Condition::Skipped, found: found.into(), remedy: None }
    }

    /// It could not be tried for want of a mailbox.
    pub fn untried(check: impl Into<String>) -> Self {
        Self::skipped(check, "no mailbox is subscribed; give one to try with --mailbox")
    }

    /// The same with a remedy.
    #[must_use]
    pub fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

/// What an examination of a source has at hand.
#[derive(Clone, Copy, Debug)]
pub struct Examiner<'a> {
    /// The mailbox that is tried, by its own name: the given one, or one that is subscribed.
    pub mailbox: Option<&'a str>,
    /// How many mailboxes are subscribed.
    pub subscribed: u64,
    /// What the time is read from.
    pub clock: Clock,
    /// Where requests run.
    pub runtime: &'a Runtime,
}
