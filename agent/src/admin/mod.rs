//! What the daemon shows of itself: `/metrics`, `/livez`, `/readyz`, `/status` and `/mailbox` (product.md §3.2).
//!
//! Here are the plain structs that the daemon fills and the trait it answers through; [`driver`] serves them,
//! `metrics` knows the metrics' names. Nothing here decides anything. `/status` and `/readyz` name the first mailboxes whose
//! count nobody knows; `/metrics` never names one.

pub mod driver;
mod host;
mod mailbox;
mod metrics;

pub use mailbox::{DeviceStatus, MailboxStatus};

use crate::counters::{FlowCounters, SourceCounters};
use crate::listen::Listen;
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// How the admin endpoint is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where; `None`: the endpoint is off.
    pub listen: Option<Listen>,
    /// Connections at once, at least one.
    pub connections_max: usize,
}

/// What the daemon tells of itself whenever it is asked. Calls return at once and never wait for a peer.
pub trait Health: Send + Sync {
    /// One screen of state: `/status`.
    fn status(&self) -> Status;
    /// Why this daemon is not ready, a sentence each; empty when it is: `/readyz`.
    fn unready(&self) -> Vec<String>;
    /// What a person should hear of although the daemon is ready, a sentence each.
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }
    /// The numbers of `/metrics`.
    fn figures(&self) -> Figures;
    /// What is known of one mailbox: `/mailbox?name=M`; `None` where nobody subscribed to it.
    fn mailbox(&self, name: &str) -> Option<MailboxStatus>;
}

/// What `/status` answers and `mailbadge status` prints. Instants are RFC 3339, UTC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// When the daemon was started.
    pub started_at: UnixMs,
    /// What [`Health::unready`] says; empty when the daemon is ready.
    pub unready: Vec<String>,
    /// What [`Health::notices`] says.
    #[serde(default)]
    pub notices: Vec<String>,
    /// The state directory cannot be used now: mail servers are answered, and nothing below but the sources is known.
    #[serde(default)]
    pub is_standby: bool,
    /// The mailboxes and their devices.
    pub mailboxes: MailboxesStatus,
    /// One per configured source, in the order of the configuration.
    pub sources: Vec<SourceStatus>,
    /// The way to the relay.
    pub relay: RelayStatus,
    /// The token in use.
    pub token: TokenStatus,
    /// The certificate that tokens are signed with; `None` before `setup`.
    pub certificate: Option<CertificateStatus>,
}

/// How many mailboxes there are and how far behind they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MailboxesStatus {
    /// Mailboxes with at least one live subscription.
    pub subscribed: u64,
    /// Live subscriptions.
    pub devices: u64,
    /// Mailboxes whose acknowledged count is not their count.
    pub behind: u64,
    /// Age of the oldest change that is not acknowledged, in seconds; 0 when none is behind.
    pub oldest_unacknowledged_seconds: f64,
    /// Mailboxes that a source could read and did not, in time: their count may be wrong.
    #[serde(default)]
    pub unknown: u64,
    /// The first unknown ones.
    #[serde(default)]
    pub first_unknown: Vec<UnknownMailbox>,
    /// Mailboxes of which nothing was reported since the start, where no source can be asked.
    #[serde(default)]
    pub unconfirmed: u64,
    /// The first unconfirmed ones.
    #[serde(default)]
    pub first_unconfirmed: Vec<String>,
    /// Mailboxes that wait for their first reading since the start.
    #[serde(default)]
    pub awaited: u64,
    /// Why sources may report mailboxes under other names than devices subscribe to, if that is so.
    #[serde(default)]
    pub hint: Option<String>,
}

/// A mailbox whose count nobody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownMailbox {
    /// Its name.
    pub name: String,
    /// What the mail server says of it, in its own words.
    pub words: Option<String>,
}

/// `kim@fabrikam.com: [its server's words]`.
impl fmt::Display for UnknownMailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.words.as_ref().map_or(Ok(()), |words| write!(f, ": {words}"))
    }
}

/// The first of a list with how many there are more: `u1, u2 and 5 more`.
pub fn some_of(first: &[impl fmt::Display], all: u64) -> String {
    let shown: Vec<String> = first.iter().map(ToString::to_string).collect();
    match all.saturating_sub(shown.len() as u64) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// One source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// `name` of the configuration.
    pub name: String,
    /// `kind` of the configuration: `imap`, `dovecot`.
    pub kind: String,
    /// Mailboxes watched now.
    pub watched: u64,
    /// Mailboxes assigned but not watched yet.
    pub waiting: u64,
    /// Counts delivered since the start.
    pub readings: u64,
    /// "Something changed" delivered since the start.
    pub hints: u64,
    /// Log-ins that worked.
    pub logins_ok: u64,
    /// Log-ins that were refused.
    pub logins_refused: u64,
    /// What is wrong with the source as a whole, in a sentence with the remedy; `None` when nothing is.
    pub trouble: Option<String>,
    /// What keeps it from watching or reading every mailbox as it should, in a sentence with the remedy: a limit of the
    /// server, a log-in rate that is too low; `None` when nothing does.
    #[serde(default)]
    pub limit: Option<String>,
}

impl SourceStatus {
    /// The part that counters know.
    pub fn of(name: &str, kind: &str, counters: &SourceCounters) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            watched: counters.watched.get(),
            waiting: counters.waiting.get(),
            readings: counters.readings.get(),
            hints: counters.hints.get(),
            logins_ok: counters.logins_ok.get(),
            logins_refused: counters.logins_refused.get(),
            trouble: None,
            limit: None,
        }
    }
}

/// The way to the relay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RelayStatus {
    /// Whether `proxy enable` was given.
    pub is_enabled: bool,
    /// `Uri` of the proxy.
    pub uri: String,
    /// `Organization` of the proxy.
    pub organization: Option<String>,
    /// Batches under way.
    pub in_flight: u32,
    /// Why nothing is sent although the proxy is enabled: halted, waiting out a back-off; `None` when all is well.
    pub trouble: Option<String>,
    /// The relay's clock minus ours, in seconds, where an answer told it.
    pub clock_offset_seconds: Option<f64>,
    /// The newest batch that was answered or failed.
    pub last_batch: Option<BatchStatus>,
}

/// How one batch went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchStatus {
    /// When its answer came or it failed.
    pub at: UnixMs,
    /// Notifications in it.
    pub notifications: u32,
    /// What came of it, for people: `200`, `503, retried in 2 s`, `connect: connection refused`.
    pub answer: String,
    /// From sending to the answer, in milliseconds.
    pub took_ms: u64,
}

/// The token in use, never the token itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenStatus {
    /// For people: `valid`, `none yet`, `not needed`, or why there is none.
    pub state: String,
    /// Until when it is used.
    pub expires_at: Option<UnixMs>,
}

/// The certificate that tokens are signed with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// SHA-1 of the DER certificate, upper-case hex.
    pub thumbprint: String,
    /// Its own end.
    pub expires_at: UnixMs,
    /// The certificate that takes its place by itself.
    pub next: Option<NextCertificateStatus>,
    /// What an administrator should know of the certificates, a sentence each with the remedy: an end within 60 days,
    /// a next one that cannot take its place.
    pub warnings: Vec<String>,
}

/// A certificate that waits for its date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextCertificateStatus {
    /// SHA-1 of the DER certificate, upper-case hex.
    pub thumbprint: String,
    /// From then on tokens are signed with it.
    pub effective_at: UnixMs,
}

/// The numbers behind `/metrics`, as they are now.
#[derive(Clone, Debug)]
pub struct Figures {
    /// One per configured source.
    pub sources: Vec<SourceFigures>,
    /// What the way from ready mailboxes to the relay counts.
    pub flow: Arc<FlowCounters>,
    /// Mailboxes whose acknowledged count is not their count.
    pub behind: u64,
    /// Age of the oldest change that is not acknowledged, in seconds; 0 when none is behind.
    pub oldest_unacknowledged_seconds: f64,
    /// Mailboxes that a source could read and did not, in time.
    pub unknown: u64,
    /// Mailboxes of which nothing was reported since the start, where no source can be asked.
    pub unconfirmed: u64,
    /// Until when the token in use is used.
    pub token_expires_at: Option<UnixMs>,
    /// Role (`current`, `previous`, `next`) and end of each certificate in use.
    pub certificates: Vec<(&'static str, UnixMs)>,
    /// Name of each token service whose metadata document is known, and when it was last read.
    pub documents: Vec<(String, UnixMs)>,
    /// The relay's clock minus ours, in seconds, where an answer told it.
    pub clock_offset_seconds: Option<f64>,
    /// Whether the relay is halted as misconfigured (protocol.md §1.6).
    pub is_relay_halted: bool,
}

/// A source's counters under its name.
#[derive(Clone, Debug)]
pub struct SourceFigures {
    /// `name` of the configuration: a label, so never a mailbox.
    pub name: String,
    /// What it counts.
    pub counters: Arc<SourceCounters>,
}
