//! The toy kind of source stands for the next one. `tests/mutations/run --check` compiles it.

use crate::sources::{none, read};

/// Files outside its own folder that a new kind of source may touch.
const FILES_OF_A_KIND_MAX: usize = 4;

#[test]
fn a_new_kind_of_source_touches_four_files_outside_its_folder_at_most() {
    let text = read("tests/toy_source/kind.patch");
    let touched: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("+++ b/")).collect();
    let outside: Vec<&str> =
        touched.iter().copied().filter(|path| !path.starts_with("agent/src/source/toy/")).collect();
    assert!(outside.len() < touched.len(), "the patch adds no folder of its own");
    assert!(outside.len() <= FILES_OF_A_KIND_MAX, "{outside:?}");
    none(&crate::planted::misfits("tests/toy_source/kind.patch"));
}
