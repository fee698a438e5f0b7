//! Which programs a test needs beyond the toolchain, and what happens where one is missing.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;

/// Lists, separated by commas, whose absence is a failure.
const REQUIRE: &str = "MAILBADGE_REQUIRE";

/// Whether `program` is installed, so that the test can run.
///
/// Where it is not, says by name which test is left out; panics where `MAILBADGE_REQUIRE` lists the program.
pub fn required(program: &str) -> bool {
    if find(program).is_some() {
        return true;
    }
    let listed = env::var(REQUIRE).unwrap_or_default();
    assert!(
        !listed.split(',').any(|name| name.trim() == program),
        "{program} is not installed, and {REQUIRE} lists it"
    );
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    // Written past the harness, which would swallow it: a test that did not run must not look like one that did.
    let _ = writeln!(io::stderr().lock(), "left out: {test} ({program} is not installed)");
    false
}

/// Where the program is: `PATH`, then where Debian keeps servers.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| Path::new(file).is_file())
}
