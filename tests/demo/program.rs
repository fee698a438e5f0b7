//! One binary for all that tests and people start: `agent …` is mailbadge, `simulator …` is mailbadge-sim, everything
//! else is the demo.

mod mail;
mod show;

use mimalloc::MiMalloc;
use std::ffi::OsString;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let own = args.next().unwrap_or_default();
    let rest: Vec<OsString> = args.collect();
    let of = |name: &str| std::iter::once(OsString::from(name)).chain(rest.iter().skip(1).cloned());
    match rest.first().and_then(|program| program.to_str()) {
        Some("agent") => mailbadge::cli::main_with(of("mailbadge")),
        Some("simulator") => mailbadge_sim::cli::main_with(of("mailbadge-sim")),
        _ => show::main_with(std::iter::once(own).chain(rest)),
    }
}
