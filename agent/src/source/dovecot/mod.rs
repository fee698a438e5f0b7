//! Dovecot's `notify_status` plugin as a source: we are its dict server.
//!
//! [`dict`] is one connection's conversation as a pure machine, [`pending`](super::pending) the overwriting table
//! between the thread that answers Dovecot and the one that hands readings on, [`driver`] the sockets and threads. What
//! a line means stands in `line`, what a value means in `status`. Nothing here decides what a reading is worth: that is
//! the observer's part.
//!
//! Dovecot waits for the answer to its commit in the middle of a delivery (sources.md §2). Hence two threads: one
//! that only reads, answers and overwrites a table, and one that calls the observer and may be as slow as it likes.

mod arrivals;
mod configured;
pub mod connection_limits;
pub mod dict;
pub mod driver;
mod line;
pub mod listener;
mod server;
mod status;
mod ushers;

pub use configured::KIND;
pub use driver::{DovecotSource, start, start_on};

use super::names::Names;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Permissions of the Unix socket when nothing else is configured: its owner and group. Mail processes get the
/// group by Dovecot's `mail_access_groups`.
pub const SOCKET_MODE_DEFAULT: u32 = 0o660;

/// Connections served at once when nothing else is configured. A mail process that ever wrote may keep one open.
pub const CONNECTIONS_MAX_DEFAULT: usize = 8192;

/// What a configuration says of one Dovecot source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The source's name in logs, errors and metrics.
    pub name: Arc<str>,
    /// Where Dovecot finds us.
    pub listen: Listen,
    /// Permissions of the Unix socket; see [`SOCKET_MODE_DEFAULT`]. No meaning for TCP.
    pub mode: u32,
    /// Connections open at once, those included who come and go in a crowd; past it the one that was silent the longest makes
    /// place.
    pub connections_max: usize,
    /// How its users are spelled.
    pub names: Names,
}

impl Settings {
    /// Settings with defaults for all but the place to listen.
    pub fn new(name: impl Into<Arc<str>>, listen: Listen) -> Self {
        Self {
            name: name.into(),
            listen,
            mode: SOCKET_MODE_DEFAULT,
            connections_max: CONNECTIONS_MAX_DEFAULT,
            names: Names::default(),
        }
    }
}

/// Where the dict server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `proxy:<path>:<name>` in Dovecot's configuration; at most 107 bytes.
    Unix(PathBuf),
    /// For a relaying process (socat, ssh) on a mail host elsewhere: Dovecot itself connects to Unix sockets only.
    Tcp(SocketAddr),
}

/// The TCP port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{address}: cannot listen: {reason}; choose another port or stop what uses it")]
pub struct PortError {
    /// The configured address.
    pub address: SocketAddr,
    /// What the system said.
    pub reason: io::Error,
}
