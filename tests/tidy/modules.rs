//! The agent's modules as a picture: which module names which.

use crate::imports::Names;
use crate::sources::{read, sources};
use std::collections::{BTreeMap, BTreeSet};

/// How often a name is followed through modules that hand it on by `use`.
const HANDED_ON_MAX: usize = 8;

/// A module and another that it names.
pub(crate) type Arrow = (String, String);

/// The modules of one crate. Each is called by its path without `crate`: `source::imap`; the root is the empty name.
pub(crate) struct Modules {
    /// First-level modules in the order of `lib.rs`.
    pub(crate) rooms: Vec<String>,
    names: BTreeMap<String, Names>,
}

impl Modules {
    /// Of the agent.
    pub(crate) fn of_the_agent() -> Self {
        let files = sources(&["agent/src"]).into_iter().filter(|source| !source.is_test()).map(|source| {
            let path = source.path.trim_start_matches("agent/src/").to_owned();
            (path, source.text)
        });
        Self::new(&read("agent/src/lib.rs"), files)
    }

    /// Of a crate's root, and the paths below it with their texts.
    pub(crate) fn new(lib: &str, files: impl Iterator<Item = (String, String)>) -> Self {
        let rooms = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        let names = files.filter(|(path, _)| path != "main.rs");
        Self {
            rooms: rooms.map(str::to_owned).collect(),
            names: names.map(|(path, text)| (module(&path), Names::read(&text))).collect(),
        }
    }

    /// All arrows from one module to another.
    pub(crate) fn arrows(&self) -> BTreeSet<Arrow> {
        let mut arrows = BTreeSet::new();
        for (module, names) in &self.names {
            for named in &names.all {
                if let Some(target) = self.target(module, &named.segments, HANDED_ON_MAX)
                    && target != *module
                {
                    arrows.insert((module.clone(), target));
                }
            }
        }
        arrows
    }

    /// The module in which what a path names lives; `None` for another crate's. Names that a module hands on are
    /// followed to where they live.
    fn target(&self, from: &str, segments: &[String], handed_on: usize) -> Option<String> {
        let absolute = self.absolute(from, segments)?;
        let known = (0..=absolute.len()).rev().find_map(|length| {
            let name = absolute.get(..length)?.join("::");
            self.names.contains_key(&name).then_some((name, length))
        });
        let (name, length) = known?;
        let handed_on = handed_on.checked_sub(1)?;
        let next = absolute.get(length).and_then(|item| self.names.get(&name)?.aliases.get(item));
        let further = next.and_then(|path| self.target(&name, path, handed_on));
        Some(further.unwrap_or(name))
    }

    /// A path from the crate's root, where the path is one of this crate's.
    fn absolute(&self, from: &str, segments: &[String]) -> Option<Vec<String>> {
        let mut path: Vec<String> =
            from.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let mut rest = segments;
        match segments.first()?.as_str() {
            "crate" => path.clear(),
            "self" => {}
            "super" => {
                path.pop()?;
            }
            // A child of the module, without `self::`.
            child => {
                path.push(child.to_owned());
                return self.names.contains_key(&path.join("::")).then(|| {
                    path.extend(segments.iter().skip(1).cloned());
                    path
                });
            }
        }
        while let Some((_, after)) = rest.split_first() {
            rest = after;
            if rest.first().is_none_or(|next| next != "super") {
                break;
            }
            path.pop()?;
        }
        path.extend(rest.iter().cloned());
        Some(path)
    }
}

/// The module that a file is: `source/imap/mod.rs` and `source/imap.rs` are `source::imap`.
fn module(path: &str) -> String {
    let path = path.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { String::new() } else { path.replace('/', "::") }
}

/// The first-level module of a module.
pub(crate) fn room(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

/// Whether one of both is the other's parent.
pub(crate) fn is_parent_and_child(a: &str, b: &str) -> bool {
    let parent =
        |module: &str| module.rsplit_once("::").map(|(parent, _)| parent.to_owned()).unwrap_or_default();
    parent(a) == b || parent(b) == a
}

/// Groups of modules of which each is reached from each other one along the arrows.
pub(crate) fn circles(arrows: &BTreeSet<Arrow>) -> Vec<BTreeSet<String>> {
    let nodes: BTreeSet<&String> = arrows.iter().flat_map(|(from, to)| [from, to]).collect();
    let reach: BTreeMap<&String, BTreeSet<&String>> =
        nodes.iter().map(|node| (*node, reached(node, arrows))).collect();
    let mut circles: Vec<BTreeSet<String>> = Vec::new();
    for (node, reached) in &reach {
        let circle: BTreeSet<String> = reached
            .iter()
            .filter(|other| reach.get(*other).is_some_and(|back| back.contains(node)))
            .map(|other| (*other).clone())
            .collect();
        if circle.len() > 1 && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

fn reached<'a>(node: &str, arrows: &'a BTreeSet<Arrow>) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![node];
    while let Some(from) = open.pop() {
        let next = arrows.range((from.to_owned(), String::new())..).take_while(|(known, _)| known == from);
        for (_, to) in next {
            if reached.insert(to) {
                open.push(to);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIB: &str = "pub mod top;\npub mod low;\n";

    #[track_caller]
    fn check(files: &[(&str, &str)], expected: &[(&str, &str)]) {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        let modules = Modules::new(LIB, files.chain([("lib.rs".to_owned(), LIB.to_owned())]));
        let arrows = modules.arrows();
        let arrows: Vec<(&str, &str)> = arrows.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(arrows, expected, "{expected:?}");
    }

    #[test]
    fn arrows_go_to_the_module_in_which_a_name_lives() {
        let low = ("low/mod.rs", "mod inner;\npub use inner::Thing;\npub struct Own;");
        let inner = ("low/inner.rs", "pub struct Thing;");
        check(&[("top.rs", "use crate::low::Own;"), low, inner], &[("low", "low::inner"), ("top", "low")]);
        let handed_on = [("low", "low::inner"), ("top", "low::inner")];
        check(&[("top.rs", "use crate::low::Thing;"), low, inner], &handed_on);
        check(
            &[("top.rs", "use crate::{low as l};\nfn f() -> l::inner::Thing {}"), low, inner],
            &[("low", "low::inner"), ("top", "low"), ("top", "low::inner")],
        );
    }

    #[test]
    fn super_leaves_the_module_as_often_as_it_is_said() {
        let files = [("low.rs", ""), ("top/mod.rs", ""), ("top/a.rs", ""), ("top/b.rs", "use super::a::A;")];
        check(&files, &[("top::b", "top::a")]);
        let files = [("low.rs", ""), ("top/mod.rs", ""), ("top/b.rs", "fn f() { super::super::low::g() }")];
        check(&files, &[("top::b", "low")]);
        let files = [("low.rs", ""), ("top.rs", "use std::fs; use top::x; fn f() { self::g(); Self::h() }")];
        check(&files, &[]);
    }

    #[test]
    fn circles_are_found_over_several_modules() {
        let arrows = |pairs: &[(&str, &str)]| -> BTreeSet<Arrow> {
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        assert_eq!(circles(&arrows(&[("a", "b"), ("b", "c"), ("a", "c")])), Vec::<BTreeSet<String>>::new());
        let found = circles(&arrows(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("x", "a")]));
        assert_eq!(found, [BTreeSet::from(["a", "b", "c"].map(str::to_owned))]);
        assert!(is_parent_and_child("a::b", "a") && is_parent_and_child("a", "a::b"));
        assert!(!is_parent_and_child("a::b", "a::c") && !is_parent_and_child("a", "a::b::c"));
    }
}
