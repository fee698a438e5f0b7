//! IMAP as a source: a connection for each watched mailbox, or a short visit now and then.
//!
//! One count's way: the [`driver`] hands bytes to a [`connection`], whose [`session`] speaks with the server; [`lines`]
//! cuts them, [`reply`] understands a line. The connection hands the count to the observer and reports to the [`roster`],
//! which decides which mailbox connects when: the [`governor`] lets log-ins through, [`sweep`](super::sweep) says who is
//! due.
//! Here stand the settings and the words that these share; sockets and clocks are in the driver alone.

mod configured;
pub mod driver;
pub mod roster;
pub mod governor;
pub mod connection;
pub mod session;
pub mod exchange;
pub mod traits;
pub mod capability;
pub mod reply;
pub mod lines;
mod words;

pub use configured::KIND;

use super::names::Names;
use crate::https::Authorities;
use capability::Capabilities;
use secrecy::{ExposeSecret, SecretString};
use std::path::PathBuf;
use std::time::Duration;

/// What one `[[source]]` of kind `imap` needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The source's name in logs and metrics.
    pub name: String,
    /// How its users are spelled.
    pub names: Names,
    /// Host name or address to connect to.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: Tls,
    /// The name the server's certificate must carry; `host` where it is `None`.
    pub server_name: Option<String>,
    /// Which certificate authorities are trusted (`ca-file`, `ca-only`).
    pub authorities: Authorities,
    /// As whom to log in to a mailbox.
    pub login: Login,
    /// How mailboxes are watched.
    pub watch: Watch,
    /// Time between two visits to a mailbox that can only be polled.
    pub poll_interval: Duration,
    /// Log-ins per second at this server, all mailboxes together; at least 1.
    pub login_rate: u32,
    /// Every mailbox is read at least this often, whatever the server pushed.
    pub sweep_interval: Duration,
    /// A quiet NOTIFY connection is armed again this often; one with news since, every [`BUSY_REARM`] (sources.md §4.2).
    pub rearm_interval: Duration,
    /// IDLE is issued again after this long (RFC 2177: less than 29 min; sources.md §4.3).
    pub idle_interval: Duration,
}

impl Settings {
    /// What the annotated `mailbadge.toml` shows: every key but host and log-in at its default.
    pub fn new(name: impl Into<String>, host: impl Into<String>, login: Login) -> Self {
        Self {
            name: name.into(),
            names: Names::default(),
            host: host.into(),
            port: 143,
            tls: Tls::None,
            server_name: None,
            authorities: Authorities::default(),
            login,
            watch: Watch::Auto,
            poll_interval: Duration::from_mins(1),
            login_rate: 20,
            sweep_interval: Duration::from_mins(15),
            rearm_interval: Duration::from_mins(5),
            idle_interval: Duration::from_mins(9),
        }
    }
}

/// Why so many mailboxes cannot be read by visits within each sweep, and which log-in rate or interval it takes; `None`
/// where they can.
pub fn too_slow(visited: usize, login_rate: u32, sweep_interval: Duration) -> Option<String> {
    let (visited, seconds) = (visited as u64, sweep_interval.as_secs().max(1));
    let login_rate = u64::from(login_rate.max(1));
    if visited <= login_rate * seconds {
        return None;
    }
    let (rate, interval) = (visited.div_ceil(seconds), visited.div_ceil(login_rate));
    Some(format!(
        "{visited} mailboxes cannot be read within {seconds}s by {login_rate} log-ins a second; set login-rate to at least \
         {rate} or sweep-interval to at least {interval}s"
    ))
}

/// How the connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Not at all; the configuration allows it to loopback only.
    None,
    /// STARTTLS before log-in (RFC 9051 §6.2.1); a server without it is refused.
    StartTls,
    /// TLS from the first byte (RFC 8314 §3).
    Implicit,
}

/// As whom to log in to a mailbox.
#[derive(Clone, Debug)]
pub enum Login {
    /// `mailbox*user` with the master user's password (Dovecot, Stalwart with `%`).
    Master {
        /// The master user.
        user: String,
        /// What stands between the mailbox and the master user.
        separator: String,
        /// The master user's password.
        password: SecretString,
    },
    /// SASL PLAIN with the mailbox as authorization identity (RFC 4616; Cyrus, Dovecot).
    AuthzId {
        /// The identity that authenticates.
        user: String,
        /// Its password.
        password: SecretString,
    },
    /// The mailbox's own name and this password: one account, or a test server.
    Password {
        /// The name to log in with, with [`MAILBOX`] where the mailbox's goes; the mailbox's own where it is `None`.
        user: Option<String>,
        /// The password.
        password: SecretString,
    },
    /// An OAuth 2.0 access token.
    Token(TokenLogin),
}

/// How to log in with an access token (RFC 6750): its issuer lets it open every mailbox, or `user`'s alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenLogin {
    /// How the token is shown.
    pub mechanism: Mechanism,
    /// The name to log in with, with [`MAILBOX`] where the mailbox's goes; the mailbox's own where it is `None`.
    pub user: Option<String>,
    /// Where the token comes from, again and again since it lives an hour or so.
    pub from: TokenFrom,
}

/// A SASL mechanism that shows an access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// Google's and Microsoft's, never standardized.
    XOAuth2,
    /// RFC 7628.
    OAuthBearer,
}

/// Where an access token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenFrom {
    /// The first line of this file, which somebody else keeps fresh.
    File(PathBuf),
    /// The first line that this program prints; its arguments follow it.
    Command(Vec<String>),
}

/// A reload asks whether a source is still the same, its password included.
impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        if let (Self::Token(mine), Self::Token(theirs)) = (self, other) {
            return mine == theirs;
        }
        let (mine, theirs) = (self.parts(), other.parts());
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && (mine.0, mine.1) == (theirs.0, theirs.1)
            && mine.2.map(ExposeSecret::expose_secret) == theirs.2.map(ExposeSecret::expose_secret)
    }
}

impl Login {
    fn parts(&self) -> (Option<&str>, Option<&str>, Option<&SecretString>) {
        match self {
            Self::Master { user, separator, password } => (Some(user), Some(separator), Some(password)),
            Self::AuthzId { user, password } => (Some(user), None, Some(password)),
            Self::Password { user, password } => (user.as_deref(), None, Some(password)),
            Self::Token(login) => (login.user.as_deref(), None, None),
        }
    }

    /// Whether one credential opens every mailbox, so that its refusal concerns them all (sources.md §4.1).
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Password { user, .. } => user.as_ref().is_some_and(|user| user.contains(MAILBOX)),
            _ => true,
        }
    }

    /// Whether it opens one mailbox, whatever is asked for: who is logged in without being asked is that one.
    pub fn is_one_account(&self) -> bool {
        match self {
            Self::Password { user, .. } | Self::Token(TokenLogin { user, .. }) => {
                user.as_ref().is_some_and(|user| !user.contains(MAILBOX))
            }
            Self::Master { .. } | Self::AuthzId { .. } => false,
        }
    }
}

/// The name that `user` means for a mailbox, as the server spells it.
fn user_of(user: Option<&str>, mailbox: &str) -> String {
    user.map_or_else(|| mailbox.to_owned(), |user| user.replace(MAILBOX, mailbox))
}

/// How mailboxes are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// By what the server offers: IDLE, else NOTIFY, else polling.
    Auto,
    /// NOTIFY (RFC 5465).
    Notify,
    /// IDLE on the selected INBOX (RFC 2177).
    Idle,
    /// IDLE with nothing selected, for servers that push STATUS in it (Stalwart).
    IdleUnselected,
    /// A visit every [`Settings::poll_interval`].
    Poll,
    /// No watching connection: answers questions and sweeps, for mailboxes that an event source watches.
    SweepOnly,
}

impl Watch {
    /// How a server with these capabilities is watched. What was configured and is not offered becomes the next lesser way.
    /// `auto` prefers IDLE: it never goes deaf as Dovecot's NOTIFY does, is as fast, and sleeps in Dovecot's hibernation
    /// (adr/0032).
    pub fn method(self, offered: Capabilities) -> Method {
        let has = |capability| offered.has(capability);
        match self {
            Self::Auto | Self::Idle if has(Capabilities::IDLE) => Method::Idle,
            Self::Auto | Self::Notify if has(Capabilities::NOTIFY) => Method::Notify,
            Self::Notify if has(Capabilities::IDLE) => Method::Idle,
            Self::IdleUnselected if has(Capabilities::IDLE) => Method::IdleUnselected,
            _ => Method::Poll,
        }
    }
}

/// How a connection came to watch its mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// STATUS lines pushed by NOTIFY.
    Notify,
    /// IDLE with INBOX examined.
    Idle,
    /// STATUS lines pushed in IDLE with nothing selected.
    IdleUnselected,
    /// STATUS and LOGOUT.
    Poll,
}

/// Where the mailbox's name goes in a `user`: `svc@fabrikam.com\{mailbox}` (Exchange).
pub const MAILBOX: &str = "{mailbox}";
/// A line or a line with its literals, longest: a longer one ends the connection. SEARCH answers are counted as they
/// come and may be of any length.
pub const LINE_MAX: usize = 64 * 1024;
/// From the TCP connection to the log-in's begin, longest: greeting, TLS, capabilities.
pub const GREETING_WAIT: Duration = Duration::from_secs(12);
/// From the log-in's begin to its end, longest: Dovecot has those wait up to 15 s whose address was refused before.
pub const LOGIN_WAIT: Duration = Duration::from_secs(17);
/// An access token with its line end, longest: JSON web tokens of large directories have some 4 KiB.
pub const TOKEN_MAX: usize = 16 * 1024;
/// So much from a server in less than [`FLOOD_TIME`] is a flood, which ends the connection. Of a mailbox with a million
/// unseen messages an answer to SEARCH has 8 MB, and is asked for every few seconds at most.
pub const FLOOD_BYTES: u32 = 64 * 1024 * 1024;
/// See [`FLOOD_BYTES`].
pub const FLOOD_TIME: Duration = Duration::from_secs(10);
/// From a command to its tagged answer, longest.
pub const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// A NOTIFY connection that brought news is armed again after this long.
pub const BUSY_REARM: Duration = Duration::from_mins(1);
/// After so many changes in a row that only a question found a server is taken for one that tells nothing.
pub const UNTOLD_MAX: u8 = 3;
/// A connection that had to take a lesser way than the server offers goes on by it for so long, then begins anew; twice as
/// long after each refusal of NOTIFY, up to [`UPGRADE_MAX`].
pub const UPGRADE_AFTER: Duration = Duration::from_hours(1);
/// The longest time until NOTIFY is tried again on a server that refused it.
pub const UPGRADE_MAX: Duration = Duration::from_hours(24);
/// After so many connections in a row whose first IDLE was not begun or not ended as it should, mailboxes are polled.
pub const IDLE_FAILURES_MAX: u8 = 3;
/// Two such failures are at least so far apart; what lies closer is one.
pub const IDLE_FAILURES_APART: Duration = Duration::from_secs(10);
/// IDLE is tried again on such a server after this long; twice as long after each further failure, up to [`UPGRADE_MAX`].
pub const IDLE_AGAIN: Duration = Duration::from_mins(10);
/// Between two questions of one connection that the server's own lines gave rise to, shortest.
pub const QUESTION_REST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_of_watching_follows_from_what_is_wanted_offered_and_costs() {
        let both = Capabilities::NOTIFY.with(Capabilities::IDLE);
        let cases = [
            (Watch::Auto, both, Method::Idle),
            (Watch::Auto, Capabilities::NOTIFY, Method::Notify),
            (Watch::Auto, Capabilities::IDLE, Method::Idle),
            (Watch::Auto, Capabilities::NONE, Method::Poll),
            (Watch::Notify, both, Method::Notify),
            (Watch::Notify, Capabilities::IDLE, Method::Idle),
            (Watch::Notify, Capabilities::NONE, Method::Poll),
            (Watch::Idle, Capabilities::NOTIFY, Method::Poll),
            (Watch::Idle, both, Method::Idle),
            (Watch::IdleUnselected, both, Method::IdleUnselected),
            (Watch::IdleUnselected, Capabilities::NOTIFY, Method::Poll),
            (Watch::Poll, both, Method::Poll),
        ];
        for (watch, offered, expected) in cases {
            assert_eq!(watch.method(offered), expected, "{watch:?} {offered}");
        }
    }
}
