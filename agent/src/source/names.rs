//! How one mail server spells its users, so that Cyrus's `u1`, Dovecot's `u1@fabrikam.com` and what a device subscribed
//! to can be one mailbox. A rule works both ways: on names that a source is told, and on names that it asks with.

use std::borrow::Cow;
use std::sync::Arc;

/// Which part of a mailbox's name a server uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spelling {
    /// The whole of it.
    #[default]
    Same,
    /// The server says `u1` where the mailbox is `u1@domain`.
    LocalPart,
    /// The server says `u1@domain` where the mailbox is `u1`.
    WithDomain,
}

/// The rule of one source. The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Which part of the name the server uses. Names of other domains are the same on both sides.
    pub spelling: Spelling,
    /// The domain that [`Spelling::LocalPart`] and [`Spelling::WithDomain`] mean, in lower case.
    pub domain: Box<str>,
    /// ASCII letters are lowered on the way, in both directions.
    pub is_lowered: bool,
}

impl Names {
    /// The mailbox that the server calls `told`.
    pub fn mailbox<'a>(&self, told: &'a str) -> Cow<'a, str> {
        let told = self.lowered(told);
        match self.spelling {
            Spelling::Same => told,
            Spelling::LocalPart => self.with_domain(told),
            Spelling::WithDomain => self.without_domain(told),
        }
    }

    /// What the server calls `mailbox`.
    pub fn server<'a>(&self, mailbox: &'a str) -> Cow<'a, str> {
        let mailbox = self.lowered(mailbox);
        match self.spelling {
            Spelling::Same => mailbox,
            Spelling::LocalPart => self.without_domain(mailbox),
            Spelling::WithDomain => self.with_domain(mailbox),
        }
    }

    /// The same, without a second copy of a name that is spelled alike on both sides, as most are.
    pub fn server_shared(&self, mailbox: &Arc<str>) -> Arc<str> {
        let user = self.server(mailbox);
        if *user == **mailbox { Arc::clone(mailbox) } else { Arc::from(user) }
    }

    fn lowered<'a>(&self, name: &'a str) -> Cow<'a, str> {
        if self.is_lowered && name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Cow::Owned(name.to_ascii_lowercase());
        }
        Cow::Borrowed(name)
    }

    fn with_domain<'a>(&self, name: Cow<'a, str>) -> Cow<'a, str> {
        if name.contains('@') { name } else { Cow::Owned(format!("{name}@{}", self.domain)) }
    }

    fn without_domain<'a>(&self, name: Cow<'a, str>) -> Cow<'a, str> {
        let local = name.rsplit_once('@').filter(|(_, domain)| domain.eq_ignore_ascii_case(&self.domain));
        match local.map(|(local, _)| local.len()) {
            Some(0) | None => name,
            Some(length) => match name {
                Cow::Borrowed(name) => Cow::Borrowed(name.get(..length).unwrap_or(name)),
                Cow::Owned(mut name) => {
                    name.truncate(length);
                    Cow::Owned(name)
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(spelling: Spelling, is_lowered: bool) -> Names {
        Names { spelling, domain: "fabrikam.com".into(), is_lowered }
    }

    #[test]
    fn each_rule_works_both_ways() {
        use Spelling::{LocalPart, Same, WithDomain};
        // Rule, what the server says, the mailbox.
        let cases = [
            (Same, "u1", "u1"),
            (Same, "u1@fabrikam.com", "u1@fabrikam.com"),
            (LocalPart, "u1", "u1@fabrikam.com"),
            (LocalPart, "u1@other.org", "u1@other.org"),
            (WithDomain, "u1@fabrikam.com", "u1"),
            (WithDomain, "u1@other.org", "u1@other.org"),
        ];
        for (spelling, server, mailbox) in cases {
            assert_eq!(names(spelling, false).mailbox(server), mailbox, "{spelling:?} {server}");
            assert_eq!(names(spelling, false).server(mailbox), server, "{spelling:?} {mailbox}");
        }
        assert_eq!(names(WithDomain, false).mailbox("U1@Fabrikam.COM"), "U1");
        assert_eq!(names(WithDomain, true).mailbox("U1@Fabrikam.COM"), "u1");
        assert_eq!(names(Same, true).server("Kim"), "kim");
        assert_eq!(names(WithDomain, false).mailbox("@fabrikam.com"), "@fabrikam.com");
    }

    proptest! {
        #[test]
        fn what_goes_out_comes_back(local in "[a-z.]{1,8}", other in any::<bool>()) {
            let domain = if other { "other.org" } else { "fabrikam.com" };
            let full = format!("{local}@{domain}");
            let short = if other { full.clone() } else { local };
            for (spelling, mailbox) in
                [(Spelling::Same, &full), (Spelling::LocalPart, &full), (Spelling::WithDomain, &short)]
            {
                let rule = names(spelling, false);
                let server = rule.server(mailbox).into_owned();
                prop_assert_eq!(rule.mailbox(&server), mailbox.as_str());
            }
        }
    }
}
