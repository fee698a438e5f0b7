//! A TLS connection whose answers travel as a fault says: slowly, cut, or not at all.
//!
//! It lies above TLS, so that what a client sees is what a broken server or network does: bytes that stop.

use crate::peers::fault::Wire;
use parking_lot::Mutex;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

/// A slow answer comes in so many pieces a second.
const PIECES_PER_SECOND: u32 = 10;

/// How the answers of one connection travel from now on; shared with whoever decides.
pub(super) type SharedWire = Arc<Mutex<Wire>>;

pub(super) struct FaultyStream {
    tls: TlsStream<TcpStream>,
    wire: SharedWire,
    pause: Option<Pin<Box<Sleep>>>,
}

impl FaultyStream {
    pub(super) fn new(tls: TlsStream<TcpStream>, wire: SharedWire) -> Self {
        Self { tls, wire, pause: None }
    }

    /// Ends the connection from inside a write: what was written before has left, nothing follows, not even TLS's farewell.
    fn end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.tls).poll_flush(cx))?;
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }

    fn write_slowly(&mut self, cx: &mut Context<'_>, bytes: &[u8], rate: u32) -> Poll<io::Result<usize>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let piece = (rate / PIECES_PER_SECOND).max(1);
        let piece = bytes.get(..piece as usize).unwrap_or(bytes);
        let written = ready!(Pin::new(&mut self.tls).poll_write(cx, piece))?;
        // Each piece is a record of its own, else TLS would gather them.
        let _ = Pin::new(&mut self.tls).poll_flush(cx)?;
        let wait = Duration::from_secs_f64(written as f64 / f64::from(rate));
        self.pause = Some(Box::pin(tokio::time::sleep(wait)));
        Poll::Ready(Ok(written))
    }
}

impl AsyncWrite for FaultyStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let wire = *this.wire.lock();
        match wire {
            Wire::Whole | Wire::BlackHole => Pin::new(&mut this.tls).poll_write(cx, bytes),
            Wire::Slow { rate_bytes } => this.write_slowly(cx, bytes, rate_bytes),
            Wire::Cut { after_bytes: 0 } => this.end(cx),
            Wire::Cut { after_bytes } => {
                let piece = bytes.get(..after_bytes as usize).unwrap_or(bytes);
                let written = ready!(Pin::new(&mut this.tls).poll_write(cx, piece))?;
                *this.wire.lock() = Wire::Cut { after_bytes: after_bytes.saturating_sub(written as u32) };
                Poll::Ready(Ok(written))
            }
            Wire::Reset => {
                // Without lingering, closing sends RST.
                this.tls.get_ref().0.set_zero_linger()?;
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}

impl AsyncRead for FaultyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buffer)
    }
}
