//! One HTTP exchange as plain values, so that a peer needs no socket: what arrived whole, what is to be sent whole.

use super::fault::Wire;
use bytes::Bytes;
use std::time::Duration;

/// A request whose body has arrived.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `POST`, `GET` …
    pub method: String,
    /// Host, with `:port` where it is not the scheme's default: the `Host` header or `:authority`.
    pub authority: String,
    /// Path without the query.
    pub path: String,
    /// What follows the `?`.
    pub query: String,
    /// Names in any case; a name may stand more than once.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
}

impl Request {
    /// The first header of this name, without regard to case, trimmed.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body; empty for most answers.
    pub body: Bytes,
}

impl Response {
    /// This status and nothing else.
    pub fn empty(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// This status with a body of this type.
    pub fn with_body(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }.and("content-type", content_type)
    }

    /// The same with one more header.
    #[must_use]
    pub fn and(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The first header of this name, without regard to case, trimmed.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

/// An answer and how it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// What is answered.
    pub response: Response,
    /// How long it waits first.
    pub delay: Duration,
    /// How it travels then.
    pub wire: Wire,
}

/// A host without the port that https has by default.
pub fn plain_authority(authority: &str) -> &str {
    authority.strip_suffix(":443").unwrap_or(authority)
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
