//! The loop: time moves from event to event, and after each every machine is asked what it wants done.

use super::agent::{self, Agent, BATCH_MAX, CONCURRENCY, PASSWORD, signers};
use super::cloud::Cloud;
use super::mailhost::{MailHost, account};
use super::memory_store::Disk;
use super::{Plan, StoryReport, bound, log};
use elsewhere::{Elsewhere, Found};
use mailbadge::event::SubscriptionKey;
use mailbadge::forwarder::answer::Failure;
use mailbadge::forwarder::outbox::Attempt;
use mailbadge::source::imap::connection::Input as ConnectionInput;
use mailbadge::source::imap::exchange;
use mailbadge::source::imap::roster;
use mailbadge::time::{Moment, Now, UnixMs};
use mailbadge::tracker::record::Record;
use mailbadge_sim::peers::http::{Request, Response};
use mailbadge_sim::peers::imap_server;
use mailbadge_sim::peers::mail_store::Status;
use mailbadge_sim::play::checker::Limits;
use mailbadge_sim::play::{Check, Checker};
use mailbadge_sim::world::network::Latency;
use mailbadge_sim::world::{Clock, EventQueue, Fingerprint, Network, Weather};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

mod deeds;
mod elsewhere;
mod end;
mod life;
mod pump;
mod wire;

/// Steps of one story, at most: a story that needs more goes in circles.
const STEPS_MAX: u64 = 2_000_000;
/// How often what the agent believes is compared with the truth, at most.
const COMPARE_EVERY: Duration = Duration::from_secs(1);
/// Microseconds that the agent's relay loop is held up between two steps, at most: a thread of a busy host waits so long.
const HELD_UP_MAX: u64 = 50_000;
/// Usual latency of one way between agent and mail host.
const IMAP_LATENCY: Latency = Latency { least: Duration::from_micros(50), most: Duration::from_millis(20) };

enum Event {
    Deed(usize),
    Calm,
    Start,
    /// The ledger looks; an appointment that an earlier one replaced is none any more.
    Tick(u64),
    SourceBack,
    DiskFree,
    DiskWell,
    /// The relay learns of the certificate of this number.
    Trusted(usize),
    Unreachable(u32),
    Connected(u32),
    ToServer(u32, Vec<u8>),
    ToClient(u32, Vec<u8>),
    ServerClosed(u32),
    ClientClosed(u32),
    Arrives {
        flight: u64,
        is_copy: bool,
        request: Rc<Request>,
    },
    Answered {
        flight: u64,
        outcome: Result<Response, Failure>,
    },
    Told {
        life: u32,
        /// How often the order of the mailbox had gone back: who goes back ends the processes that were about to report.
        order: u32,
        mailbox: usize,
        status: Status,
    },
    /// The source that is cheaper than IMAP asks about all mailboxes.
    AskElsewhere,
    FoundElsewhere(Found),
}

/// What comes after a kill in the midst of a call.
#[derive(Clone, Copy, Debug, Default)]
struct Kill {
    /// So long until the next process starts.
    pause: Duration,
    is_power_cut: bool,
}

/// What the agent waits for.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    Challenge,
    Token,
    Batch(Attempt),
}

impl Event {
    /// What of it goes into the story's fingerprint, beside its time.
    fn bytes(&self) -> &[u8] {
        match self {
            Self::ToServer(_, bytes) | Self::ToClient(_, bytes) => bytes,
            Self::Arrives { request, .. } => &request.body,
            Self::Answered { outcome: Ok(response), .. } => &response.body,
            _ => &[],
        }
    }
}

/// A story while it is told.
pub struct World {
    plan: Plan,
    clock: Clock,
    agenda: EventQueue<Event>,
    rng: fastrand::Rng,
    /// For how long the agent's relay loop is held up.
    held_up: fastrand::Rng,
    names: Vec<Arc<str>>,
    agent: Option<Agent>,
    /// Counts processes: what was on its way to a dead one reaches nobody.
    life: u32,
    /// Which of the two certificates it signs with.
    signer: usize,
    /// Requests that the agent waits for.
    waiting: BTreeMap<u64, Waiting>,
    requests: u64,
    /// Of these, those that were not taken: a gateway does not carry a copy of what was refused.
    refused: BTreeSet<u64>,
    /// When the ledger looks next.
    tick_at: Option<u64>,
    /// Until then it looks again and again, since its store refused something.
    is_troubled_until: Duration,
    disk: Disk,
    /// What comes after a kill in the midst of a call.
    kill: Kill,
    /// What the last process knew devices to show when it ended.
    left: BTreeMap<SubscriptionKey, Option<u32>>,
    /// Devices that this process sent a batch to, by id.
    told: BTreeSet<String>,
    /// Of these it took a batch for under way that never left.
    unsent: Vec<SubscriptionKey>,
    host: MailHost,
    elsewhere: Option<Elsewhere>,
    imap: Network,
    cloud: Cloud,
    devices_version: u64,
    checker: Checker,
    is_calm: bool,
    /// Since the faults ended every watched mailbox was read or watched at once.
    is_covered: bool,
    /// When what the agent believes was last compared with the truth.
    compared_at: Duration,
    /// Over everything that happened, and when.
    fingerprint: Fingerprint,
    report: StoryReport,
}

impl World {
    /// The world as it is before the story.
    pub fn new(plan: Plan) -> Self {
        let host = MailHost::new(&plan);
        let names = (0..plan.mailboxes).map(|number| host.name(number)).collect();
        let first = signers().first().expect("there are two");
        let cloud = Cloud::new(&plan, first.certificate().der());
        let limits = Limits {
            batch_max: BATCH_MAX,
            in_flight_max: CONCURRENCY,
            mailboxes: plan.mailboxes,
            correction: bound::CORRECTION,
        };
        let imap_weather =
            Weather { cut: plan.weather.cut / 5, slow: plan.weather.slow, ..Weather::default() };
        let mut world = Self {
            clock: Clock::default(),
            agenda: EventQueue::default(),
            rng: plan.seed.stream("world"),
            held_up: plan.seed.stream("held up"),
            names,
            agent: None,
            life: 0,
            signer: 0,
            waiting: BTreeMap::new(),
            requests: 0,
            refused: BTreeSet::new(),
            tick_at: None,
            is_troubled_until: Duration::ZERO,
            disk: Disk::new(plan.seed),
            kill: Kill::default(),
            left: BTreeMap::new(),
            told: BTreeSet::new(),
            unsent: Vec::new(),
            host,
            elsewhere: Elsewhere::of(&plan),
            imap: Network::new(plan.seed, "imap", IMAP_LATENCY, imap_weather),
            cloud,
            devices_version: 0,
            checker: Checker::new(limits, vec![PASSWORD.to_owned(), "PRIVATE KEY".to_owned()]),
            is_calm: false,
            is_covered: false,
            compared_at: Duration::ZERO,
            fingerprint: Fingerprint::default(),
            report: StoryReport::new(plan.seed, plan.profile, bound::of(&plan)),
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for device in 0..self.plan.devices {
            self.subscribe(device, None);
        }
        self.after(Duration::ZERO, Event::Start);
        self.after(Duration::ZERO, Event::AskElsewhere);
        self.after(self.plan.trouble, Event::Calm);
        for deed in 0..self.plan.deeds.len() {
            let at = self.plan.deeds.get(deed).map_or(Duration::ZERO, |(at, _)| *at);
            self.after(at.min(self.plan.trouble), Event::Deed(deed));
        }
    }

    /// Plays to the end.
    pub fn play(mut self) -> StoryReport {
        let end = micros(self.plan.trouble + bound::of(&self.plan));
        while let Some(next) = self.next().filter(|next| *next <= end) {
            if self.report.steps >= STEPS_MAX {
                self.checker.broken(Check::Ends, "an end", "a story that goes in circles");
                break;
            }
            self.clock.advance(next);
            self.report.steps += 1;
            log::set_now(next);
            self.checker.time(self.clock.elapsed(), self.clock.host_date().ms());
            self.step();
            self.pump();
            self.look();
        }
        self.clock.advance(end);
        self.check_end();
        StoryReport { broken: self.checker.verdict(), fingerprint: self.fingerprint.0, ..self.report }
    }

    fn next(&self) -> Option<u64> {
        let of_agent = self.agent.as_ref().and_then(|agent| {
            let timers = [agent.sleeps_until, agent.roster.poll_timeout()];
            timers.into_iter().flatten().min().map(Moment::micros)
        });
        let timer = [of_agent, self.host.next_timeout()].into_iter().flatten().min();
        // A timer that is due already was just asked and has nothing more to do now.
        let timer = timer.map(|at| at.max(self.clock.micros() + 1));
        [self.agenda.next(), timer].into_iter().flatten().min()
    }

    /// Both clocks as the agent reads them.
    fn now(&self) -> Now {
        let unix = UnixMs(self.clock.host_date().ms());
        Now { moment: Moment::from_micros(self.clock.micros()), unix }
    }

    fn after(&mut self, wait: Duration, event: Event) {
        self.agenda.note(self.clock.micros() + micros(wait), event);
    }

    fn step(&mut self) {
        while let Some(event) = self.agenda.take(self.clock.micros()) {
            self.fingerprint = self.fingerprint.with(&self.clock.micros().to_le_bytes()).with(event.bytes());
            self.happen(event);
        }
        let (now, elapsed) = (self.now(), self.clock.elapsed());
        if let Some(agent) = &mut self.agent
            && agent.roster.poll_timeout().is_some_and(|at| at <= now.moment)
        {
            agent.roster.handle(now, roster::Input::Timeout);
        }
        for number in self.host.connections.keys().copied().collect::<Vec<_>>() {
            let Some(connection) = self.host.connections.get_mut(&number) else { continue };
            if let Some(client) = connection.client.as_mut()
                && client.poll_timeout().is_some_and(|at| at <= now.moment)
            {
                client.handle(now, ConnectionInput::Session(exchange::Input::Timeout));
            }
            let server = connection.server.as_ref();
            if server.and_then(imap_server::Session::poll_timeout).is_some_and(|at| at <= elapsed) {
                self.host.serve(number, imap_server::Input::Timeout, elapsed);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deed(number) => {
                if let Some((_, deed)) = self.plan.deeds.get(number).cloned() {
                    log::tell(|| deed.to_string());
                    self.deed(deed);
                }
            }
            Event::Calm => self.calm(),
            Event::Start => self.start(),
            Event::Tick(at) if self.tick_at == Some(at) => self.tick(),
            Event::SourceBack => self.host.is_away = false,
            Event::DiskFree => self.disk.set_full(false),
            Event::DiskWell => self.disk.set_failing(false),
            Event::Trusted(signer) => self.trust(signer),
            Event::Arrives { flight, is_copy, request } => self.arrive(flight, is_copy, &request),
            Event::Answered { flight, outcome } => self.answered(flight, &outcome),
            Event::Told { life, order, mailbox, status } if order == self.host.order(mailbox) => {
                self.told(life, mailbox, status);
            }
            Event::AskElsewhere => self.ask_elsewhere(),
            Event::FoundElsewhere(found) => self.found_elsewhere(found),
            event => self.carry(event),
        }
    }

    /// Something arrives at an end of an IMAP connection.
    fn carry(&mut self, event: Event) {
        let (now, elapsed) = (self.now(), self.clock.elapsed());
        match event {
            Event::Unreachable(number) => {
                self.hear(number, ConnectionInput::Unreachable("refused".to_owned()), now);
            }
            Event::Connected(number) => {
                self.host.serve(number, imap_server::Input::Connected { is_tls: false }, elapsed);
                self.hear(number, ConnectionInput::Session(exchange::Input::Connected), now);
            }
            Event::ToServer(number, bytes) => {
                self.host.serve(number, imap_server::Input::Bytes(&bytes), elapsed);
            }
            Event::ToClient(number, bytes) => {
                self.hear(number, ConnectionInput::Session(exchange::Input::Bytes(&bytes)), now);
            }
            Event::ServerClosed(number) => {
                self.host.serve(number, imap_server::Input::Closed, elapsed);
                if let Some(connection) = self.host.connections.get_mut(&number) {
                    connection.server = None;
                }
            }
            Event::ClientClosed(number) => {
                self.hear(number, ConnectionInput::Session(exchange::Input::Closed), now);
            }
            _ => {}
        }
    }

    fn hear(&mut self, connection: u32, input: ConnectionInput<'_>, now: Now) {
        let end =
            self.host.connections.get_mut(&connection).and_then(|connection| connection.client.as_mut());
        if let Some(client) = end {
            client.handle(now, input);
        }
    }

    /// No more faults: what lasts ends now, and the clock is right again.
    fn calm(&mut self) {
        log::tell(|| "faults end".to_owned());
        self.is_calm = true;
        self.clock.jump(0);
        self.disk.set_full(false);
        self.disk.set_failing(false);
        self.disk.kill_after(None);
        self.trust(self.signer);
        self.cloud.calm();
        self.imap.calm();
        self.host.calm(self.clock.elapsed());
    }

    /// What an observer sees after each step.
    fn look(&mut self) {
        for line in log::lines() {
            self.checker.logged(&line);
        }
        if let Some(agent) = &self.agent {
            self.checker.ready(agent.tracker.ready());
        }
        if self.clock.elapsed() >= self.compared_at + COMPARE_EVERY {
            self.compare();
        }
        if self.is_calm {
            let is_true = self.checker.is_true(|device| self.cloud.badge(device));
            let since = self.clock.elapsed().saturating_sub(self.plan.trouble).as_millis() as u64;
            let settled = self.report.settled_after_ms.filter(|_| is_true);
            self.report.settled_after_ms = settled.or_else(|| is_true.then_some(since));
        }
    }
}

impl World {
    /// Compares what the agent believes of each mailbox with the truth.
    fn compare(&mut self) {
        self.compared_at = self.clock.elapsed();
        let now = self.now();
        let Some(agent) = &self.agent else { return };
        let unknown = agent.unknown(now);
        let (watched, covered) = agent.roster.coverage();
        self.is_covered |= self.is_calm && watched == covered;
        let is_learned = self.clock.elapsed() >= self.is_troubled_until;
        let subscribed: BTreeSet<String> =
            self.disk.subscriptions().into_iter().map(|kept| kept.record.mailbox).collect();
        for number in 0..self.plan.mailboxes {
            let mailbox = agent::mailbox(number);
            let is_wanted = self.names.get(number).is_some_and(|name| subscribed.contains(&**name));
            let is_held = self.host.is_connected(mailbox);
            self.checker.holds(number, is_held && !is_wanted && is_learned, bound::LET_GO);
            let look =
                |record: &Record| (record.seen(now).is_some(), record.known().map(|known| known.unseen));
            let Some((true, believed)) = agent.tracker.inspect(mailbox, look) else {
                self.checker.is_no_matter(number);
                continue;
            };
            let truth = self.host.status(number).unseen;
            self.checker.is_waiting(number);
            self.checker.believes(number, believed, truth, unknown.contains(&mailbox), bound::SILENCE);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A device's id.
fn device_id(device: usize) -> String {
    format!("reg-{device}")
}
