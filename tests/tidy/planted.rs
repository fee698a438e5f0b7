//! Planted faults and the files that they break: each patch still fits. `tests/mutations/run --check` compiles them.

use crate::sources::{files, none, read, root};

/// What a unified diff expects to find: for each hunk its file, and the lines that are there before it. Hunks of files
/// that the diff adds are left out.
fn hunks(patch: &str) -> Vec<(String, String)> {
    let mut hunks: Vec<(String, String)> = Vec::new();
    let mut file = String::new();
    for line in patch.lines() {
        if let Some(path) = line.strip_prefix("--- ") {
            path.trim_start_matches("a/").clone_into(&mut file);
        } else if line.starts_with("@@ ") {
            hunks.push((file.clone(), String::new()));
        } else if let Some((_, before)) = hunks.last_mut()
            && let Some(kept) = line.strip_prefix(' ').or_else(|| line.strip_prefix('-'))
        {
            before.push_str(kept);
            before.push('\n');
        }
    }
    hunks.retain(|(file, _)| file != "/dev/null");
    hunks
}

/// The hunks of a patch that do not fit, one line each.
pub(crate) fn misfits(patch: &str) -> Vec<String> {
    let hunks = hunks(&read(patch));
    assert!(!hunks.is_empty(), "{patch}: no hunk was read");
    let fits = |file: &str, before: &str| root().join(file).is_file() && read(file).contains(before);
    let misfits = hunks.iter().filter(|(file, before)| !fits(file, before));
    misfits.map(|(file, _)| format!("{patch}: does not fit {file}")).collect()
}

#[test]
fn every_planted_fault_fits_what_it_breaks() {
    let patches = files("tests/mutations", "patch");
    assert!(patches.len() > 20, "only {} patches were read", patches.len());
    none(&patches.iter().flat_map(|patch| misfits(patch)).collect::<Vec<_>>());
}

#[test]
fn a_fault_that_can_be_chosen_asks_for_its_own_name() {
    let mut complaints = Vec::new();
    for path in files("tests/mutations", "patch") {
        let name = path.trim_start_matches("tests/mutations/").trim_end_matches(".patch").to_owned();
        let text = read(&path);
        let asked = text.split("planted::is(\"").skip(1).filter_map(|rest| rest.split('"').next());
        complaints
            .extend(asked.filter(|asked| *asked != name).map(|asked| format!("{path}: asks for {asked}")));
    }
    none(&complaints);
}

#[test]
fn hunks_are_read_with_the_lines_before_the_change() {
    let patch = "Why.\n\n--- a/x.rs\n+++ b/x.rs\n@@ -1,2 +1,2 @@\n one\n-two\n+three\n--- /dev/null\n+++ b/y.rs\n@@ -0,0 +1 @@\n+four\n";
    assert_eq!(hunks(patch), [("x.rs".to_owned(), "one\ntwo\n".to_owned())]);
}
