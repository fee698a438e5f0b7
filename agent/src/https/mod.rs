//! Requests over HTTPS: where they may go ([`url`]), who carries them ([`driver`]), what comes back and how the
//! JSON in it is read ([`json`]).
//!
//! It knows neither relays nor tokens. Nothing here follows a redirect, keeps a cookie or goes through a proxy.

pub mod driver;
pub mod url;
pub mod json;

use crate::time::UnixMs;
use bytes::Bytes;
use hyper::HeaderMap;
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// At most this much of an answer's body is read.
pub const CONTENT_BYTES_MAX: usize = 64 * 1024;
/// At most this much of what a stranger says reaches a log line.
const QUOTE_CHARS_MAX: usize = 200;

/// What came back. Any status is an answer.
#[derive(Clone, Default)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body's first [`CONTENT_BYTES_MAX`] bytes.
    pub content: Bytes,
    /// Whether the body was longer than `content`.
    pub is_cut: bool,
}

impl Response {
    /// A header's text; what is not UTF-8 in it is replaced.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    /// The other side's clock, from `Date`, whole seconds.
    pub fn date(&self) -> Option<UnixMs> {
        self.header("date").as_deref().and_then(http_date)
    }
}

/// Without the content, which may hold a token.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({}, {} bytes)", self.status, self.content.len())
    }
}

/// Why there is no answer. The text is for people and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    /// The name could not be resolved.
    #[error("name not resolved: {0}")]
    Dns(String),
    /// No TCP connection.
    #[error("no connection: {0}")]
    Connect(String),
    /// The TLS handshake failed: certificate, name, versions.
    #[error("TLS handshake failed: {0}")]
    Tls(String),
    /// Not done in time; the text says with what.
    #[error("timed out: {0}")]
    Timeout(String),
    /// The request could not be sent whole.
    #[error("sending failed: {0}")]
    Write(String),
    /// The answer could not be read whole.
    #[error("reading the answer failed: {0}")]
    Read(String),
    /// The connection was closed instead of an answer.
    #[error("connection closed without an answer: {0}")]
    Closed(String),
}

/// Why requests cannot even be tried.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The file of additional roots holds no certificate that can be one.
    #[error("relay.ca-file: {0}; expected one or more certificates in PEM")]
    Roots(String),
    /// No trusted roots at all, or no usable TLS.
    #[error("TLS cannot be set up: {0}; install the system's CA certificates or give relay.ca-file")]
    Tls(String),
}

/// `Retry-After`: seconds, or a date on the clock that read `now` when it was written (RFC 9110 §10.2.3).
pub fn retry_after(text: &str, now: UnixMs) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(Duration::from_millis(http_date(text)?.0.saturating_sub(now.0)))
}

/// A stranger's words for our logs: one short line, nothing in it that looks like a token.
pub fn quote(text: &str) -> String {
    let words = text.split_whitespace().map(|word| if word.contains("eyJ") { "…" } else { word });
    let line: Vec<&str> = words.collect();
    line.join(" ").chars().filter(|char| !char.is_control()).take(QUOTE_CHARS_MAX).collect()
}

/// A date as HTTP writes it (RFC 9110 §5.6.7).
fn http_date(text: &str) -> Option<UnixMs> {
    let since = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(UnixMs::from_seconds(since.as_secs()))
}
