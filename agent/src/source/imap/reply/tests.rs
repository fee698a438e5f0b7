//! What each kind of line says, and imap-codec as the judge of all that is well-formed.

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
    let cases: [(&[u8], Option<Reply<'_>>); 29] = [
        (b"* STATUS INBOX (MESSAGES 3 UNSEEN 2 UIDVALIDITY 9)", Some(items(Some(2), Some(3), 9, 0))),
        (b"* STATUS INBOX (UNSEEN 4 HIGHESTMODSEQ 7)", Some(items(Some(4), None, 0, 7))),
        (b"* STATUS \"inbox\" (unseen 4)", Some(items(Some(4), None, 0, 0))),
        (b"* STATUS {5}\r\nINBOX (UNSEEN 4)", Some(items(Some(4), None, 0, 0))),
        (b"* STATUS INBOX ()", Some(items(None, None, 0, 0))),
        (b"* STATUS INBOX (UNSEEN 1 HIGHESTMODSEQ 0)", Some(items(Some(1), None, 0, 0))),
        (b"* STATUS Trash (UNSEEN 4)", Some(Reply::Other)),
        (b"* STATUS INBOX (UNSEEN -1)", None),
        (b"* STATUS INBOX (UNSEEN 4294967296)", None),
        (b"* SEARCH", Some(Reply::Found(0))),
        (b"* SEARCH 1 22 333 ", Some(Reply::Found(3))),
        (b"* search 1 (MODSEQ 99)", Some(Reply::Found(1))),
        (b"* SORT 1 2", Some(Reply::Other)),
        (b"* ESEARCH (TAG \"a5\") UID COUNT 17", Some(Reply::Count(17))),
        (b"* esearch uid all 3:5,9 count 17", Some(Reply::Count(17))),
        (b"* ESEARCH (TAG \"a5\") ALL 3:5,9", Some(Reply::Found(4))),
        (b"* ESEARCH (TAG \"a5\") ALL 3:*", Some(Reply::Other)),
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

/// What servers send beyond the grammar (sources.md §9.4): the value that is needed is read all the same.
#[test]
fn a_needed_value_is_read_whatever_stands_beside_it() {
    let unseen = |unseen| Some(items(Some(unseen), None, 0, 0));
    let cases: &[(&[u8], Option<Reply<'_>>)] = &[
        (b"* STATUS INBOX (UNSEEN 1 )", unseen(1)),
        (b"* STATUS INBOX ( UNSEEN 1)", unseen(1)),
        (b"* STATUS INBOX  (UNSEEN 1)", unseen(1)),
        (b"* STATUS  INBOX (UNSEEN 1)", unseen(1)),
        (b"* STATUS INBOX (UNSEEN 1) ", unseen(1)),
        (b"*  status\t\"Inbox\"(unseen\t 1", unseen(1)),
        (b"* STATUS {5}\r\nINBOX  (  UNSEEN  1  )", unseen(1)),
        (b"* STATUS INBOX (MAILBOXID (UNSEEN 9) UNSEEN 1 X)", unseen(1)),
        (b"* STATUS INBOX (X-NOTHING UNSEEN 1 X-TEXT \"UNSEEN 9)\")", unseen(1)),
        (b"* STATUS INBOX (UIDNEXT -1 UIDVALIDITY x UNSEEN 1 HIGHESTMODSEQ 99999999999999999999)", unseen(1)),
        (b"* STATUS INBOX (MESSAGES 99999999999 UNSEEN 1)", Some(items(Some(1), Some(u32::MAX), 0, 0))),
        (b"* STATUS INBOX (UNSEEN x UIDVALIDITY 4)", Some(items(None, None, 4, 0))),
        (b"* STATUS INBOX (UNSEEN x)", None),
        (b"* STATUS INBOX UNSEEN 4", None),
        (b"* STATUS INBOX", None),
        (b"* STATUS", None),
        (b"* STATUS (UNSEEN 4)", None),
        (b"* STATUS \"INBOX (UNSEEN 4)", Some(Reply::Other)),
        (b"*\tsearch  1 x 22 \xff 3:4 (MODSEQ 9)", Some(Reply::Found(4))),
        (b"* eSEARCH  UID COUNT x count 17 ALL 1:9", Some(Reply::Count(17))),
        (b"* ESEARCH (TAG \"COUNT 3) COUNT 4\") COUNT \t 17", Some(Reply::Count(17))),
        (b"* ESEARCH (COUNT 3) COUNT 4294967296", Some(Reply::Other)),
        (b"*  4  exists ", Some(Reply::Exists(4))),
        (b"*4 EXISTS", Some(Reply::Exists(4))),
        (b"* 99999999999999999999 EXISTS", Some(Reply::Exists(u32::MAX))),
        (b"* 0 expunge x", Some(Reply::Expunge)),
        (b"* 4 FETCH(X \"never ends", Some(Reply::Flags)),
        (b"* 4 FETCH", Some(Reply::Flags)),
        (b"* -4 FETCH (FLAGS ())", Some(Reply::Flags)),
        (b"* x EXPUNGE", Some(Reply::Expunge)),
        (b"* x EXISTS", Some(Reply::Vanished)),
        (b"* vanished (earlier) x", Some(Reply::Vanished)),
        (b"* 4 X-NEW", None),
        (b"* X-NEW 4", None),
        (b"+idling", Some(Reply::Continue)),
        (b" +OK", Some(Reply::Continue)),
    ];
    for (line, expected) in cases {
        assert_eq!(understood(line), *expected, "{}", line.escape_ascii());
    }
}

#[test]
fn a_condition_is_heard_however_it_is_spaced() {
    let condition = |kind, code: &'static [u8], argument: &'static [u8], text: &'static [u8]| Condition {
        kind,
        code,
        argument,
        text,
    };
    let cases: &[(&[u8], Reply<'_>)] = &[
        (b"a7  ok  done ", Reply::Tagged(7, condition(Kind::Ok, b"", b"", b"done"))),
        (b"A7 NO[ LIMIT  5 ]x", Reply::Tagged(7, condition(Kind::No, b"LIMIT", b"5", b"x"))),
        (b"a7\tBAD", Reply::Tagged(7, condition(Kind::Bad, b"", b"", b""))),
        (b"a7 OK [never closed", Reply::Tagged(7, condition(Kind::Ok, b"", b"", b"[never closed"))),
        (b"*  no  x", Reply::Untagged(condition(Kind::No, b"", b"", b"x"))),
        (b"* preauth", Reply::Untagged(condition(Kind::PreAuth, b"", b"", b""))),
        (b"*\tbye  now", Reply::Bye(condition(Kind::Bye, b"", b"", b"now"))),
        (b"* capability  + idle (X)", Reply::Capability(Capabilities::IDLE)),
    ];
    for (line, expected) in cases {
        assert_eq!(understood(line), Some(*expected), "{}", line.escape_ascii());
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
        let fast = status::fast(rest.as_bytes()).map(Reply::Status);
        prop_assert!(fast.is_some());
        prop_assert_eq!(fast, decode_by_codec(format!("* STATUS {rest}").as_bytes()));
    }

    #[test]
    fn the_fast_way_says_what_imap_codec_says(
        list in "((UNSEEN|MESSAGES|UIDNEXT|UIDVALIDITY|HIGHESTMODSEQ|RECENT|SIZE|unseen) {1,2}([0-9]{1,11}|[0-9]{18,21}) ?){0,5}",
        name in "INBOX|inbox|\"INBOX\"|INBOX.Trash",
    ) {
        let line = format!("* STATUS {name} ({list})");
        let rest = line.strip_prefix("* STATUS ").unwrap();
        if let Some(fast) = status::fast(rest.as_bytes()) {
            prop_assert_eq!(decode_by_codec(line.as_bytes()), Some(Reply::Status(fast)));
        }
        if let Some(judged) = decode_by_codec(line.as_bytes()) {
            prop_assert_eq!(understood(line.as_bytes()), Some(judged));
        }
    }
}
