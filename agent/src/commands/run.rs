//! `mailbadge run`: the daemon, in the foreground.

use super::{Context, Exit, Failure};
use crate::config;
use crate::run::RunError;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Watches mailboxes and forwards counts until it is told to stop (SIGTERM, Ctrl-C); SIGHUP reads the configuration anew.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_: &Args, context: &mut Context) -> Result<(), Failure> {
    log(context.verbosity, context.screen.is_json);
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
        RunError::Forwarder(_) | RunError::Imap(_) => Exit::Config,
        _ => Exit::Io,
    };
    Failure { exit, error: Some(error.into()) }
}

/// Logs go to standard error, where the service manager takes them; `RUST_LOG` has the last word.
fn log(verbosity: u8, is_json: bool) {
    let level = match verbosity {
        0 => "info",
        1 => "mailbadge=debug,info",
        _ => "mailbadge=trace,debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let has_color =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(has_color);
    // A second daemon in one process, as in tests, keeps the first one's log.
    let _ = if is_json { builder.json().try_init() } else { builder.try_init() };
}
