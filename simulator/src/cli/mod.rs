//! `mailbadge-sim`'s arguments and exit codes. What a command does is in the rooms below.

mod control;
mod serve;

use crate::load;
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// Where the control API listens unless told otherwise.
const CONTROL_DEFAULT: &str = "127.0.0.1:9980";

/// sysexits(3): wrong usage.
const USAGE: u8 = 64;
/// sysexits(3): a server that is needed cannot be reached, or refused.
const UNAVAILABLE: u8 = 69;

/// Plays everything around the mailbadge agent: relay, token service, devices and mail server.
#[derive(Parser)]
#[command(name = "mailbadge-sim", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Brings up relay, token service, devices, page and, with --mail-store, an IMAP server.
    Serve(Box<serve::ServeArgs>),
    /// Load test against an agent that it starts: every badge must be true in the end.
    Load(Box<load::Args>),
    /// Organizations at the relay and their key credentials.
    Tenant(ControlArgs<control::Tenant>),
    /// Devices: what their icons show.
    Device(ControlArgs<control::Device>),
    /// Faults of relay and token service: switch on and off.
    Fault(ControlArgs<control::Fault>),
    /// Oddities of the simulated mail host: switch on and off, for a mailbox or for all.
    Quirk(ControlArgs<control::Quirk>),
    /// The relay's listener: stop, start, another certificate.
    Relay(ControlArgs<control::Relay>),
    /// The token service: its keys and their roll-over, its listener.
    TokenService(ControlArgs<control::TokenService>),
}

/// A call of a running simulator's control API.
#[derive(Args)]
struct ControlArgs<C: Subcommand> {
    /// Address of the page and the control API.
    #[arg(long, global = true, value_name = "ADDRESS", default_value = CONTROL_DEFAULT)]
    control: String,
    #[command(subcommand)]
    call: C,
}

/// Runs the command that the arguments name, the program's own name first; to standard output and error.
pub fn main_with(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for, everything else is wrong usage.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Load(args) => match load::run(&args, &mut std::io::stdout()) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Command::Tenant(args) => control::run(&args.control, &args.call),
        Command::Device(args) => control::run(&args.control, &args.call),
        Command::Fault(args) => control::run(&args.control, &args.call),
        Command::Quirk(args) => control::run(&args.control, &args.call),
        Command::Relay(args) => control::run(&args.control, &args.call),
        Command::TokenService(args) => control::run(&args.control, &args.call),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error gone there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "mailbadge-sim: {error:#}");
            ExitCode::from(UNAVAILABLE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn calls_are_read_as_people_write_them() {
        let good = [
            "serve --mail-store 4 --json --relay 127.0.0.1:0",
            "serve --mail-store 4 --tell-dict /run/mailbadge/dict.sock --tell-cyrus cyrus.sock",
            "serve --mail-store 4 --tell-dict localhost:9145",
            "load --quirk silent-drop",
            "load --mailboxes 50 --rate 200 --duration 5s --source dovecot --mix 1:1:1 --shape ramp --json r.json",
            "tenant add --id 11111111-2222-3333-4444-555555555555 --domain fabrikam.com",
            "tenant credential fabrikam.com OAuthCert.cer --control 127.0.0.1:1",
            "device gone --app-id com.microsoft.exchange.mowa --device-id reg-1",
            "fault add delay ms=200 --rate 0.5 --for 10s",
            "fault clear",
            "quirk on silent-drop --mailbox user1",
            "relay stop",
            "fault add unavailable retryAfterS=3 --peer token-service",
            "tenant document fabrikam.com https://mail.fabrikam.com/autodiscover/metadata/json/1",
            "token-service rotate --step use",
        ];
        for line in good {
            let args = std::iter::once("mailbadge-sim").chain(line.split(' '));
            assert!(Cli::try_parse_from(args).is_ok(), "{line}");
        }
        for line in [
            "serve --mail-store many",
            "load --rate 0",
            "load --mix 1",
            "fault",
            "device gone",
            "serve --certificate x",
            "serve --tell-dict /run/mailbadge/dict.sock",
            "serve --mail-store 4 --tell-dict dict.sock",
            "serve --mail-store 4 --tell-dict localhost:none",
            "load --quirk dict-v4",
        ] {
            let args = std::iter::once("mailbadge-sim").chain(line.split(' '));
            assert!(Cli::try_parse_from(args).is_err(), "{line}");
        }
    }
}
