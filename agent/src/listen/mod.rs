//! The sockets that others connect to over HTTP: one room for all of them.
//!
//! Sockets are the [`driver`]'s. What is answered is the business of whoever listens.

pub mod driver;

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
