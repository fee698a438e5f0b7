//! One datagram of Cyrus's notify socket: whose INBOX has how many unseen messages, or why it says nothing of the kind.
//!
//! Fields ended by NUL: method, class, priority, user, mailbox, number of options, options, message; the message is an
//! event of RFC 5423 as JSON with Cyrus's own members (sources.md §3). Owner and mailbox are those of `uri` (RFC 5092):
//! the field `user` names who did it, and is often empty.

use crate::event::{ModSeq, Reading, UidValidity};
use crate::https::json::Members;
use crate::source::pending::Update;
use std::num::{NonZeroU32, NonZeroU64};

/// Longest datagram that is read, in bytes. Cyrus's own limit is 8192.
pub const DATAGRAM_MAX: usize = 64 * 1024;

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
    /// No field that holds an event.
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

/// Reads one datagram. Needed are a count and a `uri` that names an INBOX; all else may be odd or missing.
///
/// # Errors
/// [`Skip`], where it gives no count of an INBOX.
pub fn read(datagram: &[u8]) -> Result<Update, Skip> {
    if datagram.len() > DATAGRAM_MAX {
        return Err(Skip::TooLong);
    }
    let event = Members::read(message(datagram)?).ok_or(Skip::NotJson)?;
    let unseen = match event.number(UNSEEN).map(u32::try_from) {
        Some(Ok(unseen)) => unseen,
        None if matches!(event, Members::Whole(_)) && !event.has(UNSEEN) => return Err(Skip::NoCount),
        _ => return Err(Skip::NotJson),
    };
    let (mailbox, uid_validity) = mailbox(&event.text("uri").ok_or(Skip::BadUri)?)?;
    let user = inbox_owner(&mailbox).ok_or(Skip::NotAnInbox)?;
    let modseq = event.number("modseq").and_then(NonZeroU64::new).map(ModSeq);
    Ok(Update { user, reading: Reading { unseen, uid_validity, modseq, asked_at: None } })
}

/// The member that holds the count.
const UNSEEN: &str = "vnd.cmu.unseenMessages";

/// The field that holds an event, which is the last one: how many options stand before it need not be believed.
fn message(datagram: &[u8]) -> Result<&[u8], Skip> {
    let mut fields = datagram.split(|byte| *byte == 0);
    let class = fields.nth(1).filter(|class| !class.is_empty()).ok_or(Skip::Truncated)?;
    if !class.trim_ascii().eq_ignore_ascii_case(b"EVENT") {
        return Err(Skip::NotAnEvent);
    }
    let is_object = |field: &&[u8]| field.trim_ascii_start().first() == Some(&b'{');
    // Behind priority, user and mailbox.
    match fields.skip(3).filter(|field| !field.is_empty()).last() {
        None => Err(Skip::Truncated),
        Some(last) if is_object(&last) => Ok(last),
        Some(_) => datagram.split(|byte| *byte == 0).skip(5).filter(is_object).last().ok_or(Skip::NotJson),
    }
}

/// The mailbox's name and its UIDVALIDITY in `imap://server/mailbox;UIDVALIDITY=n/;UID=n` (RFC 5092 §11). The server's
/// part may name a user and how to log in (`kim;AUTH=*@host`).
fn mailbox(uri: &str) -> Result<(String, Option<UidValidity>), Skip> {
    const SCHEME: &str = "imap://";
    const UIDVALIDITY: &str = "UIDVALIDITY=";
    let uri = uri.trim();
    let is_imap = uri.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME));
    let rest = uri.get(SCHEME.len()..).filter(|_| is_imap);
    let (_server, path) = rest.and_then(|rest| rest.split_once('/')).ok_or(Skip::BadUri)?;
    let (name, parameters) = path.split_once(';').unwrap_or((path, ""));
    let validity = parameters.split([';', '/', '?']).find_map(|parameter| {
        let (key, digits) = parameter.split_at_checked(UIDVALIDITY.len())?;
        key.eq_ignore_ascii_case(UIDVALIDITY).then_some(digits)
    });
    let uid_validity =
        validity.and_then(|digits| digits.parse().ok()).and_then(NonZeroU32::new).map(UidValidity);
    let name = String::from_utf8(percent_decoded(name)).map_err(|_| Skip::BadUri)?;
    Ok((name.trim_end_matches('/').to_owned(), uid_validity))
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
/// also with a domain (`user/NAME@DOMAIN`). A dot of the user's own may stand as `^`, which no name of Cyrus's has.
fn inbox_owner(mailbox: &str) -> Option<Box<str>> {
    const USER: &str = "user";
    let (name, domain) = match mailbox.rsplit_once('@') {
        Some((name, domain)) => (name, Some(domain)),
        None => (mailbox, None),
    };
    let (root, rest) = name.split_at_checked(USER.len())?;
    let separator = rest.chars().next().filter(|first| matches!(first, '/' | '.'))?;
    let user = rest.get(1..).unwrap_or_default();
    let is_inbox = root.eq_ignore_ascii_case(USER) && !user.is_empty() && !user.contains(separator);
    if !is_inbox || mailbox.len() > USER_MAX {
        return None;
    }
    let user = user.replace('^', ".");
    Some(match domain {
        Some(domain) => format!("{user}@{}", domain.replace('^', ".")).into(),
        None => user.into(),
    })
}

#[cfg(test)]
mod tests;
