//! The agent's IMAP machines against a simulated server that lets in fewer connections than there are mailboxes, in
//! virtual time: every mailbox is read within its sweep period, whichever way the server turns log-ins away.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

use mailbadge::counters::SourceCounters;
use mailbadge::event::{MailboxId, News, Verdict};
use mailbadge::source::imap::connection::{self, Output, Wish};
use mailbadge::source::imap::exchange::{Errand, Input};
use mailbadge::source::imap::roster::{self, ConnectionReport, Roster};
use mailbadge::source::imap::session::Session;
use mailbadge::source::imap::traits::Traits;
use mailbadge::source::imap::{Login, Settings, Watch};
use mailbadge::time::{Moment, Now, UnixMs};
use mailbadge_sim::peers::imap_server;
use mailbadge_sim::peers::mail_store::{AccountId, MailStore, Quirk};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

const MAILBOXES: u32 = 8;
const SWEEP: Duration = Duration::from_mins(1);
/// A full server that falls silent costs half a minute for each log-in until the limit is known.
const LEARNED: Duration = Duration::from_mins(6);
/// A trial of the limit upward, which costs the same, delays a visit once an hour.
const TRIAL: Duration = Duration::from_mins(3);
/// Log-ins in an hour, most: eight visited mailboxes, each read every 48 to 60 s, and what finding the limit takes.
const LOGINS_PER_HOUR: usize = 600;
/// Ways of turning a log-in away, by the seed of the server's session.
const WAYS: u64 = 5;

/// What travels to a mailbox's connection, or comes of it; the number is the connection's.
enum Flight {
    ToServer(Vec<u8>),
    ToClient(Vec<u8>),
    ServerClosed,
    Wished(Wish),
    Reported(ConnectionReport),
}

struct Connection {
    number: u32,
    client: connection::Connection,
    server: imap_server::Session,
}

struct World {
    now: u64,
    way: Option<u64>,
    flights: VecDeque<(MailboxId, u32, Flight)>,
    settings: Arc<Settings>,
    traits: Arc<Traits>,
    store: MailStore,
    roster: Roster,
    connections: BTreeMap<MailboxId, Connection>,
    /// Connections that the agent gave up and the server still has.
    ghosts: Vec<imap_server::Session>,
    read_at: BTreeMap<MailboxId, Vec<Duration>>,
    unseen: BTreeMap<MailboxId, u32>,
    logins: Vec<Duration>,
    counters: SourceCounters,
    notes: Vec<String>,
}

impl World {
    fn new(watch: Watch, way: Option<u64>, seed: u64) -> Self {
        let store = MailStore::new(MAILBOXES as usize, "");
        let master = store.credentials().master.clone().unwrap();
        let login = Login::Master {
            user: master.user,
            separator: master.separator.into(),
            password: master.password.into(),
        };
        let mut settings = Settings::new("limits", "127.0.0.1", login);
        (settings.watch, settings.sweep_interval) = (watch, SWEEP);
        let settings = Arc::new(settings);
        let mut world = Self {
            now: 0,
            way,
            flights: VecDeque::new(),
            roster: Roster::new(&settings, seed),
            settings,
            traits: Arc::default(),
            store,
            connections: BTreeMap::new(),
            ghosts: Vec::new(),
            read_at: BTreeMap::new(),
            unseen: BTreeMap::new(),
            logins: Vec::new(),
            counters: SourceCounters::default(),
            notes: Vec::new(),
        };
        world.store.set_quirk(None, Quirk::ConnectionLimit, true);
        for id in 0..MAILBOXES {
            let name = world.store.name(AccountId(id)).cloned().unwrap();
            world.tell(roster::Input::Watch(MailboxId(id), name));
        }
        world
    }

    fn clock(&self) -> Now {
        Now { moment: Moment::from_micros(self.now), unix: UnixMs(1_800_000_000_000 + self.now / 1000) }
    }

    fn since_start(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    fn tell(&mut self, input: roster::Input) {
        self.roster.handle(self.clock(), input);
        while let Some(output) = self.roster.poll_output() {
            match output {
                roster::Output::Connect { mailbox, name, errand, is_sweep, number } => {
                    self.connect(mailbox, name, (errand, is_sweep), number);
                }
                roster::Output::Ask(mailbox, is_sweep) => {
                    let number = self.connections.get(&mailbox).map_or(0, |connection| connection.number);
                    let wish = if is_sweep { Wish::Sweep } else { Wish::Ask };
                    self.flights.push_back((mailbox, number, Flight::Wished(wish)));
                }
                roster::Output::HangUp(mailbox) => self.hang_up(mailbox),
                roster::Output::Note(text) => self.notes.push(text),
            }
        }
    }

    fn hang_up(&mut self, mailbox: MailboxId) {
        if let Some(mut connection) = self.connections.remove(&mailbox) {
            connection.server.handle(self.since_start(), imap_server::Input::Closed, &mut self.store);
            self.ghosts.push(connection.server);
        }
    }

    fn connect(
        &mut self,
        mailbox: MailboxId,
        name: Arc<str>,
        (errand, is_sweep): (Errand, bool),
        number: u32,
    ) {
        self.logins.push(self.since_start());
        let seed = u64::from(number) * WAYS + self.way.unwrap_or(u64::from(number));
        let session = Session::new(self.settings.clone(), self.traits.clone(), name, errand, seed);
        let client = connection::Connection::new(session, is_sweep);
        let server = imap_server::Session::new(Arc::default(), seed);
        self.connections.insert(mailbox, Connection { number, client, server });
        self.client(mailbox, Input::Connected);
        self.server(mailbox, imap_server::Input::Connected { is_tls: false });
    }

    fn client(&mut self, mailbox: MailboxId, input: Input<'_>) {
        self.agent(mailbox, connection::Input::Session(input));
    }

    fn agent(&mut self, mailbox: MailboxId, input: connection::Input<'_>) {
        let (now, since) = (self.clock(), self.since_start());
        let Some(Connection { number, client, .. }) = self.connections.get_mut(&mailbox) else { return };
        client.handle(now, input);
        while let Some(output) = client.poll_output(now, &self.counters) {
            let flight = match output {
                Output::Send(outgoing) => Flight::ToServer(outgoing.bytes().to_vec()),
                Output::Report(report) => Flight::Reported(report),
                Output::Observe(News::Reading(reading)) => {
                    let before = self.unseen.insert(mailbox, reading.unseen);
                    self.read_at.entry(mailbox).or_default().push(since);
                    let is_news = before != Some(reading.unseen);
                    let verdict = if is_news { Verdict::Changed } else { Verdict::Unchanged };
                    client.handle(now, connection::Input::Verdict(verdict));
                    continue;
                }
                // Its last report says that it ends.
                Output::Close | Output::Observe(News::Hint) | Output::StartTls => continue,
            };
            self.flights.push_back((mailbox, *number, flight));
        }
    }

    fn server(&mut self, mailbox: MailboxId, input: imap_server::Input<'_>) {
        let since = self.since_start();
        let Some(connection) = self.connections.get_mut(&mailbox) else { return };
        connection.server.handle(since, input, &mut self.store);
        while let Some(output) = connection.server.poll_output() {
            let flight = match output {
                imap_server::Output::Send(bytes) => Flight::ToClient(bytes),
                imap_server::Output::Close => Flight::ServerClosed,
                imap_server::Output::StartTls => panic!("nobody asked for TLS"),
            };
            self.flights.push_back((mailbox, connection.number, flight));
        }
    }

    fn settle(&mut self) {
        while let Some((mailbox, number, flight)) = self.flights.pop_front() {
            let is_current = self.connections.get(&mailbox).is_some_and(|it| it.number == number);
            match flight {
                Flight::Reported(report) => {
                    if matches!(report, ConnectionReport::Ended(_)) && is_current {
                        self.hang_up(mailbox);
                    }
                    self.tell(roster::Input::Connection(mailbox, number, report));
                }
                _ if !is_current => {}
                Flight::ToServer(bytes) => self.server(mailbox, imap_server::Input::Bytes(&bytes)),
                Flight::ToClient(bytes) => self.client(mailbox, Input::Bytes(&bytes)),
                Flight::ServerClosed => self.client(mailbox, Input::Closed),
                Flight::Wished(wish) => self.agent(mailbox, connection::Input::Wish(wish)),
            }
        }
    }

    /// Lets time pass until `end`, timer by timer.
    fn pass(&mut self, end: Duration) {
        let end = end.as_micros() as u64;
        self.settle();
        for turn in 0.. {
            let timers = self.connections.values().flat_map(|connection| {
                let server = connection.server.poll_timeout().map(|at| at.as_micros() as u64);
                [connection.client.poll_timeout().map(Moment::micros), server]
            });
            let roster = self.roster.poll_timeout().map(Moment::micros);
            let Some(next) = timers.flatten().chain(roster).min().filter(|at| *at <= end) else { break };
            assert!(turn < 1_000_000, "timers go in circles");
            self.now = self.now.max(next);
            for mailbox in (0..MAILBOXES).map(MailboxId) {
                self.server(mailbox, imap_server::Input::Timeout);
                self.client(mailbox, Input::Timeout);
            }
            self.tell(roster::Input::Timeout);
            self.settle();
        }
        self.now = end;
    }

    /// Somebody uses the mailboxes, once in ten seconds.
    fn play(&mut self, until: Duration) {
        while self.since_start() < until {
            let mailbox = MailboxId((self.now / 10_000_000) as u32 % MAILBOXES);
            self.store.deliver(AccountId(mailbox.0));
            if self.settings.watch == Watch::SweepOnly {
                // Beside such a source another one reports each change: else every sweep would be a correction.
                self.unseen.insert(mailbox, self.store.status(AccountId(mailbox.0)).unwrap().unseen);
            }
            self.server(mailbox, imap_server::Input::StoreChanged);
            self.pass(self.since_start() + Duration::from_secs(10));
        }
    }

    /// The longest time in which a mailbox was not read, from `start` to now.
    fn longest_gap(&self, start: Duration) -> Duration {
        let gap = |id| {
            let readings = self.read_at.get(&MailboxId(id)).map(Vec::as_slice).unwrap_or_default();
            let times = readings.iter().copied().filter(|at| *at > start).chain([self.since_start()]);
            let (_, longest) = times.fold((start, Duration::ZERO), |(last, longest), at| {
                (at, longest.max(at.saturating_sub(last)))
            });
            longest
        };
        (0..MAILBOXES).map(gap).max().unwrap()
    }
}

#[test]
fn every_mailbox_of_a_full_server_is_read_within_its_sweep_period() {
    let ways = (0..WAYS).map(Some).chain([None]);
    let mut failures = Vec::new();
    for way in ways {
        for watch in [Watch::Auto, Watch::Idle, Watch::Poll, Watch::SweepOnly] {
            let mut world = World::new(watch, way, 1);
            world.play(Duration::from_mins(50));
            let gap = world.longest_gap(LEARNED);
            let trial_from = world.since_start();
            world.play(Duration::from_mins(110));
            let (later, logins) = (world.longest_gap(trial_from), world.logins.len());
            let story = format!(
                "{watch:?}, turned away by {way:?}: {gap:?}, {later:?}, {logins} log-ins, {:?}",
                world.notes
            );
            let is_read = gap <= SWEEP && later <= SWEEP + TRIAL;
            if !is_read || logins > LOGINS_PER_HOUR * 160 / 60 || world.notes.len() > 1 {
                failures.push(story);
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn the_limit_is_reported_with_the_server_s_words_and_goes_when_the_server_is_reconfigured() {
    let mut world = World::new(Watch::Auto, Some(0), 1);
    world.play(Duration::from_mins(10));
    let report = world.roster.limit().unwrap();
    assert!(
        report.starts_with("server lets in 4 connections at once: [LIMIT] Too many connections; raise"),
        "{report}"
    );
    assert_eq!(world.notes, [report]);
    world.store.set_quirk(None, Quirk::ConnectionLimit, false);
    world.play(Duration::from_hours(2));
    assert_eq!(world.roster.limit(), None);
    assert_eq!(world.notes.len(), 2, "{:?}", world.notes);
    assert_eq!(world.connections.len(), MAILBOXES as usize, "all are watched");
    let truth = |id| world.store.status(AccountId(id)).unwrap().unseen;
    assert!((0..MAILBOXES).all(|id| world.unseen.get(&MailboxId(id)) == Some(&truth(id))));
}

/// What the limit does to a reader that keeps each connection that it gets and tries the others again and again.
#[test]
fn a_reader_that_holds_its_connections_never_reads_half_of_the_mailboxes() {
    for way in 0..WAYS {
        let mut store = MailStore::new(MAILBOXES as usize, "");
        store.set_quirk(None, Quirk::ConnectionLimit, true);
        let mut held = BTreeMap::new();
        for minute in 0..60 {
            let now = Duration::from_mins(minute);
            for id in (0..u64::from(MAILBOXES)).filter(|id| !held.contains_key(id)).collect::<Vec<_>>() {
                let mut session = imap_server::Session::new(Arc::default(), id * WAYS + way);
                session.handle(now, imap_server::Input::Connected { is_tls: false }, &mut store);
                let line = format!("a1 LOGIN user{} secret\r\n", id + 1);
                session.handle(now, imap_server::Input::Bytes(line.as_bytes()), &mut store);
                if session.account().is_some() {
                    held.insert(id, session);
                } else {
                    session.handle(now, imap_server::Input::Closed, &mut store);
                }
            }
        }
        assert_eq!(held.len(), MAILBOXES as usize / 2, "turned away by {way}");
    }
}
