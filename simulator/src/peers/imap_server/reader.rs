//! Cuts what a client sends into commands: lines with their literals (RFC 9051 §4.3, RFC 7888). Reads no words.

/// A command line without its literals, at most.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// A whole command with its literals, at most: what APPEND may bring.
const COMMAND_BYTES_MAX: usize = 1024 * 1024;

/// What [`Reader::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A whole command, literals as they came, without the last CRLF.
    Command(Vec<u8>),
    /// The client waits for `+` before it sends its literal.
    WantsContinuation,
    /// Over a limit: the connection ends.
    TooLong,
}

/// Bytes of an unfinished command. Holds no memory while there is none.
#[derive(Debug, Default)]
pub(super) struct Reader {
    buffer: Vec<u8>,
    /// Where the present line begins: behind the literals of this command.
    line_from: usize,
}

impl Reader {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Forgets everything, as after STARTTLS (RFC 9051 §6.2.1).
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The next command or reason to act, if what came so far holds one.
    pub(super) fn next(&mut self) -> Option<Found> {
        if self.buffer.len() > COMMAND_BYTES_MAX + LINE_BYTES_MAX {
            return Some(Found::TooLong);
        }
        loop {
            let rest = self.buffer.get(self.line_from..)?;
            let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
                return (rest.len() > LINE_BYTES_MAX).then_some(Found::TooLong);
            };
            let line = rest.get(..length).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.len() > LINE_BYTES_MAX {
                return Some(Found::TooLong);
            }
            let Some((literal, waits)) = announced_literal(line) else {
                let command_length = self.line_from + line.len();
                return Some(Found::Command(self.cut(command_length, self.line_from + length + 1)));
            };
            self.line_from = self.line_from.saturating_add(length + 1).saturating_add(literal);
            if self.line_from > COMMAND_BYTES_MAX {
                return Some(Found::TooLong);
            }
            if waits {
                return Some(Found::WantsContinuation);
            }
        }
    }

    fn cut(&mut self, command_length: usize, next_from: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(next_from.min(self.buffer.len()));
        let mut command = std::mem::replace(&mut self.buffer, rest);
        command.truncate(command_length);
        self.line_from = 0;
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
        command
    }
}

/// The literal that this line ends with: its length, and whether the client waits for leave to send it.
pub(super) fn announced_literal(line: &[u8]) -> Option<(usize, bool)> {
    let inside = line.strip_suffix(b"}")?;
    let open = inside.iter().rposition(|byte| *byte == b'{')?;
    let digits = inside.get(open + 1..)?;
    let (digits, waits) = match digits.strip_suffix(b"+") {
        Some(digits) => (digits, false),
        None => (digits, true),
    };
    let length = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((length, waits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(input: &[u8], expected: &[Found]) {
        for step in [1, 3, input.len().max(1)] {
            let mut reader = Reader::default();
            let mut found = Vec::new();
            for piece in input.chunks(step) {
                reader.push(piece);
                while let Some(next) = reader.next() {
                    found.push(next);
                }
            }
            assert_eq!(found, expected, "in pieces of {step}");
            assert!(!reader.buffer.is_empty() || reader.buffer.capacity() == 0);
        }
    }

    fn command(text: &str) -> Found {
        Found::Command(text.as_bytes().to_vec())
    }

    #[test]
    fn commands_are_found_however_they_are_cut() {
        check(b"a1 NOOP\r\na2 NOOP\n", &[command("a1 NOOP"), command("a2 NOOP")]);
        check(b"DONE\r\nb IDLE\r\n", &[command("DONE"), command("b IDLE")]);
        check(
            b"a LOGIN {2+}\r\nu1 {3}\r\n\r\nx\r\nb NOOP\r\n",
            &[Found::WantsContinuation, command("a LOGIN {2+}\r\nu1 {3}\r\n\r\nx"), command("b NOOP")],
        );
        check(b"a APPEND INBOX {0+}\r\n\r\n", &[command("a APPEND INBOX {0+}\r\n")]);
        check(b"half a line", &[]);
        check(b"a1 SEARCH {x}\r\n", &[command("a1 SEARCH {x}")]);
    }

    #[test]
    fn too_long_lines_and_literals_are_told_before_they_are_kept() {
        let mut reader = Reader::default();
        reader.push(&vec![b'x'; LINE_BYTES_MAX + 1]);
        assert_eq!(reader.next(), Some(Found::TooLong));
        let mut reader = Reader::default();
        reader.push(b"a APPEND INBOX {99999999}\r\n");
        assert_eq!(reader.next(), Some(Found::TooLong));
        let mut reader = Reader::default();
        reader.push(b"a APPEND INBOX {18446744073709551615+}\r\n");
        assert_eq!(reader.next(), Some(Found::TooLong));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(pieces in prop::collection::vec("[a{}+0-9\r\n]{0,12}", 0..20)) {
            let mut reader = Reader::default();
            for piece in pieces {
                reader.push(piece.as_bytes());
                while reader.next().is_some_and(|found| found != Found::TooLong) {}
            }
        }
    }
}
