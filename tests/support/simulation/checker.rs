//! What must hold: after each step (safety), and once faults have stopped (liveness). Broken expectations are
//! collected, each with what was expected and what was seen.

use mailbadge::event::SubscriptionKey;
use mailbadge::flow::Post;
use mailbadge::forwarder::outbox::Attempt;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Broken expectations kept of one story, at most.
const BROKEN_MAX: usize = 20;

/// Watches a story.
#[derive(Debug, Default)]
pub struct Checker {
    /// Every count each mailbox ever had, in order.
    history: Vec<Vec<u32>>,
    /// How far in its mailbox's history each device is known to have come.
    floors: HashMap<String, usize>,
    in_flight: BTreeMap<Attempt, Vec<SubscriptionKey>>,
    /// The relay asked to be left alone until then, microseconds.
    not_before: u64,
    broken: Vec<String>,
}

impl Checker {
    /// `mailboxes` of them, with no message each.
    pub fn new(mailboxes: usize) -> Self {
        Self { history: vec![vec![0]; mailboxes], ..Self::default() }
    }

    /// Notes something that should not be.
    pub fn broken(&mut self, now: u64, what: &str) {
        if self.broken.len() < BROKEN_MAX {
            self.broken.push(format!("{:.6} {what}", now as f64 / 1e6));
        }
    }

    /// All that was broken.
    pub fn verdict(self) -> Vec<String> {
        self.broken
    }

    /// A mailbox changed.
    pub fn changed(&mut self, mailbox: usize, unseen: u32) {
        if let Some(history) = self.history.get_mut(mailbox) {
            history.push(unseen);
        }
    }

    /// A batch leaves the agent.
    pub fn departs(
        &mut self,
        now: u64,
        post: &Post,
        subscribed: &BTreeSet<SubscriptionKey>,
        batch_max: usize,
    ) {
        let flying: BTreeSet<SubscriptionKey> = self.in_flight.values().flatten().copied().collect();
        for key in &post.devices {
            if flying.contains(key) {
                self.broken(now, &format!("two notifications of {key:?} in flight"));
            }
            if !subscribed.contains(key) {
                self.broken(now, &format!("sent to {key:?}, which is not subscribed"));
            }
        }
        if post.devices.len() > batch_max {
            self.broken(
                now,
                &format!("{} devices in a batch, expected {batch_max} at most", post.devices.len()),
            );
        }
        if post.token.is_none() {
            self.broken(now, "a batch without a token");
        }
        if now < self.not_before {
            let early = (self.not_before - now) as f64 / 1e6;
            self.broken(now, &format!("a batch {early} s before the relay's back-off was over"));
        }
        self.in_flight.insert(post.attempt, post.devices.clone());
    }

    /// The answer to a batch reached the agent.
    pub fn landed(&mut self, attempt: Attempt) {
        self.in_flight.remove(&attempt);
    }

    /// The relay asked to be left alone until then.
    pub fn asked_to_wait(&mut self, until: u64) {
        self.not_before = self.not_before.max(until);
    }

    /// The agent was killed: nothing of it is in flight, and it forgot what the relay asked.
    pub fn killed(&mut self) {
        self.in_flight.clear();
        self.not_before = 0;
    }

    /// What a device shows after something arrived at it.
    pub fn shows(&mut self, now: u64, device: &str, mailbox: usize, badge: u32) {
        let Some(history) = self.history.get(mailbox) else { return };
        let floor = self.floors.get(device).copied().unwrap_or(0);
        let since = history.iter().enumerate().skip(floor).find(|(_, count)| **count == badge);
        if let Some((at, _)) = since {
            self.floors.insert(device.to_owned(), at);
        } else {
            let counts = history.get(floor..).unwrap_or_default().to_vec();
            self.broken(
                now,
                &format!("{device} shows {badge}, its mailbox had {counts:?} since what it showed"),
            );
        }
    }

    /// At the end a device must show the truth.
    pub fn settled(&mut self, now: u64, device: &str, shown: Option<u32>, truth: u32) {
        if shown != Some(truth) {
            self.broken(now, &format!("{device} shows {shown:?} at the end, expected {truth}"));
        }
    }
}
