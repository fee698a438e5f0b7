//! The capabilities that change what we do (RFC 9051 §7.2.2), as a small set. What a server offers besides is not kept.

use std::fmt;

/// Names we look for; the order is the bit's place.
const NAMES: [(Capabilities, &str); 12] = [
    (Capabilities::STARTTLS, "STARTTLS"),
    (Capabilities::LOGINDISABLED, "LOGINDISABLED"),
    (Capabilities::AUTH_PLAIN, "AUTH=PLAIN"),
    (Capabilities::AUTH_XOAUTH2, "AUTH=XOAUTH2"),
    (Capabilities::AUTH_OAUTHBEARER, "AUTH=OAUTHBEARER"),
    (Capabilities::SASL_IR, "SASL-IR"),
    (Capabilities::IDLE, "IDLE"),
    (Capabilities::NOTIFY, "NOTIFY"),
    (Capabilities::ESEARCH, "ESEARCH"),
    (Capabilities::CONDSTORE, "CONDSTORE"),
    (Capabilities::IMAP4REV2, "IMAP4REV2"),
    (Capabilities::ID, "ID"),
];

/// A set of capabilities.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities(u16);

impl Capabilities {
    /// Nothing known.
    pub const NONE: Self = Self(0);
    /// RFC 9051 §6.2.1.
    pub const STARTTLS: Self = Self(1);
    /// RFC 9051 §6.2.3: LOGIN is refused here.
    pub const LOGINDISABLED: Self = Self(1 << 1);
    /// RFC 4616.
    pub const AUTH_PLAIN: Self = Self(1 << 2);
    /// RFC 4959: the credential may stand in the AUTHENTICATE line.
    pub const SASL_IR: Self = Self(1 << 3);
    /// RFC 2177.
    pub const IDLE: Self = Self(1 << 4);
    /// RFC 5465.
    pub const NOTIFY: Self = Self(1 << 5);
    /// RFC 4731.
    pub const ESEARCH: Self = Self(1 << 6);
    /// RFC 7162; QRESYNC implies it.
    pub const CONDSTORE: Self = Self(1 << 7);
    /// RFC 9051, which includes IDLE, ESEARCH and SASL-IR.
    pub const IMAP4REV2: Self = Self(1 << 8);

    /// The mechanism XOAUTH2, which no RFC tells of.
    pub const AUTH_XOAUTH2: Self = Self(1 << 9);
    /// RFC 7628.
    pub const AUTH_OAUTHBEARER: Self = Self(1 << 10);
    /// RFC 2971.
    pub const ID: Self = Self(1 << 11);

    /// Reads the words after `CAPABILITY`, whatever their case; unknown ones are passed over.
    pub fn from_words(words: &[u8]) -> Self {
        words.split(u8::is_ascii_whitespace).fold(Self::NONE, |set, word| set.with(Self::of_word(word)))
    }

    /// Whether all of `other` are in this set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn of_word(word: &[u8]) -> Self {
        if word.eq_ignore_ascii_case(b"QRESYNC") {
            return Self::CONDSTORE;
        }
        let found = NAMES.iter().find(|(_, name)| word.eq_ignore_ascii_case(name.as_bytes()));
        match found {
            Some((Self::IMAP4REV2, _)) => {
                Self::IMAP4REV2.with(Self::IDLE).with(Self::ESEARCH).with(Self::SASL_IR)
            }
            Some((capability, _)) => *capability,
            None => Self::NONE,
        }
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (_, name) in NAMES.iter().filter(|(capability, _)| self.has(*capability)) {
            write!(f, "{between}{name}")?;
            between = " ";
        }
        Ok(())
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capabilities({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_a_set_whatever_their_case() {
        let cases = [
            ("", ""),
            ("IMAP4rev1 X-UNKNOWN=3", ""),
            ("IMAP4rev1 idle Notify", "IDLE NOTIFY"),
            ("IMAP4rev1 QRESYNC", "CONDSTORE"),
            ("IMAP4rev1 + id IDLE", "IDLE ID"),
            ("IMAP4rev2", "SASL-IR IDLE ESEARCH IMAP4REV2"),
            ("STARTTLS LOGINDISABLED  AUTH=plain ", "STARTTLS LOGINDISABLED AUTH=PLAIN"),
        ];
        for (words, expected) in cases {
            assert_eq!(Capabilities::from_words(words.as_bytes()).to_string(), expected, "{words}");
        }
    }
}
