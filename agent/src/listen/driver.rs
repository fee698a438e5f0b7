//! Binds, accepts and answers. Every socket of ours that speaks HTTP is one of these.

use super::Listen;
use axum::Router;
use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// Why the endpoint cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address or path is taken or not ours.
    #[error("{key} {place}: {cause}; choose another place or stop what uses it")]
    Listen {
        /// Where it is configured.
        key: &'static str,
        /// Address or path.
        place: String,
        /// What the system said.
        cause: io::Error,
    },
}

/// Where an endpoint listens.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The key of the configuration that says so.
    pub key: &'static str,
    /// The place itself.
    pub listen: &'a Listen,
    /// Permissions of a Unix socket.
    pub socket_mode: u32,
}

/// A running endpoint; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    task: JoinHandle<()>,
    address: Option<SocketAddr>,
    socket: Option<PathBuf>,
}

impl Server {
    /// The TCP address, with the port that the system chose where the configured one was 0.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(path) = &self.socket {
            // Where it fails the next start takes the stale socket over.
            std::fs::remove_file(path).ok();
        }
    }
}

/// Answers at `place` with `routes`, on the current runtime.
pub async fn serve(place: Place<'_>, routes: Router) -> Result<Server, Error> {
    let Place { key, listen, socket_mode } = place;
    match listen {
        Listen::Tcp(address) => {
            let at = |cause| Error::Listen { key, place: address.to_string(), cause };
            let listener = TcpListener::bind(address).await.map_err(at)?;
            let address = listener.local_addr().ok();
            let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap_or(()) });
            Ok(Server { task, address, socket: None })
        }
        Listen::Unix(path) => {
            let at = |cause| Error::Listen { key, place: path.display().to_string(), cause };
            let listener = unix(path, socket_mode).await.map_err(at)?;
            let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap_or(()) });
            Ok(Server { task, address: None, socket: Some(path.clone()) })
        }
    }
}

/// A socket that nobody answers on is a killed daemon's; anything else in its place is left alone.
async fn unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket {
        match UnixStream::connect(path).await {
            Err(cause) if cause.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            _ => return Err(io::Error::new(ErrorKind::AddrInUse, "another process answers on it")),
        }
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(listener)
}
