//! The relay's challenge (protocol.md §5.3, RFC 6750 §3, RFC 9110 §11.6.1): who it is and whose tokens it trusts.
//!
//! Reading is forgiving, since every gateway on the way may have had its hands in it; what follows is `choice`'s.

use super::principal::{Principal, Realm};

/// How many trusted issuers are kept of one challenge.
pub const ISSUERS_MAX: usize = 64;

/// What the `Bearer` challenges of an answer say together; the first occurrence of each parameter wins.
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
            let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
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
    let line = line.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
    if line.is_empty() {
        return None;
    }
    let end =
        line.find(|c: char| c == ',' || c == '=' || c == '"' || c.is_whitespace()).unwrap_or(line.len());
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

/// What names are made of (RFC 9110 §5.6.2, `tchar`).
fn is_token_char(char: char) -> bool {
    char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char)
}

/// A quoted or bare value and what follows it. A quoted text without an end goes to the end of the line.
fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(text.len());
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
