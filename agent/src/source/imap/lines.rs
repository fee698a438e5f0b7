//! Bytes into lines: a line with its literals is one piece (RFC 9051 §4.3). Holds only what a read cut in two, so that an
//! idle connection holds nothing. What a line means is not known here, but for two things: which lines can carry a
//! literal, and that an endless SEARCH answer is counted as it comes.

use super::LINE_MAX;
use super::words::{keyword, messages_in, search_numbers};
use memchr::memchr;

/// From this length on an unfinished SEARCH answer is counted and dropped piece by piece.
const FOLD_FROM: usize = 4 * 1024;

/// A line was longer than [`LINE_MAX`], or announced a literal that would make it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// A whole line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The line, literals included, without its line end.
    pub bytes: &'a [u8],
    /// Numbers of a SEARCH answer that were counted before the line was whole.
    pub folded: u32,
}

/// Cuts lines, and keeps the tail of one that a read cut in two; nothing where none is begun.
#[derive(Debug, Default)]
pub struct Lines(Option<Box<Begun>>);

/// A line that is not whole yet.
#[derive(Debug, Default)]
struct Begun {
    tail: Vec<u8>,
    /// Bytes of a literal that are still to come before line ends count again.
    literal_left: u32,
    folded: u32,
    is_given: bool,
}

impl Lines {
    /// The next whole line of `input`, which is moved on; `None` when the rest was kept for the next read.
    ///
    /// # Errors
    /// [`TooLong`]: the connection must end, nothing after this is understood.
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Result<Option<Line<'s>>, TooLong> {
        self.0.take_if(|begun| begun.is_given);
        if self.0.is_none()
            && let Some(end) = memchr(b'\n', input)
        {
            let (piece, after) = input.split_at(end + 1);
            if !ends_with_brace(piece) {
                *input = after;
                return whole(piece, 0).map(Some);
            }
        }
        if input.is_empty() {
            return Ok(None);
        }
        self.0.get_or_insert_default().next(input)
    }

    /// Whether a line was begun and is not whole.
    pub fn is_inside(&self) -> bool {
        self.0.as_ref().is_some_and(|begun| !begun.is_given && !begun.tail.is_empty())
    }
}

impl Begun {
    fn next<'s>(&'s mut self, input: &mut &[u8]) -> Result<Option<Line<'s>>, TooLong> {
        loop {
            self.keep_literal(input);
            let Some(end) = memchr(b'\n', input) else {
                let rest = std::mem::take(input);
                self.keep(rest)?;
                return Ok(None);
            };
            let (piece, after) = input.split_at(end + 1);
            *input = after;
            self.keep(piece)?;
            match literal_of(&self.tail) {
                Some(length) if self.tail.len() as u64 + u64::from(length) > LINE_MAX as u64 => {
                    return Err(TooLong);
                }
                Some(length) => self.literal_left = length,
                None => {
                    self.is_given = true;
                    return whole(&self.tail, self.folded).map(Some);
                }
            }
        }
    }

    fn keep_literal(&mut self, input: &mut &[u8]) {
        let wanted = (self.literal_left as usize).min(input.len());
        let (literal, after) = input.split_at(wanted);
        self.tail.extend_from_slice(literal);
        self.literal_left -= wanted as u32;
        *input = after;
    }

    fn keep(&mut self, piece: &[u8]) -> Result<(), TooLong> {
        self.tail.extend_from_slice(piece);
        if self.tail.len() > FOLD_FROM
            && let Some(start) = search_numbers(&self.tail)
        {
            self.fold(start);
        }
        if self.tail.len() > LINE_MAX { Err(TooLong) } else { Ok(()) }
    }

    /// Counts the whole numbers of an unfinished SEARCH answer, the one that is as long as the mailbox is large, and keeps
    /// the last, which may be cut, and what stands in parentheses.
    fn fold(&mut self, start: usize) {
        let numbers = self.tail.get(start..).unwrap_or_default();
        let end = memchr(b'(', numbers).unwrap_or(numbers.len());
        let plain = numbers.get(..end).unwrap_or_default();
        let Some(last) = plain.iter().rposition(u8::is_ascii_whitespace).filter(|last| *last > 0) else {
            return;
        };
        self.folded = self.folded.saturating_add(messages_in(plain.get(..last).unwrap_or_default()));
        self.tail.drain(start..start + last);
    }
}

fn whole(piece: &[u8], folded: u32) -> Result<Line<'_>, TooLong> {
    let bytes = piece.strip_suffix(b"\n").unwrap_or(piece);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let is_allowed = bytes.len() <= LINE_MAX || search_numbers(bytes).is_some();
    if is_allowed { Ok(Line { bytes, folded }) } else { Err(TooLong) }
}

fn ends_with_brace(piece: &[u8]) -> bool {
    piece.ends_with(b"}\r\n") || piece.ends_with(b"}\n")
}

/// The literal that a line's end announces. Human text may end in a brace, so lines of status conditions announce none.
fn literal_of(line: &[u8]) -> Option<u32> {
    if !ends_with_brace(line) {
        return None;
    }
    let (word, _) = keyword(line.strip_prefix(b"*")?);
    let is_text =
        [&b"OK"[..], b"NO", b"BAD", b"BYE", b"PREAUTH"].iter().any(|w| word.eq_ignore_ascii_case(w));
    let close = line.iter().rposition(|byte| *byte == b'}')?;
    let open = line.iter().rposition(|byte| *byte == b'{')?;
    let digits = line.get(open + 1..close)?;
    let digits = digits.strip_suffix(b"+").unwrap_or(digits);
    if is_text || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // More digits than a number holds is a literal too, and too long.
    Some(std::str::from_utf8(digits).ok()?.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `input` in pieces of `step` bytes.
    fn cut(input: &[u8], step: usize) -> Result<Vec<(Vec<u8>, u32)>, TooLong> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for mut piece in input.chunks(step.max(1)) {
            while let Some(line) = lines.next(&mut piece)? {
                found.push((line.bytes.to_vec(), line.folded));
            }
        }
        Ok(found)
    }

    #[test]
    fn lines_are_the_same_however_reads_cut_them() {
        let input = b"* OK hi\r\n*  no {3}\r\n* LIST () \"/\" {5}\r\na\r\nbc\r\n* BYE {3}\r\nbare\n\r\na1 OK done\r\n";
        let expected: Vec<&[u8]> = vec![
            b"* OK hi",
            b"*  no {3}",
            b"* LIST () \"/\" {5}\r\na\r\nbc",
            b"* BYE {3}",
            b"bare",
            b"",
            b"a1 OK done",
        ];
        for step in 1..=input.len() {
            let found = cut(input, step).unwrap();
            assert_eq!(found.iter().map(|(line, _)| line.as_slice()).collect::<Vec<_>>(), expected, "{step}");
        }
    }

    #[test]
    fn a_line_over_the_limit_ends_it_and_one_at_the_limit_does_not() {
        let long = |n: usize| [b"* ".to_vec(), vec![b'x'; n - 2], b"\r\n".to_vec()].concat();
        assert!(cut(&long(LINE_MAX - 2), 1000).is_ok());
        for step in [1000, LINE_MAX * 2] {
            assert_eq!(cut(&long(LINE_MAX + 1), step), Err(TooLong));
        }
        assert_eq!(cut(&vec![b'x'; LINE_MAX + 1], 512), Err(TooLong));
    }

    #[test]
    fn a_literal_too_large_or_beyond_numbers_ends_it_and_a_broken_one_is_text() {
        for announced in ["{65536}", "{4294967296}", "{99999999999999999999999}"] {
            assert_eq!(cut(format!("* LIST {announced}\r\n").as_bytes(), 7), Err(TooLong), "{announced}");
        }
        for broken in ["{}", "{x}", "{-1}", "{5", "5}"] {
            let line = format!("* LIST {broken}");
            assert_eq!(cut(format!("{line}\r\n").as_bytes(), 3).unwrap(), vec![(line.into_bytes(), 0)]);
        }
    }

    #[test]
    fn a_search_answer_of_any_length_is_counted_in_little_memory() {
        for step in [1, 100, 1448, 65_536] {
            let mut lines = Lines::default();
            let numbers: Vec<String> = (1..=100_000).map(|n| n.to_string()).collect();
            let input = format!("* SEARCH {}\r\n", numbers.join(" "));
            let (mut folded, mut rest) = (0, 0);
            for mut piece in input.as_bytes().chunks(step) {
                while let Some(line) = lines.next(&mut piece).unwrap() {
                    folded = line.folded;
                    rest = memchr::memchr_iter(b' ', line.bytes).count() as u32 - 1;
                }
                assert!(lines.0.as_ref().is_none_or(|begun| begun.tail.len() <= FOLD_FROM + step));
            }
            assert_eq!(folded + rest, 100_000, "{step}");
        }
    }

    #[test]
    fn a_long_search_answer_is_counted_whatever_its_case_spaces_and_odd_words() {
        for (name, between) in [("* search", "  "), ("*  Search", "\t"), ("*SEARCH ", " x ")] {
            for step in [1, 1448, 65_536] {
                let numbers: Vec<String> = (1..=20_000).map(|n| n.to_string()).collect();
                let input = format!("{name} {} (MODSEQ 7)\r\n", numbers.join(between));
                let mut lines = Lines::default();
                let mut found = None;
                for mut piece in input.as_bytes().chunks(step) {
                    while let Some(line) = lines.next(&mut piece).unwrap() {
                        found = crate::source::imap::reply::decode(line).map(|reply| format!("{reply:?}"));
                    }
                }
                assert_eq!(found.as_deref(), Some("Found(20000)"), "{name} {step}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_cut_the_same_in_any_steps(input: Vec<u8>, step in 1usize..40) {
            prop_assert_eq!(cut(&input, step), cut(&input, usize::MAX));
        }
    }
}
