//! Cyrus's notify socket as a source: each event of a mailbox is a datagram with the count after it (sources.md §3).
//!
//! [`notify`] reads one datagram, pure; [`driver`] has the socket and the threads; `configured` has the keys. Cyrus waits for nobody's answer, but
//! it does wait for room in the socket's queue, and that is some ten datagrams long. Hence two threads: one that only
//! reads, understands and overwrites a table, and one that calls the observer and may be as slow as it likes.

mod configured;
pub mod driver;
pub mod notify;

pub use configured::KIND;
pub use driver::{CyrusSource, start, start_on};

use super::names::Names;
use std::path::PathBuf;
use std::sync::Arc;

/// Permissions of the socket when nothing else is configured: its owner and group, which Cyrus's user must be in.
pub const SOCKET_MODE_DEFAULT: u32 = 0o660;

/// What a configuration says of one Cyrus source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The source's name in logs, errors and metrics.
    pub name: Arc<str>,
    /// `notifysocket` in Cyrus's configuration; at most 107 bytes.
    pub listen: PathBuf,
    /// Permissions of the socket; see [`SOCKET_MODE_DEFAULT`].
    pub mode: u32,
    /// How its users are spelled.
    pub names: Names,
}

impl Settings {
    /// Settings with defaults for all but the place to listen.
    pub fn new(name: impl Into<Arc<str>>, listen: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), listen: listen.into(), mode: SOCKET_MODE_DEFAULT, names: Names::default() }
    }
}
