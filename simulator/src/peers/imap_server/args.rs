//! Reads a command's words: tag, name, atoms, strings, literals, lists and sets (RFC 9051 §9). Acts on none of them.

use super::reader::announced_literal;

/// Lists within lists, at most.
const DEPTH_MAX: usize = 8;

/// A word of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// An atom, a quoted string or a literal.
    Text(String),
    /// A parenthesized list.
    List(Vec<Word>),
}

/// A command, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// What the tagged answer repeats.
    pub(super) tag: String,
    /// Its name in capitals, with `UID ` before it where it was there.
    pub(super) name: String,
    /// What follows.
    pub(super) args: Args,
}

impl Command {
    /// Takes a whole command apart; the error is for the client.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut rest = bytes;
        let words = words(&mut rest, 0)?;
        let mut args = Args(words.into_iter());
        let tag = args.text().filter(|tag| !tag.is_empty()).ok_or("tag missing")?;
        let mut name = args.text().ok_or("command name missing")?.to_ascii_uppercase();
        if name == "UID" {
            name = format!("UID {}", args.text().ok_or("command name missing")?.to_ascii_uppercase());
        }
        Ok(Self { tag, name, args })
    }
}

/// The words that are left of a command or list.
#[derive(Clone, Debug)]
pub(super) struct Args(std::vec::IntoIter<Word>);

impl Args {
    /// The next word where it is a text.
    pub(super) fn text(&mut self) -> Option<String> {
        match self.0.next()? {
            Word::Text(text) => Some(text),
            Word::List(_) => None,
        }
    }

    /// The next word where it is a list.
    pub(super) fn list(&mut self) -> Option<Self> {
        if !matches!(self.0.as_slice().first(), Some(Word::List(_))) {
            return None;
        }
        match self.0.next()? {
            Word::List(words) => Some(Self(words.into_iter())),
            Word::Text(_) => None,
        }
    }

    /// Steps over this word, without regard to case, if it comes next.
    pub(super) fn skip(&mut self, expected: &str) -> bool {
        let comes = matches!(self.0.as_slice().first(), Some(Word::Text(text)) if text.eq_ignore_ascii_case(expected));
        if comes {
            self.0.next();
        }
        comes
    }

    /// How many words are left.
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }
}

impl PartialEq for Args {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice() == other.0.as_slice()
    }
}

impl Eq for Args {}

/// Words until the end of the input or of the list we are in.
fn words(rest: &mut &[u8], depth: usize) -> Result<Vec<Word>, &'static str> {
    let mut found = Vec::new();
    loop {
        let Some((first, tail)) = rest.split_first() else {
            return if depth == 0 { Ok(found) } else { Err("list is not closed") };
        };
        match first {
            b' ' => *rest = tail,
            b'(' if depth < DEPTH_MAX => {
                *rest = tail;
                found.push(Word::List(words(rest, depth + 1)?));
            }
            b'(' => return Err("lists too deep"),
            b')' if depth > 0 => {
                *rest = tail;
                return Ok(found);
            }
            b')' => return Err("list was not opened"),
            b'"' => {
                *rest = tail;
                found.push(Word::Text(quoted(rest)?));
            }
            b'{' => found.push(Word::Text(literal(rest)?)),
            _ => found.push(Word::Text(atom(rest))),
        }
    }
}

fn atom(rest: &mut &[u8]) -> String {
    let end = rest.iter().position(|byte| b" ()".contains(byte)).unwrap_or(rest.len());
    let (atom, tail) = rest.split_at_checked(end).unwrap_or((rest, &[]));
    *rest = tail;
    String::from_utf8_lossy(atom).into_owned()
}

fn quoted(rest: &mut &[u8]) -> Result<String, &'static str> {
    let mut text = Vec::new();
    loop {
        let (first, tail) = rest.split_first().ok_or("quoted string is not closed")?;
        *rest = tail;
        match first {
            b'"' => return Ok(String::from_utf8_lossy(&text).into_owned()),
            b'\\' => {
                let (escaped, tail) = rest.split_first().ok_or("quoted string is not closed")?;
                *rest = tail;
                text.push(*escaped);
            }
            byte => text.push(*byte),
        }
    }
}

fn literal(rest: &mut &[u8]) -> Result<String, &'static str> {
    let end = rest.iter().position(|byte| *byte == b'\n').ok_or("literal is broken")?;
    let (line, tail) = rest.split_at_checked(end + 1).ok_or("literal is broken")?;
    let line = line.trim_ascii_end();
    let (length, _) = announced_literal(line).ok_or("literal is broken")?;
    let (text, tail) = tail.split_at_checked(length).ok_or("literal is broken")?;
    *rest = tail;
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// A set of sequence numbers or uids, such as `1,3:5,9:*` (RFC 9051 §9, sequence-set).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NumberSet(Vec<(u32, u32)>);

impl NumberSet {
    /// Reads a set; `last` is what `*` stands for.
    pub(super) fn parse(text: &str, last: u32) -> Option<Self> {
        let number = |text: &str| match text {
            "*" => Some(last),
            digits => digits.parse().ok().filter(|number| *number > 0),
        };
        let range = |part: &str| {
            let (from, to) = part.split_once(':').unwrap_or((part, part));
            let (from, to) = (number(from)?, number(to)?);
            Some((from.min(to), from.max(to)))
        };
        text.split(',').map(range).collect::<Option<Vec<_>>>().map(Self)
    }

    /// Whether the number is in the set.
    pub(super) fn contains(&self, number: u32) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&number))
    }

    /// Writes ascending numbers as a set, `none` for nothing.
    pub(super) fn write(numbers: &[u32]) -> Option<String> {
        let mut parts: Vec<(u32, u32)> = Vec::new();
        for number in numbers {
            match parts.last_mut() {
                Some((_, to)) if to.checked_add(1) == Some(*number) => *to = *number,
                _ => parts.push((*number, *number)),
            }
        }
        let text =
            |(from, to): &(u32, u32)| if from == to { from.to_string() } else { format!("{from}:{to}") };
        (!parts.is_empty()).then(|| parts.iter().map(text).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_taken_apart() {
        let text = |text: &str| Word::Text(text.into());
        let table: &[(&str, &str, Vec<Word>)] = &[
            ("a noop", "NOOP", vec![]),
            ("a uid search unseen", "UID SEARCH", vec![text("unseen")]),
            ("a LOGIN \"u 1\" \"p\\\"\\\\w\"", "LOGIN", vec![text("u 1"), text("p\"\\w")]),
            ("a LOGIN {3+}\r\nu 1 {2}\r\n\"(", "LOGIN", vec![text("u 1"), text("\"(")]),
            (
                "a X (b (c) d)()",
                "X",
                vec![Word::List(vec![text("b"), Word::List(vec![text("c")]), text("d")]), Word::List(vec![])],
            ),
        ];
        for (line, name, words) in table {
            let command = Command::parse(line.as_bytes()).unwrap();
            assert_eq!((&*command.name, command.args.0.as_slice()), (*name, words.as_slice()), "{line}");
        }
    }

    #[test]
    fn broken_commands_are_refused_with_a_reason() {
        for line in ["", "a", "a UID", "a X (", "a X )", "a X \"y", "a X {9}\r\nz", "a X ((((((((("] {
            assert!(Command::parse(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn sets_are_read_and_written() {
        let set = NumberSet::parse("1,5:3,9:*", 12).unwrap();
        let inside: Vec<u32> = (1..=20).filter(|number| set.contains(*number)).collect();
        assert_eq!(inside, [1, 3, 4, 5, 9, 10, 11, 12]);
        assert_eq!(NumberSet::write(&inside).as_deref(), Some("1,3:5,9:12"));
        assert_eq!(NumberSet::write(&[]), None);
        for bad in ["", "0", "x", "1,,2", "1:"] {
            assert_eq!(NumberSet::parse(bad, 5), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            drop(Command::parse(&bytes));
        }

        #[test]
        fn what_looks_like_a_command_never_makes_it_panic(line in "[aU ()\"\\\\{}0-9+\r\n]{0,40}") {
            drop(Command::parse(line.as_bytes()));
        }
    }
}
