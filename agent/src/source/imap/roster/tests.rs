//! The roster in virtual time, against a server that is a table of how long connections live.

use super::*;
use crate::source::imap::{Login, Settings};
use std::collections::BTreeMap;

mod limits;
mod refusals;

fn settings(watch: Watch) -> Settings {
    let login =
        Login::Master { user: "agent".into(), separator: "*".into(), password: "secret".to_owned().into() };
    Settings { watch, ..Settings::new("test", "127.0.0.1", login) }
}

/// The roster, a clock, and the connections it asked for.
struct Played {
    roster: Roster,
    now: Now,
    is_up: bool,
    open: BTreeMap<MailboxId, u32>,
    asked: Vec<MailboxId>,
    visits: Vec<(Moment, MailboxId)>,
    hung_up: Vec<MailboxId>,
    notes: Vec<String>,
}

impl Played {
    fn start(watch: Watch, mailboxes: u32) -> Self {
        let now = Now::default().after(Duration::from_secs(1000));
        let mut played = Self {
            roster: Roster::new(&settings(watch), 3),
            now,
            is_up: true,
            open: BTreeMap::new(),
            asked: Vec::new(),
            visits: Vec::new(),
            hung_up: Vec::new(),
            notes: Vec::new(),
        };
        for id in 0..mailboxes {
            played.tell(Input::Watch(MailboxId(id), format!("u{id}").into()));
        }
        played
    }

    fn tell(&mut self, input: Input) {
        self.roster.handle(self.now, input);
        self.carry_out();
    }

    fn report(&mut self, mailbox: MailboxId, number: u32, report: ConnectionReport) {
        self.roster.handle(self.now, Input::Connection(mailbox, number, report));
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.roster.poll_output() {
            match output {
                Output::Connect { mailbox, number, .. } if !self.is_up => {
                    self.report(mailbox, number, ConnectionReport::Unreachable("down".into()));
                }
                Output::Connect { mailbox, errand: Errand::Visit, number, .. } => {
                    self.visits.push((self.now.moment, mailbox));
                    for report in [
                        ConnectionReport::LoggedIn,
                        ConnectionReport::Read,
                        ConnectionReport::Ended(Ending::Done),
                    ] {
                        self.report(mailbox, number, report);
                    }
                }
                Output::Connect { mailbox, number, .. } => {
                    self.open.insert(mailbox, number);
                    for report in [
                        ConnectionReport::LoggedIn,
                        ConnectionReport::Watching(Method::Notify),
                        ConnectionReport::Read,
                    ] {
                        self.report(mailbox, number, report);
                    }
                }
                Output::Ask(mailbox, _) => {
                    self.asked.push(mailbox);
                    let number = self.open[&mailbox];
                    self.report(mailbox, number, ConnectionReport::Read);
                }
                Output::HangUp(mailbox) => self.hung_up.push(mailbox),
                Output::Note(text) => self.notes.push(text),
            }
        }
    }

    fn pass(&mut self, wait: Duration) {
        let end = self.now.after(wait);
        while let Some(at) = self.roster.poll_timeout().filter(|at| *at <= end.moment) {
            self.now = self.now.after(at.since(self.now.moment));
            self.tell(Input::Timeout);
        }
        self.now = end;
    }

    fn lose_all(&mut self) {
        for (mailbox, number) in std::mem::take(&mut self.open) {
            self.report(mailbox, number, ConnectionReport::Ended(Ending::Lost));
        }
        self.carry_out();
    }
}

#[test]
fn all_are_watched_after_a_start_and_after_thousands_were_lost_in_one_instant() {
    let mut played = Played::start(Watch::Auto, 2000);
    played.pass(Duration::from_secs(101));
    assert_eq!(played.roster.coverage(), (2000, 2000));
    played.lose_all();
    assert_eq!(played.roster.coverage().1, played.open.len());
    assert!(played.open.len() < 30, "{} came back at once", played.open.len());
    played.pass(Duration::from_secs(105));
    assert_eq!(played.roster.coverage(), (2000, 2000));
}

#[test]
fn after_a_loss_of_all_the_busiest_come_back_first() {
    let mut played = Played::start(Watch::Auto, 400);
    played.pass(Duration::from_secs(21));
    let busy: Vec<MailboxId> = (0..400).step_by(8).map(MailboxId).collect();
    for mailbox in &busy {
        played.report(*mailbox, played.open[mailbox], ConnectionReport::Pushed(100));
    }
    played.lose_all();
    // All have waited their second by then; who came in it came by chance.
    played.pass(Duration::from_secs(4));
    let back = played.open.len();
    assert!(back < 110, "{back} are back");
    let busy_back = busy.iter().filter(|mailbox| played.open.contains_key(mailbox)).count();
    assert_eq!(busy_back, busy.len(), "all of the busy ones are among them");
    played.pass(Duration::from_secs(20));
    assert_eq!(played.roster.coverage(), (400, 400));
}

#[test]
fn a_server_that_is_down_is_left_alone_and_found_again() {
    let mut played = Played::start(Watch::Auto, 50);
    played.pass(Duration::from_secs(10));
    played.is_up = false;
    played.lose_all();
    played.pass(Duration::from_mins(10));
    assert_eq!(played.roster.failure().as_deref(), Some("down"));
    played.is_up = true;
    played.pass(Duration::from_mins(3));
    assert_eq!((played.roster.coverage(), played.roster.failure()), ((50, 50), None));
}

#[test]
fn every_mailbox_is_read_within_the_sweep_interval() {
    let interval = settings(Watch::Auto).sweep_interval;
    let mut played = Played::start(Watch::Auto, 200);
    played.pass(Duration::from_secs(11));
    played.asked.clear();
    played.pass(interval);
    played.asked.sort();
    played.asked.dedup();
    assert_eq!(played.asked.len(), 200);

    let mut played = Played::start(Watch::SweepOnly, 200);
    played.pass(Duration::from_secs(11));
    assert_eq!((played.visits.len(), played.roster.coverage()), (200, (200, 200)));
    played.visits.clear();
    played.pass(interval);
    assert!(played.visits.len() >= 200);
    played.visits.sort_by_key(|(_, mailbox)| *mailbox);
    played.visits.dedup_by_key(|(_, mailbox)| *mailbox);
    assert_eq!(played.visits.len(), 200);
}

#[test]
fn polled_mailboxes_are_visited_every_interval() {
    let mut played = Played::start(Watch::Poll, 10);
    played.pass(Duration::from_mins(10));
    let per_mailbox = played.visits.len() / 10;
    assert!((10..=13).contains(&per_mailbox), "{per_mailbox} visits in 10 minutes");
}

#[test]
fn a_question_reaches_the_connection_or_makes_one() {
    let mut played = Played::start(Watch::Auto, 3);
    played.pass(Duration::from_secs(1));
    played.tell(Input::Ask(MailboxId(1)));
    assert_eq!(played.asked, [MailboxId(1)]);

    let mut played = Played::start(Watch::SweepOnly, 3);
    played.pass(Duration::from_secs(1));
    played.visits.clear();
    played.tell(Input::Ask(MailboxId(1)));
    played.pass(Duration::from_secs(1));
    assert_eq!(played.visits.iter().map(|(_, mailbox)| mailbox.0).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_question_during_a_visit_makes_another_visit() {
    let mut played = Played::start(Watch::SweepOnly, 0);
    played.roster.handle(played.now, Input::Watch(MailboxId(1), "u1".into()));
    let Some(Output::Connect { mailbox, number, .. }) = played.roster.poll_output() else {
        panic!("no visit")
    };
    played.report(mailbox, number, ConnectionReport::LoggedIn);
    played.tell(Input::Ask(mailbox));
    played.report(mailbox, number, ConnectionReport::Ended(Ending::Done));
    played.carry_out();
    played.pass(Duration::from_secs(1));
    assert_eq!(played.visits.len(), 1);
}

#[test]
fn a_visit_of_the_sweep_that_failed_is_the_sweep_s_when_it_is_made_again() {
    let mut played = Played::start(Watch::SweepOnly, 1);
    played.pass(Duration::from_secs(1));
    played.visits.clear();
    let next = |played: &mut Played| loop {
        match played.roster.poll_output() {
            Some(Output::Connect { mailbox, number, is_sweep, .. }) => return (mailbox, number, is_sweep),
            Some(_) => {}
            None => {
                let at = played.roster.poll_timeout().expect("a sweep");
                played.now = played.now.after(at.since(played.now.moment));
                played.roster.handle(played.now, Input::Timeout);
            }
        }
    };
    let (mailbox, number, is_sweep) = next(&mut played);
    assert!(is_sweep);
    played.report(mailbox, number, ConnectionReport::Unreachable("down".into()));
    let (mailbox, number, is_sweep) = next(&mut played);
    assert!(is_sweep, "made again");
    for report in [ConnectionReport::LoggedIn, ConnectionReport::Read, ConnectionReport::Ended(Ending::Done)]
    {
        played.report(mailbox, number, report);
    }
    played.roster.handle(played.now, Input::Ask(mailbox));
    assert!(!next(&mut played).2, "a question is not the sweep's");
}

#[test]
fn an_unwatched_mailbox_is_hung_up_and_its_last_words_do_not_count() {
    let mut played = Played::start(Watch::Auto, 1);
    played.pass(Duration::from_secs(1));
    let number = played.open[&MailboxId(0)];
    played.tell(Input::Unwatch(MailboxId(0)));
    played.tell(Input::Unwatch(MailboxId(0)));
    assert_eq!(played.hung_up, [MailboxId(0)]);
    played.tell(Input::Watch(MailboxId(0), "u0".into()));
    played.pass(Duration::from_secs(5));
    played.report(MailboxId(0), number, ConnectionReport::Ended(Ending::Lost));
    assert_eq!(played.roster.coverage(), (1, 1));
    played.tell(Input::Unwatch(MailboxId(0)));
    assert_eq!((played.roster.coverage(), played.roster.poll_timeout()), ((0, 0), None));
}

#[test]
fn a_connection_that_dies_young_again_and_again_comes_back_less_and_less_often() {
    let mut played = Played::start(Watch::Auto, 1);
    let mut losses = 0;
    let end = played.now.after(Duration::from_mins(30)).moment;
    while played.now.moment < end {
        played.pass(Duration::from_secs(1));
        losses += played.open.len();
        played.lose_all();
    }
    assert!((15..150).contains(&losses), "{losses} log-ins in half an hour");
}

#[test]
fn a_log_in_rate_that_is_too_low_is_reported_with_the_rate_and_the_interval_that_are_needed() {
    for (watch, mailboxes, rate, expected) in [
        (Watch::SweepOnly, 901, 1, Some(("login-rate to at least 2", "sweep-interval to at least 901s"))),
        (Watch::SweepOnly, 900, 1, None),
        (Watch::Poll, 5000, 2, Some(("login-rate to at least 6", "sweep-interval to at least 2500s"))),
        (Watch::Auto, 5000, 2, None),
    ] {
        let mut roster = Roster::new(&Settings { login_rate: rate, ..settings(watch) }, 3);
        for id in 0..mailboxes {
            roster.handle(Now::default(), Input::Watch(MailboxId(id), format!("u{id}").into()));
        }
        let limit = roster.limit();
        assert_eq!(limit.is_some(), expected.is_some(), "{limit:?}");
        if let (Some(limit), Some((rate, interval))) = (limit, expected) {
            assert!(limit.contains(rate) && limit.contains(interval), "{limit}");
        }
    }
}

#[test]
fn the_server_s_words_stay_with_a_mailbox_until_it_is_read() {
    let mut roster = Roster::new(&settings(Watch::Poll), 3);
    let mut now = Now::default().after(Duration::from_secs(1000));
    roster.handle(now, Input::Watch(MailboxId(7), "u7".into()));
    let mut connect = |roster: &mut Roster, reports: Vec<ConnectionReport>| {
        while roster.poll_timeout().is_some_and(|at| at > now.moment) {
            now = now.after(roster.poll_timeout().unwrap().since(now.moment));
            roster.handle(now, Input::Timeout);
        }
        let Some(Output::Connect { number, .. }) = roster.poll_output() else { panic!("no visit") };
        for report in reports {
            roster.handle(now, Input::Connection(MailboxId(7), number, report));
        }
        roster.words(MailboxId(7)).map(str::to_owned)
    };
    let ended = |ending| ConnectionReport::Ended(ending);
    let refused = ConnectionReport::Refused(Refusal::Mailbox, "x".repeat(300));
    assert_eq!(connect(&mut roster, vec![refused, ended(Ending::Refused)]), Some("x".repeat(200)));
    let alert = ConnectionReport::Alert("[ALERT] allow it there".into());
    let no_mailbox = ended(Ending::NoMailbox("no".into()));
    let words = connect(&mut roster, vec![ConnectionReport::LoggedIn, alert, no_mailbox]);
    assert_eq!(words.as_deref(), Some("[ALERT] allow it there"));
    let words = connect(&mut roster, vec![ended(Ending::Bye("full".into()))]);
    assert_eq!(words.as_deref(), Some("server said BYE: full"));
    assert_eq!(
        connect(&mut roster, vec![ConnectionReport::LoggedIn, ConnectionReport::Read, ended(Ending::Done)]),
        None
    );
    assert_eq!(roster.words(MailboxId(8)), None);
}
