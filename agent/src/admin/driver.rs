//! The admin endpoint's paths. They answer from [`Health`] and change nothing.

use super::{Health, Settings, host, mailbox, metrics};
use crate::listen::driver::{Error, ListenOptions, Server, serve};
use crate::listen::limits::Limits;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use std::sync::Arc;

/// Only the agent's user asks.
const SOCKET_MODE: u32 = 0o600;

/// Listens and answers, on the current runtime; `None` where the endpoint is off.
pub async fn start(settings: &Settings, health: Arc<dyn Health>) -> Result<Option<Server>, Error> {
    let Some(listen) = &settings.listen else { return Ok(None) };
    let limits = Limits::of(settings.connections_max);
    serve(ListenOptions { key: "admin.listen", listen, socket_mode: SOCKET_MODE, limits }, routes(health))
        .await
        .map(Some)
}

fn routes(health: Arc<dyn Health>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/mailbox", get(mailbox::answer))
        .with_state(health)
        .layer(middleware::from_fn(for_us))
}

/// Refuses what was sent to another name (RFC 9110 §15.5.20).
async fn for_us(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).map(axum::http::HeaderValue::as_bytes);
    if host::is_ours(host) {
        return next.run(request).await;
    }
    let text = "this endpoint answers to its address and to localhost alone\n";
    (StatusCode::MISDIRECTED_REQUEST, text).into_response()
}

/// 200, or 503 with a reason a line; notices behind either.
async fn readyz(State(health): State<Arc<dyn Health>>) -> Response {
    let (reasons, notices) = (health.unready(), health.notices());
    let notices = notices.into_iter().map(|notice| format!("notice: {notice}"));
    let (status, head) = if reasons.is_empty() {
        (StatusCode::OK, vec!["ok".to_owned()])
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, reasons)
    };
    let lines: Vec<String> = head.into_iter().chain(notices).collect();
    (status, lines.join("\n") + "\n").into_response()
}

async fn metrics(State(health): State<Arc<dyn Health>>) -> Response {
    match metrics::text(health.figures()) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn status(State(health): State<Arc<dyn Health>>) -> Response {
    Json(health.status()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{Figures, MailboxStatus, Status};
    use crate::counters::FlowCounters;
    use crate::listen::Listen;
    use std::os::unix::fs::PermissionsExt;
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    use tokio::net::{TcpStream, UnixStream};

    struct Ill(Vec<String>);

    impl Health for Ill {
        fn notices(&self) -> Vec<String> {
            vec!["dovecot: many connections".to_owned(); self.0.len()]
        }

        fn status(&self) -> Status {
            Status { version: "1.2.3".to_owned(), unready: self.0.clone(), ..Status::default() }
        }

        fn unready(&self) -> Vec<String> {
            self.0.clone()
        }

        fn figures(&self) -> Figures {
            Figures {
                sources: Vec::new(),
                flow: Arc::new(FlowCounters::default()),
                behind: 0,
                unknown: 0,
                unconfirmed: 0,
                oldest_unacknowledged_seconds: 0.0,
                token_expires_at: None,
                certificates: Vec::new(),
                documents: Vec::new(),
                clock_offset_seconds: None,
                is_relay_halted: false,
            }
        }

        fn mailbox(&self, name: &str) -> Option<MailboxStatus> {
            let known = MailboxStatus { unseen: Some(3), ..MailboxStatus::default() };
            (name == "u1@fabrikam.com").then_some(known)
        }
    }

    fn settings(listen: Option<Listen>) -> Settings {
        Settings { listen, connections_max: 4 }
    }

    fn loopback() -> Settings {
        settings(Some(Listen::Tcp("127.0.0.1:0".parse().unwrap())))
    }

    async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn each_path_answers() {
        let admin = start(&loopback(), Arc::new(Ill(Vec::new()))).await.unwrap().unwrap();
        let rows = [
            ("/livez", "200 OK", "ok\n"),
            ("/readyz", "200 OK", "ok\n"),
            ("/metrics", "200 OK", "# EOF\n"),
            ("/status", "200 OK", "\"version\":\"1.2.3\""),
            ("/mailbox?name=u1%40fabrikam.com", "200 OK", "\"unseen\":3"),
            ("/mailbox?name=u2", "404 Not Found", ""),
            ("/mailbox", "400 Bad Request", ""),
            ("/else", "404 Not Found", ""),
        ];
        for (path, status, content) in rows {
            let answer = ask(TcpStream::connect(admin.address().unwrap()).await.unwrap(), path).await;
            assert!(answer.starts_with(&format!("HTTP/1.0 {status}")), "{path}: {answer}");
            assert!(answer.contains(content), "{path}: {answer}");
        }
    }

    #[tokio::test]
    async fn one_who_is_not_ready_says_why() {
        let ill = Ill(vec!["relay halted: 401".to_owned(), "no certificate".to_owned()]);
        let admin = start(&loopback(), Arc::new(ill)).await.unwrap().unwrap();
        let answer = ask(TcpStream::connect(admin.address().unwrap()).await.unwrap(), "/readyz").await;
        assert!(answer.starts_with("HTTP/1.0 503"), "{answer}");
        let notice = "notice: dovecot: many connections\n".repeat(2);
        assert!(answer.ends_with(&format!("relay halted: 401\nno certificate\n{notice}")), "{answer}");
    }

    #[tokio::test]
    async fn a_unix_socket_is_private_taken_over_when_stale_and_refused_when_alive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let settings = settings(Some(Listen::Unix(path.clone())));
        let admin = start(&settings, Arc::new(Ill(Vec::new()))).await.unwrap().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(ask(UnixStream::connect(&path).await.unwrap(), "/livez").await.ends_with("ok\n"));
        let second = start(&settings, Arc::new(Ill(Vec::new()))).await.unwrap_err().to_string();
        assert!(second.contains("admin.sock") && second.contains("another process"), "{second}");
        drop(admin);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn off_is_off() {
        assert!(start(&settings(None), Arc::new(Ill(Vec::new()))).await.unwrap().is_none());
    }
}
