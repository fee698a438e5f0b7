//! One datagram of Cyrus's notify socket: whose INBOX has how many unseen messages, or why it says nothing of the kind.
//!
//! Fields ended by NUL: method, class, priority, user, mailbox, number of options, options, message; the message is an
//! event of RFC 5423 as JSON with Cyrus's own members (sources.md §3). Owner and mailbox are those of `uri` (RFC 5092):
//! the field `user` names who did it, and is often empty.

use crate::event::{ModSeq, Reading, UidValidity};
use crate::source::pending::Update;
use std::borrow::Cow;
use std::num::{NonZeroU32, NonZeroU64};

/// Longest datagram that is read, in bytes. Cyrus's own limit is 8192.
pub const DATAGRAM_MAX: usize = 64 * 1024;

/// Options a datagram may carry; Cyrus's events have none.
const OPTIONS_MAX: usize = 64;

/// Longest user name that is kept, in bytes.
const USER_MAX: usize = 1024;

/// What a datagram that gives no count is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Skip {
    /// Another class than `EVENT`: what `mailnotifier` and `sievenotifier` send.
    #[error("is no event")]
    NotAnEvent,
    /// An event without `vnd.cmu.unseenMessages`: `MailboxModseq`, log-ins, quota.
    #[error("has no count of unseen messages")]
    NoCount,
    /// Of another mailbox than a user's INBOX.
    #[error("is of another mailbox than an INBOX")]
    NotAnInbox,
    /// Longer than [`DATAGRAM_MAX`].
    #[error("is longer than {DATAGRAM_MAX} bytes")]
    TooLong,
    /// Fewer fields than there must be, or no NUL at the end.
    #[error("is cut off")]
    Truncated,
    /// The message is no JSON of the members expected.
    #[error("holds no JSON of an event")]
    NotJson,
    /// `uri` is missing, no `imap:` URL, or not UTF-8.
    #[error("has no readable uri")]
    BadUri,
}

impl Skip {
    /// Whether Cyrus sends such in the course of things; all else means that something is wrong.
    pub fn is_ordinary(self) -> bool {
        matches!(self, Self::NotAnEvent | Self::NoCount | Self::NotAnInbox)
    }
}

/// The members we know; all others are the administrator's to send or not.
#[derive(serde::Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    uri: Option<Cow<'a, str>>,
    modseq: Option<u64>,
    #[serde(rename = "vnd.cmu.unseenMessages")]
    unseen: Option<u32>,
}

/// Reads one datagram.
///
/// # Errors
/// [`Skip`], where it gives no count of an INBOX.
pub fn read(datagram: &[u8]) -> Result<Update, Skip> {
    if datagram.len() > DATAGRAM_MAX {
        return Err(Skip::TooLong);
    }
    let event: Event<'_> = serde_json::from_slice(message(datagram)?).map_err(|_| Skip::NotJson)?;
    let unseen = event.unseen.ok_or(Skip::NoCount)?;
    let (mailbox, uid_validity) = mailbox(event.uri.as_deref().ok_or(Skip::BadUri)?)?;
    let user = inbox_owner(&mailbox).ok_or(Skip::NotAnInbox)?;
    let reading = Reading {
        unseen,
        uid_validity,
        modseq: event.modseq.and_then(NonZeroU64::new).map(ModSeq),
        asked_at: None,
    };
    Ok(Update { user, reading })
}

/// The last field, of an event.
fn message(datagram: &[u8]) -> Result<&[u8], Skip> {
    let fields = datagram.strip_suffix(&[0]).ok_or(Skip::Truncated)?;
    let mut fields = fields.split(|byte| *byte == 0);
    let mut next = || fields.next().ok_or(Skip::Truncated);
    let (_method, class) = (next()?, next()?);
    if class != b"EVENT" {
        return Err(Skip::NotAnEvent);
    }
    let (_priority, _user, _mailbox) = (next()?, next()?, next()?);
    let options = std::str::from_utf8(next()?).ok().and_then(|number| number.parse::<usize>().ok());
    for _ in 0..options.filter(|count| *count <= OPTIONS_MAX).ok_or(Skip::Truncated)? {
        next()?;
    }
    next()
}

/// The mailbox's name and its UIDVALIDITY in `imap://server/mailbox;UIDVALIDITY=n/;UID=n` (RFC 5092 §11).
fn mailbox(uri: &str) -> Result<(String, Option<UidValidity>), Skip> {
    let (_server, path) =
        uri.strip_prefix("imap://").and_then(|rest| rest.split_once('/')).ok_or(Skip::BadUri)?;
    let (name, parameters) = path.split_once(';').unwrap_or((path, ""));
    let digits = parameters.strip_prefix("UIDVALIDITY=").unwrap_or_default();
    let digits = digits.split(['/', ';']).next().unwrap_or_default();
    let uid_validity = digits.parse().ok().and_then(NonZeroU32::new).map(UidValidity);
    let name = String::from_utf8(percent_decoded(name)).map_err(|_| Skip::BadUri)?;
    Ok((name, uid_validity))
}

/// A `%` that two hexadecimal digits do not follow stands for itself.
fn percent_decoded(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        if let (b'%', Some(high), Some(low)) = (first, digit(after.first()), digit(after.get(1))) {
            plain.push((high * 16 + low) as u8);
            rest = after.get(2..).unwrap_or_default();
        } else {
            plain.push(*first);
            rest = after;
        }
    }
    plain
}

/// Whose INBOX a mailbox of this name is: `user/NAME`, or `user.NAME` where Cyrus runs without `unixhierarchysep`, each
/// also with a domain (`user/NAME@DOMAIN`). In the second spelling a dot of the user's own stands as `^`.
fn inbox_owner(mailbox: &str) -> Option<Box<str>> {
    let (name, domain) = match mailbox.rsplit_once('@') {
        Some((name, domain)) => (name, Some(domain)),
        None => (mailbox, None),
    };
    let user = if let Some(user) = name.strip_prefix("user/") {
        (!user.contains('/')).then_some(Cow::Borrowed(user))?
    } else {
        let user = name.strip_prefix("user.")?;
        (!user.contains('.')).then(|| Cow::Owned(user.replace('^', ".")))?
    };
    if user.is_empty() || mailbox.len() > USER_MAX {
        return None;
    }
    Some(match domain {
        Some(domain) => format!("{user}@{domain}").into(),
        None => user.into(),
    })
}

#[cfg(test)]
mod tests;
