//! How one mail server spells its users, so that Cyrus's `u1`, Dovecot's `u1@fabrikam.com` and what a device subscribed
//! to can be one mailbox. A rule works both ways: on names that a source is told, and on names that it asks with.

pub mod rulebook;

use crate::event::mailbox_name::{canonical, folded, parts};
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

impl Spelling {
    /// As `names` of the configuration has it.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::LocalPart => "local-part",
            Self::WithDomain => "with-domain",
        }
    }
}

/// The rule of one source. The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Which part of the name the server uses. Names of other domains are the same on both sides.
    pub spelling: Spelling,
    /// The domain that [`Spelling::LocalPart`] and [`Spelling::WithDomain`] mean.
    pub domain: Box<str>,
    /// The server's names have no letter case: ASCII letters are lowered on the way, in both directions. Those of a domain
    /// always are.
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
        if self.is_lowered { folded(name) } else { canonical(name) }
    }

    fn with_domain<'a>(&self, name: Cow<'a, str>) -> Cow<'a, str> {
        if name.contains('@') {
            return name;
        }
        Cow::Owned(format!("{name}@{}", self.domain.to_ascii_lowercase()))
    }

    fn without_domain<'a>(&self, name: Cow<'a, str>) -> Cow<'a, str> {
        let (local_part, domain) = parts(&name);
        let is_ours = domain.is_some_and(|domain| domain.eq_ignore_ascii_case(&self.domain));
        let length = local_part.len();
        match name {
            name if !is_ours || length == 0 => name,
            Cow::Borrowed(name) => Cow::Borrowed(name.get(..length).unwrap_or(name)),
            Cow::Owned(mut name) => {
                name.truncate(length);
                Cow::Owned(name)
            }
        }
    }
}

#[cfg(test)]
mod tests;
