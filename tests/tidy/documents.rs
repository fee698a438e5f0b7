//! Documents: each decision says what else was possible and what would change it, and the code that documents name
//! still exists.

use crate::sources::{Source, files, none, read, sources};
use std::path::Path;

/// Paragraphs that each decision has.
const PARAGRAPHS: &[&str] = &["**Alternatives.**", "**What would change our mind.**"];

#[test]
fn every_decision_names_its_alternatives_and_what_would_change_it() {
    let mut complaints = Vec::new();
    let decisions = files("docs/adr", "md").into_iter().filter(|path| !path.ends_with("README.md"));
    for path in decisions {
        let text = read(&path);
        for paragraph in PARAGRAPHS.iter().filter(|paragraph| text.matches(**paragraph).count() != 1) {
            complaints.push(format!("{path}: has no paragraph {paragraph}"));
        }
    }
    none(&complaints);
}

/// The texts between backquotes, outside blocks of code.
fn quoted(text: &str) -> Vec<&str> {
    let outside = text.split("```").step_by(2);
    outside.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

/// `folder/file.rs`, with or without the folders before it.
fn is_file(name: &str) -> bool {
    let is_rust = Path::new(name).extension().is_some_and(|extension| extension == "rs");
    is_rust && name.chars().all(|c| c.is_ascii_alphanumeric() || "_/.-".contains(c))
}

/// `Type::member` or `module::item` into its two names.
fn member(name: &str) -> Option<(&str, &str)> {
    let is_name =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    name.split_once("::").filter(|(owner, member)| is_name(owner) && is_name(member))
}

/// The crates that this workspace is built from.
fn crates() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let dependencies = manifest.lines().filter_map(|line| line.split_once([' ', '.', '=']));
    let names = dependencies.map(|(name, _)| name.replace('-', "_"));
    names.chain(["std".to_owned(), "core".to_owned()]).collect()
}

/// Whether one of these files is called so, or has both the type, or is the module, and the member.
fn is_there(name: &str, sources: &[Source]) -> bool {
    let Some((owner, member)) = member(name) else {
        let end = format!("/{name}");
        return sources.iter().any(|source| source.path == name || source.path.ends_with(&end));
    };
    let definitions = ["struct", "enum", "trait", "type", "impl"].map(|word| format!("{word} {owner}"));
    let module = [format!("/{owner}.rs"), format!("/{owner}/")];
    sources.iter().any(|source| {
        has(&source.text, member)
            && (module.iter().any(|end| source.path.contains(end))
                || definitions.iter().any(|definition| has(&source.text, definition)))
    })
}

/// Whether a text has these words, and not as a part of longer ones.
fn has(text: &str, words: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(words).any(|(at, _)| {
        let before = text.get(..at).and_then(|rest| rest.chars().next_back());
        let after = text.get(at + words.len()..).and_then(|rest| rest.chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

#[test]
fn code_that_documents_name_exists() {
    let sources = sources(&["agent", "simulator", "tests", "benches"]);
    let crates = crates();
    let is_ours =
        |name: &str| member(name).is_some_and(|(owner, _)| !crates.iter().any(|known| known == owner));
    let mut complaints = Vec::new();
    let mut found = 0;
    for path in
        files("docs", "md").into_iter().chain(["ARCHITECTURE.md".to_owned(), "CONTRIBUTING.md".to_owned()])
    {
        let text = read(&path);
        for name in quoted(&text).into_iter().filter(|name| is_file(name) || is_ours(name)) {
            found += 1;
            if !is_there(name, &sources) {
                complaints.push(format!("{path}: `{name}` does not exist"));
            }
        }
    }
    none(&complaints);
    assert!(found > 100, "only {found} names were read");
}

#[test]
fn names_of_code_are_read_and_looked_for() {
    assert_eq!(quoted("a `b.rs` c\n```\n`d`\n```\n`E::F`"), ["b.rs", "E::F"]);
    assert!(is_file("a/b_c.rs") && !is_file("*/driver.rs") && !is_file("a.md"));
    assert_eq!(member("Hold::Aside"), Some(("Hold", "Aside")));
    assert_eq!(member("a::b::c").or(member("x: y")).or(member("Tracker::on_ready()")), None);
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let sources = [source("a/one.rs", "enum Hold { Aside }"), source("a/two.rs", "fn Beside() {}")];
    for (name, expected) in [
        ("one.rs", true),
        ("a/two.rs", true),
        ("b/two.rs", false),
        ("Hold::Aside", true),
        ("Hold::Asid", false),
        ("Hold::Beside", false),
        ("two::Beside", true),
        ("one::Beside", false),
    ] {
        assert_eq!(is_there(name, &sources), expected, "{name}");
    }
}
