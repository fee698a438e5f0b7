//! The way to the server: TCP with its options, TLS as configured. What is said on it is the session's.

use super::tls::TlsStream;
use crate::source::imap::exchange::Ending;
use crate::source::imap::{Settings, Tls};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::ServerName;
use rustls_platform_verifier::Verifier;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use zeroize::Zeroize;

/// The TCP connection must stand after this long, and then the TLS handshake be done.
const CONNECT_WAIT: Duration = Duration::from_secs(30);
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
    #[error("source {source_name}: TLS cannot be set up: {reason}")]
    Tls {
        /// Of which source.
        source_name: String,
        /// What is wrong.
        reason: rustls::Error,
    },
    /// The server could not be reached, for [`check_login`](super::check_login).
    #[error("{0}")]
    Unreachable(String),
    /// The server refused the log-in, for [`check_login`](super::check_login).
    #[error("log-in refused: {0}")]
    Refused(String),
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

    fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// A TCP connection to the configured server, without Nagle's delay and with keep-alive.
    pub(super) async fn connect(&self) -> Result<Stream, String> {
        let address = (self.host.as_str(), self.port);
        let place = self.place();
        let stream = match tokio::time::timeout(CONNECT_WAIT, TcpStream::connect(address)).await {
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
        is_set.map_err(|error| format!("cannot set up the socket to {place}: {error}"))?;
        Ok(Stream::Plain(stream))
    }

    /// The TLS handshake.
    pub(super) async fn secure(&self, stream: Stream) -> Result<Stream, String> {
        let place = self.place();
        let Stream::Plain(stream) = stream else { return Err(format!("TLS within TLS with {place}")) };
        let Some((config, name)) = &self.tls else { return Err(format!("no TLS set up for {place}")) };
        match tokio::time::timeout(CONNECT_WAIT, TlsStream::connect(config.clone(), name.clone(), stream))
            .await
        {
            Ok(Ok(secured)) => Ok(Stream::Tls(Box::new(secured))),
            Ok(Err(error)) => Err(format!("TLS with {place} failed: {error}")),
            Err(_) => Err(format!("TLS with {place}: no answer within {} s", CONNECT_WAIT.as_secs())),
        }
    }
}

/// A connected stream; TLS is boxed since most watch without.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl Stream {
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => stream.poll_read(context, buffer),
        }
    }

    /// Writes what it takes of `unsent`.
    pub(super) fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        unsent: &mut Vec<u8>,
    ) -> Poll<io::Result<()>> {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => return stream.poll_send(context, unsent),
        };
        while !unsent.is_empty() {
            match ready!(Pin::new(&mut *stream).poll_write(context, unsent)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    unsent.get_mut(..written).unwrap_or_default().zeroize();
                    unsent.drain(..written);
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        // Nothing stays with an idle connection.
        *unsent = Vec::new();
        Poll::Ready(Ok(()))
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
    let verifier =
        Verifier::new_with_extra_roots(settings.extra_roots.clone(), provider.clone()).map_err(failed)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Some((Arc::new(config), server)))
}
