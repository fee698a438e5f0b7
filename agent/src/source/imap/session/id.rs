//! ID (RFC 2971): some servers let no mailbox be read before it (NetEase). Its answer names the server.

use super::link::{Command, Link};
use crate::source::imap::reply::Condition;
use crate::source::imap::traits::Traits;
use crate::time::Now;

/// Characters that are kept of a server's name, most.
const NAME_MAX: usize = 100;
/// What we say of ourselves.
const OURS: &str = concat!("ID (\"name\" \"mailbadge\" \"version\" \"", env!("CARGO_PKG_VERSION"), "\")");

/// Says who we are, within the deadline of the log-in.
pub(super) fn introduce(link: &mut Link, now: Now) {
    link.command_within(now, Command::Id, OURS);
}

/// The greeting's text may name the server.
pub(super) fn take_greeting(traits: &Traits, greeting: &Condition<'_>) {
    let text = printable(greeting.text);
    if !text.is_empty() {
        traits.learn_greeting(text);
    }
}

/// The answer to ID: names and values in turn.
pub(super) fn take_answer(traits: &Traits, fields: &[u8]) {
    if let Some(name) = name_of(fields) {
        traits.learn_server(name);
    }
}

/// `("name" "Dovecot" "version" "2.3")`: the name, with the version behind it.
fn name_of(fields: &[u8]) -> Option<Box<str>> {
    let mut rest = fields;
    let (mut name, mut version) = (None, None);
    while let (Some(key), Some(value)) = (string(&mut rest), string(&mut rest)) {
        if key.eq_ignore_ascii_case(b"name") {
            name = value_of(&value);
        } else if key.eq_ignore_ascii_case(b"version") {
            version = value_of(&value);
        }
    }
    let name = name?;
    Some(version.map_or_else(|| name.clone(), |version| [&*name, " ", &*version].concat().into()))
}

fn value_of(value: &[u8]) -> Option<Box<str>> {
    Some(printable(value)).filter(|text| !text.is_empty())
}

/// The next quoted string, or NIL as an empty one; what stands between them is passed over.
fn string(rest: &mut &[u8]) -> Option<Vec<u8>> {
    loop {
        let (first, after) = rest.split_first()?;
        *rest = after;
        match first {
            b'"' => break,
            b'N' | b'n' if after.get(..2).is_some_and(|word| word.eq_ignore_ascii_case(b"IL")) => {
                *rest = after.get(2..)?;
                return Some(Vec::new());
            }
            _ => {}
        }
    }
    let mut text = Vec::new();
    loop {
        let (first, after) = rest.split_first()?;
        *rest = after;
        match first {
            b'"' => return Some(text),
            b'\\' => {
                let (escaped, after) = after.split_first()?;
                *rest = after;
                text.push(*escaped);
            }
            _ => text.push(*first),
        }
    }
}

fn printable(bytes: &[u8]) -> Box<str> {
    let text = String::from_utf8_lossy(bytes);
    text.trim().chars().filter(|c| !c.is_control()).take(NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_names_itself_in_any_order_and_beside_anything() {
        let cases: [(&[u8], Option<&str>); 8] = [
            (br#"("name" "Dovecot")"#, Some("Dovecot")),
            (
                br#"("name" "Cyrus IMAP" "version" "3.6.1" "vendor" "Project Cyrus")"#,
                Some("Cyrus IMAP 3.6.1"),
            ),
            (br#"( "VERSION"  "0.15.5" "Name" "Stalwart" )"#, Some("Stalwart 0.15.5")),
            (br#"("vendor" NIL "name" "a \"b\" \\c" "version" nil)"#, Some(r#"a "b" \c"#)),
            (br#"("version" "1")"#, None),
            (b"NIL", None),
            (br#"("name" "cut"#, None),
            (b"", None),
        ];
        for (fields, expected) in cases {
            let shown = String::from_utf8_lossy(fields);
            assert_eq!(name_of(fields).as_deref(), expected, "{shown}");
        }
    }
}
