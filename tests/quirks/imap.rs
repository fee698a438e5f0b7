//! The agent's IMAP machines against the simulator's IMAP server in virtual time: under every quirk of sources.md §7 and by
//! every way of watching, the last reading is the truth in the end, and the server was not asked to death on the way.

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
use mailbadge_sim::peers::mail_store::{AccountId, Flags, MailStore, Quirk};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Messages come and go for so long.
const STORY: Duration = Duration::from_hours(1);
/// Then the truth must be known within this: a sweep, and what a dead connection takes to be noticed.
const BOUND: Duration = Duration::from_mins(20);
/// Commands in all that time, most: a few for each of some 350 changes, confirmations and keep-alives beside them.
const COMMANDS_MAX: usize = 1500;
/// The same at a server that reports in IDLE nothing of what changed before: there each burst is counted twice, with NOOP
/// before the count.
const COMMANDS_MAX_GAPS: usize = 2800;
/// Log-ins in all that time, most; a poller has 80 to 100.
const LOGINS_MAX: u64 = 100;

/// Pieces that are carried from a push to the end of what it gives rise to, some more than it mostly takes.
const FLIGHTS: u8 = 14;

/// Pairs of changes: some minutes of re-armings, for each way of watching.
const PAIRS: u32 = 200;
/// From a change to the end of what it gives rise to at once.
const BURST: Duration = Duration::from_millis(1500);

/// What Stalwart 0.15 does (sources.md §9.3).
const STALWART: [Quirk; 4] =
    [Quirk::FrozenView, Quirk::IdleForgetsGap, Quirk::StatusInIdle, Quirk::StatusInUnselectedIdle];

const MAILBOX: MailboxId = MailboxId(0);
const ACCOUNT: AccountId = AccountId(0);

/// One connection with a machine at either end and no delay between.
struct Connection {
    number: u32,
    client: connection::Connection,
    server: imap_server::Session,
}

/// What is under way between the machines.
enum Flight {
    ToServer(Vec<u8>),
    ToClient(Vec<u8>),
    ServerClosed,
    Wished(Wish),
    Reported(u32, ConnectionReport),
}

struct World {
    now: u64,
    flights: VecDeque<Flight>,
    rng: fastrand::Rng,
    settings: Arc<Settings>,
    traits: Arc<Traits>,
    store: MailStore,
    server_settings: Arc<imap_server::Settings>,
    roster: Roster,
    connection: Option<Connection>,
    unseen: Option<u32>,
    commands: usize,
    connections: usize,
    counters: SourceCounters,
    /// The mailbox changes once more when so many pieces more are carried: in the midst of the commands that a change
    /// gives rise to, as a phone or a burst of mail does.
    change_in: Option<u8>,
}

impl World {
    fn new(watch: Watch, quirks: &[Quirk], seed: u64) -> Self {
        let store = MailStore::new(1, "");
        let master = store.credentials().master.clone().unwrap();
        let login = Login::Master {
            user: master.user,
            separator: master.separator.into(),
            password: master.password.into(),
        };
        Self::with_login(login, store, watch, quirks, seed)
    }

    fn with_login(login: Login, store: MailStore, watch: Watch, quirks: &[Quirk], seed: u64) -> Self {
        let settings = Arc::new(Settings { watch, ..Settings::new("quirks", "127.0.0.1", login) });
        let mut world = Self {
            now: 0,
            flights: VecDeque::new(),
            rng: fastrand::Rng::with_seed(seed),
            roster: Roster::new(&settings, seed),
            settings,
            traits: Arc::default(),
            store,
            server_settings: Arc::new(imap_server::Settings {
                offers_notify: quirks != STALWART,
                ..imap_server::Settings::default()
            }),
            connection: None,
            unseen: None,
            commands: 0,
            connections: 0,
            counters: SourceCounters::default(),
            change_in: None,
        };
        for quirk in quirks.iter().filter(|quirk| !quirk.acts_once()) {
            world.store.set_quirk(None, *quirk, true);
        }
        let name = world.store.name(ACCOUNT).cloned().unwrap();
        world.tell(roster::Input::Watch(MAILBOX, name));
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
                roster::Output::Connect { name, errand, is_sweep, number, .. } => {
                    self.connect(name, (errand, is_sweep), number);
                }
                roster::Output::Ask(_, is_sweep) => {
                    let wish = if is_sweep { Wish::Sweep } else { Wish::Ask };
                    self.flights.push_back(Flight::Wished(wish));
                }
                roster::Output::HangUp(_) => panic!("nobody unwatches"),
                roster::Output::Note(_) => {}
            }
        }
    }

    fn connect(&mut self, name: Arc<str>, (errand, is_sweep): (Errand, bool), number: u32) {
        self.connections += 1;
        let seed = self.rng.u64(..);
        let session = Session::new(self.settings.clone(), self.traits.clone(), name, errand, seed);
        let client = connection::Connection::new(session, is_sweep);
        let server = imap_server::Session::new(self.server_settings.clone(), seed);
        self.connection = Some(Connection { number, client, server });
        self.client(Input::Connected);
        self.server(imap_server::Input::Connected { is_tls: false });
    }

    fn client(&mut self, input: Input<'_>) {
        self.agent(connection::Input::Session(input));
    }

    fn agent(&mut self, input: connection::Input<'_>) {
        let now = self.clock();
        let Some(Connection { number, client, .. }) = &mut self.connection else { return };
        client.handle(now, input);
        while let Some(output) = client.poll_output(now, &self.counters) {
            match output {
                Output::Send(outgoing) => {
                    self.commands += 1;
                    self.flights.push_back(Flight::ToServer(outgoing.bytes().to_vec()));
                }
                Output::Observe(News::Hint) | Output::StartTls => panic!("nobody asked for {output:?}"),
                Output::Observe(News::Reading(reading)) => {
                    let is_news = self.unseen.replace(reading.unseen) != Some(reading.unseen);
                    let verdict = if is_news { Verdict::Changed } else { Verdict::Unchanged };
                    client.handle(now, connection::Input::Verdict(verdict));
                }
                Output::Report(report) => self.flights.push_back(Flight::Reported(*number, report)),
                // Its last report says so as well.
                Output::Close => {}
            }
        }
    }

    fn server(&mut self, input: imap_server::Input<'_>) {
        let now = self.since_start();
        let Some(connection) = &mut self.connection else { return };
        connection.server.handle(now, input, &mut self.store);
        while let Some(output) = connection.server.poll_output() {
            self.flights.push_back(match output {
                imap_server::Output::Send(bytes) => Flight::ToClient(bytes),
                imap_server::Output::Close => Flight::ServerClosed,
                imap_server::Output::StartTls => panic!("nobody asked for TLS"),
            });
        }
    }

    /// Carries everything that is under way, cut anywhere.
    fn settle(&mut self) {
        while let Some(flight) = self.flights.pop_front() {
            self.change_in = self.change_in.map(|left| left.saturating_sub(1));
            if self.change_in.take_if(|left| *left == 0).is_some() {
                self.change();
            }
            match flight {
                Flight::ToServer(bytes) => self.server(imap_server::Input::Bytes(&bytes)),
                Flight::ToClient(bytes) => {
                    let (first, second) = bytes.split_at(self.rng.usize(0..=bytes.len()));
                    self.client(Input::Bytes(first));
                    self.client(Input::Bytes(second));
                }
                Flight::ServerClosed => self.client(Input::Closed),
                Flight::Wished(wish) => self.agent(connection::Input::Wish(wish)),
                Flight::Reported(number, report) => {
                    if matches!(report, ConnectionReport::Ended(_)) {
                        self.server(imap_server::Input::Closed);
                        self.connection = None;
                        // What its ends still said goes nowhere; what the client told of itself does.
                        self.flights.retain(|flight| matches!(flight, Flight::Reported(..)));
                    }
                    self.tell(roster::Input::Connection(MAILBOX, number, report));
                }
            }
        }
    }

    /// Lets time pass until `end`, timer by timer.
    fn pass(&mut self, end: Duration) {
        let end = end.as_micros() as u64;
        self.settle();
        for turn in 0.. {
            let client = self.connection.as_ref().and_then(|c| c.client.poll_timeout()).map(Moment::micros);
            let server = self.connection.as_ref().and_then(|c| c.server.poll_timeout());
            let server = server.map(|at| at.as_micros() as u64);
            let roster = self.roster.poll_timeout().map(Moment::micros);
            let Some(next) = [client, server, roster].into_iter().flatten().min().filter(|at| *at <= end)
            else {
                break;
            };
            assert!(turn < 100_000, "timers go in circles");
            self.now = self.now.max(next);
            if server.is_some_and(|at| at <= self.now) {
                self.server(imap_server::Input::Timeout);
            }
            if client.is_some_and(|at| at <= self.now) {
                self.client(Input::Timeout);
            }
            if roster.is_some_and(|at| at <= self.now) {
                self.tell(roster::Input::Timeout);
            }
            self.settle();
        }
        self.now = end;
    }

    /// Somebody uses the mailbox.
    fn change(&mut self) {
        let messages = self.store.messages(ACCOUNT);
        let chosen = messages.get(self.rng.usize(0..messages.len().max(1))).copied();
        match (self.rng.u8(0..10), chosen) {
            (0..=4, _) | (_, None) => drop(self.store.deliver(ACCOUNT)),
            (5..=6, Some(message)) => drop(self.store.set_seen(ACCOUNT, message.uid, true)),
            (7, Some(message)) => drop(self.store.set_seen(ACCOUNT, message.uid, false)),
            (8, Some(message)) => drop(self.store.expunge(ACCOUNT, message.uid)),
            (_, Some(message)) if self.rng.bool() => {
                self.store.set_flag(ACCOUNT, message.uid, Flags::FLAGGED, true);
            }
            (_, Some(_)) => drop(self.store.all_seen(ACCOUNT)),
        }
        self.server(imap_server::Input::StoreChanged);
    }

    fn play(&mut self, quirks: &[Quirk]) {
        let mut acts_once = quirks.iter().copied().find(|quirk| quirk.acts_once());
        while self.since_start() < STORY {
            let wait = Duration::from_millis(self.rng.u64(0..20_000));
            self.pass(self.since_start() + wait);
            self.change();
            self.change_in = self.rng.bool().then(|| self.rng.u8(1..FLIGHTS));
            if self.since_start() > STORY / 2
                && let Some(quirk) = acts_once.take()
            {
                self.store.set_quirk(None, quirk, true);
                self.server(imap_server::Input::StoreChanged);
            }
        }
        // Under these no count can be known: they must end first.
        for quirk in [Quirk::SilentDrop, Quirk::ByeAfterLogin] {
            self.store.set_quirk(None, quirk, false);
        }
        self.server(imap_server::Input::StoreChanged);
        self.pass(self.since_start() + BOUND);
    }
}

fn check(watch: Watch, quirks: &[Quirk], seed: u64) -> Result<(), String> {
    let mut world = World::new(watch, quirks, seed);
    world.play(quirks);
    let truth = world.store.status(ACCOUNT).unwrap().unseen;
    let (logins, skipped) = (world.counters.logins_ok.get(), world.counters.skipped.get());
    let story = format!(
        "{watch:?} {quirks:?} seed {seed}: {} commands, {logins} log-ins, {skipped} lines skipped",
        world.commands
    );
    if world.unseen != Some(truth) {
        return Err(format!("{story}: {:?} and not {truth}", world.unseen));
    }
    let commands_max = if quirks.contains(&Quirk::IdleForgetsGap) { COMMANDS_MAX_GAPS } else { COMMANDS_MAX };
    if world.commands > commands_max || logins > LOGINS_MAX || skipped > 0 {
        return Err(story);
    }
    Ok(())
}

#[test]
fn under_every_quirk_and_by_every_way_of_watching_the_truth_is_known_in_the_end() {
    // Under these no log-in of a master user works; what is done then has tests of its own below.
    let has_own_test = |quirk: &Quirk| matches!(quirk, Quirk::Preauth | Quirk::DelegateFirst);
    let quirks = Quirk::of_imap().filter(|quirk| !has_own_test(quirk)).map(|quirk| vec![quirk]);
    let quirks = std::iter::once(vec![]).chain(quirks);
    let mut failures = Vec::new();
    for quirks in quirks.chain([STALWART.to_vec()]) {
        for watch in [Watch::Auto, Watch::Idle, Watch::IdleUnselected, Watch::Poll, Watch::SweepOnly] {
            for seed in 0..2 {
                failures.extend(check(watch, &quirks, seed).err());
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Changes in pairs, the second in the midst of what the first gives rise to; the truth must be known so long after each.
fn check_pairs(watch: Watch, quirks: &[Quirk], seed: u64, within: Duration) -> Result<(), String> {
    let mut world = World::new(watch, quirks, seed);
    world.pass(Duration::from_secs(10));
    for pair in 0..PAIRS {
        world.change();
        world.change_in = Some(world.rng.u8(1..FLIGHTS));
        world.pass(world.since_start() + BURST);
        world.change_in = None;
        world.pass(world.since_start() + within.saturating_sub(BURST));
        let truth = world.store.status(ACCOUNT).unwrap().unseen;
        if world.unseen != Some(truth) {
            let known = world.unseen;
            return Err(format!(
                "{watch:?} {quirks:?} seed {seed}: {known:?} and not {truth} after pair {pair}"
            ));
        }
    }
    Ok(())
}

/// Found with Stalwart: what changes between a count and the IDLE after it is known soon, not with the next sweep.
#[test]
fn what_changes_in_the_midst_of_a_count_is_known_within_seconds() {
    let mut failures = Vec::new();
    let servers = [&[][..], &[Quirk::FrozenView], &[Quirk::IdleForgetsGap], &STALWART];
    for (seed, quirks) in (0..4).flat_map(|seed| servers.map(|quirks| (seed, quirks))) {
        for watch in [Watch::Auto, Watch::Idle] {
            failures.extend(check_pairs(watch, quirks, seed, Duration::from_secs(20)).err());
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Found with Dovecot: every second period of a re-armed NOTIFY was half a minute late.
#[test]
fn notify_is_as_fast_after_every_re_arming() {
    for seed in 0..4 {
        for quirks in [&[][..], &[Quirk::NotifyRearmToggles]] {
            check_pairs(Watch::Notify, quirks, seed, Duration::from_secs(2)).unwrap();
        }
    }
}

/// A session that somebody else opened (RFC 9051 §7.1.4) may be anybody's: no count of it is believed, the server is asked
/// seldom, and the mailbox is read after the server asks for a log-in again.
#[test]
fn after_preauth_nothing_is_believed_and_the_server_is_asked_seldom() {
    const PREAUTH: Duration = Duration::from_hours(12);
    for watch in [Watch::Auto, Watch::Idle, Watch::Poll, Watch::SweepOnly] {
        let mut world = World::new(watch, &[Quirk::Preauth], 1);
        world.change();
        world.pass(PREAUTH);
        assert_eq!((world.unseen, world.counters.logins_ok.get()), (None, 0), "{watch:?}");
        assert!((1..=60).contains(&world.connections), "{watch:?}: {} connections", world.connections);
        let failure = world.roster.failure().unwrap_or_default();
        assert!(failure.contains("PREAUTH"), "{watch:?}: {failure}");
        world.store.set_quirk(None, Quirk::Preauth, false);
        // No credential was refused: the longest pause is that of a full server.
        world.pass(PREAUTH + Duration::from_mins(31));
        assert_eq!(world.unseen, Some(world.store.status(ACCOUNT).unwrap().unseen), "{watch:?}");
    }
}

/// As Exchange has it: one credential, and the mailbox behind it in the name.
#[test]
fn a_delegate_s_name_goes_first_where_the_configuration_says_so() {
    let store = MailStore::new(1, "");
    let master = store.credentials().master.clone().unwrap();
    let user = Some(format!("{}\\{{mailbox}}", master.user));
    let login = Login::Password { user, password: master.password.into() };
    let mut world = World::with_login(login, store, Watch::Auto, &[Quirk::DelegateFirst], 1);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.unseen, Some(0));
    world.change();
    world.pass(Duration::from_secs(3));
    assert_eq!(world.unseen, Some(1));
    assert_eq!(world.counters.logins_ok.get(), 1);
}
