//! Batches under way and what their answers change: attempts, back-off, halts, halves (protocol.md §1.6).
//!
//! Pure. It decides whether and what may leave; what is in a batch the tracker knows, with which token the keeper.
//! A batch that failed is not kept: its mailboxes become ready again and leave later with their newest counts. Only
//! after a 401, and while a bad notification is looked for, a *group* of mailboxes stays together.

use super::answer::Disposition;
use crate::event::{MailboxId, Notification, Rejected};
use crate::time::{Moment, Now, UnixMs};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::Duration;
use uuid::Uuid;

/// Shortest and longest wait of the exponential back-off.
pub const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// How long a halted relay is left alone before one batch tries again.
pub const HALT: Duration = Duration::from_mins(1);
/// Batches accepted in a row after which a limit that a 413 halved is doubled again.
const ACCEPTED_TO_GROW: u32 = 100;

/// What the outbox keeps to.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Batches in flight, at most.
    pub concurrency: usize,
    /// Mailboxes per batch, at most.
    pub batch_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { concurrency: 4, batch_max: 256 }
    }
}

/// One POST of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u64);

/// Mailboxes in flight that leave together once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Whose newest counts are sent.
    pub mailboxes: Vec<MailboxId>,
    /// The `client-request-id` to keep: this is the repeat after a 401.
    pub repeats: Option<Uuid>,
}

/// What may leave now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextBatch {
    /// Nothing.
    Nothing,
    /// This group, before anything else.
    Again(Group),
    /// A batch of ready mailboxes.
    Fresh {
        /// Mailboxes in it, at most.
        max: usize,
    },
}

/// A batch that left: how to name it to the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departed {
    /// To hand back with the answer.
    pub attempt: Attempt,
    /// `client-request-id`.
    pub request_id: Uuid,
}

/// What is to be told to the tracker and the token keeper after an answer.
#[derive(Debug, Default, PartialEq)]
pub struct Settlement {
    /// Taken by the relay, but for `rejected`.
    pub acknowledged: Vec<Notification>,
    /// Recipients in `acknowledged` that it did not take.
    pub rejected: Vec<Rejected>,
    /// To be sent again as ready mailboxes.
    pub refused: Vec<Notification>,
    /// Found bad: not to be sent again as they are.
    pub bad: Vec<Notification>,
    /// The token of this serial was rejected, with these challenge lines.
    pub unauthorized: Option<(u64, Vec<String>)>,
}

/// How the newest settled batch went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastBatch {
    /// When it was settled.
    pub at: UnixMs,
    /// Notifications in it.
    pub notifications: usize,
    /// What came of it, for people.
    pub outcome: String,
    /// From departure to answer.
    pub took: Duration,
}

#[derive(Debug)]
struct Flight {
    request_id: Uuid,
    notifications: Vec<Notification>,
    token_serial: u64,
    is_repeat: bool,
    departed_at: Moment,
}

#[derive(Clone, Debug)]
struct Pause {
    since: Moment,
    until: Moment,
    is_halt: bool,
    cause: String,
}

/// How a wait is put behind its reason: `; nothing is sent until 2026-11-28T14:05:00Z`.
pub struct Until(pub Option<UnixMs>);

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |until| write!(f, "; nothing is sent until {until}"))
    }
}

/// The batches under way.
#[derive(Debug)]
pub struct Outbox {
    settings: Settings,
    rng: fastrand::Rng,
    flights: HashMap<Attempt, Flight>,
    again: VecDeque<Group>,
    attempts: u64,
    /// Kept until a batch is accepted, so that after it only one batch at a time tries.
    pause: Option<Pause>,
    failures: u32,
    limit: usize,
    accepted_in_a_row: u32,
    last: Option<LastBatch>,
}

impl Outbox {
    /// Nothing under way.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            rng: fastrand::Rng::with_seed(seed),
            flights: HashMap::new(),
            again: VecDeque::new(),
            attempts: 0,
            pause: None,
            failures: 0,
            limit: settings.batch_max,
            accepted_in_a_row: 0,
            last: None,
        }
    }

    /// Changes the limits; what is under way is left alone.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
        self.limit = settings.batch_max;
    }

    /// Whether something may leave, and what.
    pub fn next_batch(&mut self, now: Moment) -> NextBatch {
        if self.opens_at(now).is_none_or(|at| at > now) {
            return NextBatch::Nothing;
        }
        match self.again.pop_front() {
            Some(group) => NextBatch::Again(group),
            None => NextBatch::Fresh { max: self.limit },
        }
    }

    /// A batch leaves with the token of this serial.
    pub fn depart(
        &mut self,
        notifications: Vec<Notification>,
        repeats: Option<Uuid>,
        token_serial: u64,
        now: Moment,
    ) -> Departed {
        self.attempts += 1;
        let attempt = Attempt(self.attempts);
        let fresh_id = uuid::Builder::from_random_bytes(self.rng.u128(..).to_be_bytes()).into_uuid();
        let request_id = repeats.unwrap_or(fresh_id);
        let is_repeat = repeats.is_some();
        let flight = Flight { request_id, notifications, token_serial, is_repeat, departed_at: now };
        self.flights.insert(attempt, flight);
        Departed { attempt, request_id }
    }

    /// What is in the batch of this attempt, while it is in flight.
    pub fn in_flight(&self, attempt: Attempt) -> Option<&[Notification]> {
        self.flights.get(&attempt).map(|flight| flight.notifications.as_slice())
    }

    /// The answer to an attempt. `token_serial` is the serial of the newest token; an attempt that is not in flight
    /// changes nothing.
    pub fn settle(
        &mut self,
        attempt: Attempt,
        answer: Disposition,
        token_serial: u64,
        now: Now,
    ) -> Settlement {
        let Some(flight) = self.flights.remove(&attempt) else { return Settlement::default() };
        self.last = Some(LastBatch {
            at: now.unix,
            notifications: flight.notifications.len(),
            outcome: outcome(&answer),
            took: now.moment.since(flight.departed_at),
        });
        match answer {
            Disposition::Acknowledged { rejected } => self.accepted(flight, rejected, now.moment),
            Disposition::Unauthorized { www_authenticate, cause } => {
                self.unauthorized(flight, www_authenticate, cause, token_serial, now.moment)
            }
            Disposition::Wait { exactly, cause } => {
                self.pause(&flight, exactly, false, cause, now.moment);
                Settlement { refused: flight.notifications, ..Settlement::default() }
            }
            Disposition::Retry { cause } => {
                let wait = self.back_off(&flight);
                self.pause(&flight, wait, false, cause, now.moment);
                Settlement { refused: flight.notifications, ..Settlement::default() }
            }
            Disposition::Halt { cause } => {
                self.pause(&flight, HALT, true, cause, now.moment);
                Settlement { refused: flight.notifications, ..Settlement::default() }
            }
            Disposition::TooLarge { cause } => self.too_large(flight, cause, now.moment),
            Disposition::Invalid { .. } => self.invalid(flight),
        }
    }

    /// A batch that left before trouble was known does not end a pause that the relay asked for meanwhile.
    fn accepted(&mut self, flight: Flight, rejected: Vec<Rejected>, now: Moment) -> Settlement {
        if self.pause.as_ref().is_none_or(|pause| pause.until <= now) {
            (self.pause, self.failures) = (None, 0);
        }
        self.accepted_in_a_row += 1;
        if self.accepted_in_a_row >= ACCEPTED_TO_GROW {
            self.accepted_in_a_row = 0;
            self.limit = (self.limit * 2).min(self.settings.batch_max);
        }
        Settlement { acknowledged: flight.notifications, rejected, ..Settlement::default() }
    }

    /// The first 401 asks for a new token and repeats the batch; a second one, with a token that was asked for after
    /// the first, means that nobody trusts us.
    fn unauthorized(
        &mut self,
        flight: Flight,
        www_authenticate: Vec<String>,
        cause: String,
        token_serial: u64,
        now: Moment,
    ) -> Settlement {
        let is_stale = flight.token_serial != token_serial;
        if flight.is_repeat && !is_stale {
            self.pause(&flight, HALT, true, cause, now);
            let unauthorized = Some((flight.token_serial, www_authenticate));
            return Settlement { refused: flight.notifications, unauthorized, ..Settlement::default() };
        }
        let mailboxes = flight.notifications.iter().map(|notification| notification.mailbox).collect();
        self.again.push_back(Group { mailboxes, repeats: Some(flight.request_id) });
        let unauthorized = (!is_stale).then_some((flight.token_serial, www_authenticate));
        Settlement { unauthorized, ..Settlement::default() }
    }

    /// Halves the limit; a relay that finds even one notification too large is one that a person must look at.
    fn too_large(&mut self, flight: Flight, cause: String, now: Moment) -> Settlement {
        self.accepted_in_a_row = 0;
        if flight.notifications.len() < 2 {
            self.pause(&flight, HALT, true, cause, now);
        }
        self.limit = self.limit.min(flight.notifications.len() / 2).max(1);
        Settlement { refused: flight.notifications, ..Settlement::default() }
    }

    fn invalid(&mut self, flight: Flight) -> Settlement {
        let mailboxes: Vec<MailboxId> = flight.notifications.iter().map(|n| n.mailbox).collect();
        if mailboxes.len() < 2 {
            return Settlement { bad: flight.notifications, ..Settlement::default() };
        }
        let (left, right) = mailboxes.split_at(mailboxes.len() / 2);
        for half in [left, right] {
            self.again.push_back(Group { mailboxes: half.to_vec(), repeats: None });
        }
        Settlement::default()
    }

    /// Exponential with full jitter, between [`BACK_OFF`]'s ends. Batches that failed together count once.
    fn back_off(&mut self, flight: &Flight) -> Duration {
        if !self.knew_better(flight) {
            self.failures = self.failures.saturating_add(1);
        }
        let (shortest, longest) = BACK_OFF;
        let ceiling = shortest.saturating_mul(1 << self.failures.min(16)).min(longest);
        let span = ceiling.saturating_sub(shortest).as_micros() as u64;
        shortest + Duration::from_micros(self.rng.u64(0..=span))
    }

    /// Whether the flight left before the trouble it met was known.
    fn knew_better(&self, flight: &Flight) -> bool {
        self.pause.as_ref().is_some_and(|pause| flight.departed_at <= pause.since)
    }

    /// A longer pause that is running stays.
    fn pause(&mut self, flight: &Flight, wait: Duration, is_halt: bool, cause: String, now: Moment) {
        let until = now.after(wait);
        let running = self.pause.as_ref().filter(|pause| pause.until > now);
        if running.is_some_and(|pause| pause.until >= until && self.knew_better(flight)) {
            return;
        }
        let until = running.map_or(until, |pause| pause.until.max(until));
        self.pause = Some(Pause { since: now, until, is_halt, cause });
    }

    /// When something may leave, `now` at the soonest; `None` while an answer must come first.
    pub fn opens_at(&self, now: Moment) -> Option<Moment> {
        let slots = if self.pause.is_some() { 1 } else { self.settings.concurrency };
        let until = self.pause.as_ref().map_or(now, |pause| pause.until.max(now));
        (self.flights.len() < slots).then_some(until)
    }

    /// Whether a group waits that leaves before anything else.
    pub fn has_group(&self) -> bool {
        !self.again.is_empty()
    }

    /// Mailboxes in the next batch, at most.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Batches in flight.
    pub fn flying(&self) -> usize {
        self.flights.len()
    }

    /// Whether nothing is under way and no group waits.
    pub fn is_empty(&self) -> bool {
        self.flights.is_empty() && self.again.is_empty()
    }

    /// Why nothing, or only one batch at a time, leaves; `None` when all is well.
    pub fn trouble(&self) -> Option<&str> {
        self.pause.as_ref().map(|pause| pause.cause.as_str())
    }

    /// Until when nothing is sent because of that; `None` where the next batch may try.
    pub fn waits_until(&self, now: Moment) -> Option<Moment> {
        self.pause.as_ref().map(|pause| pause.until).filter(|until| *until > now)
    }

    /// Whether a person must look at it (protocol.md §1.6).
    pub fn is_halted(&self) -> bool {
        self.pause.as_ref().is_some_and(|pause| pause.is_halt)
    }

    /// How the newest settled batch went.
    pub fn last(&self) -> Option<&LastBatch> {
        self.last.as_ref()
    }

    /// Forgets pauses and back-off: another relay, or an administrator who mended it.
    pub fn forgive(&mut self) {
        (self.pause, self.failures, self.limit) = (None, 0, self.settings.batch_max);
    }
}

/// One line for people.
fn outcome(answer: &Disposition) -> String {
    match answer {
        Disposition::Acknowledged { rejected } if rejected.is_empty() => "accepted".to_owned(),
        Disposition::Acknowledged { rejected } => format!("accepted, {} recipients rejected", rejected.len()),
        Disposition::Unauthorized { cause, .. }
        | Disposition::Wait { cause, .. }
        | Disposition::Retry { cause }
        | Disposition::TooLarge { cause }
        | Disposition::Invalid { cause }
        | Disposition::Halt { cause } => cause.clone(),
    }
}

#[cfg(test)]
mod tests;
