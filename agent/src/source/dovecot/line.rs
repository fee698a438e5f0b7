//! The grammar of Dovecot's dict protocol: one line to one command, tab-separated, escaped with byte 1.
//!
//! No state: what a command does to a conversation stands in [`super::dict`].

use std::borrow::Cow;

/// Byte that starts an escape: `0` NUL, `1` itself, `t` tab, `r` CR, `n` LF.
const ESCAPE: u8 = 1;

/// The key whose value is INBOX's status.
const INBOX_KEY: &[u8] = b"priv/status/INBOX";

/// What Dovecot said; fields as they stand on the line, still escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    /// `H<major>␉<minor>␉<type>␉<user>␉<dict>`; never answered.
    Hello {
        /// 2, 3 or 4 are known.
        major: u32,
        /// Empty from version 3 on.
        user: &'a [u8],
    },
    /// `B<id>` with the user from version 3 on.
    Begin {
        /// Transaction.
        id: u32,
        /// Whose mailbox.
        user: Option<&'a [u8]>,
    },
    /// `S<id>␉<key>␉<value>`.
    Set {
        /// Transaction.
        id: u32,
        /// For example `priv/status/INBOX`.
        key: &'a [u8],
        /// What `notify_status_value` made.
        value: &'a [u8],
    },
    /// `U<id>␉<key>`.
    Unset {
        /// Transaction.
        id: u32,
        /// As in [`Command::Set`].
        key: &'a [u8],
    },
    /// `C<id>` and `D<id>`: answered `O<id>`.
    Commit {
        /// Transaction.
        id: u32,
    },
    /// `R<id>`: not answered.
    Rollback {
        /// Transaction.
        id: u32,
    },
    /// `L…`: answered "not found".
    Lookup,
    /// `I…`: answered with the end of an empty list.
    Iterate,
    /// `T`, `V`, `A`: timestamp, hide values, increment; no matter to us.
    Aside,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Nobody waits for an answer: the conversation goes on.
    Skip,
    /// A commit without a number: Dovecot waits for an answer that cannot be addressed.
    Hopeless,
}

impl<'a> Command<'a> {
    /// Reads one line without its LF.
    pub(super) fn parse(line: &'a [u8]) -> Result<Self, Unreadable> {
        // Dovecot escapes a CR of its own.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (verb, rest) = line.split_first().ok_or(Unreadable::Skip)?;
        match verb {
            b'H' => hello(rest),
            b'B' => {
                let (id, user) = numbered(rest)?;
                Ok(Self::Begin { id, user: user.map(|rest| field(rest).0) })
            }
            b'S' => {
                let (id, rest) = numbered(rest)?;
                let (key, rest) = field(rest.ok_or(Unreadable::Skip)?);
                Ok(Self::Set { id, key, value: field(rest.ok_or(Unreadable::Skip)?).0 })
            }
            b'U' => {
                let (id, rest) = numbered(rest)?;
                Ok(Self::Unset { id, key: field(rest.ok_or(Unreadable::Skip)?).0 })
            }
            b'C' | b'D' => match numbered(rest) {
                Ok((id, _)) => Ok(Self::Commit { id }),
                Err(_) => Err(Unreadable::Hopeless),
            },
            b'R' => Ok(Self::Rollback { id: numbered(rest)?.0 }),
            b'L' => Ok(Self::Lookup),
            b'I' => Ok(Self::Iterate),
            b'T' | b'V' | b'A' => Ok(Self::Aside),
            _ => Err(Unreadable::Skip),
        }
    }

    /// Reads what is left of a line that was cut off for its length: `head` is its beginning.
    ///
    /// Questions that Dovecot waits for are still answered; a value that cannot be read takes the place of an earlier
    /// one, as any other; all else is skipped.
    pub(super) fn parse_head(head: &'a [u8]) -> Result<Self, Unreadable> {
        match head.first() {
            Some(b'C' | b'D') => Err(Unreadable::Hopeless),
            Some(b'L') => Ok(Self::Lookup),
            Some(b'I') => Ok(Self::Iterate),
            Some(b'S') => {
                let (id, _) = numbered(head.get(1..).unwrap_or_default())?;
                Ok(Self::Unset { id, key: INBOX_KEY })
            }
            _ => Err(Unreadable::Skip),
        }
    }
}

fn hello(rest: &[u8]) -> Result<Command<'_>, Unreadable> {
    let (major, rest) = numbered(rest)?;
    let (_minor, rest) = field(rest.ok_or(Unreadable::Skip)?);
    let (_value_type, rest) = field(rest.ok_or(Unreadable::Skip)?);
    let (user, _dict) = field(rest.ok_or(Unreadable::Skip)?);
    Ok(Command::Hello { major, user })
}

/// The field up to the next tab, and what stands after that tab.
fn field(rest: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'\t', rest).and_then(|at| rest.split_at_checked(at)) {
        Some((field, tail)) => (field, tail.get(1..)),
        None => (rest, None),
    }
}

/// A decimal number as first field, and what stands after it.
fn numbered(rest: &[u8]) -> Result<(u32, Option<&[u8]>), Unreadable> {
    let (digits, rest) = field(rest);
    let digits = digits.trim_ascii();
    // Ten digits hold any u32; a longer run of zeros is nobody's number.
    if digits.is_empty() || digits.len() > 10 {
        return Err(Unreadable::Skip);
    }
    let mut number = 0_u32;
    for digit in digits {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10).ok_or(Unreadable::Skip)?;
        number = number
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(u32::from(digit)))
            .ok_or(Unreadable::Skip)?;
    }
    Ok((number, rest))
}

/// Takes back Dovecot's escapes. What stands after byte 1 and is no known escape stands for itself.
pub(super) fn unescape(field: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(ESCAPE, field).is_none() {
        return Cow::Borrowed(field);
    }
    let mut plain = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        if *byte != ESCAPE {
            plain.push(*byte);
            continue;
        }
        match bytes.next() {
            Some(b'0') => plain.push(0),
            Some(b'1') => plain.push(ESCAPE),
            Some(b't') => plain.push(b'\t'),
            Some(b'r') => plain.push(b'\r'),
            Some(b'n') => plain.push(b'\n'),
            Some(other) => plain.push(*other),
            None => {}
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_command_is_read_and_every_broken_one_refused() {
        let set = Command::Set { id: 1, key: b"priv/status/INBOX", value: b"{}" };
        let cases: &[(&[u8], Result<Command<'_>, Unreadable>)] = &[
            (b"H2\t2\t0\tu1\tunseen", Ok(Command::Hello { major: 2, user: b"u1" })),
            (b"H3\t2\t0\t\tunseen", Ok(Command::Hello { major: 3, user: b"" })),
            (b"H4\t0\t0\t\tunseen", Ok(Command::Hello { major: 4, user: b"" })),
            (b"H3\t2", Err(Unreadable::Skip)),
            (b"B1", Ok(Command::Begin { id: 1, user: None })),
            (b"B1\tu1", Ok(Command::Begin { id: 1, user: Some(b"u1") })),
            (b"B1\tu1\t0", Ok(Command::Begin { id: 1, user: Some(b"u1") })),
            (b"B4294967295\tu1", Ok(Command::Begin { id: u32::MAX, user: Some(b"u1") })),
            (b"B4294967296\tu1", Err(Unreadable::Skip)),
            (b"B00000000001\tu1", Err(Unreadable::Skip)),
            (b"B-1\tu1", Err(Unreadable::Skip)),
            (b"S1\tpriv/status/INBOX\t{}", Ok(set)),
            (b"S1\tpriv/status/INBOX\t{}\tmore", Ok(set)),
            (b"S1\tpriv/status/INBOX", Err(Unreadable::Skip)),
            (b"S1", Err(Unreadable::Skip)),
            (b"S\tpriv/status/INBOX\t{}", Err(Unreadable::Skip)),
            (b"U1\tkey", Ok(Command::Unset { id: 1, key: b"key" })),
            (b"C12", Ok(Command::Commit { id: 12 })),
            (b"C 12 \r", Ok(Command::Commit { id: 12 })),
            (b"B1\tu1\r", Ok(Command::Begin { id: 1, user: Some(b"u1") })),
            (b"D12", Ok(Command::Commit { id: 12 })),
            (b"C", Err(Unreadable::Hopeless)),
            (b"C1x", Err(Unreadable::Hopeless)),
            (b"R7", Ok(Command::Rollback { id: 7 })),
            (b"Lpriv/x\tu1", Ok(Command::Lookup)),
            (b"I0\t0\tpriv/x\tu1", Ok(Command::Iterate)),
            (b"T1\t1\t2", Ok(Command::Aside)),
            (b"V1", Ok(Command::Aside)),
            (b"A1\tkey\t1", Ok(Command::Aside)),
            (b"GET / HTTP/1.1", Err(Unreadable::Skip)),
            (b"", Err(Unreadable::Skip)),
        ];
        for (line, expected) in cases {
            assert_eq!(Command::parse(line), *expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn escapes_are_taken_back() {
        let cases: &[(&[u8], &[u8])] = &[
            (b"plain", b"plain"),
            (b"a\x01tb", b"a\tb"),
            (b"\x010\x011\x01r\x01n", b"\0\x01\r\n"),
            (b"\x01x", b"x"),
            (b"cut\x01", b"cut"),
        ];
        for (escaped, plain) in cases {
            assert_eq!(unescape(escaped).as_ref(), *plain, "{}", escaped.escape_ascii());
        }
    }

    fn escape(plain: &[u8]) -> Vec<u8> {
        let mut escaped = Vec::new();
        for byte in plain {
            match byte {
                0 => escaped.extend(b"\x010"),
                1 => escaped.extend(b"\x011"),
                b'\t' => escaped.extend(b"\x01t"),
                b'\r' => escaped.extend(b"\x01r"),
                b'\n' => escaped.extend(b"\x01n"),
                other => escaped.push(*other),
            }
        }
        escaped
    }

    proptest! {
        #[test]
        fn what_was_escaped_comes_back(plain in proptest::collection::vec(any::<u8>(), 0..64)) {
            let escaped = escape(&plain);
            prop_assert!(!escaped.contains(&b'\t') && !escaped.contains(&b'\n'));
            let back = unescape(&escaped).into_owned();
            prop_assert_eq!(back, plain);
        }

        #[test]
        fn no_line_makes_it_panic(line in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = Command::parse(&line);
            let _ = Command::parse_head(&line);
        }
    }
}
