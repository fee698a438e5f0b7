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
    required_as(program, program)
}

/// The same where `MAILBADGE_REQUIRE` lists the program as `name`.
pub fn required_as(name: &str, program: &str) -> bool {
    required_if(name, program, find(program).is_some())
}

/// The same where looking for `program` on the path would not tell: `is_there` does.
pub fn required_if(name: &str, program: &str, is_there: bool) -> bool {
    if is_there {
        return true;
    }
    let list = env::var(REQUIRE).unwrap_or_default();
    assert!(!is_listed(&list, name), "{program} is not installed, and {REQUIRE} lists {name}");
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    // Written past the harness, which would swallow it: a test that did not run must not look like one that did.
    let _ = writeln!(io::stderr().lock(), "left out: {test} ({program} is not installed)");
    false
}

/// Whether tests take as long as they like: `MAILBADGE_LONG` is set.
pub fn is_long() -> bool {
    env::var_os("MAILBADGE_LONG").is_some()
}

fn is_listed(list: &str, program: &str) -> bool {
    list.split(',').any(|name| name.trim() == program)
}

/// Where the program is: `PATH`, then where Debian keeps servers.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| Path::new(file).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_installed_is_left_out_unless_it_is_listed() {
        assert!(required("sh"));
        assert!(!required("no-such-program"));
        for (list, is_in) in [("", false), ("dovecot", true), ("cyrus, dovecot", true), ("dovecot2", false)] {
            assert_eq!(is_listed(list, "dovecot"), is_in, "{list}");
        }
    }
}
