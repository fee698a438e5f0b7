//! The library of the root package `proof`, which owns what shows that the promises hold: tests, benches, the demo and
//! the simulation. Here is what these share: private mail servers, processes that end with their test, waiting for a
//! condition, the simulation itself.

mod account;
pub mod browser;
pub mod campaign;
pub mod cloud;
pub mod command_line;
pub mod cyrus;
pub mod deeds;
pub mod delivery;
pub mod dict_client;
pub mod dovecot;
pub mod generation;
pub mod grammar;
pub mod host;
pub mod imap_client;
pub mod lmtp;
pub mod machine;
pub mod process;
pub mod recorder;
mod requirement;
pub mod script;
pub mod scripted;
pub mod simulation;
pub mod supervisor;
pub mod tmpfs;
pub mod traffic;
pub mod watching;

pub use process::wait_until;
pub use requirement::{is_long, required, required_as, required_if};
