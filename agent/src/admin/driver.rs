//! The admin endpoint's paths, which answer from [`Health`] and change nothing, and the socket that every endpoint
//! of ours listens on.

use super::{Health, Listen, Settings, mailbox, metrics};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// Why the endpoint cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address or path is taken or not ours.
    #[error("{key} {place}: {cause}; choose another place or stop what uses it")]
    Listen {
        /// Where it is configured.
        key: &'static str,
        /// Address or path.
        place: String,
        /// What the system said.
        cause: io::Error,
    },
}

/// Where an endpoint listens.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The key of the configuration that says so.
    pub key: &'static str,
    /// The place itself.
    pub listen: &'a Listen,
    /// Permissions of a Unix socket.
    pub socket_mode: u32,
}

/// A running endpoint; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    task: JoinHandle<()>,
    address: Option<SocketAddr>,
    socket: Option<PathBuf>,
}

impl Server {
    /// The TCP address, with the port that the system chose where the configured one was 0.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(path) = &self.socket {
            // Where it fails the next start takes the stale socket over.
            std::fs::remove_file(path).ok();
        }
    }
}

/// Listens and answers, on the current runtime; `None` where the endpoint is off.
pub async fn start(settings: &Settings, health: Arc<dyn Health>) -> Result<Option<Server>, Error> {
    let Some(listen) = &settings.listen else { return Ok(None) };
    serve(Place { key: "admin.listen", listen, socket_mode: 0o600 }, routes(health)).await.map(Some)
}

/// Answers at `place` with `routes`, on the current runtime.
pub async fn serve(place: Place<'_>, routes: Router) -> Result<Server, Error> {
    let Place { key, listen, socket_mode } = place;
    match listen {
        Listen::Tcp(address) => {
            let at = |cause| Error::Listen { key, place: address.to_string(), cause };
            let listener = TcpListener::bind(address).await.map_err(at)?;
            let address = listener.local_addr().ok();
            let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap_or(()) });
            Ok(Server { task, address, socket: None })
        }
        Listen::Unix(path) => {
            let at = |cause| Error::Listen { key, place: path.display().to_string(), cause };
            let listener = unix(path, socket_mode).await.map_err(at)?;
            let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap_or(()) });
            Ok(Server { task, address: None, socket: Some(path.clone()) })
        }
    }
}

/// A socket that nobody answers on is a killed daemon's; anything else in its place is left alone.
async fn unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket {
        match UnixStream::connect(path).await {
            Err(cause) if cause.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            _ => return Err(io::Error::new(ErrorKind::AddrInUse, "another process answers on it")),
        }
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(listener)
}

fn routes(health: Arc<dyn Health>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/mailbox", get(mailbox::answer))
        .with_state(health)
}

/// 200, or 503 with a reason a line.
async fn readyz(State(health): State<Arc<dyn Health>>) -> Response {
    let reasons = health.unready();
    if reasons.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response()
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
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    use tokio::net::TcpStream;

    struct Ill(Vec<String>);

    impl Health for Ill {
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

    fn loopback() -> Settings {
        Settings { listen: Some(Listen::Tcp("127.0.0.1:0".parse().unwrap())) }
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
        assert!(answer.ends_with("relay halted: 401\nno certificate\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_unix_socket_is_private_taken_over_when_stale_and_refused_when_alive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let settings = Settings { listen: Some(Listen::Unix(path.clone())) };
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
        assert!(start(&Settings { listen: None }, Arc::new(Ill(Vec::new()))).await.unwrap().is_none());
    }
}
