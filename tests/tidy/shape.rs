//! The size and form of files: lines, functions, module docs, no ignored tests, nothing left to do.

use crate::sources::{none, sources};

/// Lines in a source file, at most.
const FILE_LINES_MAX: usize = 500;
/// Lines in a function, at most.
const FUNCTION_LINES_MAX: usize = 70;
/// Of all functions, so many in a hundred have at most [`SHORT_FUNCTION_LINES`].
const SHORT_FUNCTIONS_PERCENT: usize = 90;
/// See [`SHORT_FUNCTIONS_PERCENT`].
const SHORT_FUNCTION_LINES: usize = 30;

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
