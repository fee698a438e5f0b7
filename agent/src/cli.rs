//! Arguments, sub-commands and exit codes; no decisions.

use crate::commands::{
    Context, Exit, Failure, Screen, auth, backup, certificate, check, doctor, log, probe, proxy, restore,
    run, setup, status, subscription, token,
};
use crate::time::driver::Clock;
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Keeps the number on a phone's icon equal to the unseen count of a mailbox.
#[derive(Debug, Parser)]
#[command(name = "mailbadge", version, max_term_width = 110)]
struct Cli {
    /// The configuration [default: /etc/mailbadge/mailbadge.toml, else ./mailbadge.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Output made for programs.
    #[arg(long, global = true)]
    json: bool,
    /// More in the log; twice: all of it.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Setup(setup::Args),
    Certificate(certificate::Args),
    Auth(auth::Args),
    Proxy(proxy::Args),
    Subscription(subscription::Args),
    Check(check::Args),
    Status(status::Args),
    Probe(probe::Args),
    Doctor(doctor::Args),
    Token(token::Args),
    Backup(backup::Args),
    Restore(restore::Args),
}

/// Runs the program with these arguments, the program's name first.
pub fn main_with(args: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    log::start(matches!(cli.command, Command::Run(_)), cli.verbose, cli.json);
    let mut context =
        Context { config: cli.config, screen: Screen::standard(cli.json), clock: Clock::start() };
    match dispatch(cli.command, &mut context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => tell(&failure, &mut context.screen),
    }
}

fn dispatch(command: Command, context: &mut Context) -> Result<(), Failure> {
    match command {
        Command::Run(args) => run::run(&args, context),
        Command::Setup(args) => setup::run(&args, context),
        Command::Certificate(args) => certificate::run(args, context),
        Command::Auth(args) => auth::run(args, context),
        Command::Proxy(args) => proxy::run(args, context),
        Command::Subscription(args) => subscription::run(args, context),
        Command::Check(args) => check::run(&args, context),
        Command::Status(args) => status::run(&args, context),
        Command::Probe(args) => probe::run(&args, context),
        Command::Doctor(args) => doctor::run(&args, context),
        Command::Token(args) => token::run(&args, context),
        Command::Backup(args) => backup::run(&args, context),
        Command::Restore(args) => restore::run(&args, context),
    }
}

/// Help and version are no errors.
fn usage(error: &clap::Error) -> ExitCode {
    // There is nowhere to tell that telling failed.
    error.print().ok();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(Exit::Usage as u8),
    }
}

fn tell(failure: &Failure, screen: &mut Screen) -> ExitCode {
    if failure.is_closed_pipe() {
        return ExitCode::SUCCESS;
    }
    if let Some(error) = &failure.error {
        screen.remark(format!("mailbadge: {error:#}")).ok();
    }
    ExitCode::from(failure.exit as u8)
}
