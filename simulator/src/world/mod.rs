//! The deterministic world that a story is told in: one seed, a virtual clock, a queue of events to come, a network
//! with its weather, and profiles that say how bad things get. No socket, no real clock; it knows neither what users do
//! (that is `play`'s) nor anything of the agent.

pub mod seed;
pub mod clock;
pub mod network;
pub mod profile;

pub use clock::{Clock, EventQueue};
pub use network::{Network, Rule, Weather};
pub use profile::{Knobs, Profile};
pub use seed::{Fingerprint, Seed};
