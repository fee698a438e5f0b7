//! Which entries of a Maildir are unseen messages, by their names alone, as Dovecot counts them on the same files
//! (`tests/grammar/maildir.rs`).
//!
//! A message lies in `new/` until a mail program has taken notice of it, then in `cur/` with its flags behind `:2,`;
//! `S` is `\Seen`, in either folder. Names that start with a dot, or hold a line feed, are no messages; folders, index files
//! and links that lead nowhere are counted by Dovecot, so they are here.

/// What stands between a message's unique name and its flags: `:`, or where a file system or a mail program does not
/// take that one, another character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Separator {
    /// `:`, the Maildir specification's.
    #[default]
    Colon,
    /// `;`.
    Semicolon,
    /// `!`.
    ExclamationMark,
}

impl Separator {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Colon, Self::Semicolon, Self::ExclamationMark];

    /// The character.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Colon => b':',
            Self::Semicolon => b';',
            Self::ExclamationMark => b'!',
        }
    }

    /// Whether the flags of this name stand behind this separator.
    pub fn is_in(self, name: &[u8]) -> bool {
        self.info(name).is_some_and(|info| info.starts_with(b"2,"))
    }

    /// What follows the last one. A name that begins with one has no unique name, so that Dovecot gives it another and
    /// drops what stood there.
    fn info(self, name: &[u8]) -> Option<&[u8]> {
        let at = memchr::memrchr(self.byte(), name)?;
        name.get(at + 1..).filter(|_| name.first() != Some(&self.byte()))
    }
}

/// Whether the entry of this name is a message.
pub fn is_message(name: &[u8]) -> bool {
    name.first().is_some_and(|first| *first != b'.') && memchr::memchr(b'\n', name).is_none()
}

/// Whether the entry of this name is a message that nobody has seen.
pub fn is_unseen(name: &[u8], separator: Separator) -> bool {
    is_message(name) && !flags(name, separator).contains(&b'S')
}

/// The letters behind `:2,`, up to another comma: what follows that is a mail program's own.
fn flags(name: &[u8], separator: Separator) -> &[u8] {
    let letters = separator.info(name).and_then(|info| info.strip_prefix(b"2,")).unwrap_or_default();
    letters.split(|byte| *byte == b',').next().unwrap_or_default()
}

/// By what two names are known to be the same message's, one in `new/` and one in `cur/`, while it is moved: all before
/// the first separator.
pub fn unique(name: &[u8], separator: Separator) -> &[u8] {
    name.split(|byte| *byte == separator.byte()).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_unseen_message_is_known_by_its_flags() {
        let cases: &[(&[u8], bool)] = &[
            (b"1700000000.M1P2.host", true),
            (b"", false),
            (b".nfs000", false),
            (b"1700000000.M1P2.host:2,", true),
            (b"1700000000.M1P2.host:2,S", false),
            (b"1700000000.M1P2.host:2,FRS", false),
            (b"1700000000.M1P2.host:2,FRT", true),
            (b"1700000000.M1P2.host,S=123:2,", true),
            (b"1700000000.M1P2.host,S=123,W=130:2,S", false),
            (b"1700000000.M1P2.host:2,Sa,S", false),
            (b"1700000000.M1P2.host:2,a,S", true),
            (b"1700000000.M1P2.host:1,S", true),
            (b"1700000000.M1P2.host:", true),
            (b"1700000000.M1P2.host:2", true),
            (b"1700000000.M1P2.host:2,s", true),
            (b"1700000000.M1P2.host:2,:2,S", false),
            (b"17:00.M1P2.host:2,S", false),
            (b":2,S", true),
            (b"\xff\xfe:2,S", false),
            (b"1700000000\n.M1P2.host:2,", false),
            (b"1700000000\x07.M1P2.host:2,", true),
            (b".hidden:2,", false),
        ];
        for (name, is) in cases {
            assert_eq!(is_unseen(name, Separator::Colon), *is, "{}", name.escape_ascii());
            for separator in [Separator::Semicolon, Separator::ExclamationMark] {
                let name: Vec<u8> =
                    name.iter().map(|byte| if *byte == b':' { separator.byte() } else { *byte }).collect();
                assert_eq!(is_unseen(&name, separator), *is, "{}", name.escape_ascii());
            }
        }
    }

    #[test]
    fn a_separator_is_known_where_flags_stand_behind_it() {
        for (name, expected) in [
            ("1.host:2,S", Some(Separator::Colon)),
            ("1.host;2,", Some(Separator::Semicolon)),
            ("1.host!2,S", Some(Separator::ExclamationMark)),
            ("1.host", None),
            ("1;host", None),
        ] {
            let found = Separator::ALL.into_iter().find(|separator| separator.is_in(name.as_bytes()));
            assert_eq!(found, expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_name_makes_it_panic(name in proptest::collection::vec(any::<u8>(), 0..64)) {
            for separator in Separator::ALL {
                let _ = (is_unseen(&name, separator), unique(&name, separator), separator.is_in(&name));
            }
        }
    }
}
