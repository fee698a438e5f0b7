//! Opens or inherits the dict server's socket, Unix or TCP.

use crate::source::dovecot::{Listen, PortError, Settings};
use crate::source::kind::StartError;
use crate::source::socket_file::driver::{SocketFile, bind};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use socket2::{Domain, SockRef, Socket, Type};
use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use tokio::io::Interest;

/// Connections that may wait to be accepted. The system lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Bytes that [`Caller::listen`] hears. A delivery says some 300.
const LISTEN_MAX: usize = 1024;

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

    /// For a second thread that accepts. Neither blocks from now on.
    pub(in crate::source::dovecot) fn share(&self) -> io::Result<Self> {
        SockRef::from(self).set_nonblocking(true)?;
        match self {
            Self::Unix(listener) => listener.try_clone().map(Self::Unix),
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp),
        }
    }

    /// Accepts who is there already, once it was [shared](Self::share).
    pub(in crate::source::dovecot) fn accept_now(&self) -> io::Result<Caller> {
        let socket = accept_with(self, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
        let socket = match self {
            Self::Unix(_) => Socketed::Unix(socket.into()),
            Self::Tcp(_) => Socketed::Tcp(socket.into()),
        };
        Ok(Caller { socket, said: Cell::default() })
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
            Listener::Unix(listener) => Ok(Self::Unix(tokio::net::UnixListener::from_std(listener)?)),
            Listener::Tcp(listener) => Ok(Self::Tcp(tokio::net::TcpListener::from_std(listener)?)),
        }
    }

    pub(in crate::source::dovecot) async fn accept(&self) -> io::Result<Caller> {
        let stream = match self {
            Self::Unix(listener) => Stream::Unix(listener.accept().await?.0),
            Self::Tcp(listener) => Stream::Tcp(listener.accept().await?.0),
        };
        Ok(Caller { socket: Socketed::Known(stream), said: Cell::default() })
    }
}

/// Both ends of a conversation. What cannot be done at once is [`ErrorKind::WouldBlock`].
pub(in crate::source::dovecot) trait Exchange {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
}

/// A connection that was just accepted. The runtime need not know it: most deliveries have said all they have to say, and of
/// a crowd most have left again.
pub(in crate::source::dovecot) struct Caller {
    socket: Socketed,
    /// Read already, and not yet by [`Exchange::read`].
    said: Cell<Vec<u8>>,
}

enum Socketed {
    Unix(UnixStream),
    Tcp(TcpStream),
    Known(Stream),
}

/// What somebody who was let in has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source::dovecot) enum Heard {
    /// Whole lines, as all that a mail server writes at once.
    Lines,
    /// Nothing, or not the end of a line.
    Less,
    /// That he is gone.
    End,
}

impl Caller {
    /// Reads what has come; [`Exchange::read`] returns it.
    pub(in crate::source::dovecot) fn listen(&self) -> Heard {
        let mut buffer = [0; LISTEN_MAX];
        let mut said = self.said.take();
        let room = buffer.get_mut(said.len()..).unwrap_or_default();
        match recv(&self.socket, &mut *room, RecvFlags::empty()) {
            Ok((0, _)) if said.is_empty() => return Heard::End,
            Ok((read, _)) => said.extend_from_slice(room.get(..read).unwrap_or_default()),
            Err(Errno::AGAIN) => {}
            Err(_) => return Heard::End,
        }
        let heard = if said.ends_with(b"\n") { Heard::Lines } else { Heard::Less };
        self.said.set(said);
        heard
    }

    /// Goes on within the runtime.
    pub(in crate::source::dovecot) fn stay(self) -> io::Result<Stream> {
        let stream = match self.socket {
            Socketed::Known(stream) => stream,
            Socketed::Unix(stream) => Stream::Unix(tokio::net::UnixStream::from_std(stream)?),
            Socketed::Tcp(stream) => Stream::Tcp(tokio::net::TcpStream::from_std(stream)?),
        };
        if let Stream::Tcp(stream) = &stream {
            stream.set_nodelay(true)?;
            // A mail host that vanished would hold its place for ever.
            SockRef::from(stream).set_keepalive(true)?;
        }
        Ok(stream)
    }
}

impl Exchange for Caller {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let said = self.said.take();
        match buffer.get_mut(..said.len()) {
            Some(room) if !said.is_empty() => {
                room.copy_from_slice(&said);
                Ok(said.len())
            }
            _ => Ok(recv(&self.socket, buffer, RecvFlags::empty())?.0),
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(&self.socket, bytes, SendFlags::NOSIGNAL)?)
    }
}

/// A connection that stays.
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
}

impl Exchange for Stream {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.try_read(buffer),
            Self::Tcp(stream) => stream.try_read(buffer),
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.try_write(bytes),
            Self::Tcp(stream) => stream.try_write(bytes),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

impl AsFd for Socketed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
            Self::Known(Stream::Unix(stream)) => stream.as_fd(),
            Self::Known(Stream::Tcp(stream)) => stream.as_fd(),
        }
    }
}
