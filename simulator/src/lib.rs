//! Plays everything around the mailbadge agent: relay, devices and mail server.
//!
//! [`peers`] are pure machines that know nothing of sockets or clocks; [`serve`] puts them on real sockets with a
//! control API and a page; [`client`] speaks to that API; [`load`] drives them hard and measures; [`cli`] is the
//! command. Nothing here imports the agent: two readings of the protocol that must agree.

pub mod cli;
pub mod load;
pub mod client;
pub mod serve;
pub mod play;
pub mod world;
pub mod peers;
