//! Answers as Dovecot 2.3.19 gave them, cut anywhere; rows and answers that are wrong in every way.

use super::*;
use proptest::prelude::*;

/// Seen on Dovecot 2.3.19.
const MEASURED: &str = r#"[["doveadmResponse",[{"username":"u1","mailbox":"INBOX","uidvalidity":"1795653272","unseen":"2","highestmodseq":"6"},{"username":"u2","mailbox":"INBOX","uidvalidity":"1795653273","unseen":"0","highestmodseq":"1"}],"everyone"]]"#;
/// The same, asked for by name.
const MEASURED_BY_NAME: &str = r#"[["doveadmResponse",[{"mailbox":"INBOX","uidvalidity":"9","unseen":"1","highestmodseq":"8"}],"7"],["error",{"type":"exitCode", "exitCode":75},"8"],["error",{"type":"exitCode", "exitCode":67},"9"],["doveadmResponse",[],"10"]]"#;

fn counts(unseen: u32, uid_validity: u32, modseq: u64) -> Counts {
    let uid_validity = uid_validity.try_into().ok().map(UidValidity);
    Counts { unseen, uid_validity, modseq: modseq.try_into().ok().map(ModSeq) }
}

/// All that is said, and whether the answer came to its end.
fn read_in_pieces<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(Vec<AnswerPart>, bool), NotDoveadm> {
    let (mut reader, mut all) = (Reader::default(), Vec::new());
    for piece in pieces {
        reader.read(piece, |said| all.push(said))?;
    }
    Ok((all, reader.is_over()))
}

fn read(answer: &str) -> Result<(Vec<AnswerPart>, bool), NotDoveadm> {
    read_in_pieces([answer.as_bytes()])
}

fn tag(text: &str) -> AnswerPart {
    AnswerPart::Tag(text.to_owned())
}

#[test]
fn rows_failures_and_tags_are_told_in_their_order_wherever_the_answer_is_cut() {
    let of = |user: &str, counts| AnswerPart::OfUser(user.to_owned(), counts);
    let failed = |why: &str| AnswerPart::Failed(why.to_owned());
    let cases = [
        (
            MEASURED,
            vec![
                of("u1", counts(2, 1_795_653_272, 6)),
                of("u2", counts(0, 1_795_653_273, 1)),
                tag("everyone"),
            ],
        ),
        (
            MEASURED_BY_NAME,
            vec![
                AnswerPart::OfQuestion(counts(1, 9, 8)),
                tag("7"),
                failed("exit code 75"),
                tag("8"),
                failed("there is no such user"),
                tag("9"),
                tag("10"),
            ],
        ),
        (
            r#"[["error",{"type":"unknownMethod", "exitCode":0},"t"]]"#,
            vec![failed("unknownMethod"), tag("t")],
        ),
        ("[]", vec![]),
    ];
    for (answer, expected) in cases {
        assert_eq!(read(answer), Ok((expected.clone(), true)), "{answer}");
        for at in 0..=answer.len() {
            let (before, after) = answer.as_bytes().split_at(at);
            assert_eq!(read_in_pieces([before, after]), Ok((expected.clone(), true)), "cut at {at}");
        }
        assert_eq!(read_in_pieces(answer.as_bytes().chunks(1)), Ok((expected, true)), "byte by byte");
    }
}

#[test]
fn a_row_that_cannot_be_understood_costs_that_row_alone() {
    let long = format!(r#"{{"username":"{}","unseen":"1"}}"#, "x".repeat(ROW_MAX));
    let rows = [
        r#"{"username":"u1","mailbox":"INBOX"}"#,
        r#"{"username":"u1","unseen":"many"}"#,
        r#"{"username":"u1","unseen":"-1"}"#,
        r#"{"username":"u1","unseen":"4294967296"}"#,
        r#"{"username":"u1","unseen":1.5}"#,
        r#"{"username":"u1","unseen":null}"#,
        r#"{"username":"u1","unseen":["1"]}"#,
        r#"{"username":{},"unseen":"1"}"#,
        r#"{"username":"u1","mailbox":"Trash","unseen":"1"}"#,
        r#"{"username":"u1","unseen":"1""}"#,
        "{}",
        "[]",
        "[{}]",
        "12",
        "\"u1\"",
        "null",
        long.as_str(),
    ];
    let good = r#"{"username":"u\"2\\","unseen":3}"#;
    for row in rows {
        let (said, _) = read(&format!(r#"[["doveadmResponse",[{row} , {good}],"t"]]"#)).unwrap();
        let expected =
            [AnswerPart::Skipped, AnswerPart::OfUser("u\"2\\".to_owned(), counts(3, 0, 0)), tag("t")];
        // A quote too many swallows what follows it, up to the next.
        if row.contains("\"\"}") {
            assert_eq!(said.first(), Some(&AnswerPart::Skipped), "{row:.80}");
        } else {
            assert_eq!(said, expected, "{row:.80}");
        }
    }
}

#[test]
fn a_count_is_read_whatever_stands_beside_it() {
    let rows = [
        r#"{"UserName":"u1","unseen":1}"#,
        r#"{"username":"u1","unseen":"1","uidvalidity":"x","highestmodseq":{}}"#,
        r#"{"guid":null,"unseen":1.0,"uidvalidity":null,"username":"u1","mailbox":"inbox"}"#,
        r#"{"username":"u1" "unseen":"1"}"#,
        r#"{"vsize":,"username":"u1","unseen":"1"}"#,
    ];
    for row in rows {
        let (said, is_over) =
            read(&format!("\u{feff} [ [\"doveadmResponse\" , [{row}] , 7, \"x\", null, {{}}]]")).unwrap();
        let expected = [AnswerPart::OfUser("u1".to_owned(), counts(1, 0, 0)), tag("7")];
        assert!(is_over && said.starts_with(&expected), "{row}: {said:?}");
    }
    assert_eq!(
        read(r#"[["error",{"type":"exitCode","exitCode":"67"},null]]"#).unwrap().0,
        [AnswerPart::Failed("there is no such user".to_owned())]
    );
}

#[test]
fn a_cut_answer_is_not_over_and_what_is_no_answer_of_doveadms_is_told() {
    for at in 0..MEASURED.len() {
        let (_, is_over) = read_in_pieces([MEASURED.as_bytes().split_at(at).0]).unwrap();
        assert!(!is_over, "cut at {at}");
    }
    let strange = [
        "<html></html>",
        "{\"error\":1}",
        "\"text\"",
        "OK",
        "[1]",
        "[{}]",
        "[[[[[",
        "]",
        "[[7]]",
        "[[]]]",
        "[] []",
    ];
    for answer in strange {
        let taken = read(answer);
        assert!(!matches!(taken, Ok((_, true))), "{answer}: {taken:?}");
    }
}

#[test]
fn a_million_users_are_read_one_row_at_a_time() {
    let (mut reader, mut users, mut unseen) = (Reader::default(), 0_u32, 0_u64);
    let mut tell = |said| {
        if let AnswerPart::OfUser(_, counts) = said {
            users += 1;
            unseen += u64::from(counts.unseen);
        }
    };
    reader.read(b"[[\"doveadmResponse\",[", &mut tell).unwrap();
    for number in 0..1_000_000_u32 {
        let row = format!(r#"{{"username":"u{number}","mailbox":"INBOX","unseen":"{}"}},"#, number % 10);
        reader.read(row.as_bytes(), &mut tell).unwrap();
    }
    reader.read(b"],\"everyone\"]]", &mut tell).unwrap();
    assert!(reader.is_over());
    assert_eq!((users, unseen), (1_000_000, 4_500_000));
}

#[test]
fn a_value_without_end_is_held_up_to_its_limit() {
    let mut reader = Reader::default();
    reader.read(b"[[\"doveadmResponse\",[{\"username\":\"", |_| ()).unwrap();
    for _ in 0..1000 {
        reader.read(&[b'x'; 1024], |_| ()).unwrap();
    }
    let held = reader.value.as_ref().unwrap().bytes.len();
    assert_eq!(held, ROW_MAX + 1);
}

proptest! {
    #[test]
    fn no_bytes_whatever_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_in_pieces([bytes.as_slice()]);
    }

    #[test]
    fn no_text_of_the_right_letters_panics(text in "[\\[\\]{}\",:a1\\\\ ]{0,80}") {
        let _ = read(&text);
        let _ = read(&format!("[[\"doveadmResponse\",[{text}],\"t\"]]"));
    }

    #[test]
    fn what_a_row_says_is_what_is_told(user in ".{1,40}", unseen in any::<u32>(), validity in 1_u32.., modseq in 1_u64..) {
        let row = serde_json::json!({
            "username": user, "mailbox": "INBOX", "unseen": unseen.to_string(),
            "uidvalidity": validity.to_string(), "highestmodseq": modseq.to_string(),
        });
        let (said, is_over) = read(&serde_json::json!([["doveadmResponse", [row], "t"]]).to_string()).unwrap();
        prop_assert_eq!(said, vec![AnswerPart::OfUser(user, counts(unseen, validity, modseq)), tag("t")]);
        prop_assert!(is_over);
    }
}
