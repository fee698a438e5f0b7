//! What is in doubt: of which devices nobody knows what they show, should the process end now.
//!
//! What devices show is stored behind the batches that change it. A note covers the time between: it is made before a
//! batch leaves, and thrown away after what its devices show was stored. [`Doubt`](super::doubt::Doubt) keeps notes in
//! files beside SQLite; a store that several agents share may keep them itself. The order of the calls is the ledger's.

use super::StoreError;
use crate::event::SubscriptionKey;

/// Of whom nobody knows what they show, after a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InDoubt {
    /// Of these, each named once.
    These(Vec<SubscriptionKey>),
    /// Of everyone: notes are missing.
    Everyone,
}

/// The notes. Beside [`Store`](super::Store), and like it shared by threads.
pub trait Notes: Send + Sync {
    /// Whom the last process left in doubt; the same until [`Notes::settle`] was called.
    fn in_doubt(&self) -> Result<InDoubt, StoreError>;
    /// Notes that these devices are about to be sent something. Every batch waits for it: it must not wait for a disk.
    /// After an error everyone is in doubt until the next [`Notes::settle`] after a [`Notes::turn`].
    fn note(&self, devices: &[SubscriptionKey]) -> Result<(), StoreError>;
    /// Begins a new page: call before what devices show is collected for storing.
    fn turn(&self) -> Result<(), StoreError>;
    /// Throws all pages but the present one away: what devices show was stored since the last [`Notes::turn`].
    fn settle(&self) -> Result<(), StoreError>;
    /// A clean end: nothing is in flight, and what devices show was stored. The next process, after whatever boot,
    /// doubts only what is noted.
    fn close(&self) -> Result<(), StoreError>;
}
