//! Refused log-ins of whole days: whatever a server answers to a credential, drawn and not listed, it is not asked again
//! and again, and a dead mailbox does not stop the others. Roster, governor and sessions, in virtual time.

use super::super::*;
use crate::source::imap::governor::REFUSED_PER_DAY_MAX;
use crate::source::imap::session::Session;
use crate::source::imap::traits::Traits;
use crate::source::imap::{Login, exchange};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const DAY: Duration = Duration::from_hours(24);
/// Refused log-ins in any hour where everything is refused, most: a quarter of a day's budget.
const PER_HOUR_MAX: usize = 15;
/// Log-ins in any hour that a server turns away, which may be full, most: two minutes apart in the end.
const TURNED_AWAY_PER_HOUR_MAX: usize = 60;
/// The same in a day: half an hour apart in the end.
const TURNED_AWAY_PER_DAY_MAX: usize = 150;
/// Within so long all others are logged in where one mailbox is dead.
const OTHERS_IN: Duration = Duration::from_mins(6);

/// A mailbox without a connection is visited this often: each poll interval, and two minutes for what was lost.
const VISITED_WITHIN: Duration = Duration::from_mins(3);

/// How a server ends a log-in that it does not like.
#[derive(Clone, Debug)]
enum No {
    /// A line; `TAG` becomes the command's.
    Line(String),
    /// It closes.
    Closed,
    /// It says nothing.
    Silent,
}

impl No {
    /// Whether a full server may say so: then it is asked more often than one that refused a credential.
    fn may_be_full(&self) -> bool {
        let full = ["UNAVAILABLE", "LIMIT", "INUSE", "SERVERBUG", "OVERQUOTA"];
        match self {
            Self::Line(line) => {
                line.starts_with("* BYE") || full.iter().any(|code| line.contains(&format!("[{code}]")))
            }
            Self::Closed | Self::Silent => true,
        }
    }
}

fn codes() -> impl Strategy<Value = String> {
    let rfc_5530 = prop::sample::select(vec![
        "UNAVAILABLE",
        "AUTHENTICATIONFAILED",
        "AUTHORIZATIONFAILED",
        "EXPIRED",
        "PRIVACYREQUIRED",
        "CONTACTADMIN",
        "NOPERM",
        "INUSE",
        "EXPUNGEISSUED",
        "CORRUPTION",
        "SERVERBUG",
        "CLIENTBUG",
        "CANNOT",
        "LIMIT",
        "OVERQUOTA",
        "ALREADYEXISTS",
        "NONEXISTENT",
    ]);
    prop_oneof![
        Just(String::new()),
        rfc_5530.prop_map(|code| format!("[{code}] ")),
        "[A-Z][A-Z0-9.-]{2,12}".prop_map(|code| format!("[{code}] ")),
    ]
}

fn noes() -> impl Strategy<Value = No> {
    let starts = prop::sample::select(vec!["TAG NO ", "TAG NO ", "TAG BAD ", "* BYE "]);
    prop_oneof![
        8 => (starts, codes(), "[a-zA-Z0-9 .,:]{0,40}").prop_map(|(start, code, words)| No::Line(start.to_owned() + &code + &words)),
        1 => Just(No::Closed),
        1 => Just(No::Silent),
    ]
}

/// A source and its server.
struct Played {
    roster: Roster,
    settings: Arc<Settings>,
    traits: Arc<Traits>,
    now: Now,
    started: Moment,
    no: No,
    dead: BTreeSet<MailboxId>,
    opening: BTreeMap<MailboxId, (u32, Session)>,
    open: BTreeMap<MailboxId, (u32, Moment)>,
    /// Those that are to be read once, and when each was last.
    visiting: BTreeSet<MailboxId>,
    visited: BTreeMap<MailboxId, Moment>,
    refused: Vec<(Moment, MailboxId)>,
}

impl Played {
    fn start(mailboxes: u32, is_shared: bool, no: No, dead: BTreeSet<MailboxId>, seed: u64) -> Self {
        let password = "secret".to_owned().into();
        let login = if is_shared {
            Login::Master { user: "agent".into(), separator: "*".into(), password }
        } else {
            Login::Password { user: None, password }
        };
        let settings = Arc::new(Settings::new("test", "127.0.0.1", login));
        let now = Now::default().after(Duration::from_secs(1000));
        let mut played = Self {
            roster: Roster::new(&settings, seed),
            settings,
            traits: Arc::default(),
            now,
            started: now.moment,
            no,
            dead,
            opening: BTreeMap::new(),
            open: BTreeMap::new(),
            visiting: BTreeSet::new(),
            visited: BTreeMap::new(),
            refused: Vec::new(),
        };
        for id in 0..mailboxes {
            played.roster.handle(now, Input::Watch(MailboxId(id), format!("u{id}").into()));
        }
        played.carry_out();
        played
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.roster.poll_output() {
            if let Output::HangUp(mailbox) = output {
                self.opening.remove(&mailbox);
                self.open.remove(&mailbox);
            }
            if let Output::Connect { mailbox, name, errand, number, .. } = output {
                self.visiting.remove(&mailbox);
                if errand == Errand::Visit {
                    self.visiting.insert(mailbox);
                }
                let session =
                    Session::new(self.settings.clone(), self.traits.clone(), name, errand, u64::from(number));
                self.opening.insert(mailbox, (number, session));
                self.session(mailbox, exchange::Input::Connected);
                let greeting = b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n";
                self.session(mailbox, exchange::Input::Bytes(greeting));
            }
        }
    }

    fn session(&mut self, mailbox: MailboxId, input: exchange::Input<'_>) {
        let Some((number, session)) = self.opening.get_mut(&mailbox) else { return };
        let number = *number;
        session.handle(self.now, input);
        let outputs: Vec<_> = std::iter::from_fn(|| session.poll_output()).collect();
        for output in outputs {
            match output {
                exchange::Output::Send(line) => self.answer(mailbox, line.bytes()),
                exchange::Output::LoggedIn => {
                    self.opening.remove(&mailbox);
                    return self.let_in(mailbox, number);
                }
                exchange::Output::LoginRefused { refusal, text } => {
                    self.roster.handle(
                        self.now,
                        Input::Connection(mailbox, number, ConnectionReport::Refused(refusal, text)),
                    );
                }
                exchange::Output::Close(ending) => {
                    self.opening.remove(&mailbox);
                    self.refused.push((self.now.moment, mailbox));
                    self.roster.handle(
                        self.now,
                        Input::Connection(mailbox, number, ConnectionReport::Ended(ending)),
                    );
                }
                _ => {}
            }
        }
    }

    fn let_in(&mut self, mailbox: MailboxId, number: u32) {
        let reports = if self.visiting.contains(&mailbox) {
            self.visited.insert(mailbox, self.now.moment);
            [ConnectionReport::LoggedIn, ConnectionReport::Read, ConnectionReport::Ended(Ending::Done)]
        } else {
            self.open.insert(mailbox, (number, self.now.moment));
            [ConnectionReport::LoggedIn, ConnectionReport::Watching(Method::Notify), ConnectionReport::Read]
        };
        for report in reports {
            self.roster.handle(self.now, Input::Connection(mailbox, number, report));
        }
    }

    /// Mailboxes that are watched, or were visited a moment ago.
    fn read(&self) -> BTreeSet<MailboxId> {
        let soon = |at: &Moment| self.now.moment.since(*at) <= VISITED_WITHIN;
        let visited = self.visited.iter().filter(|(_, at)| soon(at)).map(|(mailbox, _)| *mailbox);
        visited.chain(self.open.keys().copied()).collect()
    }

    fn answer(&mut self, mailbox: MailboxId, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let tag = line.split(' ').next().unwrap_or_default();
        if !self.dead.contains(&mailbox) {
            let line = format!("{tag} OK [CAPABILITY IMAP4rev1] in\r\n");
            return self.session(mailbox, exchange::Input::Bytes(line.as_bytes()));
        }
        match self.no.clone() {
            No::Line(line) => {
                let line = line.replace("TAG", tag) + "\r\n";
                self.session(mailbox, exchange::Input::Bytes(line.as_bytes()));
            }
            No::Closed => self.session(mailbox, exchange::Input::Closed),
            No::Silent => {}
        }
    }

    fn pass(&mut self, wait: Duration) {
        let end = self.now.after(wait);
        loop {
            self.carry_out();
            let sessions = self.opening.values().filter_map(|(_, session)| session.poll_timeout());
            let next = sessions.chain(self.roster.poll_timeout()).min().filter(|at| *at <= end.moment);
            let Some(next) = next else { break };
            self.now = self.now.after(next.since(self.now.moment));
            self.roster.handle(self.now, Input::Timeout);
            self.carry_out();
            for mailbox in self.opening.keys().copied().collect::<Vec<_>>() {
                self.session(mailbox, exchange::Input::Timeout);
            }
        }
        self.now = end;
    }

    /// All are refused from now on, and all connections are lost.
    fn revoke(&mut self, mailboxes: u32) {
        self.dead = (0..mailboxes).map(MailboxId).collect();
        for (mailbox, (number, _)) in std::mem::take(&mut self.open) {
            self.roster
                .handle(self.now, Input::Connection(mailbox, number, ConnectionReport::Ended(Ending::Lost)));
        }
        self.refused.clear();
        self.carry_out();
    }

    /// Most refused log-ins within any such span.
    fn most_within(&self, span: Duration) -> usize {
        let count = |from: Moment| {
            self.refused.iter().filter(|(at, _)| *at >= from && *at < from.after(span)).count()
        };
        self.refused.iter().map(|(at, _)| count(*at)).max().unwrap_or_default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_server_that_refuses_everybody_is_not_hammered(
        no in noes(), mailboxes in 1u32..60, is_shared: bool, worked_before: bool, seed: u64,
    ) {
        let all: BTreeSet<MailboxId> = (0..mailboxes).map(MailboxId).collect();
        let dead = if worked_before { BTreeSet::new() } else { all };
        let mut played = Played::start(mailboxes, is_shared, no, dead, seed);
        if worked_before {
            played.pass(Duration::from_mins(10));
            prop_assert_eq!(played.read().len(), mailboxes as usize);
            played.revoke(mailboxes);
        }
        played.pass(DAY * 2);
        let (hour, day) = (played.most_within(Duration::from_hours(1)), played.most_within(DAY));
        let (hour_max, day_max) = match (played.no.may_be_full(), is_shared) {
            (true, _) => (TURNED_AWAY_PER_HOUR_MAX, TURNED_AWAY_PER_DAY_MAX),
            (false, true) => (PER_HOUR_MAX, REFUSED_PER_DAY_MAX as usize),
            // Each mailbox has its own credential, which must be tried.
            (false, false) => (mailboxes as usize + REFUSED_PER_DAY_MAX as usize, mailboxes as usize + REFUSED_PER_DAY_MAX as usize),
        };
        prop_assert!(hour <= hour_max, "{hour} in an hour");
        prop_assert!(day <= day_max, "{day} in a day");
        prop_assert!(played.roster.words(MailboxId(0)).is_some() || is_shared);
    }

    #[test]
    fn a_dead_mailbox_stops_nobody_and_costs_few_refusals(
        no in noes(), mailboxes in 2u32..60, dead in 0u32..60, is_shared: bool, seed: u64,
    ) {
        let dead = MailboxId(dead % mailboxes);
        let mut played = Played::start(mailboxes, is_shared, no, BTreeSet::from([dead]), seed);
        played.pass(OTHERS_IN);
        prop_assert_eq!(played.read().len(), mailboxes as usize - 1);
        let from = played.now.moment;
        // Another one is lost: it is back soon, however long the dead one was refused.
        played.pass(DAY);
        let other = MailboxId((dead.0 + 1) % mailboxes);
        played.visited.clear();
        if let Some((number, _)) = played.open.remove(&other) {
            played.roster.handle(played.now, Input::Connection(other, number, ConnectionReport::Ended(Ending::Lost)));
        }
        played.pass(VISITED_WITHIN);
        prop_assert!(played.read().contains(&other));
        let may_be_full = played.no.may_be_full();
        let refused = played.refused.iter().filter(|(at, _)| *at >= from).count();
        let most = if may_be_full { TURNED_AWAY_PER_DAY_MAX } else { 16 };
        prop_assert!(refused <= most, "{refused} refused log-ins in a day");
        let is_named = played.roster.words(dead).is_some();
        prop_assert!(is_named && played.started < played.now.moment);
        prop_assert_eq!(played.roster.failure(), None);
    }
}

#[test]
fn a_server_that_lets_nobody_in_is_a_failure_of_the_source_in_true_words_from_the_first_connection_on() {
    use ConnectionReport::{Ended, LoggedIn, Refused};
    let cases = [
        (None, Ending::Silent("the greeting"), "server did not answer within 12 s: waited for the greeting"),
        (None, Ending::Silent("the TLS handshake"), "within 12 s: waited for the TLS handshake"),
        (None, Ending::Silent(exchange::LOG_IN), "within 17 s: waited for the log-in's answer"),
        (None, Ending::Lost, "server ended the connection before or during the log-in"),
        (None, Ending::Bye("go away".into()), "go away"),
        (Some(Refusal::Unfit), Ending::Refused, "cannot log in as configured"),
    ];
    for (refusal, ending, expected) in cases {
        let login = Login::Password { user: None, password: "secret".to_owned().into() };
        let mut roster = Roster::new(&Settings::new("test", "127.0.0.1", login), 3);
        let now = Now::default().after(Duration::from_secs(1000));
        roster.handle(now, Input::Watch(MailboxId(0), "u0".into()));
        let Some(Output::Connect { mailbox, number, .. }) = roster.poll_output() else {
            panic!("it connects")
        };
        if let Some(refusal) = refusal {
            let report = Refused(refusal, "no STARTTLS".into());
            roster.handle(now, Input::Connection(mailbox, number, report));
        }
        roster.handle(now, Input::Connection(mailbox, number, Ended(ending)));
        let failure = roster.failure().expect("nobody is in");
        assert!(failure.contains(expected) && !failure.contains("credential"), "{failure}");
        // As soon as somebody is in, all is well.
        let again = now.after(Duration::from_mins(2));
        roster.handle(again, Input::Timeout);
        let Some(Output::Connect { mailbox, number, .. }) = roster.poll_output() else { panic!("again") };
        roster.handle(again, Input::Connection(mailbox, number, LoggedIn));
        assert_eq!(roster.failure(), None);
    }
}

#[test]
fn a_server_that_does_not_offer_what_is_configured_is_asked_less_and_less_often() {
    for mailboxes in [1, 50] {
        let mut governor = Governor::new(20, true, 7);
        (0..mailboxes).for_each(|id| governor.request(MailboxId(id), 0, Moment::START));
        let (mut now, mut connections) = (Moment::START, 0);
        while let Some(next) = governor.poll_timeout().filter(|at| *at <= Moment::START.after(DAY)) {
            now = now.max(next);
            while let Some(mailbox) = governor.grant(now) {
                connections += 1;
                let unfit = Failure::Refused(Refusal::Unfit, "no STARTTLS".into());
                governor.failed(mailbox, unfit, now);
                governor.request(mailbox, 0, now);
            }
        }
        assert!((30..=TURNED_AWAY_PER_DAY_MAX).contains(&connections), "{connections} for {mailboxes}");
    }
}
