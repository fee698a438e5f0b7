//! `mailbadge doctor`: goes through everything that must be right and says of each what was found, and the remedy.
//!
//! One list of checks. A further one is a function here or in a file of the folder, with its line in [`CHECKS`].

mod counts;
mod host;
mod relay;
mod sources;

use super::{Context, Exit, Failure};
use crate::config::Config;
use crate::source::examination::{Condition, Finding};
use crate::store::SqliteStore;
use crate::time::driver::Clock;
use tokio::runtime::Runtime;

/// Checks configuration, state, certificate, clock, relay, token services and sources; exit 0 or 69.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The mailbox whose log-in is tried, and whose count is compared; by default one that is subscribed.
    #[arg(long, value_name = "MAILBOX")]
    mailbox: Option<String>,
}

/// What is examined: this host's installation.
struct Installation<'a> {
    config: Config,
    store: SqliteStore,
    /// `--mailbox`.
    mailbox: Option<String>,
    clock: Clock,
    runtime: Runtime,
    context: &'a Context,
}

/// One check: what it found, a line each.
type Check = fn(&Installation) -> Result<Vec<Finding>, Failure>;

/// Every check behind configuration and state, in the order in which they are told.
const CHECKS: [Check; 8] = [
    host::certificates,
    host::descriptors,
    sources::hosts,
    relay::way,
    relay::token_services,
    sources::all,
    counts::agree,
    host::daemon,
];

/// Runs the command.
pub fn run(args: &Args, context: &mut Context) -> Result<(), Failure> {
    let findings = examine(args, context)?;
    if context.screen.is_json {
        context.screen.json(&findings)?;
    } else {
        tell(&findings, context)?;
    }
    let is_well = findings.iter().all(|finding| finding.result != Condition::Ill);
    if is_well { Ok(()) } else { Err(Failure::told(Exit::Unavailable)) }
}

/// Without configuration or state nothing behind them can be looked at.
fn examine(args: &Args, context: &Context) -> Result<Vec<Finding>, Failure> {
    let (mut findings, config) = host::configuration(context);
    let Some(config) = config else { return Ok(findings) };
    let (state, store) = host::state(&config, context);
    findings.push(state);
    let Some(store) = store else { return Ok(findings) };
    let (mailbox, clock, runtime) = (args.mailbox.clone(), context.clock, super::relay::runtime()?);
    let installation = Installation { config, store, mailbox, clock, runtime, context };
    for check in CHECKS {
        findings.extend(check(&installation)?);
    }
    Ok(findings)
}

fn tell(findings: &[Finding], context: &mut Context) -> Result<(), Failure> {
    let width = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or(0);
    for Finding { check, result, found, remedy } in findings {
        let mark = match result {
            Condition::Well => "✓".to_owned(),
            Condition::Ill => context.screen.warning("✗"),
            Condition::Skipped => "–".to_owned(),
        };
        context.screen.line(format!("{mark} {check:width$}  {found}"))?;
        if let Some(remedy) = remedy {
            context.screen.line(format!("  {:width$}  → {remedy}", ""))?;
        }
    }
    Ok(())
}
