//! Plays everything around the mailbadge agent: relay, devices and mail server.
//!
//! [`peers`] are pure machines that know nothing of sockets or clocks; [`serve`] puts them on real sockets with a
//! control API and a page; [`load`] drives them hard and measures. Nothing here imports the agent: two readings of
//! the protocol that must agree.

pub mod load;
pub mod peers;
pub mod serve;
