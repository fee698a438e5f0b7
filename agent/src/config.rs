//! The configuration file: [`load`] refuses, [`check`] advises.
//!
//! What a daemon needs to start stands in this file; what an administrator sets by command is state and stands in the
//! store. Each room's `Settings` are filled here. Secrets come from files that only their owner can read.

mod advice;
mod config_file;
mod keys;
mod names;
mod secret;
mod sections;
mod sources;
mod trust;
mod value;

#[cfg(test)]
mod tests;

pub use advice::{check, check_pace};
pub use names::check_names;
pub use value::is_dns_domain;

use crate::files::driver::Trust;
use crate::files::{self, FileError};
use crate::https::{Authorities, driver};
use crate::identity::auth_config::AuthConfig;
use crate::identity::principal::Principal;
use crate::source::kind::Configured;
use crate::{admin, endpoint, subscription};
use config_file::ConfigFile;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use toml::de::DeTable;

/// Where the configuration is looked for when no `--config` is given, in this order; for root the first alone, since
/// anybody may have put a file into the present folder.
pub const DEFAULT_PATHS: [&str; 2] = ["/etc/mailbadge/mailbadge.toml", "mailbadge.toml"];

/// The longest that a token service may take to answer.
const TOKEN_SERVICE_TIMEOUT: Duration = Duration::from_secs(30);
/// A configuration file has a few kilobytes.
const FILE_SIZE_MAX: u64 = 1024 * 1024;

/// One piece of advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Table and key it is about: `source.main.poll-interval`.
    pub key: String,
    /// What is unwise, why, and what would be wiser.
    pub what: String,
}

/// A whole configuration, defaults included.
#[derive(Clone, Debug)]
pub struct Config {
    /// The organization's DNS domain.
    pub organization: String,
    /// Where state is kept.
    pub state_dir: PathBuf,
    /// Mailboxes that sources find are watched although nobody subscribes to them.
    pub watch_all: bool,
    /// Who the agent is.
    pub auth: Auth,
    /// Limits of the way to the relay.
    pub relay: Relay,
    /// Where counts come from; the index is the `SourceId`.
    pub sources: Vec<Arc<dyn Configured>>,
    /// How subscriptions live.
    pub subscriptions: subscription::Settings,
    /// What others may ask.
    pub endpoint: endpoint::Settings,
    /// The admin endpoint.
    pub admin: admin::Settings,
    /// What was found odd in the files that it names; part of the advice.
    pub noticed: Vec<Advice>,
    /// Every known key with its value, in the order of the file's tables: `check --print`.
    pub settings: Vec<Setting>,
}

impl Config {
    /// The client towards the relay.
    pub fn client_settings(&self) -> driver::Settings {
        driver::Settings {
            roots: driver::Roots {
                key: "relay.ca-file".to_owned(),
                authorities: self.relay.authorities.clone(),
            },
            concurrency: self.relay.concurrency,
            timeout: self.relay.timeout,
            user_agent: format!("mailbadge/{}", env!("CARGO_PKG_VERSION")),
        }
    }

    /// The client towards token services: never behind a batch.
    pub fn token_client_settings(&self) -> driver::Settings {
        let timeout = self.relay.timeout.min(TOKEN_SERVICE_TIMEOUT);
        driver::Settings { concurrency: 2, timeout, ..self.client_settings() }
    }

    /// Who the agent is in tokens: what the auth config names, else what stands here.
    pub fn own(&self, state: &AuthConfig) -> Principal {
        let id = state.service_name.as_ref().unwrap_or(&self.auth.application_id);
        Principal::new(id, state.realm.as_ref().unwrap_or(&self.auth.realm))
    }
}

/// `[auth]`: who the agent is to a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// The agent's application id, a GUID in lower case.
    pub application_id: String,
    /// The agent's realm; the organization where none is given.
    pub realm: String,
    /// Written as `trustedfordelegation`.
    pub may_delegate: bool,
    /// Life of a self-issued token.
    pub token_lifetime: Duration,
}

/// `[relay]`: limits; the relay itself is the proxy's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Which certificate authorities are trusted.
    pub authorities: Authorities,
    /// Mailboxes in a batch, at most.
    pub batch_max: usize,
    /// How long a change waits for others, at most.
    pub max_hold: Duration,
    /// Batches in flight, at most.
    pub concurrency: usize,
    /// From sending a batch to the end of its answer, at most.
    pub timeout: Duration,
}

/// A known key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its table: `relay`, `source.main`; empty for the top level.
    pub section: String,
    /// The key.
    pub key: &'static str,
    /// The value as TOML; empty where there is none and need not be.
    pub value: String,
    /// Whether the file leaves it out.
    pub is_default: bool,
}

/// Something wrong in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1.
    pub line: usize,
    /// Table and key: `relay.timeout`; empty where the file is no TOML.
    pub key: String,
    /// What is wrong and what was expected.
    pub what: String,
    /// Whether a file that it names is open to others or closed to us.
    pub is_permission: bool,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read, or others could have written it.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is no text.
    #[error("{path}: is no text in UTF-8: {cause}", path = .path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Where it ends to be.
        cause: std::str::Utf8Error,
    },
    /// There is no file at any default place.
    #[error("no configuration: neither {} nor {} is there (root uses the first alone); give one with --config", DEFAULT_PATHS[0], DEFAULT_PATHS[1])]
    Missing,
    /// The file is wrong.
    #[error("{}", Faults(.path, .faults))]
    Refused {
        /// The file.
        path: PathBuf,
        /// All that is wrong, by line; never empty.
        faults: Vec<Fault>,
    },
}

impl ConfigError {
    /// Whether all that is wrong is who may read which file: exit code 77 instead of 78.
    pub fn is_permission(&self) -> bool {
        match self {
            Self::File(error) => error.is_forbidden(),
            Self::Missing | Self::NotText { .. } => false,
            Self::Refused { faults, .. } => faults.iter().all(|fault| fault.is_permission),
        }
    }
}

/// `file:line: key: what`, a line each.
struct Faults<'a>(&'a Path, &'a [Fault]);

impl fmt::Display for Faults<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(path, faults) = self;
        for (index, fault) in faults.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            let colon = if fault.key.is_empty() { "" } else { ": " };
            write!(f, "{separator}{}:{}: {}{colon}{}", path.display(), fault.line, fault.key, fault.what)?;
        }
        Ok(())
    }
}

/// The file at `path`, or the first of [`DEFAULT_PATHS`] that is there and may be used.
pub fn find(path: Option<&Path>) -> Result<PathBuf, ConfigError> {
    let is_root = files::driver::is_root();
    let paths = || DEFAULT_PATHS.iter().map(PathBuf::from).filter(|path| path.is_absolute() || !is_root);
    let first = || paths().find(|path| path.exists());
    path.map(Path::to_owned).or_else(first).ok_or(ConfigError::Missing)
}

/// Reads and checks a configuration with every file it names. Relative paths in it start at its folder.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let bytes = files::driver::read(path, FILE_SIZE_MAX, Trust::Ours)?;
    let text =
        std::str::from_utf8(&bytes).map_err(|cause| ConfigError::NotText { path: path.to_owned(), cause })?;
    let base = path.parent().unwrap_or(Path::new(""));
    read(text, base).map_err(|mut faults| {
        faults.sort_by_key(|fault| fault.line);
        ConfigError::Refused { path: path.to_owned(), faults }
    })
}

fn read(text: &str, base: &Path) -> Result<Config, Vec<Fault>> {
    let mut file = ConfigFile::new(text, base);
    let document = DeTable::parse(text).map_err(|error| {
        let line = file.line(error.span().map_or(0, |span| span.start));
        let what = error.message().lines().collect::<Vec<_>>().join("; ");
        vec![Fault { line, key: String::new(), what, is_permission: false }]
    })?;
    let config = sections::config(&mut file, document.get_ref());
    if file.faults.is_empty() { Ok(Config { settings: file.settings, ..config }) } else { Err(file.faults) }
}
