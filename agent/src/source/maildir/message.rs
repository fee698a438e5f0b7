//! Which entries of a Maildir are unseen messages, by their names alone.
//!
//! A message lies in `new/` until a mail program has taken notice of it, then in `cur/` with its flags behind `:2,`;
//! `S` is `\Seen`. Names that start with a dot are no messages.

/// Where an entry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// `new/`.
    New,
    /// `cur/`.
    Cur,
}

/// Whether the entry of this name is a message that nobody has seen.
pub fn is_unseen(folder: Folder, name: &[u8]) -> bool {
    let is_message = name.first().is_some_and(|first| *first != b'.');
    is_message && (folder == Folder::New || !flags(name).contains(&b'S'))
}

/// The letters behind `:2,`, up to another comma: what follows that is a mail program's own.
fn flags(name: &[u8]) -> &[u8] {
    let info = memchr::memchr(b':', name).and_then(|at| name.get(at + 1..));
    let letters = info.and_then(|info| info.strip_prefix(b"2,")).unwrap_or_default();
    letters.split(|byte| *byte == b',').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_unseen_message_is_known_by_its_folder_and_its_flags() {
        use Folder::{Cur, New};
        let cases: &[(Folder, &[u8], bool)] = &[
            (New, b"1700000000.M1P2.host", true),
            (New, b"1700000000.M1P2.host:2,S", true),
            (New, b".nfs000", false),
            (New, b"", false),
            (Cur, b"1700000000.M1P2.host:2,", true),
            (Cur, b"1700000000.M1P2.host:2,S", false),
            (Cur, b"1700000000.M1P2.host:2,FRS", false),
            (Cur, b"1700000000.M1P2.host:2,FRT", true),
            (Cur, b"1700000000.M1P2.host,S=123:2,", true),
            (Cur, b"1700000000.M1P2.host,S=123,W=130:2,S", false),
            (Cur, b"1700000000.M1P2.host:2,Sa,S", false),
            (Cur, b"1700000000.M1P2.host:2,a,S", true),
            (Cur, b"1700000000.M1P2.host:1,S", true),
            (Cur, b"1700000000.M1P2.host", true),
            (Cur, b"1700000000.M1P2.host:", true),
            (Cur, b"1700000000.M1P2.host:2", true),
            (Cur, b"1700000000.M1P2.host:2,s", true),
            (Cur, b"\xff\xfe:2,S", false),
            (Cur, b".hidden:2,", false),
        ];
        for (folder, name, is) in cases {
            assert_eq!(is_unseen(*folder, name), *is, "{folder:?} {}", name.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn no_name_makes_it_panic(name in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = is_unseen(Folder::New, &name);
            let _ = is_unseen(Folder::Cur, &name);
        }
    }
}
