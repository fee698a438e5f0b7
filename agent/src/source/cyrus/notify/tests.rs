//! Datagrams as a real Cyrus sends them, bad ones by rule, and what must hold for any bytes.

use super::*;
use proptest::prelude::*;
use std::fs;
use std::path::Path;

/// As Cyrus sends an event.
fn datagram(json: &str) -> Vec<u8> {
    format!("mailbadge\0EVENT\0\0\0\x000\0{json}\0").into_bytes()
}

/// user, unseen, uidvalidity, modseq; zero where unknown.
fn told(datagram: &[u8]) -> Result<(String, u32, u32, u64), Skip> {
    read(datagram).map(|Update { user, reading }| {
        assert_eq!(reading.asked_at, None, "Cyrus speaks by itself");
        let uid_validity = reading.uid_validity.map_or(0, |it| it.0.get());
        (user.into(), reading.unseen, uid_validity, reading.modseq.map_or(0, |it| it.0.get()))
    })
}

#[track_caller]
fn check(json: &str, expected: Result<(&str, u32, u32, u64), Skip>) {
    let expected =
        expected.map(|(user, unseen, validity, modseq)| (user.to_owned(), unseen, validity, modseq));
    assert_eq!(told(&datagram(json)), expected, "{json}");
}

#[test]
fn events_of_an_inbox_give_its_count_and_all_else_is_skipped_for_its_reason() {
    let new = r#"{"event":"MessageNew","service":"lmtp","uri":"imap://localhost/user/u1;UIDVALIDITY=1795424948/;UID=1","modseq":2,"messages":1,"vnd.cmu.unseenMessages":1,"uidnext":2,"pid":14254,"user":"u1"}"#;
    check(new, Ok(("u1", 1, 1_795_424_948, 2)));
    let read = r#"{"event":"MessageRead","uri":"imap://localhost/user/u1;UIDVALIDITY=7","messages":3,"vnd.cmu.unseenMessages":0,"uidset":"1:3"}"#;
    check(read, Ok(("u1", 0, 7, 0)));
    let moved = r#"{"event":"vnd.cmu.MessageMove","oldMailboxID":"imap://localhost/user/u1;UIDVALIDITY=7","uri":"imap://localhost/user/u1/Trash;UIDVALIDITY=8","vnd.cmu.unseenMessages":0}"#;
    check(moved, Err(Skip::NotAnInbox));
    let noise =
        r#"{"event":"MailboxModseq","user":"","uri":"imap://localhost/user/u1;UIDVALIDITY=7","modseq":4}"#;
    check(noise, Err(Skip::NoCount));
    check(r#"{"event":"Login","user":"u1","serverDomain":"localhost"}"#, Err(Skip::NoCount));
}

/// `= user unseen uidvalidity modseq`, or `- reason`.
fn line(found: Result<(String, u32, u32, u64), Skip>) -> String {
    match found {
        Ok((user, unseen, validity, 0)) => format!("= {user} {unseen} {validity} -"),
        Ok((user, unseen, validity, modseq)) => format!("= {user} {unseen} {validity} {modseq}"),
        Err(why) => format!("- {why}"),
    }
}

#[test]
fn what_a_real_cyrus_sent_gives_the_counts_that_its_status_gave() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/cyrus/script.datagrams");
    let (mut due, mut unseen, mut checked) = (None, None, 0);
    for text in fs::read_to_string(file).expect("readable").lines() {
        if let Some(datagram) = text.strip_prefix("> ") {
            let found = told(datagram.replace('\u{2400}', "\0").as_bytes());
            unseen = found.as_ref().map_or(unseen, |found| Some(found.1));
            due = Some((line(found), datagram));
        } else if let Some(status) = text.strip_prefix("STATUS ") {
            assert_eq!(unseen, status.parse().ok(), "after {due:?}");
            checked += 1;
        } else if !text.starts_with('#') {
            let (found, datagram) = due.as_ref().expect("a datagram stands first");
            assert_eq!(found, text, "{datagram}");
        }
    }
    assert!(checked > 10, "{checked} counts compared");
}

#[test]
fn owner_and_mailbox_come_from_the_uri_in_every_spelling() {
    let cases: &[(&str, Result<&str, Skip>)] = &[
        ("imap://localhost/user/u1", Ok("u1")),
        ("imap://localhost/user.u1", Ok("u1")),
        ("imap://localhost/user/john.doe", Ok("john.doe")),
        ("imap://localhost/user.john^doe", Ok("john.doe")),
        ("imap://localhost/user/u1@fabrikam.com", Ok("u1@fabrikam.com")),
        ("imap://localhost/user/u1%40fabrikam.com", Ok("u1@fabrikam.com")),
        ("imap://localhost/user.u1@fabrikam.com", Ok("u1@fabrikam.com")),
        ("imap://admin@localhost:143/user/u1;UIDVALIDITY=9", Ok("u1")),
        ("imap://localhost/user/j%C3%BCrgen", Ok("j\u{fc}rgen")),
        ("imap://localhost/user/50%", Ok("50%")),
        ("imap://localhost/user/a%20b", Ok("a b")),
        ("imap://localhost/user/u1/Trash", Err(Skip::NotAnInbox)),
        ("imap://localhost/user.u1.Trash", Err(Skip::NotAnInbox)),
        ("imap://localhost/user/u1/Trash@fabrikam.com", Err(Skip::NotAnInbox)),
        ("imap://localhost/user/", Err(Skip::NotAnInbox)),
        ("imap://localhost/shared/news", Err(Skip::NotAnInbox)),
        ("imap://localhost/", Err(Skip::NotAnInbox)),
        ("imap://localhost/user/%FF", Err(Skip::BadUri)),
        ("imap://localhost", Err(Skip::BadUri)),
        ("http://localhost/user/u1", Err(Skip::BadUri)),
        ("", Err(Skip::BadUri)),
    ];
    for (uri, owner) in cases {
        let json = format!(r#"{{"uri":"{uri}","vnd.cmu.unseenMessages":3}}"#);
        let found = told(&datagram(&json)).map(|found| found.0);
        assert_eq!(found, owner.map(str::to_owned), "{uri}");
    }
    let long = format!(r#"{{"uri":"imap://h/user/{}","vnd.cmu.unseenMessages":3}}"#, "u".repeat(USER_MAX));
    check(&long, Err(Skip::NotAnInbox));
}

#[test]
fn an_unreadable_uidvalidity_or_modseq_is_an_unknown_one() {
    for validity in
        ["", ";UIDVALIDITY=", ";UIDVALIDITY=0", ";UIDVALIDITY=x", ";UIDVALIDITY=4294967296", ";UID=1"]
    {
        let json = format!(r#"{{"uri":"imap://h/user/u1{validity}","vnd.cmu.unseenMessages":3,"modseq":0}}"#);
        check(&json, Ok(("u1", 3, 0, 0)));
    }
    check(r#"{"uri":"imap:\/\/h\/user\/u1","vnd.cmu.unseenMessages":3}"#, Ok(("u1", 3, 0, 0)));
}

#[test]
fn bad_datagrams_are_skipped_for_their_reason() {
    let good = datagram(r#"{"uri":"imap://h/user/u1","vnd.cmu.unseenMessages":3}"#);
    let cases: &[(&[u8], Skip)] = &[
        (b"", Skip::Truncated),
        (b"\0", Skip::Truncated),
        (b"mailbadge", Skip::Truncated),
        (b"mailbadge\0EVENT\0", Skip::Truncated),
        (b"mailbadge\0EVENT\0\0\0\0\0", Skip::Truncated),
        (b"mailbadge\0MAIL\0\0u1\0user/u1\x000\0hello\0", Skip::NotAnEvent),
        (b"mailbadge\0EVENT\0\0\0\x000\0\0", Skip::NotJson),
        (b"mailbadge\0EVENT\0\0\0\x000\0{\"uri\"\0", Skip::NotJson),
        (b"mailbadge\0EVENT\0\0\0\x000\0\xff\xfe\0", Skip::NotJson),
        (b"mailbadge\0EVENT\0\0\0\x000\0[]\0", Skip::NotJson),
        (b"mailbadge\0EVENT\0\0\0\x000\0{\"vnd.cmu.unseenMessages\":-1}\0", Skip::NotJson),
        (b"mailbadge\0EVENT\0\0\0\x000\0{\"vnd.cmu.unseenMessages\":4294967296}\0", Skip::NotJson),
        (b"mailbadge\0EVENT\0\0\0\x000\0{\"vnd.cmu.unseenMessages\":3}\0", Skip::BadUri),
        (&vec![b'x'; DATAGRAM_MAX + 1], Skip::TooLong),
    ];
    for (bytes, why) in cases {
        let shown: Vec<u8> = bytes.iter().copied().take(80).collect();
        assert_eq!(told(bytes), Err(*why), "{}", shown.escape_ascii());
    }
    // But for its last NUL, which nothing needs.
    for end in 0..good.len() - 1 {
        assert!(told(&good[..end]).is_err(), "cut off after {end} bytes");
    }
}

#[test]
fn a_count_and_an_inbox_are_enough_whatever_stands_beside_them() {
    let json = r#"{"uri":"imap://h/user/u1","vnd.cmu.unseenMessages":3}"#;
    let frames = [
        format!("mailbadge\0EVENT\0\0\0\x000\0{json}"),
        format!("mailbadge\0event\0\0\0\x001\0option\0{json}\0"),
        format!("mailbadge\0EVENT\0\0\0\x009\0{json}\0"),
        format!("mailbadge\0EVENT\0\0\0\x0099999999999999999999\0{json}\0"),
        format!("mailbadge\0EVENT\0\0\0-1\0{json}\0"),
        format!("mailbadge\0EVENT\0\0\0\0{json}\0"),
        format!("mailbadge\0EVENT\0\0\0\x000\0{json}\0\0"),
        format!("mailbadge\0EVENT\0\0\0\x000\0{json}\0more\0"),
    ];
    for frame in frames {
        let found = told(frame.as_bytes()).map(|found| (found.0, found.1));
        assert_eq!(found, Ok(("u1".to_owned(), 3)), "{frame:?}");
    }
    let members = [
        r#"{"mailboxID":["x"],"vnd.cmu.mailboxACL":null,"uri":"imap://h/user/u1","VND.CMU.UnseenMessages":"3","modseq":"x"}"#,
        r#"{"vnd.cmu.unseenMessages":3.0,"modseq":-1,"URI":"IMAP://kim;AUTH=*@h:143/user/u1/;X=1;uidvalidity=0"}"#,
        r#"{"subject":"not"closed","vnd.cmu.unseenMessages":3,"uri":"imap://h/user/u1"}"#,
    ];
    for json in members {
        check(json, Ok(("u1", 3, 0, 0)));
    }
    let latin = b"mailbadge\0EVENT\0\0\0\x000\0{\"s\":\"\xe9\",\"uri\":\"imap://h/user/u1\",\"vnd.cmu.unseenMessages\":3}\0";
    assert_eq!(told(latin).map(|found| found.1), Ok(3));
    check(
        r#"{"uri":"imap://h/user/u1;X=1;UIDVALIDITY=9/;UID=4","vnd.cmu.unseenMessages":3}"#,
        Ok(("u1", 3, 9, 0)),
    );
    check(
        r#"{"uri":"imap://h/USER.john^doe@Fabrikam^COM","vnd.cmu.unseenMessages":3}"#,
        Ok(("john.doe@Fabrikam.COM", 3, 0, 0)),
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes);
        let _ = read(&datagram(&String::from_utf8_lossy(&bytes)));
    }

    #[test]
    fn no_uri_makes_it_panic_and_an_owner_is_never_empty(uri in "(imap://h/user[./])?[a-z%0-9A-F;=@^./\u{fc}]{0,30}") {
        let json = format!(r#"{{"uri":"{uri}","vnd.cmu.unseenMessages":3}}"#);
        if let Ok((user, ..)) = told(&datagram(&json)) {
            prop_assert!(!user.is_empty() && !user.contains('\0'));
        }
    }
}
