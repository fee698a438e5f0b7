//! The recorded counts: a line for the toolchain, then a line for each path.

use std::fs;
use std::io;

/// Relative to the workspace.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");
/// Before the counts.
const HEAD: &str = "# Instructions of one operation, by callgrind. To record anew:
# MAILBADGE_BLESS=1 cargo bench -p proof --bench instructions\n";
/// Before the toolchain.
const TOOLCHAIN: &str = "toolchain: ";

/// Counts with what they were counted by.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) toolchain: String,
    pub(crate) counts: Vec<(String, f64)>,
}

impl Record {
    /// What was recorded; empty if nothing was.
    pub(crate) fn read() -> io::Result<Self> {
        let mut record = Self::default();
        for line in fs::read_to_string(FILE)?.lines() {
            if let Some(toolchain) = line.strip_prefix(TOOLCHAIN) {
                toolchain.clone_into(&mut record.toolchain);
            } else if let Some((name, count)) = line.rsplit_once(' ')
                && let Ok(count) = count.parse()
            {
                record.counts.push((name.trim().to_owned(), count));
            }
        }
        Ok(record)
    }

    /// Replaces what was recorded.
    pub(crate) fn write(&self) -> io::Result<()> {
        let counts = self.counts.iter().map(|(name, count)| format!("{name} {count:.1}\n"));
        let text: String =
            [format!("{HEAD}{TOOLCHAIN}{}\n", self.toolchain)].into_iter().chain(counts).collect();
        fs::write(FILE, text)
    }

    /// The count of a path; not a number if it has none.
    pub(crate) fn of(&self, name: &str) -> f64 {
        self.counts.iter().find(|(known, _)| known == name).map_or(f64::NAN, |(_, count)| *count)
    }
}
