//! Keeps the house as ARCHITECTURE.md describes it, by reading the source: arrows between rooms, the driver rule,
//! file and function length, module docs, one version per dependency, planted faults that still fit.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

#[path = "tidy/kinds.rs"]
mod kinds;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines in a source file, at most.
const FILE_LINES_MAX: usize = 500;
/// Lines in a function, at most.
const FUNCTION_LINES_MAX: usize = 70;
/// Of all functions, so many in a hundred have at most [`SHORT_FUNCTION_LINES`].
const SHORT_FUNCTIONS_PERCENT: usize = 90;
/// See [`SHORT_FUNCTIONS_PERCENT`].
const SHORT_FUNCTION_LINES: usize = 30;

/// A Rust file of the workspace.
struct Source {
    /// Relative to the workspace, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// Without the tests at its end.
    fn production(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(&self.text)
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.contains("/tests/")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files under these folders of the workspace.
fn sources(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in folders {
        collect(&root().join(folder), &mut found);
    }
    assert!(!found.is_empty(), "no source under {folders:?}");
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
            found.push(Source { path: relative, text: fs::read_to_string(&path).unwrap() });
        }
    }
}

/// Fails with all complaints at once.
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The modules of a crate in the order in which `lib.rs` lists them: reading order, arrows pointing down.
fn modules(lib: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(lib)).unwrap();
    let modules = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    modules.map(str::to_owned).collect()
}

/// The first-level modules of its own crate that a file names.
fn named_modules<'a>(text: &str, modules: &'a [String]) -> BTreeSet<&'a str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut named = BTreeSet::new();
    for line in code {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            named.extend(modules.iter().map(String::as_str).filter(|module| {
                rest.strip_prefix(module)
                    .is_some_and(|next| !next.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
            }));
        }
    }
    named
}

fn check_arrows(lib: &str, folder: &str) {
    let modules = modules(lib);
    let rank = |module: &str| modules.iter().position(|known| known == module);
    let mut complaints = Vec::new();
    for source in sources(&[folder]) {
        let relative = source.path.trim_start_matches(folder).trim_start_matches('/');
        let own = relative.split(['/', '.']).next().unwrap_or_default();
        let Some(own_rank) = rank(own) else { continue };
        for named in named_modules(source.production(), &modules) {
            if named != own && rank(named).is_some_and(|named_rank| named_rank < own_rank) {
                complaints
                    .push(format!("{}: knows `{named}`, which stands above `{own}` in {lib}", source.path));
            }
        }
    }
    none(&complaints);
}

#[test]
fn arrows_in_the_agent_point_down() {
    check_arrows("agent/src/lib.rs", "agent/src");
}

#[test]
fn a_source_knows_neither_tracker_nor_forwarder_and_the_tracker_only_the_vocabulary() {
    let modules = modules("agent/src/lib.rs");
    let vocabulary = ["event", "time", "counters"];
    let rooms: [(&str, &[&str]); 3] = [
        ("agent/src/source", &["source", "https", "event", "time", "counters"]),
        ("agent/src/tracker", &["tracker", "event", "time", "counters"]),
        ("agent/src/store", &["store", "identity", "subscription", "event", "time", "counters"]),
    ];
    let mut complaints = Vec::new();
    for (room, allowed) in rooms {
        for source in sources(&[room]) {
            for named in named_modules(source.production(), &modules) {
                if !allowed.contains(&named) && !vocabulary.contains(&named) {
                    complaints.push(format!("{}: knows `{named}`", source.path));
                }
            }
        }
    }
    none(&complaints);
}

#[test]
fn agent_and_simulator_do_not_know_each_other() {
    let mut complaints = Vec::new();
    for (folder, other) in [("agent", "mailbadge-sim"), ("simulator", "mailbadge.workspace")] {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        if manifest.contains(other) {
            complaints.push(format!("{folder}/Cargo.toml depends on {other}"));
        }
    }
    for (folder, other) in [("agent/src", "mailbadge_sim::"), ("simulator/src", "mailbadge::")] {
        for source in sources(&[folder]) {
            if source.text.contains(other) {
                complaints.push(format!("{} names {other}", source.path));
            }
        }
    }
    none(&complaints);
}

/// Whether a file may touch sockets, files, clocks, threads and the environment.
fn is_driver(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    let drivers = [
        "agent/src/run.rs",
        "agent/src/run/",
        "agent/src/config.rs",
        "agent/src/config/",
        "agent/src/store/",
        "agent/src/commands/",
        "simulator/src/serve/",
        "simulator/src/load/",
        "simulator/src/cli/",
        "simulator/src/client/",
    ];
    file == "driver.rs"
        || path.contains("/driver/")
        || file == "main.rs"
        || file == "tests.rs"
        || path.contains("/tests/")
        || drivers.iter().any(|driver| path.starts_with(driver))
}

#[test]
fn only_drivers_touch_the_world() {
    let world = [
        "std::net::Tcp",
        "std::net::Udp",
        "std::os::unix::net",
        "tokio::net",
        "std::fs::",
        "use std::fs;",
        "tokio::fs",
        "Instant::now",
        "SystemTime::now",
        "std::env::var",
        "std::process::Command",
        "std::thread::spawn",
        "tokio::spawn",
        "tokio::time",
        "OsRng",
        "thread_rng",
    ];
    let mut complaints = Vec::new();
    for source in sources(&["agent/src", "simulator/src"]) {
        if is_driver(&source.path) {
            continue;
        }
        for (number, line) in source.production().lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for word in world.iter().filter(|word| line.contains(**word)) {
                complaints.push(format!("{}:{}: `{word}` outside a driver", source.path, number + 1));
            }
        }
    }
    none(&complaints);
}

#[test]
fn files_are_short_and_open_with_what_lives_there() {
    let mut complaints = Vec::new();
    for source in sources(&["agent/src", "simulator/src", "tests", "benches"]) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            complaints.push(format!("{}: {lines} lines, {FILE_LINES_MAX} at most", source.path));
        }
        if !source.text.starts_with("//!") {
            complaints.push(format!("{}: no module doc in its first line", source.path));
        }
    }
    none(&complaints);
}

/// Names, first lines and lengths of the functions in a file, by rustfmt's indentation.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(String, String, usize)> = None;
    for (number, line) in text.lines().enumerate() {
        match &open {
            Some((name, close, first)) if line == close => {
                found.push((name.clone(), *first, number + 2 - first));
                open = None;
            }
            Some(_) => {}
            None => {
                let trimmed = line.trim_start();
                let head = trimmed.split("fn ").next().unwrap_or_default();
                let is_head = trimmed.contains("fn ")
                    && head
                        .split_whitespace()
                        .all(|w| w.starts_with("pub") || ["const", "async"].contains(&w) || w.ends_with(')'));
                if is_head && !trimmed.ends_with(';') && !trimmed.ends_with('}') {
                    let name = trimmed.split("fn ").nth(1).unwrap_or_default();
                    let name = name.split(['(', '<']).next().unwrap_or_default().to_owned();
                    let indent = &line[..line.len() - trimmed.len()];
                    open = Some((name, format!("{indent}}}"), number + 1));
                }
            }
        }
    }
    found
}

#[test]
fn functions_are_short() {
    let mut complaints = Vec::new();
    let (mut short, mut all) = (0, 0);
    for source in sources(&["agent/src", "simulator/src", "tests", "benches"]) {
        for (name, line, length) in functions(&source.text) {
            if length > FUNCTION_LINES_MAX {
                complaints.push(format!(
                    "{}:{line}: `{name}` has {length} lines, {FUNCTION_LINES_MAX} at most",
                    source.path
                ));
            }
            if !source.is_test() {
                all += 1;
                short += usize::from(length <= SHORT_FUNCTION_LINES);
            }
        }
    }
    assert!(all > 100, "the counter of functions found only {all}");
    if short * 100 < all * SHORT_FUNCTIONS_PERCENT {
        complaints.push(format!("{short} of {all} functions have at most {SHORT_FUNCTION_LINES} lines"));
    }
    none(&complaints);
}

#[test]
fn crates_take_their_dependencies_from_the_workspace() {
    let mut complaints = Vec::new();
    for manifest in ["agent/Cargo.toml", "simulator/Cargo.toml"] {
        let text = fs::read_to_string(root().join(manifest)).unwrap();
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

#[test]
fn no_test_is_ignored_and_nothing_is_left_to_do() {
    let words = ["#[ig", "nore"].concat();
    let left = [["todo", "!("].concat(), ["unimplemented", "!("].concat()];
    let mut complaints = Vec::new();
    for source in sources(&["agent/src", "simulator/src", "tests", "benches"]) {
        for (number, line) in source.text.lines().enumerate() {
            if line.contains(&words) || left.iter().any(|word| line.contains(word.as_str())) {
                complaints.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    none(&complaints);
}

/// What a unified diff expects to find: for each hunk its file, and the lines that are there before it.
fn hunks(patch: &str) -> Vec<(String, String)> {
    let mut hunks: Vec<(String, String)> = Vec::new();
    let mut file = String::new();
    for line in patch.lines() {
        if let Some(path) = line.strip_prefix("--- a/") {
            path.clone_into(&mut file);
        } else if line.starts_with("@@ ") {
            hunks.push((file.clone(), String::new()));
        } else if let Some((_, before)) = hunks.last_mut()
            && let Some(kept) = line.strip_prefix(' ').or_else(|| line.strip_prefix('-'))
            && !line.starts_with("--")
        {
            before.push_str(kept);
            before.push('\n');
        }
    }
    hunks
}

#[test]
fn every_planted_fault_fits_what_it_breaks() {
    let mut complaints = Vec::new();
    let mut fitting = 0;
    for entry in fs::read_dir(root().join("tests/mutations")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        for (file, before) in hunks(&fs::read_to_string(&path).unwrap()) {
            if fs::read_to_string(root().join(&file)).is_ok_and(|text| text.contains(&before)) {
                fitting += 1;
            } else {
                complaints.push(format!("{}: does not fit {file}", path.display()));
            }
        }
    }
    none(&complaints);
    assert!(fitting > 20, "only {fitting} hunks were read");
}
