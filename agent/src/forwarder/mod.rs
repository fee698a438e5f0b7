//! From a batch to the relay's answer: wire types, what an answer means, the outbox, the HTTPS driver.
//!
//! Tokens are made elsewhere (`token`); this room only carries them.

pub mod answer;
pub mod wire;
