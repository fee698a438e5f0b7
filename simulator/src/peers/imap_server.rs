//! The simulated IMAP server: one [`Session`] per connection, a machine without I/O that behaves as the measured
//! Dovecot does (sources.md §4), with its own reader and writer and quirks by name. Keeps no mail: that is
//! [`MailStore`]'s. Sockets and TLS are the caller's.
//!
//! The loop: hand in what happened with [`Session::handle`], then carry out [`Session::poll_output`] until it gives
//! `None`, then wait for bytes, for a change of the mailbox or for [`Session::poll_timeout`], whichever comes first.
//! Times are durations since the caller's clock was started.

mod args;
mod login;
mod mailbox_commands;
mod push;
mod reader;
mod search;
mod selected;
mod session;
mod status;
mod timer;

pub use session::Session;

use crate::peers::mail_store::MailStore;
use std::time::Duration;

/// What a simulated server offers and how it times itself; as Dovecot 2.3 unless changed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// NOTIFY (RFC 5465).
    pub offers_notify: bool,
    /// IDLE (RFC 2177).
    pub offers_idle: bool,
    /// CONDSTORE (RFC 7162).
    pub offers_condstore: bool,
    /// `SEARCH RETURN (COUNT)` (RFC 4731).
    pub offers_esearch: bool,
    /// Initial response of AUTHENTICATE (RFC 4959).
    pub offers_sasl_ir: bool,
    /// STARTTLS on connections that begin plain; log-in is refused before it.
    pub requires_starttls: bool,
    /// Changes are told that long after the first, merged.
    pub window: Duration,
    /// `* OK Still here` comes that often in IDLE.
    pub keepalive: Duration,
    /// Without a command for that long the connection ends with BYE.
    pub inactivity: Duration,
    /// The same before log-in.
    pub login_inactivity: Duration,
    /// A deaf NOTIFY looks by itself that often (quirk `notify-deaf-after-rotation`).
    pub deaf_look: Duration,
    /// The mailbox's log is rotated after so many changes (the same quirk).
    pub rotation_changes: u32,
    /// Connections of one mailbox, at most.
    pub connections_max: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            offers_notify: true,
            offers_idle: true,
            offers_condstore: true,
            offers_esearch: true,
            offers_sasl_ir: true,
            requires_starttls: false,
            window: Duration::from_millis(500),
            keepalive: Duration::from_mins(2),
            inactivity: Duration::from_mins(30),
            login_inactivity: Duration::from_mins(3),
            deaf_look: Duration::from_secs(30),
            rotation_changes: 170,
            connections_max: 10,
        }
    }
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// It is there; with implicit TLS, the handshake is done.
    Connected {
        /// Whether TLS protects it already.
        is_tls: bool,
    },
    /// The client sent this.
    Bytes(&'a [u8]),
    /// The handshake that [`Output::StartTls`] called for is done.
    TlsStarted,
    /// The store told of a change that may concern this session.
    StoreChanged,
    /// The time of [`Session::poll_timeout`] has come.
    Timeout,
    /// The connection is gone.
    Closed,
}

/// What the caller is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Take the TLS handshake, then say [`Input::TlsStarted`].
    StartTls,
    /// Close the connection; no need to say [`Input::Closed`] any more.
    Close,
}

/// How a command ends.
enum Answer {
    Ok(String),
    No(String),
    Bad(String),
    /// Nothing is said now: a continuation or a timer goes on with it.
    Later,
}

impl Answer {
    fn ok(text: &str) -> Self {
        Self::Ok(text.to_owned())
    }

    fn no(text: &str) -> Self {
        Self::No(text.to_owned())
    }

    fn bad(text: &str) -> Self {
        Self::Bad(text.to_owned())
    }
}

/// What a command works with: the store and the time.
struct Step<'a> {
    now: Duration,
    store: &'a mut MailStore,
}

#[cfg(test)]
mod tests;
