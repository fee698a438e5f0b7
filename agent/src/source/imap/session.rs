//! The machine of one connection: bytes and time come in, bytes and news go out. It logs in (`opening`), then watches
//! by NOTIFY (`notify`) or IDLE (`idle`, `unselected`), or reads once and leaves (`visit`). Here stand what
//! these share: lines, the one command in flight, timers, what is due next. No socket, no clock.
//!
//! Its driver's loop: `handle` an input, then `poll_output` until `None`, then wait for bytes or `poll_timeout`.

mod opening;
mod sasl;
mod id;
mod notify;
mod idle;
mod count;
mod gap;
mod unselected;
mod visit;
mod timers;

use super::capability::Capabilities;
use super::exchange::{Ending, Errand, Input, Output, Refusal};
use super::lines::Lines;
use super::reply::{self, Condition, Kind, Reply, StatusItems};
use super::traits::Traits;
use super::{ANSWER_WAIT, Method, QUESTION_REST, Settings, UPGRADE_AFTER, Watch};
use crate::event::{News, Reading, UidValidity};
use crate::time::{Moment, Now};
use idle::Idle;
use notify::Notify;
use opening::Opening;
use secrecy::SecretString;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use timers::{Timer, Timers};
use unselected::Unselected;
use visit::Visit;

/// The command in flight, one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
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
    const fn name(self) -> &'static str {
        match self {
            Self::Capability => "CAPABILITY",
            Self::StartTls => "STARTTLS",
            Self::LogIn => "log-in",
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

/// Where a connection stands. The log-in is boxed: it is over in a moment, the connection stays for days.
#[derive(Debug)]
enum Phase {
    /// With the access token, where the log-in takes one.
    Fresh(Option<SecretString>),
    Opening(Box<Opening>),
    Notify(Notify),
    Idle(Idle),
    Unselected(Unselected),
    Visit(Visit),
    Closed,
}

/// The machine of one connection.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    traits: Arc<Traits>,
    mailbox: Arc<str>,
    phase: Phase,
    timers: Timers,
    rng: fastrand::Rng,
    /// When the command in flight, or the last one, was sent.
    sent_at: Moment,
    /// The last STATUS line while a command is in flight that may be its answer.
    held: Option<Box<Reading>>,
    /// When the last question was sent: the next one that the server's lines give rise to keeps its distance.
    questioned_at: Option<Moment>,
    lines: Lines,
    /// Thousands of sessions are idle: none keeps a queue.
    #[expect(clippy::box_collection, reason = "an idle session has no queue, and no room for one")]
    outputs: Option<Box<VecDeque<Output>>>,
    uid_validity: Option<UidValidity>,
    tag: u32,
    in_flight: Option<Command>,
    capabilities: Capabilities,
    errand: Errand,
    /// A reading is wanted.
    wants_reading: bool,
    /// A better way of watching is to be tried, on a connection of its own.
    is_leaving: bool,
    /// An IDLE of this connection began and ended as it should.
    has_idled: bool,
}

impl Session {
    /// A connection to be, for the mailbox of this name as the mail server spells it.
    pub fn new(
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
            phase: Phase::Fresh(None),
            timers: Timers::default(),
            rng: fastrand::Rng::with_seed(seed),
            sent_at: Moment::START,
            held: None,
            questioned_at: None,
            lines: Lines::default(),
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

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        if self.is_closed() {
            return;
        }
        match input {
            Input::Token(token) => self.take_token(token),
            Input::Connected => self.open(now),
            Input::TlsDone => self.secured(now),
            Input::Bytes(bytes) => self.bytes(now, bytes),
            Input::Ask => {
                self.wants_reading = true;
                if let Phase::Idle(idle) = &mut self.phase {
                    idle.asked();
                }
                self.proceed(now);
            }
            Input::Timeout => self.timeout(now),
            Input::Closed => self.closed(),
        }
    }

    /// The next thing to do; ask until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.as_mut()?.pop_front();
        if output.is_none() {
            self.outputs = None;
        }
        output
    }

    /// When to say [`Input::Timeout`].
    pub fn poll_timeout(&self) -> Option<Moment> {
        if self.is_closed() { None } else { self.timers.next() }
    }

    /// What the server offers, as far as it is known by now.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// The mailbox's name, as the mail server spells it.
    pub fn mailbox(&self) -> &str {
        &self.mailbox
    }

    /// Whether [`Output::Close`] was said.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    fn bytes(&mut self, now: Now, mut bytes: &[u8]) {
        let mut lines = std::mem::take(&mut self.lines);
        while !self.is_closed() {
            match lines.next(&mut bytes) {
                Ok(Some(line)) => match reply::decode(line) {
                    Some(reply) => self.reply(now, reply, !bytes.is_empty()),
                    None => self.skip(),
                },
                Ok(None) => break,
                Err(_) => self.close(Ending::LineTooLong),
            }
        }
        self.lines = lines;
    }

    fn reply(&mut self, now: Now, reply: Reply<'_>, is_more_waiting: bool) {
        match reply {
            Reply::Bye(bye) => return self.bye(now, &bye),
            Reply::Capability(capabilities) => self.capabilities = capabilities,
            Reply::Tagged(tag, _) if !self.is_expected(tag) => return self.skip(),
            Reply::Untagged(said) if said.is_code("ALERT") => self.tell(Output::Alert(said.for_people())),
            _ => {}
        }
        match &mut self.phase {
            Phase::Opening(_) => self.opening(now, reply, is_more_waiting),
            Phase::Notify(_) => self.notify(now, reply),
            Phase::Idle(_) => self.idle(now, reply),
            Phase::Unselected(_) => self.unselected(now, reply),
            Phase::Visit(_) => self.visit(now, reply),
            Phase::Fresh(_) | Phase::Closed => self.skip(),
        }
    }

    fn is_expected(&self, tag: u32) -> bool {
        let is_last_idle = matches!(&self.phase, Phase::Idle(idle) if idle.is_reissuing())
            && tag.checked_add(1) == Some(self.tag);
        self.in_flight.is_some() && (tag == self.tag || is_last_idle)
    }

    fn bye(&mut self, now: Now, bye: &Condition<'_>) {
        let is_ours = self.in_flight == Some(Command::Logout);
        self.blame_idle(now);
        self.close(if is_ours { Ending::Done } else { Ending::Bye(bye.for_people()) });
    }

    fn closed(&mut self) {
        let is_ours = self.in_flight == Some(Command::Logout);
        self.close(if is_ours { Ending::Done } else { Ending::Lost });
    }

    /// The connection ends while the server owes an answer to IDLE or to DONE: perhaps it has no IDLE that works.
    fn blame_idle(&self, now: Now) {
        let is_owed = self.in_flight == Some(Command::Idle) && self.timers.get(Timer::Deadline).is_some();
        if is_owed && !self.has_idled {
            self.traits.learn_idle_failed(now.moment);
        }
    }

    /// An IDLE ended as it should.
    fn idled(&mut self) {
        self.has_idled = true;
        self.traits.learn_idle_works();
    }

    fn timeout(&mut self, now: Now) {
        if self.timers.take_due(Timer::Deadline, now.moment) {
            // A server that reads LOGOUT and says nothing has given its reading already.
            let what = self.in_flight.map_or("greeting", Command::name);
            let is_ours = self.in_flight == Some(Command::Logout);
            self.timers.set(Timer::Deadline, now.moment);
            self.blame_idle(now);
            return self.close(if is_ours { Ending::Done } else { Ending::Silent(what) });
        }
        let is_question = self.timers.take_due(Timer::Question, now.moment);
        let is_silent = self.timers.take_due(Timer::Silence, now.moment);
        // A broken rhythm is answered by a question: a live connection answers it, a dead one meets its deadline.
        self.wants_reading |= is_question || is_silent;
        self.is_leaving |= self.timers.take_due(Timer::Upgrade, now.moment);
        if self.timers.take_due(Timer::Renew, now.moment) {
            match &mut self.phase {
                Phase::Notify(notify) => notify.wants_arming(),
                Phase::Idle(idle) => idle.wants_renewal(),
                Phase::Unselected(unselected) => unselected.wants_renewal(),
                _ => {}
            }
        }
        self.proceed(now);
    }

    /// Sends what is due, where the phase allows it now.
    fn proceed(&mut self, now: Now) {
        match self.phase {
            Phase::Notify(_) => self.notify_proceed(now),
            Phase::Idle(_) => self.idle_proceed(now),
            Phase::Unselected(_) => self.unselected_proceed(now),
            // A visit reads anyway, and one that is leaving comes back by the roster.
            _ => {}
        }
    }

    /// After the log-in: the first step of the errand.
    fn begin(&mut self, now: Now) {
        self.timers = Timers::default();
        if self.errand == Errand::Visit {
            return self.visit_begin(now);
        }
        let best = self.best_method();
        let is_barred = best == Method::Notify && !self.traits.may_notify(now.moment);
        let method = if is_barred { self.idle_method() } else { best };
        let is_idle = matches!(method, Method::Idle | Method::IdleUnselected);
        self.watch_by(now, if is_idle && !self.traits.may_idle(now.moment) { Method::Poll } else { method });
    }

    /// By what the server offers.
    fn best_method(&self) -> Method {
        self.as_idled(self.settings.watch.method(self.capabilities))
    }

    /// The next lesser way than NOTIFY.
    fn idle_method(&self) -> Method {
        self.as_idled(Watch::Idle.method(self.capabilities))
    }

    /// A server that pushes STATUS in IDLE is better watched with nothing selected (sources.md §9.3).
    fn as_idled(&self, method: Method) -> Method {
        let is_better = self.settings.watch == Watch::Auto && self.traits.prefers_unselected();
        if method == Method::Idle && is_better { Method::IdleUnselected } else { method }
    }

    /// Takes up a way of watching: the first, or the next lesser one after the server refused.
    fn watch_by(&mut self, now: Now, method: Method) {
        self.timers = Timers::default();
        self.tell(Output::Watching(method));
        if method != self.best_method() {
            let at = self.traits.notify_again_at().unwrap_or_default().max(now.moment.after(UPGRADE_AFTER));
            let jitter = self.rng.u64(0..UPGRADE_AFTER.as_secs() / 2);
            self.timers.set(Timer::Upgrade, at.after(Duration::from_secs(jitter)));
        }
        match method {
            Method::Notify => self.notify_begin(now),
            Method::Idle => self.idle_begin(now),
            Method::IdleUnselected => self.unselected_begin(now),
            Method::Poll => self.visit_begin(now),
        }
    }

    /// Says goodbye, to come back by a better way.
    fn leave(&mut self, now: Now) {
        self.phase = Phase::Visit(Visit);
        self.command(now, Command::Logout, "LOGOUT");
    }

    /// Sends a command under the next tag; its answer is due in [`ANSWER_WAIT`].
    fn command(&mut self, now: Now, command: Command, text: &str) {
        self.command_after(now, command, "", text);
    }

    /// The same, behind `before` in the same segment.
    fn command_after(&mut self, now: Now, command: Command, before: &str, text: &str) {
        self.tag = self.tag.wrapping_add(1);
        self.in_flight = Some(command);
        self.sent_at = now.moment;
        self.timers.set(Timer::Deadline, now.moment.after(ANSWER_WAIT));
        // Of its final size from the start: a text that grows leaves copies behind, and some hold a password.
        let tag = format!("a{} ", self.tag);
        self.send([before, &tag, text, "\r\n"].concat().into_bytes());
    }

    fn send(&mut self, bytes: Vec<u8>) {
        self.tell(Output::Send(bytes.into()));
    }

    /// The command in flight is over.
    fn answered(&mut self) {
        self.in_flight = None;
        self.timers.stop(Timer::Deadline);
    }

    fn tell(&mut self, output: Output) {
        self.outputs.get_or_insert_default().push_back(output);
    }

    fn skip(&mut self) {
        if let Phase::Idle(idle) = &mut self.phase {
            idle.skipped();
        }
        self.tell(Output::Skipped);
    }

    fn close(&mut self, ending: Ending) {
        self.phase = Phase::Closed;
        self.in_flight = None;
        self.held = None;
        self.tell(Output::Close(ending));
    }

    /// Whether a wanted reading may be asked for now; if it must keep its distance, sets the timer instead.
    fn may_question(&mut self, now: Now) -> bool {
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
    fn questioning(&mut self, now: Now) {
        self.wants_reading = false;
        self.questioned_at = Some(now.moment);
        self.timers.stop(Timer::Question);
    }

    /// Asks for a reading again after `wait`: the answer did not hold one.
    fn question_after(&mut self, now: Now, wait: Duration) {
        self.timers.advance(Timer::Question, now.moment.after(wait));
    }

    /// STATUS INBOX with what this server knows (sources.md §1).
    fn ask_status(&mut self, now: Now) {
        self.questioning(now);
        let modseq = if self.capabilities.has(Capabilities::CONDSTORE) { " HIGHESTMODSEQ" } else { "" };
        let text = format!("STATUS INBOX (MESSAGES UNSEEN UIDNEXT UIDVALIDITY{modseq})");
        self.command(now, Command::Status, &text);
    }

    /// A STATUS line: a reading, if it says UNSEEN. While `may_answer`, the last one is held back for
    /// [`Session::release`], and one that was held is what the server pushed before it.
    fn status_line(&mut self, items: &StatusItems, may_answer: bool) -> bool {
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
    fn held_count(&self) -> Option<u32> {
        self.held.as_ref().map(|held| held.unseen)
    }

    /// The held reading goes out, as the answer to the question sent at `asked_at`. Says whether there was one.
    fn release(&mut self, asked_at: Option<Moment>) -> bool {
        let Some(held) = self.held.take() else { return false };
        self.news(Reading { asked_at, ..*held });
        true
    }

    fn news(&mut self, reading: Reading) {
        self.tell(Output::News(News::Reading(reading)));
    }

    /// Whose refusal it is, by the response code (RFC 5530 §3) or the words that servers use without one.
    fn refusal(&self, answer: &Condition<'_>) -> Refusal {
        const BUSY: [&str; 5] = ["UNAVAILABLE", "LIMIT", "INUSE", "SERVERBUG", "OVERQUOTA"];
        let is_busy_text = answer.text.windows(22).any(|w| w.eq_ignore_ascii_case(b"internal login failure"));
        if is_busy_text || BUSY.iter().any(|code| answer.is_code(code)) {
            return Refusal::Busy;
        }
        let concerns_credential = answer.code.is_empty() || answer.is_code("AUTHENTICATIONFAILED");
        let is_shared = self.settings.login.is_shared() && answer.kind == Kind::No;
        if concerns_credential && is_shared { Refusal::Source } else { Refusal::Mailbox }
    }
}

#[cfg(test)]
mod tests;
