//! The deterministic simulation: the agent's own rooms against the simulator's peers, in virtual time, from one seed.
//!
//! The whole on one page: a [`Plan`] says what users, mail host, machine and relay do and when; the [`world`] plays it,
//! moving time from event to event; in it the [`agent`] runs tracker, ledger, flow, roster and IMAP sessions, the [`mailhost`]
//! the simulated IMAP server, the [`cloud`] the simulated relay behind a network with weather, the [`memory_store`] what
//! outlives a process. The [`Checker`](mailbadge_sim::play::Checker) looks at every step (safety), and once faults have stopped,
//! whether every device shows the truth within the [`bound`] (liveness). No socket, no clock, no sleeping; the same plan
//! gives the same report, byte by byte. What knows nothing of the agent stands in the simulator: `world` and `play`.

pub mod agent;
pub mod bound;
pub mod cloud;
pub mod log;
pub mod mailhost;
pub mod many;
pub mod memory_store;
pub mod tokens;
pub mod world;

pub use mailbadge_sim::play::{Plan, StoryReport};
pub use mailbadge_sim::world::{Profile, Seed};
use world::World;

/// Plays the story of one seed to its end.
pub fn play(seed: Seed, profile: Profile) -> StoryReport {
    play_plan(&Plan::new(seed, profile), false)
}

/// Plays a plan to its end; where it `is_told`, every deed and every line logged is written to standard error as it
/// comes.
pub fn play_plan(plan: &Plan, is_told: bool) -> StoryReport {
    log::captured(is_told, || World::new(plan.clone()).play())
}
