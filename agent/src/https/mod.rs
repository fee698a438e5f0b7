//! Requests over HTTPS: where they may go ([`url`]), who carries them ([`driver`]), what comes back and how the
//! JSON in it is read ([`json`]).
//!
//! It knows neither relays nor tokens. Nothing here follows a redirect, keeps a cookie or goes through a proxy.

pub mod driver;
mod authorities;
pub mod url;
pub mod json;

pub use authorities::Authorities;

use crate::time::UnixMs;
use bytes::Bytes;
use hyper::HeaderMap;
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// At most this much of an answer's body is read.
pub const CONTENT_BYTES_MAX: usize = 64 * 1024;
/// How [`Error::NoRoots`] begins, also where it is the text of a [`Failure::Tls`].
pub const NO_AUTHORITY: &str = "no certificate authority is trusted";
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
    /// More came than any answer has; the connection was ended.
    #[error("the server floods the connection, which was ended: {0}")]
    Flooded(String),
    /// The connection was closed instead of an answer.
    #[error("connection closed without an answer: {0}")]
    Closed(String),
}

/// Why requests cannot even be tried.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// What is trusted besides the system's roots holds no certificate that can be one.
    #[error("{key}: {reason}; expected one or more certificates in PEM")]
    ExtraRoots {
        /// [`driver::Roots::key`].
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The system has no roots, and none are trusted besides.
    #[error("{}: {reason}; install the system's CA certificates or set {key}", NO_AUTHORITY)]
    NoRoots {
        /// [`driver::Roots::key`].
        key: String,
        /// What was found instead.
        reason: String,
    },
    /// No TLS, whatever is trusted.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The `User-Agent` cannot stand in a header.
    #[error("{0:?} cannot be sent as User-Agent; expected visible characters")]
    UserAgent(String),
}

/// `Retry-After`: seconds, or a date on the clock that read `now` when it was written (RFC 9110 §10.2.3). A fraction of a
/// second, which the RFC does not allow and gateways send (sources.md §9.6), is rounded up.
pub fn retry_after(text: &str, now: UnixMs) -> Option<Duration> {
    let text = text.trim();
    if let Some(seconds) = whole(text) {
        return Some(Duration::from_secs(seconds));
    }
    Some(Duration::from_millis(http_date(text)?.0.saturating_sub(now.0)))
}

/// A number that is not negative, rounded up: `4`, `4.5`, `.5`. One that is too large is the largest there is: who asks
/// for a long wait must not get none.
pub fn whole(text: &str) -> Option<u64> {
    let (digits, fraction) = text.split_once('.').unwrap_or((text, ""));
    let are_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if digits.len() + fraction.len() == 0 || !are_digits(digits) || !are_digits(fraction) {
        return None;
    }
    let below = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u64::MAX) };
    let is_more = fraction.bytes().any(|byte| byte != b'0');
    Some(below.saturating_add(u64::from(is_more)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-01-01T12:00:00Z.
    const NOW: UnixMs = UnixMs(1_767_268_800_000);

    #[test]
    fn retry_after_is_seconds_rounded_up_or_a_date_in_each_form_of_http() {
        let rows = [
            ("5", Some(5)),
            (" 5 ", Some(5)),
            ("0", Some(0)),
            ("4.5", Some(5)),
            ("4.0", Some(4)),
            ("4.", Some(4)),
            (".25", Some(1)),
            ("0.000", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("99999999999999999999", Some(u64::MAX)),
            ("99999999999999999999.5", Some(u64::MAX)),
            ("Thu, 01 Jan 2026 12:00:20 GMT", Some(20)),
            ("Thursday, 01-Jan-26 12:00:20 GMT", Some(20)),
            ("Thu Jan  1 12:00:20 2026", Some(20)),
            ("Thu, 01 Jan 2026 11:00:00 GMT", Some(0)),
            ("-5", None),
            ("-0.5", None),
            ("+5", None),
            ("4,5", None),
            ("1e3", None),
            ("4.5.6", None),
            ("4.5s", None),
            ("soon", None),
            (".", None),
            ("", None),
        ];
        for (text, seconds) in rows {
            assert_eq!(retry_after(text, NOW), seconds.map(Duration::from_secs), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_wait_is_shorter_than_the_one_asked_for(seconds in 0_u32..4_000_000, millis in 0_u32..1000) {
            let wait = retry_after(&format!("{seconds}.{millis:03}"), NOW).unwrap();
            let asked = Duration::new(seconds.into(), millis * 1_000_000);
            prop_assert!(wait >= asked && wait < asked + Duration::from_secs(1));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,40}") {
            let _ = retry_after(&text, NOW);
        }
    }
}
