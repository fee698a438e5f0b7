//! One mailbox of the rounds, and how far a round is.

use std::sync::Arc;

/// Where a mailbox waits to be asked by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    None,
    Asked,
    Swept,
}

/// One mailbox.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Arc<str>,
    pub(super) queue: Queue,
    /// The round that was under way, or the last, when it came.
    pub(super) came_in: u32,
    /// The round in which it was read last; 0: never.
    pub(super) read_in: u32,
    pub(super) is_missed: bool,
}

/// How far the present round is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Resting,
    /// The question about all is under way.
    Everyone,
    /// Those that it left out are asked by name.
    Remainder,
}

impl Entry {
    pub(super) fn is_covered(&self) -> bool {
        self.read_in > 0 && !self.is_missed
    }
}
