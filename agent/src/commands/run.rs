//! `mailbadge run`: the daemon, in the foreground.

use super::{Context, Exit, Failure, driver};
use crate::config;
use crate::run::RunError;

/// Watches mailboxes and forwards counts until it is told to stop (SIGTERM, Ctrl-C); SIGHUP reads the configuration anew.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Lets the system write core dumps, and other processes of the same user look inside; keys and tokens are in there.
    #[arg(long)]
    allow_core_dumps: bool,
}

/// Runs the command.
pub fn run(args: &Args, context: &mut Context) -> Result<(), Failure> {
    if !args.allow_core_dumps {
        driver::forbid_core_dumps()?;
    }
    let path = context.config_path()?;
    let config = config::load(&path)?;
    for advice in config::check(&config) {
        tracing::warn!(key = %advice.key, "advice: {}", advice.what);
    }
    crate::run::run(&path, config).map_err(failure)
}

/// A daemon's error as a command's.
pub(super) fn failure(error: RunError) -> Failure {
    let exit = match error {
        RunError::Store(error) => return error.into(),
        RunError::AlreadyRunning { .. } => Exit::Unavailable,
        RunError::Source(ref error) if error.is_configuration() => Exit::Config,
        RunError::Forwarder(_) | RunError::SocketActivation(_) => Exit::Config,
        _ => Exit::Io,
    };
    Failure { exit, error: Some(error.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kind::StartError;
    use std::io;

    #[test]
    fn a_source_ends_the_daemon_with_78_only_where_another_configuration_helps() {
        let exit = |error: StartError| failure(error.into()).exit as u8;
        let system = || io::Error::from(io::ErrorKind::WouldBlock);
        let refused = StartError::System { name: "imap".into(), reason: system() };
        assert_eq!(exit(refused), Exit::Io as u8);
        assert_eq!(exit(StartError::Refused(Box::new(system()))), Exit::Io as u8);
        assert_eq!(exit(StartError::Settings(Box::new(system()))), Exit::Config as u8);
    }
}
