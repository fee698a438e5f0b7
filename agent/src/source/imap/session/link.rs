//! What every phase of a connection uses: commands with their tag and deadline, the one in flight, timers, outputs, when
//! the next question may go out, the reading that is held back. It belongs to no phase and knows none.

use super::timers::{Timer, Timers};
use crate::event::{News, Reading, UidValidity};
use crate::source::imap::capability::Capabilities;
use crate::source::imap::exchange::{Errand, LOG_IN, Output};
use crate::source::imap::reply::StatusItems;
use crate::source::imap::traits::Traits;
use crate::source::imap::{ANSWER_WAIT, Method, QUESTION_REST, Settings, Watch};
use crate::time::{Moment, Now};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The command in flight, one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Capability,
    StartTls,
    LogIn,
    Id,
    NotifyNone,
    Notify,
    Status,
    Examine,
    Noop,
    Search,
    Idle,
    Logout,
}

impl Command {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Capability => "CAPABILITY",
            Self::StartTls => "STARTTLS",
            Self::LogIn => LOG_IN,
            Self::Id => "ID",
            Self::NotifyNone | Self::Notify => "NOTIFY",
            Self::Status => "STATUS",
            Self::Examine => "EXAMINE",
            Self::Noop => "NOOP",
            Self::Search => "SEARCH",
            Self::Idle => "IDLE",
            Self::Logout => "LOGOUT",
        }
    }
}

/// What the phases of one connection share.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) settings: Arc<Settings>,
    pub(super) traits: Arc<Traits>,
    pub(super) mailbox: Arc<str>,
    pub(super) timers: Timers,
    pub(super) rng: fastrand::Rng,
    /// When the command in flight, or the last one, was sent.
    sent_at: Moment,
    /// The last STATUS line while a command is in flight that may be its answer.
    held: Option<Box<Reading>>,
    /// When the last question was sent: the next one that the server's lines give rise to keeps its distance.
    questioned_at: Option<Moment>,
    /// Thousands of sessions are idle: none keeps a queue.
    #[expect(clippy::box_collection, reason = "an idle session has no queue, and no room for one")]
    outputs: Option<Box<VecDeque<Output>>>,
    pub(super) uid_validity: Option<UidValidity>,
    tag: u32,
    in_flight: Option<Command>,
    pub(super) capabilities: Capabilities,
    pub(super) errand: Errand,
    /// A reading is wanted.
    pub(super) wants_reading: bool,
    /// A better way of watching is to be tried, on a connection of its own.
    pub(super) is_leaving: bool,
    /// An IDLE of this connection began and ended as it should.
    has_idled: bool,
}

impl Link {
    pub(super) fn new(
        settings: Arc<Settings>,
        traits: Arc<Traits>,
        mailbox: Arc<str>,
        errand: Errand,
        seed: u64,
    ) -> Self {
        Self {
            settings,
            traits,
            mailbox,
            timers: Timers::default(),
            rng: fastrand::Rng::with_seed(seed),
            sent_at: Moment::START,
            held: None,
            questioned_at: None,
            outputs: None,
            uid_validity: None,
            tag: 0,
            in_flight: None,
            capabilities: Capabilities::NONE,
            errand,
            wants_reading: false,
            is_leaving: false,
            has_idled: false,
        }
    }

    /// Sends a command under the next tag; its answer is due in [`ANSWER_WAIT`].
    pub(super) fn command(&mut self, now: Now, command: Command, text: &str) {
        self.command_after(now, command, "", text);
    }

    /// The same, behind `before` in the same segment.
    pub(super) fn command_after(&mut self, now: Now, command: Command, before: &str, text: &str) {
        self.tag = self.tag.wrapping_add(1);
        self.in_flight = Some(command);
        self.sent_at = now.moment;
        self.timers.set(Timer::Deadline, now.moment.after(ANSWER_WAIT));
        // Of its final size from the start: a text that grows leaves copies behind, and some hold a password.
        let tag = format!("a{} ", self.tag);
        self.send([before, &tag, text, "\r\n"].concat().into_bytes());
    }

    /// The same with the deadline of the command before it: a log-in has one for all its commands.
    pub(super) fn command_within(&mut self, now: Now, command: Command, text: &str) {
        let timers = self.timers;
        self.command(now, command, text);
        self.timers = timers;
    }

    pub(super) fn send(&mut self, bytes: Vec<u8>) {
        self.tell(Output::Send(bytes.into()));
    }

    /// DONE, which ends an IDLE; its answer is due in [`ANSWER_WAIT`].
    pub(super) fn send_done(&mut self, now: Now) {
        self.timers.set(Timer::Deadline, now.moment.after(ANSWER_WAIT));
        self.send(b"DONE\r\n".to_vec());
    }

    pub(super) fn in_flight(&self) -> Option<Command> {
        self.in_flight
    }

    /// When the command in flight, or the last one, was sent.
    pub(super) fn sent_at(&self) -> Moment {
        self.sent_at
    }

    /// Whether an answer with this tag is awaited; `is_reissuing`: the last IDLE is to end too.
    pub(super) fn is_expected(&self, tag: u32, is_reissuing: bool) -> bool {
        let is_last_idle = is_reissuing && tag.checked_add(1) == Some(self.tag);
        self.in_flight.is_some() && (tag == self.tag || is_last_idle)
    }

    /// The command in flight is over.
    pub(super) fn answered(&mut self) -> Option<Command> {
        self.timers.stop(Timer::Deadline);
        self.in_flight.take()
    }

    /// The command in flight is over, and what follows it has the same deadline.
    pub(super) fn answered_within(&mut self) -> Option<Command> {
        self.in_flight.take()
    }

    pub(super) fn tell(&mut self, output: Output) {
        self.outputs.get_or_insert_default().push_back(output);
    }

    /// The next thing to do. The queue goes with the last one.
    pub(super) fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.as_mut()?.pop_front();
        if output.is_none() {
            self.outputs = None;
        }
        output
    }

    /// A line was not understood, or is not due.
    pub(super) fn skip(&mut self) {
        self.tell(Output::Skipped);
    }

    /// Nothing is awaited any more.
    pub(super) fn end(&mut self) {
        self.in_flight = None;
        self.held = None;
    }

    /// An IDLE ended as it should.
    pub(super) fn idled(&mut self) {
        self.has_idled = true;
        self.traits.learn_idle_works();
    }

    /// The connection ends while the server owes an answer to IDLE or to DONE: perhaps it has no IDLE that works.
    pub(super) fn blame_idle(&self, now: Now) {
        let is_owed = self.in_flight == Some(Command::Idle) && self.timers.get(Timer::Deadline).is_some();
        if is_owed && !self.has_idled {
            self.traits.learn_idle_failed(now.moment);
        }
    }

    /// By what the server offers.
    pub(super) fn best_method(&self) -> Method {
        self.as_idled(self.settings.watch.method(self.capabilities))
    }

    /// The next lesser way than NOTIFY.
    pub(super) fn idle_method(&self) -> Method {
        self.as_idled(Watch::Idle.method(self.capabilities))
    }

    /// A server that pushes STATUS in IDLE is better watched with nothing selected (sources.md §9.3).
    fn as_idled(&self, method: Method) -> Method {
        let is_better = self.settings.watch == Watch::Auto && self.traits.prefers_unselected();
        if method == Method::Idle && is_better { Method::IdleUnselected } else { method }
    }

    /// Whether a wanted reading may be asked for now; if it must keep its distance, sets the timer instead.
    pub(super) fn may_question(&mut self, now: Now) -> bool {
        if !self.wants_reading {
            return false;
        }
        let free_at = self.questioned_at.map_or(Moment::START, |at| at.after(QUESTION_REST));
        if now.moment < free_at {
            self.timers.advance(Timer::Question, free_at);
            return false;
        }
        true
    }

    /// Notes that a question goes out now.
    pub(super) fn questioning(&mut self, now: Now) {
        self.wants_reading = false;
        self.questioned_at = Some(now.moment);
        self.timers.stop(Timer::Question);
    }

    /// Asks for a reading again after `wait`: the answer did not hold one.
    pub(super) fn question_after(&mut self, now: Now, wait: Duration) {
        self.timers.advance(Timer::Question, now.moment.after(wait));
    }

    /// The same after a time within these milliseconds.
    pub(super) fn question_within(&mut self, now: Now, wait_ms: std::ops::RangeInclusive<u64>) {
        let wait = Duration::from_millis(self.rng.u64(wait_ms));
        self.question_after(now, wait);
    }

    /// STATUS INBOX with what this server knows (sources.md §1).
    pub(super) fn ask_status(&mut self, now: Now) {
        self.questioning(now);
        let modseq = if self.capabilities.has(Capabilities::CONDSTORE) { " HIGHESTMODSEQ" } else { "" };
        let text = format!("STATUS INBOX (MESSAGES UNSEEN UIDNEXT UIDVALIDITY{modseq})");
        self.command(now, Command::Status, &text);
    }

    /// A STATUS line: a reading, if it says UNSEEN. While `may_answer`, the last one is held back for
    /// [`Link::release`], and one that was held is what the server pushed before it.
    pub(super) fn status_line(&mut self, items: &StatusItems, may_answer: bool) -> bool {
        self.uid_validity = items.uid_validity.or(self.uid_validity);
        let Some(unseen) = items.unseen else { return false };
        let reading =
            Reading { unseen, uid_validity: self.uid_validity, modseq: items.modseq, asked_at: None };
        if may_answer {
            let before = self.held.replace(Box::new(reading));
            if let Some(pushed) = before {
                self.news(*pushed);
            }
        } else {
            self.news(reading);
        }
        true
    }

    /// What the held reading says.
    pub(super) fn held_count(&self) -> Option<u32> {
        self.held.as_ref().map(|held| held.unseen)
    }

    /// The held reading goes out, as the answer to the question sent at `asked_at`. Says whether there was one.
    pub(super) fn release(&mut self, asked_at: Option<Moment>) -> bool {
        let Some(held) = self.held.take() else { return false };
        self.news(Reading { asked_at, ..*held });
        true
    }

    pub(super) fn news(&mut self, reading: Reading) {
        self.tell(Output::News(News::Reading(reading)));
    }

    #[cfg(test)]
    pub(super) fn has_queue(&self) -> bool {
        self.outputs.is_some()
    }
}
