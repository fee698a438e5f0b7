//! What one listener grants: connections, time, bytes.

use std::time::Duration;

/// Connections to the admin endpoint: a scraper, a health check and some people.
pub const ADMIN_CONNECTIONS: u32 = 64;
/// Connections to the endpoint for relays: those of a reverse proxy, which keeps some of them alive.
pub const ENDPOINT_CONNECTIONS: u32 = 256;
/// A request's head must be there, whole, this long after the connection or its first byte, however slowly it comes.
pub const HEAD_TIME: Duration = Duration::from_secs(10);
/// A request's body must be there, and the answer made, this long after the head.
pub const WORK_TIME: Duration = Duration::from_secs(30);
/// The peer must have taken the answer this long after it was made.
pub const ANSWER_TIME: Duration = Duration::from_secs(30);
/// A kept-alive connection may wait this long for its next request: longer than the 60 s after which nginx gives one
/// up, so that no request meets a connection that we just closed.
pub const IDLE_TIME: Duration = Duration::from_secs(75);
/// The largest head, and what is buffered of a body at once. hyper takes no smaller number.
pub const HEAD_BYTES: usize = 8 * 1024;
/// Header lines in a head.
pub const HEADERS: usize = 64;
/// The largest body.
pub const BODY_BYTES: usize = 64 * 1024;

/// The limits of one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once, at least one.
    pub connections: usize,
    /// See [`HEAD_TIME`].
    pub head_time: Duration,
    /// See [`WORK_TIME`].
    pub work_time: Duration,
    /// See [`ANSWER_TIME`].
    pub answer_time: Duration,
    /// See [`IDLE_TIME`].
    pub idle_time: Duration,
    /// See [`BODY_BYTES`].
    pub body_bytes: usize,
}

impl Limits {
    /// The usual limits with this many connections.
    pub const fn of(connections: usize) -> Self {
        Self {
            connections,
            head_time: HEAD_TIME,
            work_time: WORK_TIME,
            answer_time: ANSWER_TIME,
            idle_time: IDLE_TIME,
            body_bytes: BODY_BYTES,
        }
    }
}
