//! Opens or inherits the dict server's socket, Unix or TCP.

use crate::source::dovecot::{Listen, PortError, Settings};
use crate::source::kind::StartError;
use crate::source::socket_file::driver::{SocketFile, bind};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
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

/// Listens as configured.
pub(in crate::source::dovecot) fn listen(
    settings: &Settings,
) -> Result<(Listener, Option<SocketFile>), StartError> {
    match &settings.listen {
        Listen::Unix(path) => {
            let (listener, file) =
                bind(path, settings.mode, |path| UnixListener::bind(path), |path| UnixStream::connect(path))?;
            Ok((Listener::Unix(listener), Some(file)))
        }
        Listen::Tcp(address) => {
            let refused = |reason| StartError::Refused(Box::new(PortError { address: *address, reason }));
            let listener = listen_tcp(*address).map_err(refused)?;
            Ok((Listener::Tcp(listener), None))
        }
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
pub(in crate::source::dovecot) enum Acceptor {
    Unix(tokio::net::UnixListener),
    Tcp(tokio::net::TcpListener),
}

impl Acceptor {
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

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
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

    /// Reads what has come, without asking the runtime, which knows nothing yet of a connection that was just accepted.
    pub(in crate::source::dovecot) fn read_first(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self, buffer)?)
    }

    /// Writes what fits, in the same way.
    pub(in crate::source::dovecot) fn write_first(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self, bytes)?)
    }

    pub(in crate::source::dovecot) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.try_write(bytes),
            Self::Tcp(stream) => stream.try_write(bytes),
        }
    }
}
