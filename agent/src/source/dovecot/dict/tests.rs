//! The transcripts of `fixtures/dovecot`, bad input by rule, and what must hold for any bytes.

use super::*;
use crate::event::{ModSeq, UidValidity};
use proptest::prelude::*;
use std::fs;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};

/// What one line from Dovecot leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Due {
    replies: Vec<u8>,
    updates: Vec<Update>,
    skipped: u64,
    is_hopeless: bool,
}

impl Due {
    fn append(&mut self, other: Self) {
        self.replies.extend(other.replies);
        self.updates.extend(other.updates);
        self.skipped += other.skipped;
        self.is_hopeless |= other.is_hopeless;
    }
}

impl From<Step> for Due {
    fn from(step: Step) -> Self {
        Self {
            replies: step.replies,
            updates: step.updates,
            skipped: step.skipped,
            is_hopeless: step.is_hopeless,
        }
    }
}

fn transcripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/dovecot");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("fixtures/dovecot")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "transcript"))
        .collect();
    files.sort();
    assert!(files.len() >= 10, "the transcripts are there: {files:?}");
    files
}

/// `␉` and `\xNN` to bytes.
fn bytes(text: &str) -> Vec<u8> {
    let text = text.replace('␉', "\t");
    let mut pieces = text.split("\\x");
    let mut plain = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (number, rest) = piece.split_at(2);
        plain.push(u8::from_str_radix(number, 16).expect("two hex digits after \\x"));
        plain.extend(rest.bytes());
    }
    plain
}

/// `user unseen uidvalidity modseq`.
fn update(text: &str) -> Update {
    let [user, unseen, uid_validity, modseq] = text.split(' ').collect::<Vec<_>>()[..] else {
        panic!("four fields: {text}")
    };
    let number = |field: &str| if field == "-" { 0 } else { field.parse().expect("a number") };
    let reading = Reading {
        unseen: unseen.parse().expect("a number"),
        uid_validity: NonZeroU32::new(number(uid_validity) as u32).map(UidValidity),
        modseq: NonZeroU64::new(number(modseq)).map(ModSeq),
        asked_at: None,
    };
    Update { user: user.replace("\\t", "\t").into(), reading }
}

/// The transcript as pairs of a line from Dovecot and what it leads to.
fn parse(text: &str) -> Vec<(Vec<u8>, Due)> {
    let mut lines: Vec<(Vec<u8>, Due)> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        if mark == ">" {
            lines.push(([bytes(rest).as_slice(), b"\n"].concat(), Due::default()));
            continue;
        }
        let due = &mut lines.last_mut().expect("Dovecot speaks first").1;
        match mark {
            "<" => due.replies.extend([rest.as_bytes(), b"\n"].concat()),
            "=" => due.updates.push(update(rest)),
            "!" => due.skipped += rest.parse::<u64>().expect("a number"),
            "hopeless" => due.is_hopeless = true,
            other => panic!("unknown mark {other}"),
        }
    }
    lines
}

fn told<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Due {
    let mut conversation = Conversation::new();
    let mut due = Due::default();
    for piece in pieces {
        let mut step = Step::default();
        conversation.handle(piece, &mut step);
        due.append(step.into());
    }
    due
}

#[test]
fn every_transcript_leads_to_what_it_says_line_by_line() {
    for file in transcripts() {
        let mut conversation = Conversation::new();
        for (line, due) in parse(&fs::read_to_string(&file).expect("readable")) {
            let mut step = Step::default();
            conversation.handle(&line, &mut step);
            assert_eq!(Due::from(step), due, "{}: {}", file.display(), line.escape_ascii());
        }
    }
}

#[test]
fn every_transcript_leads_to_the_same_however_it_is_cut() {
    for file in transcripts() {
        let lines = parse(&fs::read_to_string(&file).expect("readable"));
        let whole: Vec<u8> = lines.iter().flat_map(|(line, _)| line.clone()).collect();
        let mut all = Due::default();
        for (_, due) in lines {
            all.append(due);
        }
        assert_eq!(told([whole.as_slice()]), all, "{} in one piece", file.display());
        for size in [1, 2, 3, 7, 64] {
            assert_eq!(told(whole.chunks(size)), all, "{} by {size} bytes", file.display());
        }
    }
}

/// A conversation after its hello, with transaction 1 of u1 open and a good value in it.
fn opened() -> Conversation {
    let mut conversation = Conversation::new();
    let mut step = Step::default();
    conversation.handle(b"H3\t2\t0\t\tunseen\nB1\tu1\nS1\tpriv/status/INBOX\t{\"unseen\":1}\n", &mut step);
    assert_eq!(Due::from(step), Due::default(), "nothing is answered before the commit");
    conversation
}

#[test]
fn over_long_lines_are_skipped_and_what_waits_is_answered() {
    // The line's beginning, the reply due at its end, whether the connection must end.
    let cases: &[(&str, &str, bool)] = &[
        ("S1\tpriv/status/INBOX\t", "", false),
        ("X", "", false),
        ("Lpriv/", "N\n", false),
        ("I0\t0\tpriv/", "\n", false),
        ("C1", "", true),
        ("D1\t", "", true),
    ];
    for (start, reply, is_hopeless) in cases {
        let line = [start.as_bytes(), &vec![b'x'; LINE_MAX], b"\n"].concat();
        for size in [line.len(), 4096, 5] {
            let mut conversation = opened();
            let mut due = Due::default();
            for piece in line.chunks(size) {
                let mut step = Step::default();
                conversation.handle(piece, &mut step);
                assert!(conversation.tail.capacity() <= 2 * LINE_MAX, "memory stays bounded");
                due.append(step.into());
            }
            let expected = Due {
                replies: reply.as_bytes().to_vec(),
                skipped: 1,
                is_hopeless: *is_hopeless,
                ..Due::default()
            };
            assert_eq!(due, expected, "{start} by {size} bytes");
            let mut step = Step::default();
            conversation.handle(b"C1\n", &mut step);
            assert_eq!(step.replies, b"O1\n", "{start} by {size} bytes: what follows is heard");
            let is_told = !step.updates.is_empty();
            assert_eq!(is_told, !start.starts_with('S'), "{start}: an earlier value is not the last one");
        }
    }
}

#[test]
fn the_longest_allowed_line_is_read() {
    let start = "S1\tpriv/status/INBOX\t{\"unseen\":8,\"x\":\"";
    let line = format!("{start}{}\"}}\n", "x".repeat(LINE_MAX - start.len() - 2));
    assert_eq!(line.len(), LINE_MAX + 1);
    for size in [line.len(), 1000] {
        let mut conversation = opened();
        let mut step = Step::default();
        line.as_bytes().chunks(size).for_each(|piece| conversation.handle(piece, &mut step));
        conversation.handle(b"C1\n", &mut step);
        let due = Due { replies: b"O1\n".to_vec(), updates: vec![update("u1 8 - -")], ..Due::default() };
        assert_eq!(Due::from(step), due, "by {size} bytes");
    }
}

#[test]
fn transactions_are_bounded_and_those_past_the_bound_are_answered_all_the_same() {
    let mut conversation = opened();
    let mut step = Step::default();
    for id in 2..=TRANSACTIONS_MAX + 3 {
        conversation.handle(format!("B{id}\tu{id}\n").as_bytes(), &mut step);
    }
    assert_eq!((step.skipped, conversation.open.len()), (3, TRANSACTIONS_MAX));
    step.clear();
    conversation.handle(format!("C{}\nC1\n", TRANSACTIONS_MAX + 3).as_bytes(), &mut step);
    let due = Due {
        replies: format!("O{}\nO1\n", TRANSACTIONS_MAX + 3).into_bytes(),
        updates: vec![update("u1 1 - -")],
        skipped: 1,
        is_hopeless: false,
    };
    assert_eq!(Due::from(step), due);
}

#[test]
fn a_connection_that_ends_before_its_commit_tells_nothing() {
    let mut conversation = opened();
    let mut step = Step::default();
    conversation.handle(b"C1", &mut step);
    conversation.finish(&mut step);
    assert_eq!(Due::from(step), Due { skipped: 1, ..Due::default() }, "the truncated line is counted");
    let mut step = Step::default();
    conversation.finish(&mut step);
    assert_eq!(Due::from(step), Due::default(), "an end between lines is none");
}

#[test]
fn an_idle_conversation_holds_no_buffer() {
    let mut conversation = opened();
    assert!(!conversation.is_idle());
    let mut step = Step::default();
    conversation.handle(b"C", &mut step);
    conversation.handle(b"1\n", &mut step);
    assert!(conversation.is_idle());
    assert_eq!((conversation.open.capacity(), conversation.tail.capacity()), (0, 0));
}

#[test]
fn numbers_are_written_as_they_were_read() {
    for id in [0, 1, 9, 10, 4_294_967_295_u32] {
        let mut out = Vec::new();
        push_decimal(&mut out, id);
        assert_eq!(out, id.to_string().as_bytes());
    }
}

/// Lines that are nearly right, so that random input gets past the first byte.
fn nearly_lines() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"H3\t2\t0\t\tunseen\n".to_vec()),
        Just(b"B1\tu1\n".to_vec()),
        Just(b"S1\tpriv/status/INBOX\t{\"unseen\":1}\n".to_vec()),
        Just(b"C1\n".to_vec()),
        Just(b"L\n".to_vec()),
        Just(b"I\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..12),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_say_more_than_it_heard(input in nearly_lines(), size in 1_usize..40) {
        let due = told(input.chunks(size));
        prop_assert!(due.replies.len() <= input.len());
        let commits = due.replies.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"O")).count();
        prop_assert!(due.updates.len() <= commits, "published on commit only");
        prop_assert_eq!(told([input.as_slice()]), due, "cuts change nothing");
    }
}
