//! Keeps the house as ARCHITECTURE.md describes it, by reading the source: arrows between rooms, circles of files, the
//! driver rule, file and function length, module docs, one version per dependency, planted faults that still fit,
//! decisions with their alternatives, names in documents that still exist.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

mod arrows;
mod documents;
mod drivers;
mod planted;
mod shape;
mod toy_source;

mod imports;
mod modules;
mod sources;

use sources::{none, read};

#[test]
fn crates_take_their_dependencies_from_the_workspace() {
    let mut complaints = Vec::new();
    for manifest in ["agent/Cargo.toml", "simulator/Cargo.toml"] {
        let text = read(manifest);
        let mut is_dependencies = false;
        for line in text.lines() {
            if line.starts_with('[') {
                is_dependencies = line.contains("dependencies");
            } else if is_dependencies && line.contains('=') && !line.contains("workspace = true") {
                complaints.push(format!("{manifest}: {line}"));
            }
        }
    }
    none(&complaints);
}
