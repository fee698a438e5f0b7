//! A connection's reports and questions, over a session that a script of a server drives.

use super::*;
use crate::counters::Count;
use crate::event::Reading;
use crate::source::imap::exchange::{Errand, Refusal};
use crate::source::imap::{Login, Method, Settings, Watch};
use std::sync::Arc;
use std::time::Duration;

const GREETING: &[u8] = b"* OK [CAPABILITY IMAP4rev1 NOTIFY] hi\r\n";
const STATUS: &str = "* STATUS INBOX (MESSAGES 9 UNSEEN";

/// A connection with its server and its observer.
struct Played {
    connection: Connection,
    counters: SourceCounters,
    now: Now,
    /// What the observer answers.
    verdict: Verdict,
    observed: Vec<Reading>,
    reports: Vec<ConnectionReport>,
    sent: String,
    is_closed: bool,
}

impl Played {
    fn new(errand: Errand, is_sweep: bool) -> Self {
        let login = Login::Password { user: None, password: "secret".to_owned().into() };
        let settings = Settings { watch: Watch::Notify, ..Settings::new("test", "127.0.0.1", login) };
        let session = Session::new(Arc::new(settings), Arc::default(), "u1".into(), errand, 1);
        Self {
            connection: Connection::new(session, is_sweep),
            counters: SourceCounters::default(),
            now: Now::default(),
            verdict: Verdict::Changed,
            observed: Vec::new(),
            reports: Vec::new(),
            sent: String::new(),
            is_closed: false,
        }
    }

    /// Logged in, with its first question or arming sent; nothing of that is kept.
    fn begun(errand: Errand, is_sweep: bool) -> Self {
        let mut played = Self::new(errand, is_sweep);
        played.session(exchange::Input::Connected);
        played.session(exchange::Input::Bytes(GREETING));
        played.session(exchange::Input::Bytes(b"a1 OK [CAPABILITY IMAP4rev1 NOTIFY] in\r\n"));
        assert!(played.reports.starts_with(&[ConnectionReport::LoggedIn]), "{:?}", played.reports);
        played.reports.clear();
        played.sent.clear();
        played
    }

    /// Watches by NOTIFY and has read 3.
    fn watching() -> Self {
        let mut played = Self::begun(Errand::Watch, false);
        played.says("* STATUS INBOX (MESSAGES 9 UNSEEN 3)\r\na2 OK armed\r\n");
        assert_eq!(played.reports, [ConnectionReport::Read]);
        played.reports.clear();
        played.observed.clear();
        played
    }

    fn session(&mut self, input: exchange::Input<'_>) {
        self.input(Input::Session(input));
    }

    fn says(&mut self, lines: &str) {
        self.session(exchange::Input::Bytes(lines.as_bytes()));
    }

    fn input(&mut self, input: Input<'_>) {
        self.connection.handle(self.now, input);
        while let Some(output) = self.connection.poll_output(self.now, &self.counters) {
            assert!(!self.is_closed, "{output:?} after the end");
            match output {
                Output::Send(outgoing) => self.sent += &String::from_utf8_lossy(outgoing.bytes()),
                Output::Observe(News::Reading(reading)) => {
                    self.observed.push(reading);
                    self.connection.handle(self.now, Input::Verdict(self.verdict));
                }
                Output::Report(report) => self.reports.push(report),
                Output::Close => self.is_closed = true,
                Output::StartTls | Output::Observe(News::Hint) => panic!("{output:?}"),
            }
        }
    }

    fn pass(&mut self, wait: Duration) {
        self.now.moment = self.now.moment.after(wait);
        self.session(exchange::Input::Timeout);
    }

    /// The server answers the question of this tag.
    fn answers(&mut self, tag: u32, unseen: u32) {
        self.says(&format!("{STATUS} {unseen})\r\na{tag} OK done\r\n"));
    }

    fn sent(&mut self) -> String {
        std::mem::take(&mut self.sent)
    }
}

#[test]
fn a_correction_is_reported_once_and_only_of_the_sweep_s_answer() {
    let cases = [
        (Wish::Sweep, Verdict::Changed, &[ConnectionReport::Corrected, ConnectionReport::Read][..]),
        (Wish::Sweep, Verdict::Unchanged, &[ConnectionReport::Read]),
        (Wish::Sweep, Verdict::Older, &[ConnectionReport::Read]),
        (Wish::Ask, Verdict::Changed, &[ConnectionReport::Read]),
    ];
    for (wish, verdict, expected) in cases {
        let mut played = Played::watching();
        played.verdict = verdict;
        played.input(Input::Wish(wish));
        assert_eq!(played.sent(), "a3 STATUS INBOX (MESSAGES UNSEEN UIDNEXT UIDVALIDITY)\r\n");
        played.answers(3, 4);
        assert_eq!(played.reports, expected, "{wish:?} {verdict:?}");
        let corrections = u64::from(expected.len() == 2);
        assert_eq!(played.counters.sweep_corrections.get(), corrections, "{wish:?} {verdict:?}");
        // The next answer is nobody's correction.
        (played.reports, played.verdict) = (Vec::new(), Verdict::Changed);
        played.pass(Duration::from_secs(1));
        played.input(Input::Wish(Wish::Ask));
        played.answers(4, 5);
        assert_eq!(played.reports, [ConnectionReport::Read]);
    }
}

#[test]
fn a_visit_for_the_sweep_reports_what_it_corrects_and_ends_well() {
    for (is_sweep, expected) in [
        (true, &[ConnectionReport::Corrected, ConnectionReport::Read][..]),
        (false, &[ConnectionReport::Read]),
    ] {
        let mut played = Played::begun(Errand::Visit, is_sweep);
        played.answers(2, 4);
        assert_eq!(played.reports, expected);
        played.reports.clear();
        played.says("a3 OK bye\r\n");
        assert_eq!(played.reports, [ConnectionReport::Ended(Ending::Done)]);
        assert!(played.is_closed);
        assert_eq!(played.counters.connections_lost.get(), 0);
    }
}

#[test]
fn a_push_is_no_answer_even_while_the_sweep_waits() {
    let mut played = Played::watching();
    played.says(&format!("{STATUS} 4)\r\n"));
    assert_eq!((played.observed.len(), played.reports.len()), (1, 0), "counted, not reported");
    played.input(Input::Wish(Wish::Sweep));
    // The first line was pushed before the server read the question.
    played.says(&format!("{STATUS} 5)\r\n"));
    played.answers(3, 6);
    let asked: Vec<bool> = played.observed.iter().map(|reading| reading.asked_at.is_some()).collect();
    assert_eq!(asked, [false, false, true]);
    assert_eq!(played.reports, [ConnectionReport::Corrected, ConnectionReport::Read]);
    played.reports.clear();
    played.session(exchange::Input::Closed);
    assert_eq!(played.reports, [ConnectionReport::Pushed(2), ConnectionReport::Ended(Ending::Lost)]);
    assert_eq!(played.counters.connections_lost.get(), 1);
}

#[test]
fn a_verdict_that_is_unsure_asks_once_for_all_the_news() {
    let mut played = Played::watching();
    played.verdict = Verdict::Ask;
    played.says(&format!("{STATUS} 4)\r\n{STATUS} 5)\r\n"));
    assert_eq!(played.observed.len(), 2);
    assert_eq!(played.sent().matches("STATUS INBOX").count(), 1);
    played.verdict = Verdict::Changed;
    played.answers(3, 5);
    assert_eq!(played.reports, [ConnectionReport::Read]);
    assert_eq!(played.sent(), "");
}

#[test]
fn a_wish_before_the_socket_is_open_is_met_by_the_first_reading() {
    let mut played = Played::new(Errand::Watch, false);
    played.input(Input::Wish(Wish::Sweep));
    played.session(exchange::Input::Connected);
    played.session(exchange::Input::Bytes(GREETING));
    played.says("a1 OK [CAPABILITY IMAP4rev1 NOTIFY] in\r\n");
    played.sent();
    played.answers(2, 4);
    assert_eq!(
        played.reports,
        [ConnectionReport::LoggedIn, ConnectionReport::Watching(Method::Notify), ConnectionReport::Read]
    );
    assert_eq!(played.sent(), "");
}

#[test]
fn each_end_is_the_last_thing_that_is_said() {
    let hung_up = vec![ConnectionReport::Ended(Ending::Done)];
    let refused = vec![
        ConnectionReport::Refused(Refusal::Mailbox, "no".into()),
        ConnectionReport::Ended(Ending::Refused),
    ];
    let unreachable = vec![ConnectionReport::Unreachable("refused".into())];
    let ends: [(Input<'_>, Vec<ConnectionReport>, u64); 3] = [
        (Input::Wish(Wish::HangUp), hung_up, 0),
        (Input::Session(exchange::Input::Bytes(b"a1 NO no\r\n")), refused, 1),
        (Input::Unreachable("refused".into()), unreachable, 1),
    ];
    for (input, expected, lost) in ends {
        let mut played = Played::new(Errand::Watch, false);
        played.session(exchange::Input::Connected);
        played.session(exchange::Input::Bytes(GREETING));
        played.input(input);
        assert_eq!((&played.reports, played.is_closed), (&expected, true));
        assert_eq!(played.counters.connections_lost.get(), lost);
        let later = [
            Input::Session(exchange::Input::Closed),
            Input::Wish(Wish::HangUp),
            Input::Verdict(Verdict::Ask),
            Input::Unreachable("later".into()),
        ];
        for input in later {
            played.input(input);
        }
        assert_eq!(played.reports.len(), expected.len());
    }
}

#[test]
fn what_goes_by_is_counted() {
    let mut played = Played::watching();
    played.says("* OK [ALERT] Mind the gap\r\n* STATUS INBOX (MESSAGES 10)\r\nwhat is this\r\n");
    assert_eq!(played.reports, [ConnectionReport::Alert("[ALERT] Mind the gap".into())]);
    let counters = &played.counters;
    let counted =
        [&counters.readings, &counters.hints, &counters.skipped, &counters.logins_ok].map(Count::get);
    assert_eq!(counted, [1, 1, 1, 1]);
}

#[test]
fn an_idle_connection_is_little_more_than_its_session() {
    let more = size_of::<Connection>() - size_of::<Session>();
    assert!(more <= 24, "{more} bytes");
}

#[test]
fn an_idle_connection_takes_a_word_more_than_its_session() {
    assert_eq!(size_of::<Connection>(), size_of::<Session>() + 8);
}
