//! Names of server-to-server tokens: who issued one and for whom it is (protocol.md §5.1).

/// Exchange's application id: the relay's own and the agent's.
pub const EXCHANGE_APPLICATION_ID: &str = "00000002-0000-0ff1-ce00-000000000000";
/// The token service's application id.
pub const TOKEN_SERVICE_APPLICATION_ID: &str = "00000001-0000-0000-c000-000000000000";

/// `id@realm`. Compared without regard to case; `*` and nothing are the same empty realm.
#[derive(Clone, Copy, Debug)]
pub struct Principal<'a> {
    /// The application id.
    pub id: &'a str,
    /// The realm; may be empty.
    pub realm: &'a str,
}

impl<'a> Principal<'a> {
    /// Splits at the last `@`; `None` where there is none or nothing stands before it. Nothing is trimmed: a space is
    /// another name.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (id, realm) = text.rsplit_once('@')?;
        (!id.is_empty()).then_some(Self { id, realm: plain_realm(realm) })
    }

    /// Whether both are the same principal.
    pub fn is(self, id: &str, realm: &str) -> bool {
        self.id.eq_ignore_ascii_case(id) && self.realm.eq_ignore_ascii_case(plain_realm(realm))
    }
}

/// `id/authority@realm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audience<'a> {
    /// The application id.
    pub id: &'a str,
    /// Host, with `:port` where it is not the scheme's default.
    pub authority: &'a str,
    /// The realm; may be empty.
    pub realm: &'a str,
}

impl<'a> Audience<'a> {
    /// Splits at the first `/` and the last `@`; `None` where one is missing, they are crossed, or id or host is empty.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (id, rest) = text.split_once('/')?;
        let (authority, realm) = rest.rsplit_once('@')?;
        let whole = !id.is_empty() && !authority.is_empty();
        whole.then_some(Self { id, authority, realm: plain_realm(realm) })
    }
}

fn plain_realm(realm: &str) -> &str {
    if realm == "*" { "" } else { realm }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_splits_at_the_first_slash_and_the_last_at() {
        let cases = [
            ("a/b:444@c@d", Some(("a", "b:444@c", "d"))),
            ("a/b@*", Some(("a", "b", ""))),
            ("a/b@", Some(("a", "b", ""))),
            ("a@b", None),
            ("a/b", None),
            ("/b@c", None),
            ("a/@c", None),
        ];
        for (text, expected) in cases {
            let got = Audience::parse(text).map(|a| (a.id, a.authority, a.realm));
            assert_eq!(got, expected, "{text}");
        }
    }

    #[test]
    fn a_principal_is_compared_without_regard_to_case_and_star_is_the_empty_realm() {
        let sts = Principal::parse("00000001-0000-0000-C000-000000000000@*").expect("a principal");
        assert!(sts.is("00000001-0000-0000-c000-000000000000", ""));
        for spaced in ["00000001-0000-0000-c000-000000000000@* ", " 00000001-0000-0000-c000-000000000000@*"] {
            let other = Principal::parse(spaced).expect("a principal");
            assert!(!other.is("00000001-0000-0000-c000-000000000000", ""), "{spaced:?}");
        }
        assert!(Principal::parse("no realm").is_none());
        assert!(Principal::parse("@realm").is_none());
    }
}
