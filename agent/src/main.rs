//! The binary `mailbadge`: the allocator, and the arguments handed to the library.

use std::process::ExitCode;

/// Many small records of the same few sizes, freed by other threads than those that made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    mailbadge::cli::main_with(std::env::args_os())
}
