//! The deterministic world that a story is told in: one seed, a virtual clock, an agenda of what is to come, a network
//! with its weather, and profiles that say how bad things get. No socket, no real clock; it knows neither what users do
//! (that is `play`'s) nor anything of the agent.

pub mod seed;
pub mod clock;
pub mod network;
pub mod profile;

pub use clock::{Agenda, Clock};
pub use network::{Network, Rule, Weather};
pub use profile::{Knobs, Profile};
pub use seed::{Fingerprint, Seed};
