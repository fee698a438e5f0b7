//! What it takes to add a kind of source: the toy kind in `tests/toy_source` stands for the next one.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

/// Files outside its own folder that a new kind may touch.
const FILES_MAX: usize = 4;
/// The folder of the toy kind.
const FOLDER: &str = "agent/src/source/toy/";
/// The patch that adds it. `tests/toy_source/check` compiles the agent with it.
const PATCH: &str = "tests/toy_source/kind.patch";

#[test]
fn a_new_kind_of_source_touches_four_files_outside_its_folder_at_most() {
    let text = fs::read_to_string(root().join(PATCH)).unwrap();
    let touched: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("+++ b/")).collect();
    let outside: Vec<_> = touched.iter().filter(|path| !path.starts_with(FOLDER)).collect();
    assert!(outside.len() < touched.len(), "the patch has nothing in {FOLDER}");
    assert!(outside.len() <= FILES_MAX, "{outside:?}");
}

#[test]
fn the_toy_kind_of_source_applies() {
    if !root().join(".git").exists() {
        // Written past the harness, which would swallow it.
        let _ =
            writeln!(io::stderr().lock(), "left out: the_toy_kind_of_source_applies (no work tree of git)");
        return;
    }
    let mut git = Command::new("git");
    let check = git.arg("-C").arg(root()).args(["apply", "--check", PATCH]).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
