//! The way to the server: TCP with its options, TLS as configured. What is said on it is the session's.

use super::tls::TlsStream;
use crate::source::imap::exchange::Ending;
use crate::source::imap::{Settings, Tls};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroize;

/// The TCP connection must stand after this long.
const CONNECT_WAIT: Duration = Duration::from_secs(15);
/// TCP keep-alive: first probe after this long without traffic, then between probes.
const KEEPALIVE: (Duration, Duration) = (Duration::from_mins(2), Duration::from_secs(30));

/// Why a source cannot be started, or a log-in on trial did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is neither a host name nor an address.
    #[error("source {source_name}: {name} is no name a certificate can carry; set server-name")]
    ServerName {
        /// Of which source.
        source_name: String,
        /// The name.
        name: String,
    },
    /// TLS cannot be set up at all.
    #[error(
        "source {source_name}: TLS cannot be set up: {reason}; install the system's CA certificates or set source.{source_name}.ca-file"
    )]
    Tls {
        /// Of which source.
        source_name: String,
        /// What is wrong.
        reason: rustls::Error,
    },
    /// Its threads cannot be started.
    #[error(
        "source {source_name}: its threads cannot be started: {reason}; look at the limits of the agent's user"
    )]
    Threads {
        /// Of which source.
        source_name: String,
        /// What the system said.
        reason: io::Error,
    },
    /// The server could not be reached, for [`check_login`](super::check_login).
    #[error("{0}")]
    Unreachable(String),
    /// The server refused the log-in, for [`check_login`](super::check_login).
    #[error("log-in refused: {0}")]
    Refused(String),
    /// The server does not offer what the configuration needs, for [`check_login`](super::check_login).
    #[error("cannot log in as configured; no password or token was sent: {0}")]
    Unfit(String),
    /// The connection ended before a reading came, for [`check_login`](super::check_login).
    #[error(transparent)]
    Ended(#[from] Ending),
}

/// Where the server is and how to reach it.
pub(super) struct Server {
    host: String,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Server {
    pub(super) fn new(settings: &Settings) -> Result<Self, Error> {
        Ok(Self { host: settings.host.clone(), port: settings.port, tls: client_config(settings)? })
    }

    /// Host and port, for people.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// A TCP connection to the configured server, without Nagle's delay and with keep-alive.
    pub(super) async fn connect(&self) -> Result<Stream, String> {
        let address = (self.host.as_str(), self.port);
        let place = self.place();
        let stream = match tokio::time::timeout(CONNECT_WAIT, tokio::net::TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(format!("cannot connect to {place}: {error}")),
            Err(_) => {
                return Err(format!(
                    "cannot connect to {place}: no answer within {} s",
                    CONNECT_WAIT.as_secs()
                ));
            }
        };
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.1);
        let is_set =
            stream.set_nodelay(true).and_then(|()| SockRef::from(&stream).set_tcp_keepalive(&keepalive));
        let stream = is_set.and_then(|()| stream.into_std());
        stream.map(Stream::Plain).map_err(|error| format!("cannot set up the socket to {place}: {error}"))
    }

    /// The same connection, on which TLS is spoken from now on: [`Stream::shake`] first.
    pub(super) fn secure(&self, stream: Stream) -> Result<Stream, String> {
        let place = self.place();
        let Stream::Plain(stream) = stream else { return Err(format!("TLS within TLS with {place}")) };
        let Some((config, name)) = &self.tls else { return Err(format!("no TLS set up for {place}")) };
        let secured = TlsStream::new(config.clone(), name.clone(), stream);
        let secured = secured.map_err(|error| format!("TLS with {place} failed: {error}"))?;
        Ok(Stream::Tls(Box::new(secured)))
    }
}

/// A connected socket that never waits: what cannot be done now fails with [`ErrorKind::WouldBlock`]. TLS is boxed since
/// most watch without.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Reads into `buffer`, which must have room for 16 KiB, a record's most; nothing read is the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }

    /// The same of what [`Stream::holds_more`] says, and nothing of the socket: that is another turn.
    pub(super) fn read_held(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(_) => Err(ErrorKind::WouldBlock.into()),
            Self::Tls(stream) => stream.read_held(buffer),
        }
    }

    /// Writes `unsent`. What the socket does not take stays there, or in the stream.
    pub(super) fn send(&mut self, unsent: &mut Vec<u8>) -> io::Result<()> {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => return stream.send(unsent),
        };
        while !unsent.is_empty() {
            match stream.write(unsent)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                written => {
                    unsent.get_mut(..written).unwrap_or_default().zeroize();
                    unsent.drain(..written);
                }
            }
        }
        // Nothing stays with an idle connection.
        *unsent = Vec::new();
        Ok(())
    }

    /// A step of the TLS handshake; done where it does not fail.
    pub(super) fn shake(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => stream.shake(),
        }
    }

    /// Whether the TLS handshake is not done.
    pub(super) fn is_shaking(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.is_shaking())
    }

    /// Whether something was received that [`Stream::read`] gives without the socket.
    pub(super) fn holds_more(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.holds_more())
    }

    /// Whether something is to be sent that the socket did not take.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.is_full())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.as_fd(),
        }
    }
}

/// TLS as configured: the system's roots and the extra ones, the provider by name.
fn client_config(settings: &Settings) -> Result<Option<(Arc<ClientConfig>, ServerName<'static>)>, Error> {
    if settings.tls == Tls::None {
        return Ok(None);
    }
    let source_name = settings.name.clone();
    let name = settings.server_name.clone().unwrap_or_else(|| settings.host.clone());
    let server = ServerName::try_from(name.clone())
        .map_err(|_| Error::ServerName { source_name: source_name.clone(), name })?;
    let failed = |reason| Error::Tls { source_name: source_name.clone(), reason };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = settings.authorities.verifier(&provider).map_err(failed)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Some((Arc::new(config), server)))
}
