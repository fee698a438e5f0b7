//! A stream that counts what was read from it: whether any byte of an answer has come is decided by that and not by the
//! words of an error. One that gives more than an answer may have fails, whatever the bytes are: interim answers and
//! headers without end, and what nobody asked for, would else be read for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes a connection has given so far, and how many it may.
#[derive(Clone, Debug)]
pub(super) struct Received(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    bytes: AtomicU64,
    most: AtomicU64,
}

impl Received {
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Acquire)
    }

    /// So many bytes more may come from now on.
    pub(super) fn allow(&self, more: u64) {
        self.0.most.store(self.bytes().saturating_add(more), Ordering::Release);
    }

    /// Whether more came than may: every further read fails.
    pub(super) fn is_flooded(&self) -> bool {
        self.bytes() > self.0.most.load(Ordering::Acquire)
    }
}

/// A stream whose bytes are counted, above TLS where there is TLS.
#[derive(Debug)]
pub(super) struct Counted<S> {
    stream: S,
    received: Received,
}

impl<S> Counted<S> {
    /// One that gives `most` bytes until more are allowed.
    pub(super) fn new(stream: S, most: u64) -> (Self, Received) {
        let received = Received(Arc::new(Counts { bytes: AtomicU64::new(0), most: AtomicU64::new(most) }));
        (Self { stream, received: received.clone() }, received)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled().len().saturating_sub(before);
        self.received.0.bytes.fetch_add(read as u64, Ordering::AcqRel);
        if self.received.is_flooded() {
            return Poll::Ready(Err(io::Error::other("more bytes than an answer has")));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
