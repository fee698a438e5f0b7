//! Reads which paths a Rust file names: in `use` trees, however nested, and in its code. Tests are left out. The
//! checks of arrows and drivers rest on this reader, so it has tests of its own.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use std::collections::HashMap;

/// A path that a file names, with its first segment replaced by what a `use` of the same file means by it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
}

impl Named {
    /// As it would be written.
    pub(crate) fn text(&self) -> String {
        self.segments.join("::")
    }
}

/// What a file names outside its tests.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) all: Vec<Named>,
    /// The names that `use` brings into the file's scope, with the path that each stands for.
    pub(crate) aliases: HashMap<String, Vec<String>>,
}

impl Names {
    /// Of a file's text. Panics if it is no Rust.
    pub(crate) fn read(text: &str) -> Self {
        let tokens: TokenStream = text.parse().expect("the compiler takes it");
        let mut names = Self::default();
        names.read_uses(tokens.clone());
        names.read_code(tokens);
        names
    }

    fn read_uses(&mut self, stream: TokenStream) {
        let tokens = production(stream);
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Group(group) => self.read_uses(group.stream()),
                TokenTree::Ident(ident) if ident == "use" && !is_punct(tokens.get(at + 1), '<') => {
                    let rest = tokens.get(at + 1..).unwrap_or_default();
                    let tree: Vec<TokenTree> =
                        rest.iter().take_while(|token| !is_punct(Some(token), ';')).cloned().collect();
                    self.read_tree(&tree, &[]);
                }
                _ => {}
            }
        }
    }

    /// One `use` tree: `a::b`, `a::{b, c::d}`, `a::b as c`, `a::*`.
    fn read_tree(&mut self, tree: &[TokenTree], before: &[String]) {
        let mut path = before.to_vec();
        let mut line = 0;
        let mut tokens = tree.iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Group(group) => {
                    for branch in branches(group) {
                        self.read_tree(&branch, &path);
                    }
                    return;
                }
                TokenTree::Ident(ident) if ident == "as" => {
                    let alias = tokens.next().map(ToString::to_string).unwrap_or_default();
                    self.bring(alias, path, line);
                    return;
                }
                TokenTree::Ident(ident) => {
                    line = ident.span().start().line;
                    // `use a::{self}` means `a` itself.
                    if ident != "self" || path.is_empty() {
                        path.push(ident.to_string());
                    }
                }
                TokenTree::Punct(punct) if punct.as_char() == '*' => {
                    line = punct.span().start().line;
                    path.push("*".to_owned());
                }
                _ => {}
            }
        }
        let alias = path.last().cloned().unwrap_or_default();
        self.bring(alias, path, line);
    }

    fn bring(&mut self, alias: String, path: Vec<String>, line: usize) {
        if !path.is_empty() {
            self.all.push(Named { segments: path.clone(), line });
            self.aliases.insert(alias, path);
        }
    }

    fn read_code(&mut self, stream: TokenStream) {
        let tokens = production(stream);
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Group(group) => self.read_code(group.stream()),
                TokenTree::Ident(ident) if ident == "use" && !is_punct(tokens.get(at + 1), '<') => {
                    while tokens.get(at).is_some_and(|token| !is_punct(Some(token), ';')) {
                        at += 1;
                    }
                }
                TokenTree::Ident(ident) => {
                    let line = ident.span().start().line;
                    let path = path(tokens.get(at..).unwrap_or_default());
                    at += 3 * (path.len() - 1);
                    if path.len() > 1 {
                        self.all.push(Named { segments: self.spelled_out(path), line });
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    fn spelled_out(&self, path: Vec<String>) -> Vec<String> {
        match path.split_first() {
            Some((first, rest)) if self.aliases.contains_key(first) => {
                self.aliases.get(first).into_iter().flatten().chain(rest).cloned().collect()
            }
            _ => path,
        }
    }
}

/// The tokens without what stands behind `#[cfg(test)]`.
fn production(stream: TokenStream) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut tokens = stream.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_test = is_punct(Some(&token), '#')
            && matches!(tokens.peek(), Some(TokenTree::Group(group)) if group.stream().to_string() == "cfg (test)");
        if !is_test {
            kept.push(token);
            continue;
        }
        tokens.next();
        let is_end = |token: &TokenTree| {
            is_punct(Some(token), ';')
                || matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
        };
        tokens.by_ref().find(is_end);
    }
    kept
}

fn is_punct(token: Option<&TokenTree>, char: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == char)
}

/// The branches of a `use` tree's braces.
fn branches(group: &Group) -> Vec<Vec<TokenTree>> {
    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
    tokens
        .split(|token| is_punct(Some(token), ','))
        .filter(|branch| !branch.is_empty())
        .map(<[TokenTree]>::to_vec)
        .collect()
}

/// The path that begins with the first of these tokens: its identifiers, each but the first behind `::`.
fn path(tokens: &[TokenTree]) -> Vec<String> {
    let mut found = Vec::new();
    for piece in tokens.chunks(3) {
        let [TokenTree::Ident(ident), after @ ..] = piece else { break };
        found.push(ident.to_string());
        if !(is_punct(after.first(), ':') && is_punct(after.get(1), ':')) {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let mut read: Vec<String> = Names::read(text).all.iter().map(Named::text).collect();
        read.sort();
        assert_eq!(read, expected, "{text}");
    }

    #[test]
    fn use_trees_are_read_however_they_are_nested() {
        check("use crate::a::B;", &["crate::a::B"]);
        check("pub use crate::{a, b::{c, d as e}};", &["crate::a", "crate::b::c", "crate::b::d"]);
        check("pub(crate) use super::super::{self, x::*};", &["super::super", "super::super::x::*"]);
        check("use crate::{\n    a::{\n        self,\n        B,\n    },\n};", &["crate::a", "crate::a::B"]);
        check("use a::b; mod m { use crate::c; }", &["a::b", "crate::c"]);
        check("fn f() { use crate::a::b; }", &["crate::a::b"]);
        check("use crate::{};", &[]);
    }

    #[test]
    fn paths_in_code_are_read_and_spelled_out() {
        check("fn f() -> crate::a::B { super::c() }", &["crate::a::B", "super::c"]);
        check(
            "use std::{fs, thread as t}; fn f() { fs::read(t::spawn()) }",
            &["std::fs", "std::fs::read", "std::thread", "std::thread::spawn"],
        );
        check("fn f() { log!(\"{}\", crate::a::b) }", &["crate::a::b"]);
        check("fn f() { x.y::<crate::a::B>(); A::<u8>::new() }", &["crate::a::B"]);
        check("fn f<'a>() -> impl I + use<'a> { crate::a::b('x') }", &["crate::a::b"]);
        check("pub(in crate::a) fn f() {}", &["crate::a"]);
    }

    #[test]
    fn comments_texts_and_tests_name_nothing() {
        check("//! crate::a\n/// [`crate::b`]\nfn f() { \"crate::c\"; /* crate::d */ }", &[]);
        check("#[cfg(test)]\nmod tests { use crate::a; }", &[]);
        check("#[cfg(test)]\nmod tests;\nuse crate::a;", &["crate::a"]);
        check("#[cfg(test)]\npub(crate) fn f() { crate::a::b() }\nuse crate::c;", &["crate::c"]);
        check("#[cfg(unix)]\nuse crate::a;", &["crate::a"]);
    }

    #[test]
    fn a_name_has_its_line() {
        let names = Names::read("use crate::{\n    a,\n    b,\n};\n\nfn f() {\n    crate::c::d();\n}");
        let lines: Vec<usize> = names.all.iter().map(|named| named.line).collect();
        assert_eq!(lines, [2, 3, 7]);
    }
}
