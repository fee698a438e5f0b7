//! The words between a session and its driver: what goes in, what comes out, how a connection ends.

use super::{FLOOD_BYTES, FLOOD_TIME, LINE_MAX, Method};
use crate::event::News;
use secrecy::SecretString;
use std::fmt;
use zeroize::Zeroizing;

/// What a driver tells the machine.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The access token to log in with, before [`Input::Connected`]; only for [`super::Login::Token`].
    Token(&'a SecretString),
    /// The TCP connection stands.
    Connected,
    /// The handshake that [`Output::StartTls`] asked for is done.
    TlsDone,
    /// Bytes from the server, cut anywhere.
    Bytes(&'a [u8]),
    /// Someone wants a fresh reading.
    Ask,
    /// The moment of [`super::session::Session::poll_timeout`] has come; harmless at any other.
    Timeout,
    /// The server closed the connection, or it failed.
    Closed,
    /// There is no connection, or no TLS on it, and why.
    Unreachable(&'a str),
}

/// What the machine tells its driver, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write these bytes, in one segment.
    Send(Outgoing),
    /// Begin a TLS handshake now, then say [`Input::TlsDone`].
    StartTls,
    /// The log-in worked.
    LoggedIn,
    /// How this connection watches, once it is known. [`Method::Poll`]: it reads once and leaves; come back later.
    Watching(Method),
    /// For the observer.
    News(News),
    /// A line said that something changed; the machine reads the mailbox by itself.
    Noticed,
    /// A line was not understood and was skipped.
    Skipped,
    /// The server refused the log-in; [`Output::Close`] follows.
    LoginRefused {
        /// Whom the refusal concerns.
        refusal: Refusal,
        /// What the server said, fit for people.
        text: String,
    },
    /// An alert of the server, fit for people (RFC 9051 §7.1).
    Alert(String),
    /// There is no connection, as [`Input::Unreachable`] said; nothing follows.
    Unreachable(String),
    /// Close the connection: nothing follows, every later input is ignored.
    Close(Ending),
}

/// Whom a log-in concerns that was refused, or not begun (sources.md §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The shared credential: every further attempt would fail too, and slow down everybody.
    Source,
    /// No credential: none was sent, since the server does not offer what the configuration needs.
    Unfit,
    /// This mailbox alone.
    Mailbox,
    /// The server has no room now.
    Busy,
}

/// What [`Ending::Silent`] calls the answer to a log-in.
pub const LOG_IN: &str = "the log-in's answer";

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// The visit is over: read, logged out.
    #[error("done")]
    Done,
    /// The log-in was refused.
    #[error("log-in refused")]
    Refused,
    /// The server said BYE.
    #[error("server said BYE: {0}")]
    Bye(String),
    /// The server closed, or the network failed.
    #[error("connection lost")]
    Lost,
    /// Nothing came in time.
    #[error("server was silent for too long, waiting for {0}")]
    Silent(&'static str),
    /// A line beyond [`LINE_MAX`].
    #[error("server sent a line longer than {} bytes", LINE_MAX)]
    LineTooLong,
    /// More came in a while than any mailbox has to say.
    #[error(
        "server floods the connection, which was ended: more than {} MiB within {} s",
        FLOOD_BYTES / (1024 * 1024),
        FLOOD_TIME.as_secs()
    )]
    Flooded,
    /// What came makes no sense to go on with.
    #[error("server broke the protocol: {0}")]
    Violation(&'static str),
    /// INBOX cannot be read.
    #[error("server does not let INBOX be read: {0}")]
    NoMailbox(String),
}

/// Bytes on their way to the server. Their debug form shows no byte and they are wiped when dropped: some are passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct Outgoing(Zeroizing<Vec<u8>>);

impl Outgoing {
    /// The bytes to write.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Outgoing {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outgoing({} bytes)", self.0.len())
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// To stay and watch.
    Watch,
    /// To read once and log out.
    Visit,
}
