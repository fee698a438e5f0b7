//! What one line of a server says, as far as it concerns us. One number that is needed decides, not the grammar of the
//! rest: letter case, spaces, items, codes and texts beside it may be of any kind. What is needed is read by hand; imap-codec,
//! which knows the grammar, decodes the rest, and is the judge in tests.

mod status;

use super::capability::Capabilities;
use super::lines::Line;
use super::words::{Token, Tokens, count, keyword, messages_in, number, set_size, word};
use crate::event::{ModSeq, UidValidity};
use imap_codec::ResponseCodec;
use imap_codec::decode::Decoder;
use imap_types::mailbox::Mailbox;
use imap_types::response::{Data, Response};
use imap_types::status::StatusDataItem;
use std::num::{NonZeroU32, NonZeroU64};

/// A line understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The end of the command with our tag `a<number>`.
    Tagged(u32, Condition<'a>),
    /// `+`: the server waits for us.
    Continue,
    /// `* OK`, `* NO`, `* BAD`, `* PREAUTH`.
    Untagged(Condition<'a>),
    /// `* BYE`: the server ends the connection.
    Bye(Condition<'a>),
    /// `* CAPABILITY`.
    Capability(Capabilities),
    /// `* ID` with its fields (RFC 2971).
    Id(&'a [u8]),
    /// `* STATUS INBOX (…)`.
    Status(StatusItems),
    /// How many numbers one `* SEARCH` line holds; a server may send several such lines for one command.
    Found(u32),
    /// COUNT of an ESEARCH answer (RFC 4731 §3.1).
    Count(u32),
    /// `* n EXISTS`.
    Exists(u32),
    /// `* n EXPUNGE`.
    Expunge,
    /// `VANISHED` (RFC 7162 §3.2.10).
    Vanished,
    /// `* n FETCH (… FLAGS …)`.
    Flags,
    /// Well-formed, and of no concern to us.
    Other,
}

/// OK, NO, BAD or PREAUTH with what follows (RFC 9051 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition<'a> {
    /// Which of them.
    pub kind: Kind,
    /// The response code's first word, empty where there is none.
    pub code: &'a [u8],
    /// What stands in the brackets after that word.
    pub argument: &'a [u8],
    /// The text for people.
    pub text: &'a [u8],
}

/// The word a status condition begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Done, or a remark.
    Ok,
    /// Refused.
    No,
    /// Not understood.
    Bad,
    /// Logged in without being asked.
    PreAuth,
    /// The connection ends.
    Bye,
}

/// The items of a STATUS line that we look at; any may be missing (sources.md §4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusItems {
    /// MESSAGES.
    pub messages: Option<u32>,
    /// UNSEEN.
    pub unseen: Option<u32>,
    /// UIDNEXT.
    pub uid_next: Option<NonZeroU32>,
    /// UIDVALIDITY.
    pub uid_validity: Option<UidValidity>,
    /// HIGHESTMODSEQ; a server's 0 means that it keeps none.
    pub modseq: Option<ModSeq>,
}

impl Condition<'_> {
    /// Whether the response code is this word.
    pub fn is_code(&self, word: &str) -> bool {
        self.code.eq_ignore_ascii_case(word.as_bytes())
    }

    /// Code and text as a person may read them: printable, at most 200 characters.
    pub fn for_people(&self) -> String {
        let text = String::from_utf8_lossy(self.text);
        let code = String::from_utf8_lossy(self.code);
        let bracketed = if code.is_empty() { text.into_owned() } else { format!("[{code}] {text}") };
        bracketed.chars().filter(|c| !c.is_control()).take(200).collect()
    }
}

/// What the line says; `None` where it is not understood and must be skipped and counted.
#[inline]
pub fn decode(line: Line<'_>) -> Option<Reply<'_>> {
    // The one line of which there are thousands a second.
    if let Some(items) = line.bytes.strip_prefix(b"* STATUS ").and_then(status::fast) {
        return Some(Reply::Status(items));
    }
    decode_any(line)
}

fn decode_any(line: Line<'_>) -> Option<Reply<'_>> {
    let bytes = line.bytes.trim_ascii();
    match bytes.split_first()? {
        (b'*', data) => untagged(bytes, data, line.folded),
        // Some servers leave out the space (libetpan#393).
        (b'+', _) => Some(Reply::Continue),
        (b'a' | b'A', rest) => {
            let (tag, rest) = word(rest);
            Some(Reply::Tagged(u32::try_from(number(tag)?).ok()?, condition(rest)?))
        }
        _ => None,
    }
}

/// `line` is `*` and `data`.
fn untagged<'a>(line: &[u8], data: &'a [u8], folded: u32) -> Option<Reply<'a>> {
    let (first, rest) = keyword(data);
    if let Some(count) = count(first) {
        return of_messages(count, rest);
    }
    let is = |name: &str| first.eq_ignore_ascii_case(name.as_bytes());
    if is("STATUS") {
        return Some(match status::read(rest)? {
            status::Found::Inbox(items) => Reply::Status(items),
            status::Found::Elsewhere => Reply::Other,
        });
    }
    if is("SEARCH") {
        return Some(search(rest, folded));
    }
    if is("ESEARCH") {
        return Some(esearch(rest));
    }
    if is("CAPABILITY") {
        return Some(Reply::Capability(Capabilities::from_words(rest)));
    }
    if is("VANISHED") {
        return Some(Reply::Vanished);
    }
    if is("ID") {
        return Some(Reply::Id(rest));
    }
    match condition(data) {
        Some(bye) if bye.kind == Kind::Bye => Some(Reply::Bye(bye)),
        Some(condition) => Some(Reply::Untagged(condition)),
        // imap-codec knows the data that does not concern us.
        None => decode_by_codec(line).or_else(|| of_some_message(rest)),
    }
}

/// `4 EXISTS` and the like. What else such a line holds matters not: that it came is the news.
fn of_messages(count: u32, rest: &[u8]) -> Option<Reply<'_>> {
    let (what, _) = keyword(rest);
    let is = |name: &str| what.eq_ignore_ascii_case(name.as_bytes());
    if is("EXISTS") {
        Some(Reply::Exists(count))
    } else if is("EXPUNGE") {
        Some(Reply::Expunge)
    } else if is("FETCH") {
        Some(Reply::Flags)
    } else {
        is("RECENT").then_some(Reply::Other)
    }
}

/// The same where no number can be read: a change was reported all the same.
fn of_some_message(rest: &[u8]) -> Option<Reply<'_>> {
    match of_messages(0, rest)? {
        Reply::Exists(_) => Some(Reply::Vanished),
        heard => Some(heard),
    }
}

/// `OK [CODE argument] text`.
fn condition(bytes: &[u8]) -> Option<Condition<'_>> {
    let (kind, rest) = keyword(bytes);
    let kinds = [
        (&b"OK"[..], Kind::Ok),
        (b"NO", Kind::No),
        (b"BAD", Kind::Bad),
        (b"BYE", Kind::Bye),
        (b"PREAUTH", Kind::PreAuth),
    ];
    let (_, kind) = kinds.into_iter().find(|(name, _)| kind.eq_ignore_ascii_case(name))?;
    let inside = rest.strip_prefix(b"[").and_then(|inside| {
        let close = memchr::memchr(b']', inside)?;
        Some((inside.get(..close)?, inside.get(close + 1..)?))
    });
    let (code, text) = inside.unwrap_or((b"", rest));
    let (code, argument) = word(code);
    Some(Condition { kind, code, argument: argument.trim_ascii(), text: text.trim_ascii() })
}

/// RFC 7162 §3.1.5 lets `(MODSEQ n)` stand at the end.
fn search(numbers: &[u8], folded: u32) -> Reply<'_> {
    let end = memchr::memchr(b'(', numbers).unwrap_or(numbers.len());
    Reply::Found(folded.saturating_add(messages_in(numbers.get(..end).unwrap_or_default())))
}

/// `(TAG "a5") UID COUNT 3` (RFC 4731 §3.1), or `ALL 1:3,7` where no count was sent (RFC 9051 §7.3.4). With neither it
/// answers no question of ours.
fn esearch(rest: &[u8]) -> Reply<'_> {
    let (mut tokens, mut depth, mut listed) = (Tokens(rest), 0_usize, None);
    while let Some(token) = tokens.next() {
        let next = || match tokens.clone().next() {
            Some(Token::Atom(value) | Token::Text(value)) => Some(value),
            _ => None,
        };
        match token {
            Token::Open => depth += 1,
            Token::Close => depth = depth.saturating_sub(1),
            Token::Atom(word) if depth == 0 && word.eq_ignore_ascii_case(b"COUNT") => {
                if let Some(count) = next().and_then(number).and_then(|count| u32::try_from(count).ok()) {
                    return Reply::Count(count);
                }
            }
            Token::Atom(word) if depth == 0 && word.eq_ignore_ascii_case(b"ALL") => {
                listed = next().and_then(set_size).or(listed);
            }
            Token::Atom(_) | Token::Text(_) => {}
        }
    }
    listed.map_or(Reply::Other, Reply::Found)
}

/// Data as imap-codec decodes it: the rest, and what this reader is measured against in tests and benches.
#[doc(hidden)]
pub fn decode_by_codec(bytes: &[u8]) -> Option<Reply<'static>> {
    // It wants the line end.
    let line = [bytes, b"\r\n"].concat();
    let (rest, response) = ResponseCodec::default().decode(&line).ok()?;
    if !rest.is_empty() {
        return None;
    }
    Some(match response {
        Response::Data(Data::Status { mailbox: Mailbox::Inbox, items }) => Reply::Status(items_of(&items)),
        Response::Data(Data::Exists(count)) => Reply::Exists(count),
        Response::Data(Data::Expunge(_)) => Reply::Expunge,
        Response::Data(Data::Vanished { .. }) => Reply::Vanished,
        Response::Data(Data::Fetch { .. }) => Reply::Flags,
        _ => Reply::Other,
    })
}

fn items_of(list: &[StatusDataItem]) -> StatusItems {
    let mut items = StatusItems::default();
    for item in list {
        match item {
            StatusDataItem::Messages(n) => items.messages = Some(*n),
            StatusDataItem::Unseen(n) => items.unseen = Some(*n),
            StatusDataItem::UidNext(n) => items.uid_next = Some(*n),
            StatusDataItem::UidValidity(n) => items.uid_validity = Some(UidValidity(*n)),
            StatusDataItem::HighestModSeq(n) => items.modseq = NonZeroU64::new(*n).map(ModSeq),
            _ => {}
        }
    }
    items
}

#[cfg(test)]
mod tests;
