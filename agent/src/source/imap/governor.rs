//! Which log-in may begin now: at most so many per second at one server, one at a time while log-ins are refused (`breaker`),
//! a bounded number of refused ones a day (`budget`), and none too early after a failure or a flood (`floods`). Pure: it is asked, and receives
//! how each went (sources.md §4.1). What is done with a connection that was let through is not decided here.

mod breaker;
mod budget;
mod floods;

pub use budget::REFUSED_PER_DAY_MAX;

use super::exchange::Refusal;
use crate::event::MailboxId;
use crate::time::Moment;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use breaker::{Breaker, Doubt, Refused, late_half, room_wait};
use budget::{Budget, Flight};
use floods::Floods;

/// A connection that lived this long after its log-in has survived: its failures before are forgotten. Longer than a server
/// that went silent after the log-in takes to be noticed.
pub const SURVIVED: Duration = Duration::from_mins(2);
/// Log-ins begun and not yet decided, most at a time.
pub const LOGINS_IN_FLIGHT_MAX: usize = 200;
/// Longest wait after a connection was lost, or the server could not be reached.
const LOST_WAIT_MAX: Duration = Duration::from_mins(2);
/// First longest wait after a server refused one mailbox, and the last: a dead mailbox costs a dozen refused log-ins on its
/// first day and one or two on each further day.
const REFUSED_WAIT: (Duration, Duration) = (Duration::from_secs(30), Duration::from_hours(24));
/// First longest wait after a connection was lost.
const LOST_WAIT: Duration = Duration::from_secs(1);
/// First longest wait after a connection was flooded, and the last.
const FLOOD_WAIT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(30));
/// Log-ins that may begin at once after a quiet time.
const BURST: u32 = 5;
/// Log-ins begin one at a time again where none has worked for so long.
const PROOF_LASTS: Duration = Duration::from_mins(1);

/// How a log-in or a connection went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server could not be reached: concerns every mailbox.
    Unreachable(String),
    /// The log-in was refused.
    Refused(Refusal, String),
    /// The connection ended before or during the log-in without a word of refusal: a full server does that
    /// (sources.md §4.1).
    TurnedAway(String),
    /// The connection ended after its log-in; lived so long.
    Lost(Duration),
    /// The connection was ended since the server flooded it.
    Flooded(String),
}

/// How often something failed in a row, and until when to leave it alone.
#[derive(Clone, Copy, Debug, Default)]
struct BackOff {
    failures: u32,
    until: Moment,
    set_at: Moment,
    /// The last log-in was refused, when so many log-ins of all mailboxes had worked.
    refused_at: Option<u64>,
}

impl BackOff {
    /// Exponential with full jitter: anywhere from nothing to the doubled span.
    fn fail(&mut self, now: Moment, first: Duration, most: Duration, rng: &mut fastrand::Rng) {
        let span = self.span(first, most);
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.wait(now, Duration::from_micros(rng.u64(0..=micros)));
    }

    fn span(&self, first: Duration, most: Duration) -> Duration {
        first.saturating_mul(1 << self.failures.min(20)).min(most)
    }

    fn wait(&mut self, now: Moment, wait: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.until = now.after(wait);
        self.set_at = now;
    }
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
    waiting: HashMap<MailboxId, Waiting>,
    in_flight: HashMap<MailboxId, Flight>,
    /// Log-ins under way, most at this time: one after a refusal, more with each that works.
    window: usize,
    back_offs: HashMap<MailboxId, BackOff>,
    server: BackOff,
    unreachable: Option<String>,
    breaker: Breaker,
    floods: Floods,
    budget: Budget,
    /// The mailbox whose log-in worked last, and when.
    proven: Option<(MailboxId, Moment)>,
    /// Log-ins that worked.
    worked: u64,
    arrivals: u64,
}

#[derive(Clone, Copy, Debug)]
enum Waiting {
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
            waiting: HashMap::new(),
            in_flight: HashMap::new(),
            window: 1,
            back_offs: HashMap::new(),
            server: BackOff::default(),
            unreachable: None,
            breaker: Breaker::default(),
            floods: Floods::default(),
            budget: Budget::default(),
            proven: None,
            worked: 0,
            arrivals: 0,
        }
    }

    /// The mailbox wants to log in. Asking again may raise its weight.
    pub fn request(&mut self, mailbox: MailboxId, weight: u32, now: Moment) {
        let is_waiting =
            matches!(self.waiting.get(&mailbox), Some(Waiting::Queued(held, _)) if *held >= weight);
        if is_waiting || self.in_flight.contains_key(&mailbox) {
            return;
        }
        self.leave(mailbox);
        let until = self.free_at(mailbox);
        if until > now {
            self.delay(mailbox, until, weight);
        } else {
            self.enqueue(mailbox, weight);
        }
    }

    /// The mailbox is wanted no more: nothing of it stays.
    pub fn forget(&mut self, mailbox: MailboxId) {
        self.leave(mailbox);
        self.in_flight.remove(&mailbox);
        self.back_offs.remove(&mailbox);
        self.breaker.end(mailbox);
        self.floods.forget(mailbox);
    }

    /// The next mailbox that may log in now.
    pub fn grant(&mut self, now: Moment) -> Option<MailboxId> {
        self.wake(now);
        self.floods.wake(now);
        if self.gate() > now || self.is_full() {
            return None;
        }
        let chosen = self.choose_within_budget(now)?;
        self.breaker.begin(chosen);
        let is_charged = self.is_refused(chosen);
        if is_charged {
            self.budget.charge(now);
        }
        if self.in_flight.is_empty() && self.proven.is_none_or(|(_, at)| now.since(at) > PROOF_LASTS) {
            self.window = 1;
        }
        self.leave(chosen);
        self.in_flight.insert(chosen, Flight { begun: now, is_charged });
        self.full_at = self.full_at.max(now).after(self.spacing);
        Some(chosen)
    }

    /// When [`Governor::grant`] may have one.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let delayed = self.delayed.first().map(|(at, _)| *at);
        let is_stuck = self.queue.is_empty() || self.is_full() || self.breaker.is_on_trial();
        let queued = (!is_stuck).then(|| self.gate());
        delayed.into_iter().chain(queued).chain(self.floods.over_at()).min()
    }

    /// The log-in worked. Its failures before are not forgotten: it must survive first.
    pub fn logged_in(&mut self, mailbox: MailboxId, now: Moment) {
        self.land(mailbox);
        self.unreachable = None;
        self.worked += 1;
        self.window = (self.window + BURST as usize).min(LOGINS_IN_FLIGHT_MAX);
        self.proven = Some((mailbox, now));
        self.breaker.close();
        self.floods.logged_in(mailbox, now);
    }

    /// The connection did what it was made for and ended: a visit.
    pub fn done(&mut self, mailbox: MailboxId) {
        self.land(mailbox);
        self.back_offs.remove(&mailbox);
    }

    /// The log-in or the connection failed; the mailbox may ask again at once and will be let wait.
    pub fn failed(&mut self, mailbox: MailboxId, failure: Failure, now: Moment) {
        match failure {
            Failure::Refused(refusal @ (Refusal::Source | Refusal::Mailbox), text) => {
                self.refused(mailbox, refusal, text, now);
            }
            Failure::Refused(Refusal::Busy, text) | Failure::TurnedAway(text) => {
                self.turned_away(mailbox, Doubt::ServerCapacity, text, now);
            }
            Failure::Refused(Refusal::Unfit, text) => self.turned_away(mailbox, Doubt::SetUp, text, now),
            Failure::Unreachable(text) => self.unreachable(mailbox, text, now),
            Failure::Lost(lived) => {
                self.land(mailbox);
                if lived >= SURVIVED {
                    self.back_offs.remove(&mailbox);
                    self.server = BackOff::default();
                }
                let back_off = self.back_offs.entry(mailbox).or_default();
                back_off.refused_at = None;
                back_off.fail(now, LOST_WAIT, LOST_WAIT_MAX, &mut self.rng);
            }
            Failure::Flooded(text) => self.flooded(mailbox, text, now),
        }
        self.breaker.end(mailbox);
    }

    /// What keeps every log-in of this source from working, for people; `None` when all is well. `is_anyone_in`: some
    /// mailbox has a connection.
    pub fn failure(&self, is_anyone_in: bool) -> Option<String> {
        let refused = || self.breaker.failure(is_anyone_in);
        self.floods.failure(is_anyone_in).or_else(refused).or_else(|| self.unreachable.clone())
    }

    /// The mailbox whose connection was flooded last: that it is logged in again says nothing.
    pub fn flooded_last(&self) -> Option<MailboxId> {
        self.floods.culprit()
    }

    /// How many want to log in and wait for it.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many failures in a row the mailbox has had.
    pub fn failures(&self, mailbox: MailboxId) -> u32 {
        self.back_offs.get(&mailbox).map_or(0, |back_off| back_off.failures)
    }

    /// The server refused the log-in: a reason to doubt the shared credential, unless this mailbox was refused before and
    /// others have logged in since.
    fn refused(&mut self, mailbox: MailboxId, refusal: Refusal, text: String, now: Moment) {
        let is_charged = self.in_flight.remove(&mailbox).is_some_and(|flight| flight.is_charged);
        if !is_charged {
            self.budget.charge(now);
        }
        let back_off = self.back_offs.entry(mailbox).or_default();
        let wait = late_half(back_off.span(REFUSED_WAIT.0, REFUSED_WAIT.1), &mut self.rng);
        back_off.wait(now, wait);
        let first_refused_at = back_off.refused_at;
        back_off.refused_at = first_refused_at.or(Some(self.worked));
        let is_its_own = first_refused_at.is_some_and(|worked| worked < self.worked);
        if is_its_own || (refusal == Refusal::Mailbox && !self.is_shared) {
            return;
        }
        let doubt = if refusal == Refusal::Source { Doubt::Credential } else { Doubt::Mailbox };
        self.doubt(mailbox, doubt, text, first_refused_at.is_none(), now);
    }

    /// The server has no room for this mailbox, perhaps for any, or does not offer what a log-in needs. No credential was
    /// refused, so that nobody's budget is charged.
    fn turned_away(&mut self, mailbox: MailboxId, doubt: Doubt, text: String, now: Moment) {
        self.land(mailbox);
        let back_off = self.back_offs.entry(mailbox).or_default();
        let is_new = back_off.failures == 0;
        let wait = room_wait(back_off.failures, &mut self.rng);
        back_off.wait(now, wait);
        back_off.refused_at = None;
        self.doubt(mailbox, doubt, text, is_new, now);
    }

    /// A log-in that works before the next flood changes nothing: the mailbox waits longer from time to time, and everybody
    /// where the server does so to several.
    fn flooded(&mut self, mailbox: MailboxId, text: String, now: Moment) {
        self.land(mailbox);
        let back_off = self.back_offs.entry(mailbox).or_default();
        let wait = late_half(back_off.span(FLOOD_WAIT.0, FLOOD_WAIT.1), &mut self.rng);
        back_off.wait(now, wait);
        back_off.refused_at = None;
        self.window = 1;
        self.floods.flooded(mailbox, text, now, &mut self.rng);
    }

    fn doubt(&mut self, mailbox: MailboxId, doubt: Doubt, text: String, is_new: bool, now: Moment) {
        self.window = 1;
        let is_proven = self.proven.is_some();
        self.breaker.trip(Refused { mailbox, doubt, text, is_new, is_proven }, now, &mut self.rng);
    }

    fn unreachable(&mut self, mailbox: MailboxId, text: String, now: Moment) {
        // Many attempts fail in the same instant: that is one failure of the server.
        let begun = self.land(mailbox);
        if begun.is_none_or(|begun| begun >= self.server.set_at) {
            self.server.fail(now, LOST_WAIT, LOST_WAIT_MAX, &mut self.rng);
        }
        self.window = 1;
        self.unreachable = Some(text);
    }

    /// The log-in is over and was not refused; gives when it began.
    fn land(&mut self, mailbox: MailboxId) -> Option<Moment> {
        let flight = self.in_flight.remove(&mailbox)?;
        if flight.is_charged {
            self.budget.refund();
        }
        Some(flight.begun)
    }

    /// Whether as many log-ins are under way as may be: one until one has worked, so that a wrong credential is tried
    /// once and not by many mailboxes in the same moment.
    fn is_full(&self) -> bool {
        self.in_flight.len() >= self.window
    }

    /// Before when nobody may go, whoever it is.
    fn gate(&self) -> Moment {
        let held = self.spacing.saturating_mul(BURST - 1);
        let bucket = Moment::from_micros(self.full_at.micros().saturating_sub(held.as_micros() as u64));
        self.breaker.until().max(self.floods.until()).max(self.server.until).max(bucket)
    }

    /// Whether the mailbox's last log-in was refused.
    fn is_refused(&self, mailbox: MailboxId) -> bool {
        self.back_offs.get(&mailbox).is_some_and(|back_off| back_off.refused_at.is_some())
    }

    /// Before when this mailbox may not go.
    fn free_at(&self, mailbox: MailboxId) -> Moment {
        let until = self.back_offs.get(&mailbox).map_or(Moment::START, |back_off| back_off.until);
        if self.is_refused(mailbox) { until.max(self.budget.free_at()) } else { until }
    }

    /// The next one; refused ones for which the budget has no room wait on.
    fn choose_within_budget(&mut self, now: Moment) -> Option<MailboxId> {
        loop {
            let chosen = self.choose()?;
            let until = self.free_at(chosen);
            if until <= now {
                return Some(chosen);
            }
            let weight = match self.waiting.get(&chosen) {
                Some(Waiting::Queued(weight, _) | Waiting::Delayed(_, weight)) => *weight,
                None => 0,
            };
            self.leave(chosen);
            self.delay(chosen, until, weight);
        }
    }

    /// The first in the queue; for a trial the mailbox that worked last, else one that was not refused, else any but the
    /// culprit.
    fn choose(&self) -> Option<MailboxId> {
        let queued = || self.queue.iter().map(|(_, _, mailbox)| *mailbox);
        let Some(culprit) = self.breaker.culprit() else { return queued().next() };
        if self.breaker.is_on_trial() {
            return None;
        }
        let is_queued = |mailbox| matches!(self.waiting.get(&mailbox), Some(Waiting::Queued(..)));
        let proven = self.proven.map(|(mailbox, _)| mailbox);
        let proven = proven.filter(|proven| is_queued(*proven) && !self.is_refused(*proven));
        proven
            .or_else(|| queued().find(|mailbox| *mailbox != culprit && !self.is_refused(*mailbox)))
            .or_else(|| queued().find(|mailbox| *mailbox != culprit))
            .or_else(|| queued().next())
    }

    fn delay(&mut self, mailbox: MailboxId, until: Moment, weight: u32) {
        self.delayed.insert((until, mailbox));
        self.waiting.insert(mailbox, Waiting::Delayed(until, weight));
    }

    fn enqueue(&mut self, mailbox: MailboxId, weight: u32) {
        self.arrivals += 1;
        self.queue.insert((Reverse(weight), self.arrivals, mailbox));
        self.waiting.insert(mailbox, Waiting::Queued(weight, self.arrivals));
    }

    /// Those whose wait is over join the queue.
    fn wake(&mut self, now: Moment) {
        while let Some((at, mailbox)) = self.delayed.first().copied().filter(|(at, _)| *at <= now) {
            self.delayed.remove(&(at, mailbox));
            if let Some(Waiting::Delayed(_, weight)) = self.waiting.get(&mailbox).copied() {
                self.enqueue(mailbox, weight);
            }
        }
    }

    fn leave(&mut self, mailbox: MailboxId) {
        match self.waiting.remove(&mailbox) {
            Some(Waiting::Queued(weight, arrival)) => {
                self.queue.remove(&(Reverse(weight), arrival, mailbox));
            }
            Some(Waiting::Delayed(until, _)) => {
                self.delayed.remove(&(until, mailbox));
            }
            None => {}
        }
        if self.waiting.is_empty() {
            // After thousands came at once: their room is not kept.
            self.waiting = HashMap::new();
        }
    }
}

#[cfg(test)]
mod tests;
