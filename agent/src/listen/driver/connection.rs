//! One connection: HTTP/1.1 over any stream, for as long as its [`ConnectionState`] allows.
//!
//! hyper's own limit on the time for a head also runs while a kept-alive connection is idle, and it has none for bodies
//! and answers. So the stream, the service and the answer's body report here what happens, and one timer ends the
//! connection.

use crate::listen::connection_state::ConnectionState;
use crate::listen::limits::{HEAD_BYTES, HEADERS, Limits};
use crate::time::Moment;
use crate::time::driver::Clock;
use axum::Router;
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use http_body_util::Limited;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

/// What a connection's parts report of it.
pub(super) struct Progress {
    clock: Clock,
    state: Mutex<ConnectionState>,
}

impl Progress {
    /// Of a connection that is accepted now.
    pub(super) fn accepted(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::new(ConnectionState::accepted(clock.now().moment)) })
    }

    pub(super) fn state(&self) -> ConnectionState {
        *self.state.lock()
    }

    fn note(&self, event: impl FnOnce(&mut ConnectionState, Moment)) {
        event(&mut self.state.lock(), self.clock.now().moment);
    }

    fn deadline(&self, limits: &Limits) -> Instant {
        self.clock.instant(self.state().deadline(limits)).into()
    }
}

/// Answers until the peer ends it, an error does, or a limit. For TLS of a listener's own, this would shake hands first:
/// that falls under the time for a head.
pub(super) async fn serve<S>(stream: S, routes: Router, limits: Limits, progress: Arc<Progress>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let routes = TowerToHyperService::new(routes);
    let stream = TokioIo::new(Watched { stream, progress: Arc::clone(&progress) });
    let service =
        service_fn(|request| answer(routes.clone(), Arc::clone(&progress), limits.body_bytes, request));
    let mut http = http1::Builder::new();
    http.max_buf_size(HEAD_BYTES).max_headers(HEADERS).header_read_timeout(None);
    let connection = http.serve_connection(stream, service);
    tokio::select! {
        // First, so that the timer sees what the connection just did.
        biased;
        // An error is a peer that went away or speaks something else.
        _ = connection => {}
        () = overdue(&progress, &limits) => {}
    }
}

/// Until the deadline, which each turn of the connection may move.
async fn overdue(progress: &Progress, limits: &Limits) {
    let mut sleep = pin!(sleep_until(progress.deadline(limits)));
    poll_fn(|cx| {
        let deadline = progress.deadline(limits);
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx)
    })
    .await;
}

async fn answer(
    routes: TowerToHyperService<Router>,
    progress: Arc<Progress>,
    body_bytes: usize,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Answer>, Infallible> {
    progress.note(ConnectionState::asked);
    let response = if request.body().size_hint().lower() > body_bytes as u64 {
        (StatusCode::PAYLOAD_TOO_LARGE, [(header::CONNECTION, "close")]).into_response()
    } else {
        routes.call(request.map(|body| Limited::new(body, body_bytes))).await?
    };
    progress.note(ConnectionState::answering);
    Ok(response.map(|body| Answer { body, progress }))
}

/// An answer's body. hyper drops it as soon as all of it is in hyper's buffer.
struct Answer {
    body: Body,
    progress: Arc<Progress>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.progress.note(|state, _| state.answered());
    }
}

/// The stream. hyper flushes it when its own buffer is empty.
struct Watched<S> {
    stream: S,
    progress: Arc<Progress>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.progress.note(ConnectionState::received);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.progress.note(ConnectionState::flushed);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
