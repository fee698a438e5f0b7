//! From a batch to the relay's answer: wire types, what an answer means, the outbox, the driver.
//!
//! Tokens are made elsewhere (`token`); this room only carries them.

pub mod answer;
pub mod driver;
pub mod outbox;
pub mod probe;
pub mod url;
pub mod wire;

use thiserror::Error;

/// Why batches cannot even be tried.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The relay's base is no URL that a token may go to.
    #[error("relay {base:?}: {reason}; set it with `mailbadge proxy enable --uri https://…`")]
    Url {
        /// The base as configured.
        base: String,
        /// What is wrong with it.
        reason: String,
    },
}
