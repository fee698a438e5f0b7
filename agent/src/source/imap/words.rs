//! How a server's line falls into words, whatever spaces it puts between them. No meaning: that is `reply`'s.

/// A piece of a line's data (RFC 9051 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// `(`.
    Open,
    /// `)`.
    Close,
    /// Anything bare, up to a space or a parenthesis.
    Atom(&'a [u8]),
    /// What a quoted string or a literal holds.
    Text(&'a [u8]),
}

/// The tokens of a line's data. A text without an end reaches to the end of the line.
#[derive(Clone, Debug)]
pub(super) struct Tokens<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let rest = self.0.trim_ascii_start();
        let (token, after) = match rest.split_first()? {
            (b'(', after) => (Token::Open, after),
            (b')', after) => (Token::Close, after),
            (b'"', after) => quoted(after),
            (b'{' | b'~', _) if let Some((text, after)) = literal(rest) => (Token::Text(text), after),
            _ => {
                let end = rest.iter().position(|byte| is_space(*byte) || matches!(byte, b'(' | b')'));
                let (atom, after) = rest.split_at(end.unwrap_or(rest.len()));
                (Token::Atom(atom), after)
            }
        };
        self.0 = after;
        Some(token)
    }
}

/// Up to the quote that no backslash stands before. Backslashes stay: no name that we look for has one.
fn quoted(text: &[u8]) -> (Token<'_>, &[u8]) {
    let mut is_escaped = false;
    let end = text.iter().position(|byte| {
        let is_end = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_end
    });
    let (inside, after) = text.split_at(end.unwrap_or(text.len()));
    (Token::Text(inside), after.get(1..).unwrap_or_default())
}

/// `{5}` or `~{5}`, a line end and so many bytes.
fn literal(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = rest.strip_prefix(b"~").unwrap_or(rest).strip_prefix(b"{")?;
    let (digits, rest) = rest.split_at_checked(memchr::memchr(b'}', rest)?)?;
    let length = usize::try_from(number(digits.strip_suffix(b"+").unwrap_or(digits))?).ok()?;
    let rest = rest.strip_prefix(b"}\r\n").or_else(|| rest.strip_prefix(b"}\n"))?;
    Some(rest.split_at(length.min(rest.len())))
}

/// The first word, and what follows the spaces behind it.
pub(super) fn word(bytes: &[u8]) -> (&[u8], &[u8]) {
    split(bytes, is_space)
}

/// The first word where a parenthesis, a bracket or a quote ends one, too: servers forget the space before these.
pub(super) fn keyword(bytes: &[u8]) -> (&[u8], &[u8]) {
    split(bytes, |byte| is_space(byte) || matches!(byte, b'(' | b'[' | b'"'))
}

fn split(bytes: &[u8], is_end: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let bytes = bytes.trim_ascii_start();
    let end = bytes.iter().position(|byte| is_end(*byte)).unwrap_or(bytes.len());
    let (first, rest) = bytes.split_at(end);
    (first, rest.trim_ascii_start())
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Decimal digits, nothing else, within 64 bits.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| match digit {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// The same as a count of messages: one beyond 32 bits is cut to them, since it only says that there are some.
pub(super) fn count(digits: &[u8]) -> Option<u32> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| number(digits).and_then(|count| u32::try_from(count).ok()).unwrap_or(u32::MAX))
}

/// How many messages the words of a SEARCH answer name: numbers, and sequence sets (RFC 9051 §9) where a server
/// shortens them. Other words name none.
pub(super) fn messages_in(words: &[u8]) -> u32 {
    let parts = words.split(|byte| is_space(*byte) || *byte == b',');
    parts.map(messages_of).fold(0, u32::saturating_add)
}

fn messages_of(part: &[u8]) -> u32 {
    let numbered = |digits| number(digits).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    match memchr::memchr(b':', part).and_then(|at| part.split_at_checked(at)) {
        None => u32::from(numbered(part).is_some()),
        Some((first, last)) => match (numbered(first), last.get(1..).and_then(numbered)) {
            (Some(first), Some(last)) => first.abs_diff(last).saturating_add(1),
            _ => 0,
        },
    }
}

/// Where the numbers begin in `* SEARCH 1 2 3`, and `None` in any other line.
pub(super) fn search_numbers(line: &[u8]) -> Option<usize> {
    let after = line.strip_prefix(b"*")?.trim_ascii_start();
    let (name, numbers) = after.split_at_checked(b"SEARCH".len())?;
    let is_search =
        name.eq_ignore_ascii_case(b"SEARCH") && numbers.first().is_some_and(|byte| is_space(*byte));
    is_search.then(|| line.len() - numbers.len())
}

/// How many numbers a sequence set names (RFC 9051 §9, sequence-set): 4 in `1:3,7`.
pub(super) fn set_size(set: &[u8]) -> Option<u32> {
    set.split(|byte| *byte == b',').try_fold(0_u32, |sum, part| {
        let mut ends = part.splitn(2, |byte| *byte == b':').map(number);
        let first = ends.next()??;
        let last = ends.next().unwrap_or(Some(first))?;
        let size = first.abs_diff(last).saturating_add(1);
        sum.checked_add(u32::try_from(size).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_falls_into_tokens_whatever_stands_between() {
        use Token::{Atom, Close, Open, Text};
        let cases: &[(&[u8], &[Token<'_>])] = &[
            (b"", &[]),
            (b" a\tb ", &[Atom(b"a"), Atom(b"b")]),
            (b"a(b)c", &[Atom(b"a"), Open, Atom(b"b"), Close, Atom(b"c")]),
            (b"\"a \\\" b\"c", &[Text(b"a \\\" b"), Atom(b"c")]),
            (b"\"a\\\\\" b", &[Text(b"a\\\\"), Atom(b"b")]),
            (b"\"never ends", &[Text(b"never ends")]),
            (b"{3}\r\na b c", &[Text(b"a b"), Atom(b"c")]),
            (b"~{3+}\na b c", &[Text(b"a b"), Atom(b"c")]),
            (b"{30}\r\na b", &[Text(b"a b")]),
            (b"{x} {3}", &[Atom(b"{x}"), Atom(b"{3}")]),
        ];
        for (data, expected) in cases {
            let found: Vec<Token<'_>> = Tokens(data).collect();
            assert_eq!(found, *expected, "{}", data.escape_ascii());
        }
    }

    #[test]
    fn messages_are_counted_by_numbers_and_sets() {
        let cases: &[(&[u8], u32)] = &[
            (b"", 0),
            (b"1 2  3 ", 3),
            (b"1\t2 x \xff -3 3.5", 2),
            (b"1,2:4 9:7", 7),
            (b"0 1:* 4294967296", 0),
            (b"1:4294967295 1:4294967295", u32::MAX),
        ];
        for (words, expected) in cases {
            assert_eq!(messages_in(words), *expected, "{}", words.escape_ascii());
        }
    }

    #[test]
    fn a_search_answer_is_known_however_it_is_spelled() {
        let cases: &[(&[u8], Option<usize>)] = &[
            (b"* SEARCH 1", Some(8)),
            (b"*  search\t1", Some(9)),
            (b"*SEARCH 1", Some(7)),
            (b"* SEARCH", None),
            (b"* SEARCHES 1", None),
            (b"* STATUS", None),
            (b"a1 SEARCH 1", None),
        ];
        for (line, expected) in cases {
            assert_eq!(search_numbers(line), *expected, "{}", line.escape_ascii());
        }
    }
}
