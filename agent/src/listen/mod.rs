//! The sockets that others connect to over HTTP: one room for all of them, with limits that hold for each.
//!
//! Whoever can connect can also hold a connection and send nothing. So a listener has a fixed number of connections and
//! [`limits`] on time and bytes for each, and a new connection takes the place of the one that [`connection_state`]
//! chooses. Both are pure; sockets are the [`driver`]'s. What is answered is the business of whoever listens.
//!
//! Only HTTP/1.1 (and 1.0) is spoken. A listener has no TLS of its own: a reverse proxy has.

pub mod driver;
pub mod connection_state;
pub mod limits;

use std::net::SocketAddr;
use std::path::PathBuf;

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}
