//! doveadm's HTTP API as a source: it tells nothing by itself, and reads all users of a Dovecot in one call, which is the
//! cheapest sweep there is (sources.md §2.1).
//!
//! [`question`] is what is asked, [`answer`] reads what comes back, row by row; [`rounds`] says who is asked when, pure;
//! [`driver`] has the requests. How a count is judged is not decided here.

mod configured;
pub mod driver;
pub mod rounds;
pub mod answer;
pub mod question;

pub use configured::KIND;
pub use driver::{DoveadmSource, start};

use super::names::Names;
use crate::https::url::Url;
use crate::https::{self, Authorities};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use std::time::Duration;

/// Every mailbox is read at least this often when nothing else is configured.
pub const SWEEP_INTERVAL_DEFAULT: Duration = Duration::from_mins(15);
/// How long the answer about all users may take when nothing else is configured.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_mins(5);

/// What a configuration says of one doveadm source.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The source's name in logs, errors and metrics.
    pub name: Arc<str>,
    /// How its users are spelled.
    pub names: Names,
    /// Where doveadm listens, with the path `/doveadm/v1`.
    pub url: Arc<Url>,
    /// Which certificate authorities are trusted (`ca-file`, `ca-only`).
    pub authorities: Authorities,
    /// What opens it.
    pub credential: Credential,
    /// Every mailbox is read at least this often.
    pub sweep_interval: Duration,
    /// How long the answer about all users may take.
    pub timeout: Duration,
    /// Users that nobody watches are looked for, too.
    pub is_searching: bool,
}

impl Settings {
    /// Settings with defaults for all but place and credential.
    pub fn new(name: impl Into<Arc<str>>, url: Url, credential: Credential) -> Self {
        Self {
            name: name.into(),
            names: Names::default(),
            url: Arc::new(url),
            authorities: Authorities::default(),
            credential,
            sweep_interval: SWEEP_INTERVAL_DEFAULT,
            timeout: TIMEOUT_DEFAULT,
            is_searching: false,
        }
    }
}

/// What opens doveadm.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Dovecot's `doveadm_api_key`.
    ApiKey(SecretString),
    /// Dovecot's `doveadm_password`.
    Password(SecretString),
}

/// A reload asks whether a source is still the same, its credential included.
impl PartialEq for Credential {
    fn eq(&self, other: &Self) -> bool {
        let is_same =
            |mine: &SecretString, theirs: &SecretString| mine.expose_secret() == theirs.expose_secret();
        match (self, other) {
            (Self::ApiKey(mine), Self::ApiKey(theirs)) | (Self::Password(mine), Self::Password(theirs)) => {
                is_same(mine, theirs)
            }
            _ => false,
        }
    }
}

/// Why the source could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no client for it.
    #[error("source {name}: {reason}")]
    Client {
        /// The source's name.
        name: Arc<str>,
        /// What is wrong.
        reason: https::Error,
    },
    /// The credential cannot stand in a header.
    #[error("source {name}: the API key or password cannot be sent; expected visible characters")]
    Credential {
        /// The source's name.
        name: Arc<str>,
    },
}
