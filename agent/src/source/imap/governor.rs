//! Which log-in may begin now: at most so many per second at one server, none while the shared credential is refused, and
//! none too early after a failure. Pure: it is asked, and told how each went (sources.md §4.1). What is done with a
//! connection that was let through is not decided here.

use super::exchange::Refusal;
use crate::event::MailboxId;
use crate::time::Moment;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// A connection that lived this long after its log-in has survived: its failures before are forgotten. Longer than a server
/// that went silent after the log-in takes to be noticed.
pub const SURVIVED: Duration = Duration::from_mins(2);
/// Log-ins begun and not yet decided, most at a time.
pub const LOGINS_IN_FLIGHT_MAX: usize = 200;
/// Longest wait after a connection was lost, or the server could not be reached.
const LOST_WAIT_MAX: Duration = Duration::from_mins(2);
/// First longest wait after a server refused one mailbox, and the last.
const REFUSED_WAIT: (Duration, Duration) = (Duration::from_secs(30), Duration::from_hours(1));
/// First longest wait after a connection was lost.
const LOST_WAIT: Duration = Duration::from_secs(1);
/// How long no log-in is tried after the shared credential was refused: at first where it had worked before, else, and most.
const BREAKER_WAIT: (Duration, Duration, Duration) =
    (Duration::from_secs(15), Duration::from_mins(5), Duration::from_hours(1));
/// Log-ins that may begin at once after a quiet time.
const BURST: u32 = 5;

/// How a log-in or a connection went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server could not be reached: concerns every mailbox.
    Unreachable(String),
    /// The log-in was refused.
    Refused(Refusal, String),
    /// The connection ended after its log-in, or without a word of refusal; lived so long.
    Lost(Duration),
}

/// How often something failed in a row, and until when to leave it alone.
#[derive(Clone, Copy, Debug, Default)]
struct BackOff {
    failures: u32,
    until: Moment,
    set_at: Moment,
}

impl BackOff {
    /// Exponential with full jitter: anywhere from nothing to the doubled span.
    fn fail(&mut self, now: Moment, first: Duration, most: Duration, rng: &mut fastrand::Rng) {
        let span = first.saturating_mul(1 << self.failures.min(20)).min(most);
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.failures = self.failures.saturating_add(1);
        self.until = now.after(Duration::from_micros(rng.u64(0..=micros)));
        self.set_at = now;
    }
}

/// Whether the shared credential may be used.
#[derive(Clone, Debug)]
enum Breaker {
    Closed,
    /// Refused when this mailbox used it. At `until` one log-in tries again, of another mailbox where there is one.
    Open {
        culprit: MailboxId,
        until: Moment,
        wait: Duration,
        text: String,
        trial: Option<MailboxId>,
    },
}

/// Lets log-ins through.
#[derive(Debug)]
pub struct Governor {
    is_shared: bool,
    /// Time between two log-ins.
    spacing: Duration,
    /// When the bucket will be full again: it holds [`BURST`].
    full_at: Moment,
    rng: fastrand::Rng,
    /// Who may go as soon as there is room: the busiest first, then who came first.
    queue: BTreeSet<(Reverse<u32>, u64, MailboxId)>,
    /// Who must wait until then.
    delayed: BTreeSet<(Moment, MailboxId)>,
    places: HashMap<MailboxId, Place>,
    in_flight: HashMap<MailboxId, Moment>,
    back_offs: HashMap<MailboxId, BackOff>,
    server: BackOff,
    unreachable: Option<String>,
    breaker: Breaker,
    /// The mailbox whose log-in worked last.
    proven: Option<MailboxId>,
    arrivals: u64,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Queued(u32, u64),
    Delayed(Moment, u32),
}

impl Governor {
    /// `login_rate` per second, 1 at least. `is_shared`: one credential opens every mailbox.
    pub fn new(login_rate: u32, is_shared: bool, seed: u64) -> Self {
        Self {
            is_shared,
            spacing: Duration::from_secs(1) / login_rate.max(1),
            full_at: Moment::START,
            rng: fastrand::Rng::with_seed(seed),
            queue: BTreeSet::new(),
            delayed: BTreeSet::new(),
            places: HashMap::new(),
            in_flight: HashMap::new(),
            back_offs: HashMap::new(),
            server: BackOff::default(),
            unreachable: None,
            breaker: Breaker::Closed,
            proven: None,
            arrivals: 0,
        }
    }

    /// The mailbox wants to log in. Asking again may raise its weight.
    pub fn request(&mut self, mailbox: MailboxId, weight: u32, now: Moment) {
        let is_placed = matches!(self.places.get(&mailbox), Some(Place::Queued(held, _)) if *held >= weight);
        if is_placed || self.in_flight.contains_key(&mailbox) {
            return;
        }
        self.leave(mailbox);
        let until = self.back_offs.get(&mailbox).map_or(Moment::START, |back_off| back_off.until);
        if until > now {
            self.delayed.insert((until, mailbox));
            self.places.insert(mailbox, Place::Delayed(until, weight));
        } else {
            self.enqueue(mailbox, weight);
        }
    }

    /// The mailbox is wanted no more: nothing of it stays.
    pub fn forget(&mut self, mailbox: MailboxId) {
        self.leave(mailbox);
        self.in_flight.remove(&mailbox);
        self.back_offs.remove(&mailbox);
        if let Breaker::Open { trial, .. } = &mut self.breaker
            && *trial == Some(mailbox)
        {
            *trial = None;
        }
    }

    /// The next mailbox that may log in now.
    pub fn grant(&mut self, now: Moment) -> Option<MailboxId> {
        self.wake(now);
        if self.gate() > now || self.is_full() {
            return None;
        }
        let chosen = self.choose()?;
        if let Breaker::Open { trial, .. } = &mut self.breaker {
            *trial = Some(chosen);
        }
        self.leave(chosen);
        self.in_flight.insert(chosen, now);
        self.full_at = self.full_at.max(now).after(self.spacing);
        Some(chosen)
    }

    /// When [`Governor::grant`] may have one.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let delayed = self.delayed.first().map(|(at, _)| *at);
        let is_stuck = self.queue.is_empty() || self.is_full() || self.is_on_trial();
        let queued = (!is_stuck).then(|| self.gate());
        delayed.into_iter().chain(queued).min()
    }

    /// The log-in worked. Its failures before are not forgotten: it must survive first.
    pub fn logged_in(&mut self, mailbox: MailboxId) {
        self.in_flight.remove(&mailbox);
        self.unreachable = None;
        self.proven = Some(mailbox);
        self.breaker = Breaker::Closed;
    }

    /// The connection did what it was made for and ended: a visit.
    pub fn done(&mut self, mailbox: MailboxId) {
        self.in_flight.remove(&mailbox);
        self.back_offs.remove(&mailbox);
    }

    /// The log-in or the connection failed; the mailbox may ask again at once and will be let wait.
    pub fn failed(&mut self, mailbox: MailboxId, failure: Failure, now: Moment) {
        let begun = self.in_flight.remove(&mailbox);
        let is_trial = matches!(&self.breaker, Breaker::Open { trial: Some(trial), .. } if *trial == mailbox);
        match failure {
            Failure::Unreachable(text) => {
                // Many attempts fail in the same instant: that is one failure of the server.
                if begun.is_none_or(|begun| begun >= self.server.set_at) {
                    self.server.fail(now, LOST_WAIT, LOST_WAIT_MAX, &mut self.rng);
                }
                self.unreachable = Some(text);
            }
            Failure::Refused(Refusal::Source, text) => self.trip(mailbox, text, is_trial, now),
            Failure::Refused(Refusal::Mailbox, _) => {
                self.back_off(mailbox, REFUSED_WAIT.0, REFUSED_WAIT.1, now);
            }
            Failure::Refused(Refusal::Busy, _) => self.back_off(mailbox, LOST_WAIT * 5, LOST_WAIT_MAX, now),
            Failure::Lost(lived) => {
                if lived >= SURVIVED {
                    self.back_offs.remove(&mailbox);
                    self.server = BackOff::default();
                }
                self.back_off(mailbox, LOST_WAIT, LOST_WAIT_MAX, now);
            }
        }
        if is_trial && let Breaker::Open { trial, .. } = &mut self.breaker {
            *trial = None;
        }
    }

    /// What keeps every log-in of this source from working, for people; `None` when all is well.
    pub fn failure(&self) -> Option<String> {
        match &self.breaker {
            Breaker::Open { text, .. } => Some(format!(
                "log-ins are stopped, since the server refused the configured credential: {text}"
            )),
            Breaker::Closed => self.unreachable.clone(),
        }
    }

    /// How many want to log in and wait for it.
    pub fn waiting(&self) -> usize {
        self.places.len()
    }

    /// How many failures in a row the mailbox has had.
    pub fn failures(&self, mailbox: MailboxId) -> u32 {
        self.back_offs.get(&mailbox).map_or(0, |back_off| back_off.failures)
    }

    fn back_off(&mut self, mailbox: MailboxId, first: Duration, most: Duration, now: Moment) {
        self.back_offs.entry(mailbox).or_default().fail(now, first, most, &mut self.rng);
    }

    /// The shared credential was refused. The mailbox itself may be the reason (one that is no more), so another one
    /// tries next, soon where the credential worked before; when that one is refused too the pauses grow.
    fn trip(&mut self, mailbox: MailboxId, text: String, is_trial: bool, now: Moment) {
        self.back_off(mailbox, REFUSED_WAIT.0, REFUSED_WAIT.1, now);
        let wait = match &self.breaker {
            Breaker::Open { culprit, wait, .. } if is_trial && *culprit == mailbox => *wait,
            Breaker::Open { wait, .. } if is_trial => {
                wait.saturating_mul(2).max(BREAKER_WAIT.1).min(BREAKER_WAIT.2)
            }
            // Was on its way when the first one was refused.
            Breaker::Open { .. } => return,
            Breaker::Closed if self.proven.is_some() => BREAKER_WAIT.0,
            Breaker::Closed => BREAKER_WAIT.1,
        };
        self.breaker = Breaker::Open { culprit: mailbox, until: now.after(wait), wait, text, trial: None };
    }

    /// Whether as many log-ins are under way as may be. Before the shared credential has worked once it is one, so that
    /// a wrong one is tried once and not by many mailboxes in the same moment.
    fn is_full(&self) -> bool {
        let most = if self.is_shared && self.proven.is_none() { 1 } else { LOGINS_IN_FLIGHT_MAX };
        self.in_flight.len() >= most
    }

    fn is_on_trial(&self) -> bool {
        matches!(self.breaker, Breaker::Open { trial: Some(_), .. })
    }

    /// Before when nobody may go, whoever it is.
    fn gate(&self) -> Moment {
        let credential = match &self.breaker {
            Breaker::Open { until, .. } => *until,
            Breaker::Closed => Moment::START,
        };
        let held = self.spacing.saturating_mul(BURST - 1);
        let bucket = Moment::from_micros(self.full_at.micros().saturating_sub(held.as_micros() as u64));
        credential.max(self.server.until).max(bucket)
    }

    /// The first in the queue; for a trial the mailbox that worked last, else any but the culprit.
    fn choose(&self) -> Option<MailboxId> {
        let queued = || self.queue.iter().map(|(_, _, mailbox)| *mailbox);
        match &self.breaker {
            Breaker::Closed => queued().next(),
            Breaker::Open { trial: Some(_), .. } => None,
            Breaker::Open { culprit, .. } => {
                let proven =
                    self.proven.filter(|proven| matches!(self.places.get(proven), Some(Place::Queued(..))));
                proven.or_else(|| queued().find(|mailbox| mailbox != culprit)).or_else(|| queued().next())
            }
        }
    }

    fn enqueue(&mut self, mailbox: MailboxId, weight: u32) {
        self.arrivals += 1;
        self.queue.insert((Reverse(weight), self.arrivals, mailbox));
        self.places.insert(mailbox, Place::Queued(weight, self.arrivals));
    }

    /// Those whose wait is over join the queue.
    fn wake(&mut self, now: Moment) {
        while let Some((at, mailbox)) = self.delayed.first().copied().filter(|(at, _)| *at <= now) {
            self.delayed.remove(&(at, mailbox));
            if let Some(Place::Delayed(_, weight)) = self.places.get(&mailbox).copied() {
                self.enqueue(mailbox, weight);
            }
        }
    }

    fn leave(&mut self, mailbox: MailboxId) {
        match self.places.remove(&mailbox) {
            Some(Place::Queued(weight, arrival)) => {
                self.queue.remove(&(Reverse(weight), arrival, mailbox));
            }
            Some(Place::Delayed(until, _)) => {
                self.delayed.remove(&(until, mailbox));
            }
            None => {}
        }
        if self.places.is_empty() {
            // After thousands came at once: their room is not kept.
            self.places = HashMap::new();
        }
    }
}

#[cfg(test)]
mod tests;
