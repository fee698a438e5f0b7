//! One file a command family: each turns its arguments into calls of the rooms and prints the result.
//!
//! Here is what they share: the settings every command takes, how a failure becomes an exit code (sysexits), where the
//! configuration and the store come from. Rules live in the rooms.

pub mod run;
pub mod setup;
pub mod certificate;
pub mod auth;
pub mod proxy;
pub mod subscription;
pub mod check;
pub mod status;
pub mod probe;
pub mod doctor;
pub mod token;
pub mod backup;
pub mod restore;
mod relay;
mod change;
pub mod log;
mod screen;
mod driver;

pub use screen::Screen;

use crate::config::{self, Config, ConfigError};
use crate::files::FileError;
use crate::identity;
use crate::store::{SqliteStore, StoreError};
use crate::time::UnixMs;
use crate::time::driver::Clock;
use std::io;
use std::path::PathBuf;

/// Exit codes of `sysexits.h` that commands end with besides 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The command line makes no sense.
    Usage = 64,
    /// Relay or server unavailable.
    Unavailable = 69,
    /// A fault of ours.
    Internal = 70,
    /// Reading or writing failed.
    Io = 74,
    /// A file is open to others, or closed to us.
    Permission = 77,
    /// The configuration is wrong.
    Config = 78,
}

/// Why a command failed: what to say, and with which code to end.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What to say; `None` where the command has said it already.
    pub error: Option<anyhow::Error>,
}

impl Failure {
    /// A failure with a text.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, error: Some(anyhow::Error::msg(text.into())) }
    }

    /// Whether only the reader of our output went away, as `head` does.
    pub fn is_closed_pipe(&self) -> bool {
        let cause = self.error.as_ref().and_then(|error| error.downcast_ref::<io::Error>());
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether what is stored is damaged, which no result may pass over.
    pub fn is_damage(&self) -> bool {
        let cause = self.error.as_ref().and_then(|error| error.downcast_ref::<StoreError>());
        cause.is_some_and(StoreError::is_damage)
    }

    /// A failure whose text has been printed.
    pub fn told(exit: Exit) -> Self {
        Self { exit, error: None }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let exit = if error.is_permission() { Exit::Permission } else { Exit::Config };
        Self { exit, error: Some(error.into()) }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match &error {
            StoreError::Permission(cause) if cause.is_forbidden() => Exit::Permission,
            StoreError::Io { cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied => {
                Exit::Permission
            }
            StoreError::OlderDaemon { .. } => Exit::Unavailable,
            StoreError::Newer { .. } | StoreError::Missing { .. } => Exit::Config,
            StoreError::NoCertificate { .. } | StoreError::Occupied { .. } => Exit::Usage,
            _ => Exit::Io,
        };
        Self { exit, error: Some(error.into()) }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        StoreError::from(error).into()
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { exit: Exit::Io, error: Some(error.into()) }
    }
}

impl From<identity::Error> for Failure {
    fn from(error: identity::Error) -> Self {
        Self { exit: Exit::Internal, error: Some(error.into()) }
    }
}

/// What every command is given.
#[derive(Debug)]
pub struct Context {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// Where the result goes, and whether as JSON.
    pub screen: Screen,
    /// The clocks.
    pub clock: Clock,
}

impl Context {
    /// The path of the configuration.
    pub fn config_path(&self) -> Result<PathBuf, Failure> {
        Ok(config::find(self.config.as_deref())?)
    }

    /// The configuration.
    pub fn load_config(&self) -> Result<Config, Failure> {
        Ok(config::load(&self.config_path()?)?)
    }

    /// The store of that configuration.
    pub fn open_store(&self, config: &Config) -> Result<SqliteStore, Failure> {
        Ok(SqliteStore::open(&config.state_dir)?)
    }

    /// The same, made where there is none: for the commands with which a host begins.
    pub fn open_or_create_store(&self, config: &Config) -> Result<SqliteStore, Failure> {
        if !SqliteStore::exists(&config.state_dir) {
            status::refuse_beside_daemon(config)?;
        }
        Ok(SqliteStore::open_or_create(&config.state_dir, self.now())?)
    }

    /// The wall clock.
    pub fn now(&self) -> UnixMs {
        self.clock.now().unix
    }
}
