//! A second source that can be asked, and cheaply: it reads all mailboxes now and then, as a doveadm source does. While
//! it does, the sweep over IMAP leaves them alone; when it stops, the sweep must go on.

use super::super::agent;
use super::{Event, World};
use mailbadge_sim::peers::mail_store::Status;
use mailbadge_sim::play::{Plan, Telling};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Seconds between two rounds.
const PAUSE: RangeInclusive<u64> = 5..=110;
/// Milliseconds that an answer takes.
const ANSWER: RangeInclusive<u64> = 1..=2_000;

/// The source, in every other story in which mailboxes are only swept over IMAP.
pub(super) struct Elsewhere {
    rng: fastrand::Rng,
    /// When it stops, before or after the faults end.
    until: Duration,
}

/// What it found in a mailbox.
#[derive(Clone, Copy)]
pub(super) struct Found {
    /// The process that asked.
    life: u32,
    /// How often the order of the mailbox had gone back.
    order: u32,
    mailbox: usize,
    asked_at: u64,
    status: Status,
}

impl Elsewhere {
    pub(super) fn of(plan: &Plan) -> Option<Self> {
        let mut rng = plan.seed.stream("elsewhere");
        let is_there = plan.telling == Telling::Events && rng.bool();
        let until = Duration::from_millis(rng.u64(0..=2 * plan.trouble.as_millis() as u64));
        is_there.then_some(Self { rng, until })
    }
}

impl World {
    /// It asks about every mailbox, and again later.
    pub(super) fn ask_elsewhere(&mut self) {
        let elapsed = self.clock.elapsed();
        let is_answered = !self.host.is_away;
        let Some(elsewhere) = self.elsewhere.as_mut().filter(|elsewhere| elapsed < elsewhere.until) else {
            return;
        };
        let pause = Duration::from_secs(elsewhere.rng.u64(PAUSE));
        let waits: Vec<u64> = (0..self.plan.mailboxes).map(|_| elsewhere.rng.u64(ANSWER)).collect();
        self.after(pause, Event::AskElsewhere);
        for (mailbox, wait) in waits.into_iter().enumerate().filter(|_| is_answered) {
            let (order, status) = (self.host.order(mailbox), self.host.status(mailbox));
            let found = Found { life: self.life, order, mailbox, asked_at: self.clock.micros(), status };
            self.after(Duration::from_millis(wait), Event::FoundElsewhere(found));
        }
    }

    pub(super) fn found_elsewhere(&mut self, found: Found) {
        let Found { life, order, mailbox, asked_at, status } = found;
        let now = self.now();
        let is_current = life == self.life && order == self.host.order(mailbox);
        let Some(agent) = self.agent.as_mut().filter(|_| is_current) else { return };
        let mailbox = agent::mailbox(mailbox);
        if agent.tracker.has_devices(mailbox) {
            self.checker.read_elsewhere(mailbox.0 as usize);
            agent.observe_elsewhere(mailbox, super::deeds::reading(status, Some(asked_at)), now);
        }
    }
}
