//! The deterministic simulation: the agent's own rooms against the simulator's peers, in virtual time, from one seed.
//!
//! The whole test on one page: a [`plan`] says what users, mail host and relay do and when; the [`world`] plays it,
//! moving time from event to event; in it the [`agent`] runs tracker, flow, roster and IMAP sessions, the [`mailhost`]
//! the simulated IMAP server, the [`cloud`] the simulated relay behind a lossy network. The [`checker`] looks at every
//! step (safety), and once faults have stopped, whether every device shows the truth within the stated bound
//! (liveness). No socket, no clock, no sleeping; the same seed gives the same story, line by line.

pub mod agent;
pub mod checker;
pub mod cloud;
pub mod disk;
pub mod mailhost;
pub mod plan;
pub mod world;

pub use plan::Plan;
pub use world::{Story, World};

/// Plays one seed to its end.
pub fn play(seed: u64) -> Story {
    World::new(Plan::new(seed)).play()
}
