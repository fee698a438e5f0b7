//! One binary for all that tests and the demo start: the first argument says which program to be.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let program = args.next().unwrap_or_default();
    match program.to_str() {
        Some("agent") => mailbadge::cli::main_with([OsString::from("mailbadge")].into_iter().chain(args)),
        Some("simulator") => {
            mailbadge_sim::cli::main_with([OsString::from("mailbadge-sim")].into_iter().chain(args))
        }
        _ => {
            let usage = "usage: demo agent|simulator ARGUMENTS…";
            writeln!(std::io::stderr(), "{usage}").ok();
            ExitCode::from(64)
        }
    }
}
