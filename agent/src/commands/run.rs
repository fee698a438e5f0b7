//! `mailbadge run`: the daemon, in the foreground.

use super::{Context, Exit, Failure};
use crate::config;
use crate::run::RunError;

/// Watches mailboxes and forwards counts until it is told to stop (SIGTERM, Ctrl-C); SIGHUP reads the configuration anew.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_: &Args, context: &mut Context) -> Result<(), Failure> {
    let path = context.config_path()?;
    let config = config::load(&path)?;
    for advice in config::check(&config) {
        tracing::warn!(key = %advice.key, "advice: {}", advice.what);
    }
    crate::run::run(&path, config).map_err(failure)
}

fn failure(error: RunError) -> Failure {
    let exit = match error {
        RunError::Store(error) => return error.into(),
        RunError::AlreadyRunning { .. } => Exit::Unavailable,
        RunError::Source(ref error) if error.is_configuration() => Exit::Config,
        RunError::Forwarder(_) | RunError::Handed(_) => Exit::Config,
        _ => Exit::Io,
    };
    Failure { exit, error: Some(error.into()) }
}
