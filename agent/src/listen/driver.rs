//! Binds, accepts and answers. Every socket of ours that speaks HTTP is one of these.

mod connection;

use super::Listen;
use super::connection_state::makes_room;
use super::limits::Limits;
use crate::counters::Count;
use crate::time::Moment;
use crate::time::driver::Clock;
use axum::Router;
use connection::Progress;
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::{AbortHandle, Id, JoinHandle, JoinSet};

/// After the system could not accept a connection, this long nobody is accepted: what was freed is for others.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
/// While connections cannot be accepted, the log says so this often.
const WARNING_PAUSE: Duration = Duration::from_mins(1);

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

/// Where an endpoint listens, and what it grants.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions<'a> {
    /// The key of the configuration that says so.
    pub key: &'static str,
    /// The address or path.
    pub listen: &'a Listen,
    /// Permissions of a Unix socket.
    pub socket_mode: u32,
    /// What holds for each connection.
    pub limits: Limits,
}

/// A running endpoint; it ends when this is dropped, its connections with it.
#[derive(Debug)]
pub struct Server {
    task: JoinHandle<()>,
    address: Option<SocketAddr>,
    socket: Option<PathBuf>,
    evicted: Arc<Count>,
}

impl Server {
    /// The TCP address, with the port that the system chose where the configured one was 0.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Counts connections that ended to make room for others.
    pub fn evicted(&self) -> Arc<Count> {
        Arc::clone(&self.evicted)
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

/// Listens as `options` say and answers with `routes`, on the current runtime.
pub async fn serve(options: ListenOptions<'_>, routes: Router) -> Result<Server, Error> {
    let ListenOptions { key, listen, socket_mode, limits } = options;
    let connections = Connections::new(key, routes, limits);
    let evicted = Arc::clone(&connections.evicted);
    match listen {
        Listen::Tcp(address) => {
            let at = |cause| Error::Listen { key, place: address.to_string(), cause };
            let listener = TcpListener::bind(address).await.map_err(at)?;
            let address = listener.local_addr().ok();
            let task = tokio::spawn(connections.serve(listener));
            Ok(Server { task, address, socket: None, evicted })
        }
        Listen::Unix(path) => {
            let at = |cause| Error::Listen { key, place: path.display().to_string(), cause };
            let listener = unix(path, socket_mode).await.map_err(at)?;
            let task = tokio::spawn(connections.serve(listener));
            Ok(Server { task, address: None, socket: Some(path.clone()), evicted })
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

/// What gives connections.
trait Accepts: Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accepts for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

impl Accepts for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

/// The connections of one listener.
struct Connections {
    key: &'static str,
    routes: Router,
    limits: Limits,
    clock: Clock,
    tasks: JoinSet<()>,
    /// As many as `tasks`.
    open: HashMap<Id, (Arc<Progress>, AbortHandle)>,
    warned_at: Option<Moment>,
    evicted: Arc<Count>,
}

impl Connections {
    fn new(key: &'static str, routes: Router, limits: Limits) -> Self {
        let (clock, tasks, open) = (Clock::start(), JoinSet::new(), HashMap::new());
        Self { key, routes, limits, clock, tasks, open, warned_at: None, evicted: Arc::default() }
    }

    async fn serve(mut self, listener: impl Accepts) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.next() => accepted,
                () = self.one_ended() => continue,
            };
            match accepted {
                Ok(stream) => {
                    self.make_room(self.limits.connections).await;
                    self.admit(stream);
                }
                // The peer went away before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => self.give_way(&error).await,
            }
        }
    }

    /// Where descriptors or memory are short, ends half of the connections: sources and relay need both more.
    async fn give_way(&mut self, error: &io::Error) {
        let is_short = Errno::from_io_error(error)
            .is_some_and(|errno| [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].contains(&errno));
        let now = self.clock.now().moment;
        if self.warned_at.is_none_or(|at| now.since(at) >= WARNING_PAUSE) {
            self.warned_at = Some(now);
            let remedy = if is_short { "; raise LimitNOFILE of the service, or its memory" } else { "" };
            tracing::warn!(key = self.key, %error, "cannot accept a connection{remedy}");
        }
        if is_short {
            self.make_room(self.open.len() / 2 + 1).await;
        }
        tokio::time::sleep(REFUSED_PAUSE).await;
    }

    fn admit(&mut self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let progress = Progress::accepted(self.clock);
        let served = connection::serve(stream, self.routes.clone(), self.limits, Arc::clone(&progress));
        let handle = self.tasks.spawn(served);
        self.open.insert(handle.id(), (progress, handle));
    }

    /// Ends connections until there are fewer than `count`, and their sockets are closed.
    async fn make_room(&mut self, count: usize) {
        while self.open.len() >= count.max(1) {
            let states = self.open.values().map(|(progress, handle)| (handle, progress.state()));
            if let Some(handle) = makes_room(states) {
                handle.abort();
                self.evicted.one();
            }
            self.one_ended().await;
        }
    }

    /// Waits until a connection has ended; for ever where there is none.
    async fn one_ended(&mut self) {
        let id = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => error.id(),
            None => std::future::pending().await,
        };
        self.open.remove(&id);
    }
}

#[cfg(test)]
mod tests;
