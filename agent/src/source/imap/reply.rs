//! What one line of a server says, as far as it concerns us. Data is decoded by imap-codec; status conditions are read by
//! hand, since their text may be of any bytes and a tagged answer must never be missed; so are SEARCH and ESEARCH, and
//! the one line of which there are thousands a second, STATUS of INBOX, for speed: imap-codec stays its judge in tests.

use super::capability::Capabilities;
use super::lines::Line;
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
    /// `* STATUS INBOX (…)`.
    Status(StatusItems),
    /// How many messages one SEARCH line lists, or an ESEARCH line's ALL; an answer may have several such lines.
    Found(u32),
    /// An ESEARCH line's COUNT: the whole number.
    Counted(u32),
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
pub fn decode(line: Line<'_>) -> Option<Reply<'_>> {
    let bytes = line.bytes;
    if let Some(data) = bytes.strip_prefix(b"* ") {
        return untagged(data, line);
    }
    if bytes == b"+" || bytes.starts_with(b"+ ") {
        return Some(Reply::Continue);
    }
    let (tag, rest) = word(bytes.strip_prefix(b"a")?);
    Some(Reply::Tagged(u32::try_from(number(tag)?).ok()?, condition(rest)?))
}

fn untagged<'a>(data: &'a [u8], line: Line<'a>) -> Option<Reply<'a>> {
    let (first, rest) = word(data);
    match first {
        b"STATUS" => fast_status(rest).map(Reply::Status).or_else(|| by_codec(line.bytes)),
        _ if first.eq_ignore_ascii_case(b"ESEARCH") => esearch(rest),
        _ if first.eq_ignore_ascii_case(b"SEARCH") => search(rest, line.folded),
        _ if first.eq_ignore_ascii_case(b"CAPABILITY") => {
            Some(Reply::Capability(Capabilities::from_words(rest)))
        }
        _ => match condition(data) {
            Some(bye) if bye.kind == Kind::Bye => Some(Reply::Bye(bye)),
            Some(condition) => Some(Reply::Untagged(condition)),
            None => by_codec(line.bytes),
        },
    }
}

/// `OK [CODE argument] text`.
fn condition(bytes: &[u8]) -> Option<Condition<'_>> {
    let (kind, rest) = word(bytes);
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
    Some(Condition { kind, code, argument, text: text.trim_ascii() })
}

/// The first word and what follows the space after it.
fn word(bytes: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b' ', bytes) {
        Some(space) => {
            let (first, rest) = bytes.split_at(space);
            (first, rest.get(1..).unwrap_or_default())
        }
        None => (bytes, b""),
    }
}

/// Decimal digits, nothing else, within 64 bits.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| match digit {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

fn search(numbers: &[u8], folded: u32) -> Option<Reply<'_>> {
    // RFC 7162 §3.1.5 lets `(MODSEQ n)` stand at the end.
    let numbers = match memchr::memchr(b'(', numbers) {
        Some(open) => numbers.get(..open)?,
        None => numbers,
    };
    let words = numbers.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let count = words.map(number).try_fold(folded, |sum, n| n.map(|_| sum.saturating_add(1)))?;
    Some(Reply::Found(count))
}

/// `(TAG "a5") UID COUNT 3` (RFC 4731 §3.1), or `ALL 1:3,7` where no count was asked for (RFC 9051 §7.3.4). With neither,
/// nothing was found or nothing was answered.
fn esearch(rest: &[u8]) -> Option<Reply<'_>> {
    let after = |name: &[u8]| {
        let mut words = rest.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        words.find(|word| word.eq_ignore_ascii_case(name)).map(|_| words.next().unwrap_or_default())
    };
    if let Some(count) = after(b"COUNT") {
        return Some(Reply::Counted(u32::try_from(number(count)?).ok()?));
    }
    match after(b"ALL") {
        Some(set) => Some(Reply::Found(set_size(set)?)),
        None => Some(Reply::Other),
    }
}

/// How many numbers a sequence set names: 4 in `1:3,7`.
fn set_size(set: &[u8]) -> Option<u32> {
    set.split(|byte| *byte == b',').try_fold(0_u32, |sum, part| {
        let mut ends = part.splitn(2, |byte| *byte == b':').map(number);
        let first = ends.next()??;
        let last = ends.next().unwrap_or(Some(first))?;
        let size = first.abs_diff(last).saturating_add(1);
        sum.checked_add(u32::try_from(size).ok()?)
    })
}

/// Exactly what a server pushes by the thousand: `INBOX (NAME number …)`, known names in capitals, single spaces. Anything
/// else is left to the general way.
fn fast_status(rest: &[u8]) -> Option<StatusItems> {
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

/// An item's name, as [`fast_status`] knows it.
#[derive(Clone, Copy)]
enum Name {
    Messages,
    UidNext,
    Unseen,
    HighestModSeq,
    UidValidity,
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

/// The general way, for everything that is data. imap-codec wants the line end.
fn by_codec(bytes: &[u8]) -> Option<Reply<'static>> {
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

/// The same line decoded by imap-codec alone: what the fast way is measured against.
#[doc(hidden)]
pub fn decode_by_codec(line: &[u8]) -> Option<Reply<'static>> {
    by_codec(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn understood(bytes: &[u8]) -> Option<Reply<'_>> {
        decode(Line { bytes, folded: 0 })
    }

    fn items(unseen: Option<u32>, messages: Option<u32>, validity: u32, modseq: u64) -> Reply<'static> {
        Reply::Status(StatusItems {
            messages,
            unseen,
            uid_next: None,
            uid_validity: NonZeroU32::new(validity).map(UidValidity),
            modseq: NonZeroU64::new(modseq).map(ModSeq),
        })
    }

    #[test]
    fn lines_say_what_they_say() {
        let ok = |code: &'static [u8], argument: &'static [u8], text: &'static [u8]| Condition {
            kind: Kind::Ok,
            code,
            argument,
            text,
        };
        let cases: [(&[u8], Option<Reply<'_>>); 31] = [
            (b"* STATUS INBOX (MESSAGES 3 UNSEEN 2 UIDVALIDITY 9)", Some(items(Some(2), Some(3), 9, 0))),
            (b"* STATUS INBOX (UNSEEN 4 HIGHESTMODSEQ 7)", Some(items(Some(4), None, 0, 7))),
            (b"* STATUS \"inbox\" (unseen 4)", Some(items(Some(4), None, 0, 0))),
            (b"* STATUS {5}\r\nINBOX (UNSEEN 4)", Some(items(Some(4), None, 0, 0))),
            (b"* STATUS INBOX ()", Some(items(None, None, 0, 0))),
            (b"* STATUS INBOX (UNSEEN 1 HIGHESTMODSEQ 0)", Some(items(Some(1), None, 0, 0))),
            (b"* STATUS Trash (UNSEEN 4)", Some(Reply::Other)),
            (b"* STATUS INBOX (UNSEEN -1)", None),
            (b"* STATUS INBOX (UNSEEN 4294967296)", None),
            (b"* STATUS INBOX (UNSEEN 1", None),
            (b"* SEARCH", Some(Reply::Found(0))),
            (b"* SEARCH 1 22 333 ", Some(Reply::Found(3))),
            (b"* search 1 (MODSEQ 99)", Some(Reply::Found(1))),
            (b"* SEARCH 1 x", None),
            (b"* ESEARCH (TAG \"a5\") UID COUNT 17", Some(Reply::Counted(17))),
            (b"* esearch uid count 17 all 3:5,9", Some(Reply::Counted(17))),
            (b"* ESEARCH (TAG \"a5\") ALL 3:5,9", Some(Reply::Found(4))),
            (b"* ESEARCH (TAG \"a5\") UID COUNT x", None),
            (b"* ESEARCH (TAG \"a5\") ALL 3:*", None),
            (b"* ESEARCH (TAG \"a5\") UID", Some(Reply::Other)),
            (b"* 4 EXISTS", Some(Reply::Exists(4))),
            (b"* 4 EXPUNGE", Some(Reply::Expunge)),
            (b"* VANISHED 405,407", Some(Reply::Vanished)),
            (b"* 4 FETCH (FLAGS (\\Seen))", Some(Reply::Flags)),
            (b"* 1 RECENT", Some(Reply::Other)),
            (b"* CAPABILITY IMAP4rev1 IDLE", Some(Reply::Capability(Capabilities::IDLE))),
            (b"+ idling", Some(Reply::Continue)),
            (b"+", Some(Reply::Continue)),
            (b"a7 OK [HIGHESTMODSEQ 5] done", Some(Reply::Tagged(7, ok(b"HIGHESTMODSEQ", b"5", b"done")))),
            (b"* OK Still here \xff", Some(Reply::Untagged(ok(b"", b"", b"Still here \xff")))),
            (b"b7 OK not ours", None),
        ];
        for (line, expected) in cases {
            assert_eq!(understood(line), expected, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn text_for_people_is_short_and_printable() {
        let line = [b"a1 NO [LIMIT] ".as_slice(), &[b'x', 7, 0xff].repeat(300)].concat();
        let Some(Reply::Tagged(1, refused)) = understood(&line) else { panic!("not understood") };
        let text = refused.for_people();
        assert!(text.starts_with("[LIMIT] x") && text.chars().count() == 200 && !text.contains('\u{7}'));
    }

    proptest! {
        #[test]
        fn any_bytes_are_understood_or_not_and_never_more(bytes: Vec<u8>) {
            let _ = understood(&bytes);
        }

        #[test]
        fn any_text_of_imap_words_is_understood_or_not(
            line in "(\\* |a[0-9]{1,11} |\\+ )?((STATUS|INBOX|OK|NO|BYE|FETCH|SEARCH|ESEARCH|COUNT|FLAGS|[0-9]{1,21}|\\[|\\]|\\(|\\)|\\{3\\}\r\n|\"|\\\\Seen|~|=| ){1,2}){0,12}"
        ) {
            let _ = understood(line.as_bytes());
        }

        #[test]
        fn the_fast_way_takes_what_servers_push(
            items in proptest::collection::vec((0usize..5, 1u32..), 1..6),
        ) {
            let names = ["MESSAGES", "UIDNEXT", "UNSEEN", "HIGHESTMODSEQ", "UIDVALIDITY"];
            let list: Vec<String> = items.iter().map(|(name, value)| format!("{} {value}", names[*name])).collect();
            let rest = format!("INBOX ({})", list.join(" "));
            let fast = fast_status(rest.as_bytes()).map(Reply::Status);
            prop_assert!(fast.is_some());
            prop_assert_eq!(fast, by_codec(format!("* STATUS {rest}").as_bytes()));
        }

        #[test]
        fn the_fast_way_says_what_imap_codec_says(
            list in "((UNSEEN|MESSAGES|UIDNEXT|UIDVALIDITY|HIGHESTMODSEQ|RECENT|SIZE|unseen) {1,2}([0-9]{1,11}|[0-9]{18,21}) ?){0,5}",
            name in "INBOX|inbox|\"INBOX\"|INBOX.Trash",
        ) {
            let line = format!("* STATUS {name} ({list})");
            let rest = line.strip_prefix("* STATUS ").unwrap();
            if let Some(fast) = fast_status(rest.as_bytes()) {
                prop_assert_eq!(by_codec(line.as_bytes()), Some(Reply::Status(fast)));
            }
            prop_assert_eq!(understood(line.as_bytes()), by_codec(line.as_bytes()));
        }
    }
}
