//! `mailbadge-sim`: see the library.

use mimalloc::MiMalloc;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    mailbadge_sim::cli::main_with(std::env::args_os())
}
