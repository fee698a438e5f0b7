//! Opens, takes over and removes the dict server's socket.
//!
//! A Unix socket file that nobody answers on is a killed agent's and is taken over; one that somebody answers on
//! is refused; anything that is no socket is never touched.

use crate::source::dovecot::{Error, Listen, Settings};
use socket2::{Domain, SockRef, Socket, Type};
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use tokio::io::Interest;

/// Connections that may wait to be accepted. The system lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A socket that listens already.
#[derive(Debug)]
pub enum Listener {
    /// A Unix stream socket.
    Unix(UnixListener),
    /// A TCP socket.
    Tcp(TcpListener),
}

impl Listener {
    /// A listening descriptor that the service manager handed over (`sd_listen_fds`). Its file is not ours to remove.
    pub fn inherited(fd: OwnedFd) -> io::Result<Self> {
        let socket = SockRef::from(&fd);
        if !socket.is_listener()? || socket.r#type()? != Type::STREAM {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the inherited descriptor does not listen"));
        }
        if socket.domain()? == Domain::UNIX { Ok(Self::Unix(fd.into())) } else { Ok(Self::Tcp(fd.into())) }
    }

    /// The port that the system chose where the configured one was 0.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(listener) => listener.local_addr().ok(),
        }
    }
}

/// A socket file that we made; removed when dropped, unless another has taken the path meanwhile.
#[derive(Debug)]
pub(in crate::source::dovecot) struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.device_and_inode);
        if ours {
            // Nothing is left to do where it fails: the next agent takes a stale file over.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens as configured.
pub(in crate::source::dovecot) fn listen(
    settings: &Settings,
) -> Result<(Listener, Option<SocketFile>), Error> {
    match &settings.listen {
        Listen::Unix(path) => {
            let (listener, file) = listen_unix(path, settings.mode)?;
            Ok((Listener::Unix(listener), Some(file)))
        }
        Listen::Tcp(address) => {
            let listener = listen_tcp(*address).map_err(|reason| Error::Tcp { address: *address, reason })?;
            Ok((Listener::Tcp(listener), None))
        }
    }
}

fn listen_unix(path: &Path, mode: u32) -> Result<(UnixListener, SocketFile), Error> {
    make_way(path)?;
    let bind = || {
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        let bound = fs::symlink_metadata(path)?;
        let file = SocketFile { path: path.to_owned(), device_and_inode: (bound.dev(), bound.ino()) };
        Ok((listener, file))
    };
    bind().map_err(|reason| Error::Unix { path: path.to_owned(), reason })
}

/// Removes a stale socket; refuses everything else that stands in the way.
fn make_way(path: &Path) -> Result<(), Error> {
    let failed = |reason| Error::Unix { path: path.to_owned(), reason };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(Error::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(_) => Err(Error::InUse { path: path.to_owned() }),
    }
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A [`Listener`] within the runtime.
pub(in crate::source::dovecot) enum Doorway {
    Unix(tokio::net::UnixListener),
    Tcp(tokio::net::TcpListener),
}

impl Doorway {
    /// Must be called within the runtime that is to serve it.
    pub(in crate::source::dovecot) fn open(listener: Listener) -> io::Result<Self> {
        match listener {
            Listener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(tokio::net::UnixListener::from_std(listener)?))
            }
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(tokio::net::TcpListener::from_std(listener)?))
            }
        }
    }

    pub(in crate::source::dovecot) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
            Self::Tcp(listener) => {
                let stream = listener.accept().await?.0;
                stream.set_nodelay(true)?;
                // A mail host that vanished would hold its place for ever.
                SockRef::from(&stream).set_keepalive(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

/// A connection from Dovecot.
pub(in crate::source::dovecot) enum Stream {
    Unix(tokio::net::UnixStream),
    Tcp(tokio::net::TcpStream),
}

impl Stream {
    pub(in crate::source::dovecot) async fn ready(&self, interest: Interest) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.ready(interest).await.map(drop),
            Self::Tcp(stream) => stream.ready(interest).await.map(drop),
        }
    }

    pub(in crate::source::dovecot) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.try_read(buffer),
            Self::Tcp(stream) => stream.try_read(buffer),
        }
    }

    pub(in crate::source::dovecot) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.try_write(bytes),
            Self::Tcp(stream) => stream.try_write(bytes),
        }
    }
}
