//! STATUS of INBOX: the one line of which there are thousands a second, read by a fast way and, where a server puts its
//! spaces elsewhere, by a slow one that takes the pairs it understands.

use super::StatusItems;
use crate::event::{ModSeq, UidValidity};
use crate::source::imap::words::{Token, Tokens, count, number};
use std::num::{NonZeroU32, NonZeroU64};

/// What a STATUS line is.
pub(super) enum Found {
    /// Of INBOX.
    Inbox(StatusItems),
    /// Of another mailbox.
    Elsewhere,
}

/// An item's name that concerns us.
#[derive(Clone, Copy)]
enum Name {
    Messages,
    UidNext,
    Unseen,
    HighestModSeq,
    UidValidity,
}

const NAMES: [(&[u8], Name); 5] = [
    (b"MESSAGES", Name::Messages),
    (b"UIDNEXT", Name::UidNext),
    (b"UNSEEN", Name::Unseen),
    (b"HIGHESTMODSEQ", Name::HighestModSeq),
    (b"UIDVALIDITY", Name::UidValidity),
];

impl StatusItems {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Takes a value as it stands on the line. Says whether it could be read.
    fn take(&mut self, name: Name, digits: &[u8]) -> bool {
        let small = || number(digits).and_then(|value| u32::try_from(value).ok());
        match name {
            Name::Unseen => small().map(|value| self.unseen = Some(value)).is_some(),
            // Whether there is one is all that we ask of it.
            Name::Messages => count(digits).map(|value| self.messages = Some(value)).is_some(),
            Name::UidNext => {
                small().and_then(NonZeroU32::new).map(|value| self.uid_next = Some(value)).is_some()
            }
            Name::UidValidity => {
                let value = small().and_then(NonZeroU32::new).map(UidValidity);
                value.map(|value| self.uid_validity = Some(value)).is_some()
            }
            Name::HighestModSeq => {
                number(digits).map(|value| self.modseq = NonZeroU64::new(value).map(ModSeq)).is_some()
            }
        }
    }
}

/// What follows the word STATUS. `None` where it gives nothing that can be understood.
pub(super) fn read(rest: &[u8]) -> Option<Found> {
    let mut tokens = Tokens(rest);
    let (Token::Atom(mailbox) | Token::Text(mailbox)) = tokens.next()? else { return None };
    if !mailbox.eq_ignore_ascii_case(b"INBOX") {
        return Some(Found::Elsewhere);
    }
    if tokens.next()? != Token::Open {
        return None;
    }
    let (items, is_odd) = items(tokens);
    (!is_odd || !items.is_nothing()).then_some(Found::Inbox(items))
}

/// The pairs of the list that are understood, and whether one of ours is not. What an unknown item has for a value, a
/// list or nothing, is passed over.
fn items(mut tokens: Tokens<'_>) -> (StatusItems, bool) {
    let (mut items, mut is_odd, mut depth) = (StatusItems::default(), false, 1_usize);
    while let Some(token) = tokens.next() {
        match token {
            Token::Open => depth += 1,
            Token::Close if depth == 1 => break,
            Token::Close => depth -= 1,
            Token::Atom(word) if depth == 1 => {
                let Some(name) = name(word) else { continue };
                let mut after = tokens.clone();
                if let Some(Token::Atom(value) | Token::Text(value)) = after.next()
                    && items.take(name, value)
                {
                    tokens = after;
                } else {
                    is_odd = true;
                }
            }
            Token::Atom(_) | Token::Text(_) => {}
        }
    }
    (items, is_odd)
}

fn name(word: &[u8]) -> Option<Name> {
    NAMES.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, name)| name)
}

/// Exactly what a server pushes by the thousand: `INBOX (NAME number …)`, known names in capitals, single spaces. Anything
/// else is left to [`read`].
pub(super) fn fast(rest: &[u8]) -> Option<StatusItems> {
    let mut list = rest.strip_prefix(b"INBOX (")?;
    let mut items = StatusItems::default();
    loop {
        let (name, after) = fast_name(list)?;
        let (value, after) = fast_number(after)?;
        match name {
            Name::Unseen => items.unseen = Some(u32::try_from(value).ok()?),
            Name::HighestModSeq => items.modseq = NonZeroU64::new(value).map(ModSeq),
            Name::Messages => items.messages = Some(u32::try_from(value).ok()?),
            Name::UidNext => items.uid_next = Some(NonZeroU32::new(u32::try_from(value).ok()?)?),
            Name::UidValidity => {
                items.uid_validity = Some(UidValidity(NonZeroU32::new(u32::try_from(value).ok()?)?));
            }
        }
        match after.split_first()? {
            (b' ', more) => list = more,
            (b')', []) => return Some(items),
            _ => return None,
        }
    }
}

fn fast_name(list: &[u8]) -> Option<(Name, &[u8])> {
    let is = |name: &[u8], found| list.strip_prefix(name).map(|after| (found, after));
    match list.first()? {
        b'M' => is(b"MESSAGES ", Name::Messages),
        b'H' => is(b"HIGHESTMODSEQ ", Name::HighestModSeq),
        _ => is(b"UNSEEN ", Name::Unseen)
            .or_else(|| is(b"UIDNEXT ", Name::UidNext))
            .or_else(|| is(b"UIDVALIDITY ", Name::UidValidity)),
    }
}

/// A number of at most 19 digits, which 64 bits always hold, and what follows it.
fn fast_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (length, byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' if length < 19 => value = value * 10 + u64::from(byte - b'0'),
            b'0'..=b'9' => return None,
            _ if length == 0 => return None,
            _ => return Some((value, bytes.get(length..)?)),
        }
    }
    None
}
