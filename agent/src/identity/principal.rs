//! Principals and audiences (protocol.md §5.1): `id@realm` and `id/authority@realm`, compared without regard
//! to case.

use std::fmt;

/// A realm: a domain or a tenant's GUID. `*` and the empty text are the same empty realm.
#[derive(Clone, Debug, Default)]
pub struct Realm(String);

impl Realm {
    /// The realm of this name.
    pub fn new(name: &str) -> Self {
        let name = name.trim();
        Self(if name == "*" { String::new() } else { name.to_owned() })
    }

    /// Whether it names no realm.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name; empty for the empty realm.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Realm {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Realm {}

impl fmt::Display for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An application in a realm: `id@realm`.
#[derive(Clone, Debug)]
pub struct Principal {
    /// Application id, a GUID as a rule.
    pub id: String,
    /// Where it is at home.
    pub realm: Realm,
}

impl Principal {
    /// The application `id` of `realm`.
    pub fn new(id: &str, realm: &str) -> Self {
        Self { id: id.trim().to_owned(), realm: Realm::new(realm) }
    }

    /// Reads `id@realm`; the realm is what follows the last `@`, and an id that holds `/` ends before it.
    ///
    /// `None` without an `@` or without an id.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, realm) = text.trim().rsplit_once('@')?;
        let id = name.split('/').next().unwrap_or(name).trim();
        (!id.is_empty()).then(|| Self::new(id, realm))
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.id.eq_ignore_ascii_case(&other.id) && self.realm == other.realm
    }
}

impl Eq for Principal {}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, if self.realm.is_empty() { "*" } else { self.realm.as_str() })
    }
}

/// For whom a token is: `id/authority@realm`.
#[derive(Clone, Debug)]
pub struct Audience {
    /// Application id of the one who is to accept the token.
    pub id: String,
    /// Its host, with `:port` where that is not the scheme's default.
    pub authority: String,
    /// Its realm, as the token's reader knows it.
    pub realm: Realm,
}

impl Audience {
    /// Reads `id/authority@realm`, split at the first `/` and the last `@`; `None` where one of them is
    /// missing.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, realm) = text.trim().rsplit_once('@')?;
        let (id, authority) = name.split_once('/')?;
        Some(Self { id: id.to_owned(), authority: authority.to_owned(), realm: Realm::new(realm) })
    }
}

impl PartialEq for Audience {
    fn eq(&self, other: &Self) -> bool {
        self.id.eq_ignore_ascii_case(&other.id)
            && self.authority.eq_ignore_ascii_case(&other.authority)
            && self.realm == other.realm
    }
}

impl Eq for Audience {}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.id, self.authority, self.realm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The second is V4 of protocol.md §7.
    #[test]
    fn principals_are_split_at_the_last_at_sign() {
        let cases = [
            (
                "00000001-0000-0000-c000-000000000000@fabrikam.com",
                Some(("00000001-0000-0000-c000-000000000000", "fabrikam.com")),
            ),
            (" 00000001-0000-0000-c000-000000000000@* ", Some(("00000001-0000-0000-c000-000000000000", ""))),
            ("a@", Some(("a", ""))),
            ("a@b@c", Some(("a@b", "c"))),
            ("a/b@c", Some(("a", "c"))),
            ("a @ c", Some(("a", "c"))),
            ("a", None),
            ("@c", None),
            ("/b@c", None),
            ("@", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let parsed = Principal::parse(text);
            let parsed = parsed.as_ref().map(|principal| (principal.id.as_str(), principal.realm.as_str()));
            assert_eq!(parsed, expected, "{text:?}");
        }
    }

    /// The first is V5 of protocol.md §7.
    #[test]
    fn audiences_are_split_at_the_first_slash_and_the_last_at_sign() {
        let cases = [
            ("a/b:444@c@d", Some(("a", "b:444@c", "d"))),
            ("a/b@*", Some(("a", "b", ""))),
            ("a/b/c@d", Some(("a", "b/c", "d"))),
            ("a/b", None),
            ("a@b", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let parsed = Audience::parse(text);
            let parsed = parsed
                .as_ref()
                .map(|audience| (&*audience.id, &*audience.authority, audience.realm.as_str()));
            assert_eq!(parsed, expected, "{text:?}");
        }
    }

    #[test]
    fn letter_case_makes_no_difference() {
        assert_eq!(Principal::parse("A-b@Fabrikam.COM"), Principal::parse("a-B@fabrikam.com"));
        assert_eq!(Audience::parse("A/Relay.Example@D"), Audience::parse("a/relay.example@d"));
        assert_ne!(Principal::parse("a@b"), Principal::parse("a@*"));
        assert_eq!(Realm::new("*"), Realm::new(" "));
        assert_eq!(Principal::new("a", "").to_string(), "a@*");
    }

    proptest! {
        #[test]
        fn an_audience_reads_as_it_was_written(
            id in "[!-.0-?A-~]{1,9}",
            authority in "[!-.0-?A-~]{1,9}",
            realm in "[+-.0-?A-~]{1,9}",
        ) {
            let written = Audience { id, authority, realm: Realm::new(&realm) };
            prop_assert_eq!(Audience::parse(&written.to_string()), Some(written));
        }

        #[test]
        fn no_text_makes_them_panic(text in ".*") {
            let _ = (Principal::parse(&text), Audience::parse(&text), Realm::new(&text));
        }
    }
}
