//! Who is asked when: the pure half of the source. A round reads every mailbox: all users by one question, then by name
//! those whose row was missing. A round of names alone is taken where doveadm cannot answer for all (one broken mailbox is
//! enough), or where few of its users are watched. Between rounds, single mailboxes are asked by name as others wish.
//!
//! It sends nothing; the driver does what it says and tells what came of it.

mod entry;

use crate::event::MailboxId;
use crate::source::sweep::Sweep;
use crate::time::Moment;
use entry::{Entry, Queue, Stage};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Mailboxes in one question by name, at most.
pub const QUESTIONS_MAX: usize = 100;
/// Between the answer to a question by name and the next one, shortest: what comes meanwhile shares it.
pub const QUESTION_REST: Duration = Duration::from_millis(100);
/// How long all users are not asked for after that failed: only names are.
pub const EVERYONE_AGAIN: Duration = Duration::from_hours(6);
/// See [`Rounds::expected`].
const EXPECTED_MIN: usize = 1 << 17;
/// What a user costs when asked by name, measured in users of an answer about all (sources.md §2.1).
const NAME_COST: usize = 6;
/// Wait after doveadm could not be reached: first and longest.
const LOST_WAIT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(2));
/// Wait after it refused the credential.
const REFUSED_WAIT: Duration = Duration::from_mins(5);
/// A round is one entry of the sweep's table.
const ROUND: MailboxId = MailboxId(0);

/// Which kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuestionKind {
    /// About all users.
    Everyone,
    /// About some, by name.
    ByName,
}

/// Why a question was not answered. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The credential is refused.
    Refused(String),
    /// No answer, or none of doveadm's.
    Unreachable(String),
    /// It answered, but not this question: it failed as a whole, or was not done in time.
    Unanswered(String),
    /// Its answer had no end.
    Flooded(String),
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The mailbox is to be read, under the name its server knows.
    Watch(MailboxId, Arc<str>),
    /// It is not any more.
    Unwatch(MailboxId),
    /// Someone wants a fresh reading of it.
    Ask(MailboxId),
    /// An answer held its counts.
    Read(MailboxId),
    /// Its counts are news that nobody else had told of.
    Corrected,
    /// An answer says that this mailbox cannot be read, and why.
    Missed(MailboxId, String),
    /// A question has had no answer for long, and this says so to people.
    Silent(QuestionKind, String),
    /// The question of this kind is over; where all is well, with how many rows.
    Ended(QuestionKind, Result<usize, Trouble>),
    /// The moment of [`Rounds::poll_timeout`] has come.
    Timeout,
}

/// What is to be done; each is answered by [`Input::Ended`] of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Ask for all users.
    AskEveryone,
    /// Ask for these.
    AskThese(Vec<(MailboxId, Arc<str>)>),
}

/// How many mailboxes are read, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// All of them.
    pub mailboxes: usize,
    /// Those that were read, and could be when asked last.
    pub read: usize,
}

/// The mailboxes of one source.
#[derive(Debug)]
pub struct Rounds {
    /// By mailbox id: ids are given out without gaps, and most mailboxes are watched.
    entries: Vec<Option<Entry>>,
    coverage: Coverage,
    asked: VecDeque<MailboxId>,
    swept: VecDeque<MailboxId>,
    /// All users are asked for even where nobody is watched, since rows of strangers make them watched.
    is_searching: bool,
    /// Asked by name and not answered yet; the flag: for the sweep.
    flying: Option<Vec<(MailboxId, bool)>>,
    lane_rests_until: Moment,
    sweep: Sweep,
    /// Number of the present or last round; 0: there was none.
    round: u32,
    stage: Stage,
    began_at: Moment,
    rests_until: Moment,
    /// Users in the last answer about all; 0: unknown.
    users: usize,
    /// Why all users cannot be asked for, and until when that is not tried.
    unanswered: Option<(String, Moment)>,
    failures: u32,
    retry_at: Moment,
    failure: Option<String>,
    missed: Option<(MailboxId, String)>,
    outputs: VecDeque<Output>,
    rng: fastrand::Rng,
}

impl Rounds {
    /// No mailbox yet; each is to be read at least once in `sweep_interval`. `is_searching`: rounds also find new ones.
    pub fn new(sweep_interval: Duration, is_searching: bool, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        Self {
            entries: Vec::new(),
            coverage: Coverage::default(),
            asked: VecDeque::new(),
            swept: VecDeque::new(),
            is_searching,
            flying: None,
            lane_rests_until: Moment::START,
            sweep: Sweep::new(sweep_interval, rng.u64(..)),
            round: 0,
            stage: Stage::Resting,
            began_at: Moment::START,
            rests_until: Moment::START,
            users: 0,
            unanswered: None,
            failures: 0,
            retry_at: Moment::START,
            failure: None,
            missed: None,
            outputs: VecDeque::new(),
            rng,
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Watch(mailbox, name) => self.watch(mailbox, name),
            Input::Unwatch(mailbox) => self.unwatch(mailbox),
            Input::Ask(mailbox) => self.enqueue(mailbox, Queue::Asked),
            Input::Read(mailbox) => self.read(mailbox),
            Input::Corrected => self.sweep.corrected(),
            Input::Missed(mailbox, why) => self.miss(mailbox, why),
            Input::Silent(kind, text) => self.silent(kind, text),
            Input::Ended(QuestionKind::Everyone, result) => self.everyone_ended(result, now),
            Input::Ended(QuestionKind::ByName, result) => self.these_ended(result, now),
            Input::Timeout => {}
        }
        self.wake(now);
    }

    /// The next thing to do; ask until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to say [`Input::Timeout`].
    pub fn poll_timeout(&self) -> Option<Moment> {
        if self.is_idle() || self.is_on_probation() {
            return None;
        }
        let question = self.wants_to_ask().then_some(self.lane_rests_until);
        let next = self.round_due_at().into_iter().chain(question).min()?;
        Some(next.max(self.retry_at))
    }

    /// Whether anybody wants this mailbox; then, whether what an answer of this kind finds changed only the sweep found.
    pub fn is_sweep(&self, kind: QuestionKind, mailbox: MailboxId) -> Option<bool> {
        let entry = self.entry(mailbox)?;
        let is_asked = |(one, is_sweep): &(MailboxId, bool)| *one == mailbox && !is_sweep;
        let is_asked_for = kind == QuestionKind::ByName && self.flying.iter().flatten().any(is_asked);
        Some(entry.read_in > 0 && !is_asked_for)
    }

    /// What keeps the whole source from working, for people.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// What does not keep it from working but should be known: all users cannot be asked for, a mailbox cannot be read.
    pub fn remark(&self) -> Option<String> {
        if let Some((why, _)) = &self.unanswered {
            return Some(format!("asked for all users: {why}; now each mailbox is asked for by name"));
        }
        let (mailbox, why) = self.missed.as_ref()?;
        let name = &self.entry(*mailbox)?.name;
        Some(format!("{name} cannot be read: {why}"))
    }

    /// For how many users an answer about all must have room: more than are known, since others may be there.
    pub fn expected(&self) -> usize {
        self.coverage.mailboxes.max(self.users).saturating_mul(4).max(EXPECTED_MIN)
    }

    /// How many mailboxes are read.
    pub fn coverage(&self) -> Coverage {
        self.coverage
    }

    fn entry(&self, mailbox: MailboxId) -> Option<&Entry> {
        self.entries.get(mailbox.0 as usize)?.as_ref()
    }

    fn entry_mut(&mut self, mailbox: MailboxId) -> Option<&mut Entry> {
        self.entries.get_mut(mailbox.0 as usize)?.as_mut()
    }

    /// Before the first question about all is answered, that one covers every mailbox; later ones are asked at once.
    fn watch(&mut self, mailbox: MailboxId, name: Arc<str>) {
        let index = mailbox.0 as usize;
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, || None);
        }
        let Some(free) = self.entries.get_mut(index).filter(|entry| entry.is_none()) else { return };
        let came_in = self.round;
        *free = Some(Entry { name, queue: Queue::None, came_in, read_in: 0, is_missed: false });
        self.coverage.mailboxes += 1;
        let is_covered = self.round == 0 || (self.round == 1 && self.stage == Stage::Everyone);
        if !is_covered {
            self.enqueue(mailbox, Queue::Asked);
        }
    }

    fn unwatch(&mut self, mailbox: MailboxId) {
        let Some(entry) = self.entries.get_mut(mailbox.0 as usize).and_then(Option::take) else { return };
        self.coverage.mailboxes -= 1;
        self.coverage.read -= usize::from(entry.is_covered());
        if entry.queue != Queue::None {
            self.asked.retain(|waiting| *waiting != mailbox);
            self.swept.retain(|waiting| *waiting != mailbox);
        }
        if self.missed.as_ref().is_some_and(|(missed, _)| *missed == mailbox) {
            self.missed = None;
        }
    }

    fn enqueue(&mut self, mailbox: MailboxId, queue: Queue) {
        let Some(entry) = self.entry_mut(mailbox) else { return };
        if entry.queue == queue || entry.queue == Queue::Asked {
            return;
        }
        entry.queue = queue;
        match queue {
            Queue::Asked => self.asked.push_back(mailbox),
            Queue::Swept => self.swept.push_back(mailbox),
            Queue::None => {}
        }
    }

    fn read(&mut self, mailbox: MailboxId) {
        let round = self.round.max(1);
        let Some(entry) = self.entry_mut(mailbox) else { return };
        let was = entry.is_covered();
        (entry.read_in, entry.is_missed) = (round, false);
        self.coverage.read += usize::from(!was);
        if self.missed.as_ref().is_some_and(|(missed, _)| *missed == mailbox) {
            self.missed = None;
        }
    }

    fn miss(&mut self, mailbox: MailboxId, why: String) {
        let Some(entry) = self.entry_mut(mailbox) else { return };
        let was = entry.is_covered();
        entry.is_missed = true;
        self.coverage.read -= usize::from(was);
        self.missed.get_or_insert((mailbox, why));
    }

    fn everyone_ended(&mut self, result: Result<usize, Trouble>, now: Moment) {
        match result {
            Ok(users) => {
                self.users = users;
                self.unanswered = None;
                self.is_well();
                self.ask_for_the_rest(now);
            }
            Err(Trouble::Unanswered(why)) => {
                self.unanswered = Some((why, now.after(EVERYONE_AGAIN)));
                self.failures = 0;
                if self.coverage.read > 0 {
                    self.failure = None;
                }
                self.ask_for_the_rest(now);
            }
            Err(Trouble::Flooded(why)) => {
                self.unanswered = Some((why.clone(), now.after(EVERYONE_AGAIN)));
                self.fail(Trouble::Flooded(why), now);
                self.ask_for_the_rest(now);
            }
            Err(trouble) => {
                self.stage = Stage::Resting;
                self.fail(trouble, now);
                // The round did not take place: it is due as soon as that may be tried.
                self.round -= 1;
            }
        }
    }

    fn these_ended(&mut self, result: Result<usize, Trouble>, now: Moment) {
        let asked = self.flying.take().unwrap_or_default();
        self.lane_rests_until = now.after(QUESTION_REST);
        match result {
            Ok(_) => self.is_well(),
            Err(trouble) => {
                for (mailbox, is_sweep) in asked {
                    self.enqueue(mailbox, if is_sweep { Queue::Swept } else { Queue::Asked });
                }
                // Then all users may have gone unanswered for the same reason; a flood is no reason to ask for more.
                self.unanswered.take_if(|_| !matches!(trouble, Trouble::Flooded(_)));
                self.fail(trouble, now);
            }
        }
        self.end_round_if_done(now);
    }

    /// An answer about all users may take long. Where nothing was ever read that is no reason to say nothing.
    fn silent(&mut self, kind: QuestionKind, text: String) {
        if kind == QuestionKind::ByName || self.coverage.read == 0 {
            self.failure = Some(text);
        }
    }

    fn is_well(&mut self) {
        (self.failures, self.failure) = (0, None);
    }

    /// Nothing is asked for a while, longer from time to time, at different times by those that failed together.
    fn fail(&mut self, trouble: Trouble, now: Moment) {
        let (text, most) = match trouble {
            Trouble::Refused(text) => (text, REFUSED_WAIT),
            Trouble::Unreachable(text) | Trouble::Unanswered(text) | Trouble::Flooded(text) => {
                (text, LOST_WAIT.0.saturating_mul(1 << self.failures.min(16)).min(LOST_WAIT.1))
            }
        };
        self.failures = self.failures.saturating_add(1);
        self.failure = Some(text);
        self.retry_at = now.after(most / 1000 * self.rng.u32(500..=1000));
    }

    /// After a failure one question at a time finds out whether that is over.
    fn is_on_probation(&self) -> bool {
        self.failures > 0 && (self.flying.is_some() || self.stage == Stage::Everyone)
    }

    /// There is nobody to ask for.
    fn is_idle(&self) -> bool {
        self.coverage.mailboxes == 0 && !self.is_searching
    }

    /// So many wait to be asked by name that it is cheaper to ask for all.
    fn is_crowd(&self) -> bool {
        let waiting = self.asked.len();
        waiting > QUESTIONS_MAX && waiting.saturating_mul(NAME_COST) > self.users && self.unanswered.is_none()
    }

    fn wants_to_ask(&self) -> bool {
        self.flying.is_none() && !(self.asked.is_empty() && self.swept.is_empty())
    }

    /// When the next round begins; a round rests as long as it took.
    fn round_due_at(&self) -> Option<Moment> {
        if self.stage != Stage::Resting {
            return None;
        }
        let due = self.sweep.poll_timeout().filter(|_| !self.is_crowd());
        Some(due.unwrap_or(Moment::START).max(self.rests_until))
    }

    /// Begins a round that is due, and asks who is to be asked.
    fn wake(&mut self, now: Moment) {
        if self.is_idle() || now < self.retry_at || self.is_on_probation() {
            return;
        }
        if self.round_due_at().is_some_and(|at| at <= now) {
            self.begin_round(now);
        }
        if self.wants_to_ask() && self.lane_rests_until <= now && !self.is_on_probation() {
            self.ask_by_name();
            self.end_round_if_done(now);
        }
    }

    fn begin_round(&mut self, now: Moment) {
        self.round += 1;
        self.began_at = now;
        let is_barred = self.unanswered.as_ref().is_some_and(|(_, until)| *until > now);
        let is_waste = !self.is_searching && self.coverage.mailboxes.saturating_mul(NAME_COST) < self.users;
        if is_barred || is_waste {
            return self.ask_for_the_rest(now);
        }
        self.stage = Stage::Everyone;
        // It answers what was asked before, too.
        let waiting: Vec<MailboxId> = self.asked.drain(..).chain(self.swept.drain(..)).collect();
        for mailbox in waiting {
            if let Some(entry) = self.entry_mut(mailbox) {
                entry.queue = Queue::None;
            }
        }
        self.outputs.push_back(Output::AskEveryone);
    }

    /// Those that were not read in this round are asked by name; those that came while it was under way are not its
    /// matter.
    fn ask_for_the_rest(&mut self, now: Moment) {
        self.stage = Stage::Remainder;
        let queue = |entry: &Entry| if entry.came_in < self.round { Queue::Swept } else { Queue::Asked };
        let left: Vec<(MailboxId, Queue)> = (0..)
            .zip(&self.entries)
            .filter_map(|(id, entry)| Some((MailboxId(id), entry.as_ref()?)))
            .filter(|(_, entry)| entry.read_in != self.round)
            .map(|(mailbox, entry)| (mailbox, queue(entry)))
            .collect();
        for (mailbox, queue) in left {
            self.enqueue(mailbox, queue);
        }
        self.end_round_if_done(now);
    }

    fn end_round_if_done(&mut self, now: Moment) {
        let is_flying = self.flying.iter().flatten().any(|(_, is_sweep)| *is_sweep);
        if self.stage != Stage::Remainder || is_flying || !self.swept.is_empty() {
            return;
        }
        self.stage = Stage::Resting;
        self.rests_until = now.after(now.since(self.began_at));
        self.sweep.read(ROUND, self.began_at);
    }

    fn ask_by_name(&mut self) {
        let (mut users, mut flying) = (Vec::new(), Vec::new());
        while users.len() < QUESTIONS_MAX {
            let Some((mailbox, queue)) = self.next_waiting() else { break };
            let Some(entry) = self.entry_mut(mailbox).filter(|entry| entry.queue == queue) else { continue };
            entry.queue = Queue::None;
            users.push((mailbox, Arc::clone(&entry.name)));
            flying.push((mailbox, queue == Queue::Swept));
        }
        if !users.is_empty() {
            self.flying = Some(flying);
            self.outputs.push_back(Output::AskThese(users));
        }
    }

    fn next_waiting(&mut self) -> Option<(MailboxId, Queue)> {
        let asked = self.asked.pop_front().map(|mailbox| (mailbox, Queue::Asked));
        asked.or_else(|| Some((self.swept.pop_front()?, Queue::Swept)))
    }
}

#[cfg(test)]
mod tests;
