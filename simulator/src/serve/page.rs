//! The page's files, and the server that hands out page and control API.

use super::World;
use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Connections at once, at most.
const CONNECTIONS_MAX: usize = 256;
/// A request's head takes so long at most.
const HEAD_MAX: Duration = Duration::from_secs(30);

/// Nothing may be loaded from elsewhere, and no other site may frame it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'";

/// The page's own files.
pub(super) fn routes() -> Router<Arc<World>> {
    Router::new()
        .route("/", get(async || file("text/html; charset=utf-8", include_str!("../page/index.html"))))
        .route("/style.css", get(async || file("text/css; charset=utf-8", include_str!("../page/style.css"))))
        .route(
            "/app.js",
            get(async || file("text/javascript; charset=utf-8", include_str!("../page/app.js"))),
        )
        .route(
            "/view.js",
            get(async || file("text/javascript; charset=utf-8", include_str!("../page/view.js"))),
        )
}

fn file(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text)
}

/// Serves until it is aborted; its connections end with it.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                let Ok((stream, _)) = accepted else { continue };
                // Nagle's pause is all that could go wrong, and it would only be slow.
                let _ = stream.set_nodelay(true);
                let service = TowerToHyperService::new(router.clone());
                connections.spawn(async move {
                    let mut builder = auto::Builder::new(TokioExecutor::new());
                    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
                    // An error is a browser that went away.
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
