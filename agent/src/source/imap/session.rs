//! The machine of one connection to the server: bytes and time come in, bytes and news go out. It logs in (`opening`, with
//! `sasl` and `id`), then watches by NOTIFY (`notify`) or IDLE (`idle`, `unselected`, both with `gap`), or reads
//! once and leaves (`visit`). Each of these is a machine of its own over the one `link`, and says by `Next` what follows
//! it; here the lines are cut, handed to the phase of now, and one phase follows another. No socket, no clock.
//!
//! Its driver's loop: `handle` an input, then `poll_output` until `None`, then wait for bytes or `poll_timeout`.

mod timers;
mod inflow;
mod link;
mod opening;
mod sasl;
mod id;
mod notify;
mod idle;
mod gap;
mod unselected;
mod visit;

use super::capability::Capabilities;
use super::exchange::{Ending, Errand, Input, Output};
use super::lines::Lines;
use super::reply::{self, Condition, Reply};
use super::traits::Traits;
use super::{Method, Settings, UPGRADE_AFTER};
use crate::time::{Moment, Now};
use idle::Idle;
use inflow::Inflow;
use link::{Command, Link};
use notify::Notify;
use opening::Opening;
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;
use timers::{Timer, Timers};
use unselected::Unselected;
use visit::Visit;

/// What follows what a phase did.
#[derive(Debug)]
#[must_use]
enum Next {
    /// It goes on.
    Stay,
    /// Logged in: the errand begins.
    Begin,
    /// Another way of watching, where this one does not work.
    Watch(Method),
    /// LOGOUT, to come back by a better way.
    Leave,
    /// The connection ends.
    Close(Ending),
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
    link: Link,
    phase: Phase,
    lines: Lines,
    inflow: Inflow,
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
        let link = Link::new(settings, traits, mailbox, errand, seed);
        Self { link, phase: Phase::Fresh(None), lines: Lines::default(), inflow: Inflow::default() }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        if self.is_closed() {
            return;
        }
        match input {
            Input::Token(token) => {
                if let Phase::Fresh(held) = &mut self.phase {
                    *held = Some(token.clone());
                }
            }
            Input::Connected => {
                self.inflow = Inflow::begin(now.moment);
                if let Phase::Fresh(token) = &mut self.phase {
                    let opening = Opening::begin(&mut self.link, now, token.take());
                    self.phase = Phase::Opening(Box::new(opening));
                }
            }
            Input::TlsDone => {
                if let Phase::Opening(opening) = &mut self.phase {
                    opening.secured(&mut self.link, now);
                }
            }
            Input::Bytes(bytes) => self.bytes(now, bytes),
            Input::Ask => {
                self.link.wants_reading = true;
                if let Phase::Idle(idle) = &mut self.phase {
                    idle.asked();
                }
                self.proceed(now);
            }
            Input::Timeout => self.timeout(now),
            Input::Closed => self.closed(),
            Input::Unreachable(reason) => self.end(Output::Unreachable(reason.to_owned())),
        }
    }

    /// The next thing to do; ask until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.link.poll_output()
    }

    /// When to say [`Input::Timeout`].
    pub fn poll_timeout(&self) -> Option<Moment> {
        if self.is_closed() { None } else { self.link.timers.next() }
    }

    /// What the server offers, as far as it is known by now.
    pub fn capabilities(&self) -> Capabilities {
        self.link.capabilities
    }

    /// The mailbox's name, as the mail server spells it.
    pub fn mailbox(&self) -> &str {
        &self.link.mailbox
    }

    /// The server's name and version from its answer to ID, else the text of its greeting.
    pub fn server_name(&self) -> Option<String> {
        self.link.traits.server_name()
    }

    /// Whether it is over: its last output is queued, or was given out.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    fn bytes(&mut self, now: Now, mut bytes: &[u8]) {
        if self.inflow.is_flood(bytes.len(), now.moment) {
            return self.close(Ending::Flooded);
        }
        let mut lines = std::mem::take(&mut self.lines);
        while !self.is_closed() {
            match lines.next(&mut bytes) {
                Ok(Some(line)) => {
                    self.inflow.line();
                    match reply::decode(line) {
                        Some(reply) => self.reply(now, &reply, !bytes.is_empty()),
                        None => self.skip(),
                    }
                }
                Ok(None) => break,
                Err(_) => self.close(Ending::LineTooLong),
            }
        }
        self.lines = lines;
    }

    fn reply(&mut self, now: Now, reply: &Reply<'_>, is_more_waiting: bool) {
        match reply {
            Reply::Bye(bye) => return self.bye(now, bye),
            Reply::Capability(capabilities) => self.link.capabilities = *capabilities,
            Reply::Tagged(tag, _) if !self.is_expected(*tag) => return self.skip(),
            Reply::Untagged(said) if said.is_code("ALERT") => {
                self.link.tell(Output::Alert(said.for_people()));
            }
            _ => {}
        }
        let link = &mut self.link;
        let next = match &mut self.phase {
            Phase::Opening(opening) => opening.handle(link, now, reply, is_more_waiting),
            Phase::Notify(notify) => notify.handle(link, now, reply),
            Phase::Idle(idle) => idle.handle(link, now, reply),
            Phase::Unselected(unselected) => unselected.handle(link, now, reply),
            Phase::Visit(visit) => visit.handle(link, now, reply),
            Phase::Fresh(_) | Phase::Closed => {
                link.skip();
                Next::Stay
            }
        };
        self.go_on(now, next);
    }

    fn is_expected(&self, tag: u32) -> bool {
        let is_reissuing = matches!(&self.phase, Phase::Idle(idle) if idle.is_reissuing());
        self.link.is_expected(tag, is_reissuing)
    }

    fn bye(&mut self, now: Now, bye: &Condition<'_>) {
        self.link.blame_idle(now);
        self.close(if self.is_logging_out() { Ending::Done } else { Ending::Bye(bye.for_people()) });
    }

    fn closed(&mut self) {
        self.close(if self.is_logging_out() { Ending::Done } else { Ending::Lost });
    }

    /// The end of the connection is what was asked for.
    fn is_logging_out(&self) -> bool {
        self.link.in_flight() == Some(Command::Logout)
    }

    fn timeout(&mut self, now: Now) {
        let link = &mut self.link;
        if link.timers.take_due(Timer::Deadline, now.moment) {
            let what = match (link.in_flight(), &self.phase) {
                (Some(command), _) => command.name(),
                (None, Phase::Opening(opening)) => opening.awaits(),
                (None, _) => "an answer",
            };
            link.timers.set(Timer::Deadline, now.moment);
            link.blame_idle(now);
            // A server that reads LOGOUT and says nothing has given its reading already.
            return self.close(if self.is_logging_out() { Ending::Done } else { Ending::Silent(what) });
        }
        let is_question = link.timers.take_due(Timer::Question, now.moment);
        let is_silent = link.timers.take_due(Timer::Silence, now.moment);
        // A broken rhythm is answered by a question: a live connection answers it, a dead one meets its deadline.
        link.wants_reading |= is_question || is_silent;
        link.is_leaving |= link.timers.take_due(Timer::Upgrade, now.moment);
        if link.timers.take_due(Timer::Renew, now.moment) {
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
        let link = &mut self.link;
        let next = match &mut self.phase {
            Phase::Notify(notify) => notify.proceed(link, now),
            Phase::Idle(idle) => idle.proceed(link, now),
            Phase::Unselected(unselected) => {
                unselected.proceed(link, now);
                Next::Stay
            }
            // A visit reads anyway, and one that is leaving comes back by the roster.
            _ => Next::Stay,
        };
        self.go_on(now, next);
    }

    /// One phase follows another. All but a few of the server's lines change no phase.
    #[inline]
    fn go_on(&mut self, now: Now, next: Next) {
        if !matches!(next, Next::Stay) {
            self.follow(now, next);
        }
    }

    fn follow(&mut self, now: Now, next: Next) {
        match next {
            Next::Stay => {}
            Next::Begin => self.begin(now),
            Next::Watch(method) => self.watch_by(now, method),
            Next::Leave => self.phase = Phase::Visit(Visit::leave(&mut self.link, now)),
            Next::Close(ending) => self.close(ending),
        }
    }

    /// After the log-in: the first step of the errand.
    fn begin(&mut self, now: Now) {
        let link = &mut self.link;
        if link.errand == Errand::Visit {
            link.timers = Timers::default();
            self.phase = Phase::Visit(Visit::begin(link, now));
            return;
        }
        let best = link.best_method();
        let is_barred = best == Method::Notify && !link.traits.may_notify(now.moment);
        let method = if is_barred { link.idle_method() } else { best };
        let is_idle = matches!(method, Method::Idle | Method::IdleUnselected);
        let is_polled = is_idle && !link.traits.may_idle(now.moment);
        self.watch_by(now, if is_polled { Method::Poll } else { method });
    }

    /// Takes up a way of watching: the first, or the next lesser one after the server refused.
    fn watch_by(&mut self, now: Now, method: Method) {
        let link = &mut self.link;
        link.timers = Timers::default();
        link.tell(Output::Watching(method));
        if method != link.best_method() {
            let at = link.traits.notify_again_at().unwrap_or_default().max(now.moment.after(UPGRADE_AFTER));
            let jitter = link.rng.u64(0..UPGRADE_AFTER.as_secs() / 2);
            link.timers.set(Timer::Upgrade, at.after(Duration::from_secs(jitter)));
        }
        self.phase = match method {
            Method::Notify => Phase::Notify(Notify::begin(link, now)),
            Method::Idle => Phase::Idle(Idle::begin(link, now)),
            Method::IdleUnselected => Phase::Unselected(Unselected::begin(link, now)),
            Method::Poll => Phase::Visit(Visit::begin(link, now)),
        };
    }

    /// A line was not understood, or is not due.
    fn skip(&mut self) {
        if let Phase::Idle(idle) = &mut self.phase {
            idle.skipped();
        }
        self.link.skip();
    }

    fn close(&mut self, ending: Ending) {
        self.end(Output::Close(ending));
    }

    fn end(&mut self, last: Output) {
        self.phase = Phase::Closed;
        self.link.end();
        self.link.tell(last);
    }
}

#[cfg(test)]
mod tests;
