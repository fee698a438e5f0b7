//! The loop: time moves from event to event, and after each every machine is asked what it wants done.

use super::agent::{self, Agent, EVENTS, identity};
use super::checker::Checker;
use super::cloud::Cloud;
use super::disk::Disk;
use super::mailhost::{MailHost, account};
use super::plan::{BOUND, Deed, Plan, Source, TROUBLE};
use mailbadge::event::{ModSeq, News, Reading, UidValidity};
use mailbadge::forwarder::answer::{Answer, Failure};
use mailbadge::forwarder::outbox::Attempt;
use mailbadge::source::imap::exchange;
use mailbadge::source::imap::roster;
use mailbadge::time::{Moment, Now, UnixMs};
use mailbadge_sim::peers::http::Request;
use mailbadge_sim::peers::imap_server;
use mailbadge_sim::peers::mail_store::Status;
use mailbadge_sim::peers::unix_time::UnixMicros;
use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

mod end;
mod pump;
mod wire;

/// When stories begin, milliseconds since the epoch: 2026-11-23T08:00:00Z, while the fixtures' certificates are valid.
const EPOCH_MS: u64 = 1_795_420_800_000;
/// Steps of one story, at most: a story that needs more goes in circles.
const STEPS_MAX: u64 = 2_000_000;
/// What devices show is stored so long after it moved.
const SAVE_AFTER: Duration = Duration::from_millis(250);

enum Event {
    Deed(usize),
    Calm,
    Start,
    Save,
    Connected(u32),
    ToServer(u32, Vec<u8>),
    ToClient(u32, Vec<u8>),
    ServerClosed(u32),
    ClientClosed(u32),
    Arrives { flight: u64, request: Rc<Request> },
    Answered { flight: u64, outcome: Result<Answer, Failure> },
    Told { life: u32, mailbox: usize, status: Status },
}

/// How a story went.
#[derive(Debug)]
pub struct Story {
    /// Its seed.
    pub seed: u64,
    /// Broken expectations; empty when all is well.
    pub broken: Vec<String>,
    /// Events that happened.
    pub steps: u64,
    /// Times a mailbox changed.
    pub changes: u64,
    /// Batches that left the agent.
    pub batches: u64,
    /// Faults, kills, hangs and lost packets among the deeds.
    pub faults: u64,
}

/// A story while it is told.
pub struct World {
    plan: Plan,
    now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    events: u64,
    rng: fastrand::Rng,
    names: Vec<Arc<str>>,
    agent: Option<Agent>,
    /// Counts processes: what was on its way to a dead one reaches nobody.
    life: u32,
    /// Requests that the agent waits for: a batch each, or the challenge.
    waiting: BTreeMap<u64, Option<Attempt>>,
    requests: u64,
    is_save_due: bool,
    disk: Disk,
    host: MailHost,
    cloud: Cloud,
    devices_version: u64,
    checker: Checker,
    is_calm: bool,
    story: Story,
}

impl World {
    /// The world as it is before the story.
    pub fn new(plan: Plan) -> Self {
        let host = MailHost::new(plan.seed, plan.mailboxes);
        let names = (0..plan.mailboxes).map(|number| host.name(number)).collect();
        let cloud = Cloud::new(plan.seed, plan.loss_percent, identity().0.der());
        let story =
            Story { seed: plan.seed, broken: Vec::new(), steps: 0, changes: 0, batches: 0, faults: 0 };
        let mut world = Self {
            now: 0,
            queue: BTreeMap::new(),
            events: 0,
            rng: fastrand::Rng::with_seed(plan.seed ^ 0x0077_6f72_6c64),
            names,
            agent: None,
            life: 0,
            waiting: BTreeMap::new(),
            requests: 0,
            is_save_due: false,
            disk: Disk::default(),
            host,
            cloud,
            devices_version: 0,
            checker: Checker::new(plan.mailboxes),
            is_calm: false,
            story,
            plan,
        };
        for device in 0..world.plan.devices {
            world.subscribe(device);
        }
        world.at(Duration::ZERO, Event::Start);
        world.at(TROUBLE, Event::Calm);
        for deed in 0..world.plan.deeds.len() {
            let at = world.plan.deeds.get(deed).map_or(Duration::ZERO, |(at, _)| *at);
            world.at(at, Event::Deed(deed));
        }
        world
    }

    /// Plays to the end.
    pub fn play(mut self) -> Story {
        let end = micros(TROUBLE + BOUND);
        while let Some(next) = self.next() {
            if next > end || self.story.steps >= STEPS_MAX {
                break;
            }
            self.now = next;
            self.story.steps += 1;
            self.step();
            self.pump();
        }
        if self.story.steps >= STEPS_MAX {
            self.checker.broken(self.now, "the story goes in circles");
        }
        self.check_end();
        Story { broken: self.checker.verdict(), ..self.story }
    }

    fn next(&self) -> Option<u64> {
        let queued = self.queue.keys().next().map(|(at, _)| *at);
        let of_agent = self.agent.as_ref().and_then(|agent| {
            let timers = [agent.flow.poll_timeout(self.clock()), agent.roster.poll_timeout()];
            timers.into_iter().flatten().min().map(Moment::micros)
        });
        let timer = [of_agent, self.host.next_timeout()].into_iter().flatten().min();
        // A timer that is due already was just asked and has nothing more to do now.
        [queued, timer.map(|at| at.max(self.now + 1))].into_iter().flatten().min()
    }

    fn clock(&self) -> Now {
        Now { moment: Moment::from_micros(self.now), unix: UnixMs(EPOCH_MS + self.now / 1000) }
    }

    fn wall(&self) -> UnixMicros {
        UnixMicros(EPOCH_MS * 1000 + self.now)
    }

    fn since_start(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.push(micros(at), event);
    }

    fn after(&mut self, wait: Duration, event: Event) {
        self.push(self.now + micros(wait), event);
    }

    fn push(&mut self, at: u64, event: Event) {
        self.events += 1;
        self.queue.insert((at, self.events), event);
    }

    fn step(&mut self) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let event = entry.remove();
            self.happen(event);
        }
        let (now, since_start) = (self.clock(), self.since_start());
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
                client.handle(now, exchange::Input::Timeout);
            }
            let server = connection.server.as_ref();
            if server.and_then(imap_server::Session::poll_timeout).is_some_and(|at| at <= since_start) {
                self.host.serve(number, imap_server::Input::Timeout, since_start);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deed(number) => {
                if let Some((_, deed)) = self.plan.deeds.get(number).cloned() {
                    self.deed(deed);
                }
            }
            Event::Calm => {
                self.is_calm = true;
                self.cloud.calm();
            }
            Event::Start => self.start(),
            Event::Save => {
                self.is_save_due = false;
                if let Some(agent) = &self.agent {
                    self.disk.save(&agent.tracker);
                }
            }
            Event::Arrives { flight, request } => self.arrive(flight, &request),
            Event::Answered { flight, outcome } => self.answered(flight, outcome),
            Event::Told { life, mailbox, status } => self.told(life, mailbox, status),
            event => self.carry(event),
        }
    }

    /// Something arrives at an end of an IMAP connection.
    fn carry(&mut self, event: Event) {
        let (now, since_start) = (self.clock(), self.since_start());
        match event {
            Event::Connected(number) => {
                self.host.serve(number, imap_server::Input::Connected { is_tls: false }, since_start);
                self.hear(number, exchange::Input::Connected, now);
            }
            Event::ToServer(number, bytes) => {
                self.host.serve(number, imap_server::Input::Bytes(&bytes), since_start);
            }
            Event::ToClient(number, bytes) => self.hear(number, exchange::Input::Bytes(&bytes), now),
            Event::ServerClosed(number) => {
                self.host.serve(number, imap_server::Input::Closed, since_start);
                if let Some(connection) = self.host.connections.get_mut(&number) {
                    connection.server = None;
                }
            }
            Event::ClientClosed(number) => self.hear(number, exchange::Input::Closed, now),
            _ => {}
        }
    }

    fn hear(&mut self, connection: u32, input: exchange::Input<'_>, now: Now) {
        let end =
            self.host.connections.get_mut(&connection).and_then(|connection| connection.client.as_mut());
        if let Some(client) = end {
            client.handle(now, input);
        }
    }

    fn deed(&mut self, deed: Deed) {
        match deed {
            Deed::Deliver(mailbox) => drop(self.host.store.deliver(account(mailbox))),
            Deed::Read(mailbox) => {
                if let (Some(uid), _) = self.host.uids(mailbox) {
                    self.host.store.set_seen(account(mailbox), uid, true);
                }
            }
            Deed::Unread(mailbox) => {
                if let (_, Some(uid)) = self.host.uids(mailbox) {
                    self.host.store.set_seen(account(mailbox), uid, false);
                }
            }
            Deed::ReadAll(mailbox) => drop(self.host.store.all_seen(account(mailbox))),
            Deed::Expunge(mailbox) => {
                if let (_, Some(uid)) = self.host.uids(mailbox) {
                    self.host.store.expunge(account(mailbox), uid);
                }
            }
            Deed::Subscribe(device) => self.subscribe(device),
            Deed::Unsubscribe(device) => self.unsubscribe(device),
            Deed::BumpUidValidity(mailbox) => self.host.store.bump_uidvalidity(account(mailbox)),
            deed => self.trouble(deed),
        }
        self.tell_changes();
    }

    fn trouble(&mut self, deed: Deed) {
        self.story.faults += 1;
        match deed {
            Deed::Fault(order) => self.cloud.fault(order, self.wall()),
            Deed::MassDisconnect => {
                for number in self.host.connections.keys().copied().collect::<Vec<_>>() {
                    self.after(Duration::from_millis(1), Event::ServerClosed(number));
                    self.after(Duration::from_millis(1), Event::ClientClosed(number));
                }
            }
            Deed::Hang(mailbox) => {
                let of_mailbox =
                    self.host.connections.values_mut().filter(|c| c.mailbox == agent::mailbox(mailbox));
                of_mailbox.for_each(|connection| connection.is_hung = true);
            }
            Deed::Kill(pause) => self.kill(pause),
            _ => {}
        }
    }

    /// Tells everyone who listens that mailboxes changed.
    fn tell_changes(&mut self) {
        let since_start = self.since_start();
        for (mailbox, status) in self.host.changed() {
            self.story.changes += 1;
            self.checker.changed(mailbox, status.unseen);
            self.host.tell(mailbox, since_start);
            let is_lost = !self.is_calm && self.rng.u32(0..100) < 10;
            if self.plan.source == Source::EventsAndSweep && !is_lost {
                let late = Duration::from_micros(self.rng.u64(100..3_000_000));
                let soon = Duration::from_micros(self.rng.u64(100..2_000));
                let wait = if self.rng.u32(0..4) == 0 { late } else { soon };
                self.after(wait, Event::Told { life: self.life, mailbox, status });
            }
        }
    }

    fn told(&mut self, life: u32, mailbox: usize, status: Status) {
        let now = self.clock();
        let Some(agent) = self.agent.as_mut().filter(|_| life == self.life) else { return };
        let reading = Reading {
            unseen: status.unseen,
            uid_validity: NonZeroU32::new(status.uidvalidity).map(UidValidity),
            modseq: NonZeroU64::new(status.modseq).map(ModSeq),
            asked_at: None,
        };
        agent.observe(agent::mailbox(mailbox), EVENTS, News::Reading(reading), now);
    }

    fn device_id(device: usize) -> String {
        format!("reg-{device}")
    }

    fn subscribe(&mut self, device: usize) {
        let now = self.clock();
        let id = Self::device_id(device);
        let mailbox = device % self.plan.mailboxes;
        let shown = self.cloud.badge(&id);
        let (kept, replaced) = self.disk.subscribe(mailbox, &id, shown, now.unix);
        let Some(agent) = &mut self.agent else { return };
        agent.watch(mailbox, &self.names, now);
        agent.tracker.subscribe(agent::mailbox(mailbox), kept.recipient, shown, now);
        for key in replaced {
            agent.tracker.unsubscribe(agent::mailbox(mailbox), key);
        }
    }

    fn unsubscribe(&mut self, device: usize) {
        let mailbox = agent::mailbox(device % self.plan.mailboxes);
        for key in self.disk.keys_of(&Self::device_id(device)) {
            self.disk.subscriptions.remove(&key);
            if let Some(agent) = &self.agent {
                agent.tracker.unsubscribe(mailbox, key);
            }
        }
    }

    /// Something moved that is to be stored.
    fn save_soon(&mut self) {
        if !std::mem::replace(&mut self.is_save_due, true) {
            self.after(SAVE_AFTER, Event::Save);
        }
    }

    fn start(&mut self) {
        self.life += 1;
        let seed = self.rng.u64(..);
        let now = self.clock();
        self.agent = Some(Agent::start(&self.plan, &mut self.disk, &self.names, seed, now));
    }

    fn kill(&mut self, pause: Duration) {
        if self.agent.take().is_none() {
            return;
        }
        self.checker.killed();
        self.waiting.clear();
        for (number, connection) in &mut self.host.connections {
            connection.client = None;
            self.events += 1;
            self.queue.insert((self.now + 1, self.events), Event::ServerClosed(*number));
        }
        self.after(pause, Event::Start);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
