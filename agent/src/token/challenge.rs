//! The relay's challenge (protocol.md §5.3, RFC 6750 §3, RFC 9110 §11.6.1): who it is and whose tokens it
//! trusts.
//!
//! Reading is forgiving, since every gateway on the way may have had its hands in it; what follows is
//! `choice`'s.

use crate::identity::principal::{Principal, Realm};

/// How many trusted issuers are kept of one challenge.
pub const ISSUERS_MAX: usize = 64;

/// What the `Bearer` challenges of an answer say together; of each parameter the first occurrence that is not empty wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// Application id of the relay; empty where none was given.
    pub client_id: String,
    /// Whose tokens it trusts; at most [`ISSUERS_MAX`].
    pub issuers: Vec<Principal>,
    /// The tenant it speaks of, where it names one.
    pub realm: Option<Realm>,
    /// Where a user would log in; for display.
    pub authorization_uri: Option<String>,
    /// Which kinds of token it takes; for display.
    pub token_types: Option<String>,
    /// `invalid_token` and the like (RFC 6750 §3.1).
    pub error: Option<String>,
}

impl Challenge {
    /// Reads all `WWW-Authenticate` lines of an answer; `None` where no line holds a `Bearer` challenge.
    pub fn parse(lines: &[impl AsRef<str>]) -> Option<Self> {
        let mut is_found = false;
        let mut parameters: Vec<(String, String)> = Vec::new();
        for line in lines {
            let mut is_bearer = false;
            let mut rest = line.as_ref();
            while let Some((part, after)) = next_part(rest) {
                rest = after;
                match part {
                    Part::Scheme(name) => {
                        is_bearer = name.eq_ignore_ascii_case("bearer");
                        is_found |= is_bearer;
                    }
                    Part::Parameter(name, value) if is_bearer => parameters.push((name, value)),
                    Part::Parameter(..) => {}
                }
            }
        }
        is_found.then(|| Self::of(&parameters))
    }

    fn of(parameters: &[(String, String)]) -> Self {
        let first = |name: &str| {
            let mut found = parameters.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
            let first = found.next()?;
            let value = std::iter::once(first).chain(found).find(|(_, value)| !value.trim().is_empty());
            Some(value.unwrap_or(first).1.clone())
        };
        let issuers = first("trusted_issuers").unwrap_or_default();
        Self {
            client_id: first("client_id").unwrap_or_default().trim().to_owned(),
            issuers: issuers.split(',').filter_map(Principal::parse).take(ISSUERS_MAX).collect(),
            realm: first("realm").map(|name| Realm::new(&name)),
            authorization_uri: first("authorization_uri"),
            token_types: first("token_types"),
            error: first("error"),
        }
    }
}

enum Part<'a> {
    /// A scheme's name; a token68 or parameter may follow.
    Scheme(&'a str),
    Parameter(String, String),
}

/// The next scheme or parameter and what follows it; `None` at the end of the line.
fn next_part(line: &str) -> Option<(Part<'_>, &str)> {
    let line = line.trim_start_matches(|c: char| is_between(c) || c.is_whitespace());
    if line.is_empty() {
        return None;
    }
    let end =
        line.find(|c: char| is_between(c) || c == '=' || c == '"' || c.is_whitespace()).unwrap_or(line.len());
    let (name, after) = line.split_at(end);
    if let Some(value) = after.trim_start().strip_prefix('=') {
        let (value, after) = read_value(value.trim_start());
        return Some((Part::Parameter(name.to_owned(), value), after));
    }
    if after.starts_with('"') || !name.chars().all(is_token_char) {
        // No name: skipped whole, lest commas of a quoted text be taken for the line's.
        let (_, after) = read_value(after);
        return Some((Part::Parameter(String::new(), String::new()), after));
    }
    Some((Part::Scheme(name), after))
}

/// What stands between parameters: a comma, or the semicolon of other headers.
fn is_between(char: char) -> bool {
    matches!(char, ',' | ';')
}

/// What names are made of (RFC 9110 §5.6.2, `tchar`).
fn is_token_char(char: char) -> bool {
    char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char)
}

/// A quoted or bare value and what follows it. A quoted text without an end goes to the end of the line.
fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| is_between(c) || c.is_whitespace()).unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        return (value.to_owned(), after);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => value.push(char),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Case {
        name: String,
        headers: Vec<String>,
        client_id: Option<String>,
        issuers: Vec<(String, String)>,
        realm: Option<String>,
    }

    fn issuers(challenge: &Challenge) -> Vec<(String, String)> {
        let pair = |issuer: &Principal| (issuer.id.clone(), issuer.realm.as_str().to_owned());
        challenge.issuers.iter().map(pair).collect()
    }

    #[test]
    fn challenges_are_read_as_another_program_reads_them() {
        let cases = include_str!("../../../fixtures/challenges.json");
        let cases: Vec<Case> = serde_json::from_str(cases).unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let challenge = Challenge::parse(&case.headers);
            assert_eq!(
                challenge.as_ref().map(|found| found.client_id.clone()),
                case.client_id,
                "{}",
                case.name
            );
            let challenge = challenge.unwrap_or_default();
            assert_eq!(issuers(&challenge), case.issuers, "{}", case.name);
            assert_eq!(challenge.realm.map(|realm| realm.as_str().to_owned()), case.realm, "{}", case.name);
        }
    }

    #[test]
    fn odd_lines_are_read_for_what_they_hold() {
        type Case = (&'static [&'static str], Option<(&'static str, usize)>);
        let cases: [Case; 20] = [
            (&["Bearer"], Some(("", 0))),
            (&["BEARER"], Some(("", 0))),
            (&["bearer,"], Some(("", 0))),
            (&[], None),
            (&["", ",,", "=", "\"", "Basic"], None),
            (&["Bearerclient_id=x"], None),
            (&["Bearer client_id = \"x\" , trusted_issuers = a@b"], Some(("x", 1))),
            (&["Bearer client_id=\"x\" trusted_issuers=\"a@b\""], Some(("x", 1))),
            (&["Bearer client_id=\"a \\\"quoted\\\" one\""], Some(("a \"quoted\" one", 0))),
            (
                &["Bearer client_id=\"never closed, trusted_issuers=a@b"],
                Some(("never closed, trusted_issuers=a@b", 0)),
            ),
            (&["Bearer client_id=\"ends in a backslash\\"], Some(("ends in a backslash", 0))),
            (&["Bearer client_id=x; trusted_issuers=\"a@b\"; y"], Some(("x", 1))),
            (&["Bearer client_id=\"\", trusted_issuers=, client_id=x,trusted_issuers=a@b"], Some(("x", 1))),
            (&["Bearer realm=r", "Bearer client_id=x, realm=s"], Some(("x", 0))),
            (&["Negotiate YIIabc==, Bearer client_id=x"], Some(("x", 0))),
            (&["Bearer client_id=x, Basic realm=\"y\", client_id=z"], Some(("x", 0))),
            (&["Basic client_id=z, Bearer client_id=x"], Some(("x", 0))),
            (&["Bearer \"junk, Basic\", client_id=x"], Some(("x", 0))),
            (&["Bearer trusted_issuers=a@b,c@d, client_id=x"], Some(("x", 1))),
            (&["Bearer client_id=ä, trusted_issuers=\"é@ü\""], Some(("ä", 1))),
        ];
        for (lines, expected) in cases {
            let challenge = Challenge::parse(lines);
            let found = challenge.as_ref().map(|found| (found.client_id.as_str(), found.issuers.len()));
            assert_eq!(found, expected, "{lines:?}");
        }
    }

    #[test]
    fn the_parameters_for_display_are_kept() {
        let line = "Bearer client_id=x, authorization_uri=\"https://sts.example/a\", token_types=\"p q\", error=\"invalid_token\"";
        let challenge = Challenge::parse(&[line]).unwrap();
        assert_eq!(challenge.authorization_uri.as_deref(), Some("https://sts.example/a"));
        assert_eq!(challenge.token_types.as_deref(), Some("p q"));
        assert_eq!(challenge.error.as_deref(), Some("invalid_token"));
    }

    #[test]
    fn issuers_are_bounded() {
        let line = format!("Bearer client_id=x, trusted_issuers=\"{}\"", "a@b,".repeat(10_000));
        assert_eq!(Challenge::parse(&[line]).unwrap().issuers.len(), ISSUERS_MAX);
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(lines in proptest::collection::vec(".*", 0..4)) {
            let _ = Challenge::parse(&lines);
        }

        #[test]
        fn no_line_that_looks_like_one_makes_it_panic(line in "[Bear cilntd_=,\"\\\\@*é]{0,60}") {
            let _ = Challenge::parse(&[line]);
        }

        #[test]
        fn quoted_values_come_back(client_id in "[!-~]{1,20}", realm in "[a-z.]{1,20}") {
            let quoted = client_id.replace('\\', "\\\\").replace('"', "\\\"");
            let line = format!("Bearer client_id=\"{quoted}\",realm={realm}");
            let challenge = Challenge::parse(&[line]).unwrap();
            prop_assert_eq!(challenge.client_id, client_id);
            prop_assert_eq!(challenge.realm, Some(Realm::new(&realm)));
        }
    }
}
