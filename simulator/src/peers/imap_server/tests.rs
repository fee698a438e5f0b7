//! Whole conversations in virtual time, as transcripts: `C:` the client says, `S:` the server must say, `+ms` time
//! passes, `@ …` something happens in the store.

mod quirks;

use super::{Input, Output, Session, Settings};
use crate::peers::mail_store::{AccountId, Flags, MailStore};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const USER: AccountId = AccountId(0);

/// A session, its store and a clock that only the transcript moves.
struct Stage {
    session: Session,
    store: MailStore,
    now: Duration,
    said: String,
    events: Vec<&'static str>,
}

impl Stage {
    fn new(settings: Settings) -> Self {
        let session = Session::new(Arc::new(settings), 1);
        Self {
            session,
            store: MailStore::new(2, ""),
            now: Duration::ZERO,
            said: String::new(),
            events: vec![],
        }
    }

    fn give(&mut self, input: Input<'_>) {
        self.session.handle(self.now, input, &mut self.store);
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(bytes) => self.said.push_str(std::str::from_utf8(&bytes).unwrap()),
                Output::StartTls => self.events.push("starttls"),
                Output::Close => self.events.push("close"),
            }
        }
    }

    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(due) = self.session.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.give(Input::Timeout);
        }
        self.now = until;
    }

    fn happen(&mut self, what: &str) {
        let words: Vec<&str> = what.split(' ').collect();
        let number = |place: usize| words[place].parse::<u32>().unwrap();
        match words[0] {
            "deliver" => _ = self.store.deliver(USER),
            "seen" => _ = self.store.set_seen(USER, number(1), true),
            "unseen" => _ = self.store.set_seen(USER, number(1), false),
            "flagged" => _ = self.store.set_flag(USER, number(1), Flags::FLAGGED, true),
            "all-seen" => _ = self.store.all_seen(USER),
            "expunge" => _ = self.store.expunge(USER, number(1)),
            "quirk" => self.store.set_quirk(Some(USER), words[1].parse().unwrap(), true),
            "quirk-everywhere" => self.store.set_quirk(None, words[1].parse().unwrap(), true),
            other => panic!("unknown event {other}"),
        }
        self.give(Input::StoreChanged);
    }

    fn line(&mut self, line: &str) {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "C:" => self.give(Input::Bytes(format!("{rest}\r\n").as_bytes())),
            "S:" => {
                let (next, left) =
                    self.said.split_once("\r\n").unwrap_or_else(|| panic!("nothing said: {line}"));
                let is_same = rest.strip_suffix('…').map_or(next == rest, |start| next.starts_with(start));
                assert!(is_same, "expected {rest:?}\n     got {next:?}");
                self.said = left.to_owned();
            }
            "@" => self.happen(rest),
            "E:" => assert_eq!(self.events.pop(), Some(rest)),
            wait => {
                assert_eq!(self.said, "", "said before {line}");
                self.pass(Duration::from_millis(wait.strip_prefix('+').unwrap().parse().unwrap()));
            }
        }
    }

    fn play(&mut self, transcript: &str) {
        transcript.lines().map(str::trim).filter(|line| !line.is_empty()).for_each(|line| self.line(line));
        assert_eq!(self.said, "", "said and not expected");
        assert_eq!(self.events, Vec::<&str>::new());
    }
}

fn logged_in(settings: Settings) -> Stage {
    let mut stage = Stage::new(settings);
    stage.give(Input::Connected { is_tls: false });
    stage.play("S: * OK [CAPABILITY …\nC: a LOGIN user1 secret\nS: a OK [CAPABILITY IMAP4rev1 …");
    stage
}

/// Plays a transcript that begins after log-in.
fn check(transcript: &str) {
    logged_in(Settings::default()).play(transcript);
}

#[test]
fn notify_tells_as_dovecot_was_measured_to_tell() {
    check(
        "@ deliver
         @ deliver
         C: a2 NOTIFY SET STATUS (MAILBOXES INBOX (MessageNew MessageExpunge FlagChange))
         S: * STATUS INBOX (MESSAGES 2 UIDNEXT 3 UIDVALIDITY 1700000001 UNSEEN 2 HIGHESTMODSEQ 3)
         S: a2 OK NOTIFY completed.
         @ deliver
         +499
         +1
         S: * STATUS INBOX (MESSAGES 3 UIDNEXT 4 UNSEEN 3 HIGHESTMODSEQ 4)
         @ deliver
         +300
         @ deliver
         +200
         S: * STATUS INBOX (MESSAGES 5 UIDNEXT 6 UNSEEN 5 HIGHESTMODSEQ 6)
         @ seen 5
         +500
         S: * STATUS INBOX (UNSEEN 4 HIGHESTMODSEQ 7)
         @ flagged 5
         +500
         S: * STATUS INBOX (HIGHESTMODSEQ 8)
         @ all-seen
         +500
         S: * STATUS INBOX (UNSEEN 0 HIGHESTMODSEQ 9)
         @ expunge 5
         +500
         S: * STATUS INBOX (MESSAGES 4 UIDNEXT 6 UNSEEN 0 HIGHESTMODSEQ 10)
         @ deliver
         @ seen 6
         +500
         S: * STATUS INBOX (MESSAGES 5 UIDNEXT 7 UNSEEN 0 HIGHESTMODSEQ 12)
         @ deliver
         C: a3 NOOP
         S: * STATUS INBOX (MESSAGES 6 UIDNEXT 8 UNSEEN 1 HIGHESTMODSEQ 13)
         S: a3 OK NOOP completed.
         +600
         C: a4 NOTIFY NONE
         S: a4 OK NOTIFY completed.
         @ deliver
         +600",
    );
}

#[test]
fn notify_without_flag_change_stays_silent_on_seen_and_refuses_what_it_does_not_know() {
    check(
        "C: a NOTIFY SET (INBOXES (MessageNew MessageExpunge))
         S: a OK NOTIFY completed.
         @ deliver
         +500
         S: * STATUS INBOX (MESSAGES 1 UIDNEXT 2 UNSEEN 1 HIGHESTMODSEQ 2)
         @ seen 1
         +600
         C: b NOTIFY SET (MAILBOXES INBOX (MessageNew MessageExpunge AnnotationChange))
         S: b NO [BADEVENT (MessageNew MessageExpunge FlagChange)] …
         C: c NOTIFY SET (MAILBOXES INBOX (FlagChange))
         S: c BAD …
         C: d NOTIFY SET (MAILBOXES (Trash) (MessageNew MessageExpunge)) (selected NONE)
         S: d OK NOTIFY completed.
         @ deliver
         +600",
    );
}

#[test]
fn idle_on_the_selected_inbox_tells_arrivals_flags_and_expunges_after_the_window() {
    check(
        "@ deliver
         C: a EXAMINE INBOX
         S: * FLAGS …
         S: * OK [PERMANENTFLAGS ()] …
         S: * 1 EXISTS
         S: * 1 RECENT
         S: * OK [UNSEEN 1] First unseen.
         S: * OK [UIDVALIDITY 1700000001] UIDs valid
         S: * OK [UIDNEXT 2] Predicted next UID
         S: * OK [HIGHESTMODSEQ 2] Highest
         S: a OK [READ-ONLY] Examine completed.
         C: b IDLE
         S: + idling
         @ deliver
         +500
         S: * 2 EXISTS
         S: * 2 RECENT
         @ seen 1
         +500
         S: * 1 FETCH (FLAGS (\\Seen))
         @ deliver
         @ seen 3
         +500
         S: * 3 EXISTS
         S: * 3 RECENT
         @ expunge 1
         C: DONE
         S: * 1 EXPUNGE
         S: b OK Idle completed.
         C: c UID SEARCH RETURN (COUNT) UNSEEN
         S: * ESEARCH (TAG \"c\") UID COUNT 1
         S: c OK Search completed.
         C: d SEARCH NOT SEEN
         S: * SEARCH 1
         S: d OK Search completed.
         C: e UID SEARCH ALL
         S: * SEARCH 2 3
         S: e OK Search completed.",
    );
}

#[test]
fn a_search_answers_from_the_view_and_tells_of_the_rest_before_it_ends() {
    check(
        "C: a EXAMINE INBOX (CONDSTORE)
         S: * FLAGS …
         S: * OK [PERMANENTFLAGS ()] …
         S: * 0 EXISTS
         S: * 0 RECENT
         S: * OK [UIDVALIDITY …
         S: * OK [UIDNEXT …
         S: * OK [HIGHESTMODSEQ …
         S: a OK …
         @ deliver
         C: b SEARCH UNSEEN
         S: * SEARCH
         S: * 1 EXISTS
         S: * 1 RECENT
         S: b OK Search completed.
         C: c SEARCH UNSEEN
         S: * SEARCH 1
         S: c OK Search completed.
         @ seen 1
         @ expunge 1
         C: d SEARCH UNSEEN
         S: * SEARCH 1
         S: d OK Search completed.
         C: e NOOP
         S: * 1 EXPUNGE
         S: e OK NOOP completed.
         C: f STATUS INBOX (UNSEEN)
         S: * STATUS INBOX (UNSEEN 0)
         S: f OK [CLIENTBUG] Status on selected mailbox completed.",
    );
}

#[test]
fn messages_are_appended_flagged_moved_and_expunged_by_commands() {
    let mut stage = logged_in(Settings::default());
    stage.give(Input::Bytes(b"a APPEND INBOX (\\Seen) \"01-Jan-2026 00:00:00 +0000\" {5}\r\n"));
    stage.give(Input::Bytes(b"x\r\nyz\r\nb APPEND INBOX {1+}\r\nx\r\nc APPEND Trash {0+}\r\n\r\n"));
    stage.play(
        "S: + OK
         S: a OK [APPENDUID 1700000001 1] Append completed.
         S: b OK [APPENDUID 1700000001 2] Append completed.
         S: c OK [APPENDUID …
         C: d SELECT inbox
         S: * FLAGS …
         S: * OK [PERMANENTFLAGS …
         S: * 2 EXISTS
         S: * 2 RECENT
         S: * OK [UNSEEN 2] First unseen.
         S: * OK [UIDVALIDITY …
         S: * OK [UIDNEXT …
         S: * OK [HIGHESTMODSEQ …
         S: d OK [READ-WRITE] Select completed.
         C: e STORE 1 -FLAGS (\\Seen)
         S: * 1 FETCH (FLAGS ())
         S: e OK Store completed.
         C: f UID STORE 1:* +FLAGS.SILENT (\\Seen \\Deleted)
         S: f OK Store completed.
         C: g UID EXPUNGE 1
         S: * 1 EXPUNGE
         S: g OK Expunge completed.
         C: h UID MOVE 2 Trash
         S: * OK [COPYUID …
         S: * 1 EXPUNGE
         S: h OK Move completed.
         C: i UID MOVE 2 Nowhere
         S: i NO [TRYCREATE] …
         C: j CREATE Nowhere
         S: j OK Create completed.
         C: k LIST \"\" *
         S: * LIST (\\HasNoChildren) \"/\" \"INBOX\"
         S: * LIST (\\HasNoChildren) \"/\" \"Trash\"
         S: * LIST (\\HasNoChildren) \"/\" \"Nowhere\"
         S: k OK List completed.
         C: l STATUS Trash (MESSAGES UNSEEN)
         S: * STATUS Trash (MESSAGES 2 UNSEEN 1)
         S: l OK Status completed.
         C: m SELECT Trash
         S: * FLAGS …
         S: * OK [PERMANENTFLAGS …
         S: * 2 EXISTS
         S: * 2 RECENT
         S: * OK [UNSEEN 1] First unseen.
         S: * OK [UIDVALIDITY …
         S: * OK [UIDNEXT …
         S: * OK [HIGHESTMODSEQ …
         S: m OK [READ-WRITE] Select completed.
         C: n UID FETCH 1:* (FLAGS)
         S: * 1 FETCH (UID 1 FLAGS ())
         S: * 2 FETCH (UID 2 FLAGS (\\Deleted \\Seen))
         S: n OK Fetch completed.",
    );
}

#[test]
fn log_in_by_every_way_there_is() {
    let table = [
        ("a LOGIN user1 secret", "a OK [CAPABILITY IMAP4rev1 …"),
        ("a LOGIN \"user1*agent\" master-secret", "a OK …"),
        // authzid user1, authcid agent
        ("a AUTHENTICATE PLAIN dXNlcjEAYWdlbnQAbWFzdGVyLXNlY3JldA==", "a OK …"),
        ("a AUTHENTICATE PLAIN !!!", "a BAD …"),
        ("a AUTHENTICATE XOAUTH2", "a NO …"),
        ("a LOGIN user1 wrong", "a NO [AUTHENTICATIONFAILED] …"),
        ("a LOGIN user9*agent master-secret", "a NO [AUTHORIZATIONFAILED] …"),
        ("a STATUS INBOX (UNSEEN)", "a BAD …"),
        ("a STARTTLS", "a BAD …"),
        ("(", "* BAD …"),
    ];
    for (command, answer) in table {
        let mut stage = Stage::new(Settings::default());
        stage.give(Input::Connected { is_tls: false });
        stage.play(&format!("S: * OK …\nC: {command}\nS: {answer}"));
    }
    let mut stage = Stage::new(Settings::default());
    stage.give(Input::Connected { is_tls: false });
    stage.play(
        "S: * OK …\nC: a AUTHENTICATE PLAIN\nS: +…\nC: AHVzZXIyAHNlY3JldA==\nS: a OK …\n+1800000\nS: * BYE …\nE: close",
    );
}

#[test]
fn log_in_waits_for_starttls_where_it_is_required_and_nothing_sent_before_is_kept() {
    let mut stage = Stage::new(Settings { requires_starttls: true, ..Settings::default() });
    stage.give(Input::Connected { is_tls: false });
    stage.play("S: * OK …\nC: a LOGIN user1 secret\nS: a NO [PRIVACYREQUIRED] …");
    stage.give(Input::Bytes(b"b STARTTLS\r\nc NOOP\r\n"));
    stage.play("S: b OK Begin TLS negotiation now.\nE: starttls");
    stage.give(Input::TlsStarted);
    stage.play("C: d LOGIN user1 secret\nS: d OK …");
}

#[test]
fn silence_ends_a_session_but_not_one_in_idle_which_says_still_here() {
    check("+1799999\n+1\nS: * BYE Disconnected for inactivity.\nE: close");
    check("C: a IDLE\nS: + idling\n+119999\n+1\nS: * OK Still here\n+120000\nS: * OK Still here");
    let mut stage = logged_in(Settings { keepalive: Duration::from_hours(9), ..Settings::default() });
    stage.play("C: a IDLE\nS: + idling\n+7200000\nC: DONE\nS: a OK Idle completed.");
    stage.play("C: b IDLE\nS: + idling\n@ quirk bye-after-30-min\n+1800000\nS: * BYE …\nE: close");
    let mut stage = Stage::new(Settings::default());
    stage.give(Input::Connected { is_tls: false });
    stage.play("S: * OK …\n+180000\nS: * BYE …\nE: close");
}

#[test]
fn a_session_that_ends_gives_its_connection_back_once() {
    let settings = Settings { connections_max: 1, ..Settings::default() };
    let mut stage = logged_in(settings.clone());
    let store = std::mem::replace(&mut stage.store, MailStore::new(0, ""));
    let mut second = Stage { store, ..Stage::new(settings) };
    second.give(Input::Connected { is_tls: false });
    second.play("S: * OK …\nC: a LOGIN user1 secret\nS: a NO [LIMIT] …");
    std::mem::swap(&mut stage.store, &mut second.store);
    stage.play("C: z LOGOUT\nS: * BYE Logging out\nS: z OK Logout completed.\nE: close");
    stage.give(Input::Closed);
    std::mem::swap(&mut stage.store, &mut second.store);
    second.play("C: b LOGIN user1 secret\nS: b OK …");
}

#[test]
fn too_much_nonsense_ends_the_session() {
    let mut stage = logged_in(Settings::default());
    for _ in 0..20 {
        stage.give(Input::Bytes(b"x FROB\r\n"));
    }
    assert!(stage.said.ends_with("* BYE Too many invalid IMAP commands.\r\n"), "{}", stage.said);
    assert_eq!(stage.events, ["close"]);
}

#[test]
fn a_session_is_small() {
    assert!(size_of::<Session>() <= 320, "{}", size_of::<Session>());
}

proptest! {
    #[test]
    fn no_input_makes_a_session_panic(
        lines in prop::collection::vec(
            prop_oneof![
                "[ -~]{0,30}",
                "a (SELECT|EXAMINE|STATUS|UID STORE|STORE|UID SEARCH|SEARCH|MOVE|NOTIFY|APPEND|FETCH) [ -~]{0,30}",
                Just("a SELECT INBOX".to_owned()),
                Just("a STORE 1:* +FLAGS (\\Deleted)".to_owned()),
                Just("a EXPUNGE".to_owned()),
                Just("a IDLE".to_owned()),
                Just("DONE".to_owned()),
            ],
            0..19,
        )
    ) {
        let mut stage = logged_in(Settings::default());
        for (n, line) in lines.iter().enumerate() {
            stage.store.deliver(USER);
            stage.give(Input::StoreChanged);
            stage.give(Input::Bytes(line.as_bytes()));
            stage.give(Input::Bytes(b"\r\n"));
            stage.pass(Duration::from_millis(n as u64 * 100));
        }
    }
}
