//! `cargo sim`: tells stories of the simulation by seed, by range, by plan, or fresh ones for a while; shrinks what fails.
//!
//! What a story is stands in `tests/support/simulation`. Exit codes: 0 all clean, 1 an expectation broke, 64 usage.

mod arguments;
mod course;

use arguments::{Arguments, Selection};
use clap::Parser;
use mimalloc::MiMalloc;
use std::io::{self, Write};
use std::process::ExitCode;
use support::simulation::{Plan, StoryReport, play_plan};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// sysexits: the command line.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            // There is nobody to tell where this fails.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let is_clean = match arguments.selection() {
        Ok(Selection::Plan(plan)) => one(&plan, &arguments),
        Ok(Selection::Seed(seed, profile)) => one(&Plan::new(seed, profile), &arguments),
        Ok(Selection::Many(course)) => course::play(&course, &arguments),
        Err(error) => {
            tell(&mut io::stderr(), &format!("sim: {error:#}"));
            return ExitCode::from(USAGE);
        }
    };
    if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One story; shrunk where it fails.
fn one(plan: &Plan, arguments: &Arguments) -> bool {
    let report = play_plan(plan, arguments.verbose);
    let is_same = !arguments.doublecheck || is_told_the_same_twice(plan, &report);
    if arguments.json {
        tell(&mut io::stdout(), &json(&report));
    } else {
        tell(&mut io::stdout(), &report.to_string());
    }
    if !report.is_clean() && arguments.shrink_tries > 0 {
        tell(&mut io::stderr(), &course::shrunk(plan, &report, arguments.shrink_tries));
    }
    report.is_clean() && is_same
}

/// Whether a second telling gives the same report, byte by byte.
fn is_told_the_same_twice(plan: &Plan, first: &StoryReport) -> bool {
    let (first, second) = (json(first), json(&play_plan(plan, false)));
    if first != second {
        let (seed, profile) = (plan.seed, plan.profile);
        tell(
            &mut io::stderr(),
            &format!("seed {seed}, profile {profile}: told twice, two stories\n{first}\n{second}"),
        );
    }
    first == second
}

fn json(report: &StoryReport) -> String {
    serde_json::to_string(report).expect("numbers and strings are JSON")
}

/// A line; one that nobody reads any more is lost.
fn tell(to: &mut dyn Write, line: &str) {
    let _ = writeln!(to, "{line}");
}
