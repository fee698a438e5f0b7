//! Which mailbox has a connection, and what for: the pure half of the source as a whole. Joins the governor and the sweep;
//! tells the driver whom to connect, whom to ask, whom to hang up. It holds no session and opens no socket.

use super::exchange::{Ending, Errand, Refusal};
use super::governor::{Failure, Governor};
use super::{Method, Settings, Watch};
use crate::event::MailboxId;
use crate::source::sweep::Sweep;
use crate::time::{Moment, Now};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Weight of a mailbox that someone asked about; above every watcher's.
const WEIGHT_ASKED: u32 = u32::MAX;

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The mailbox is to be watched, under the name its server knows.
    Watch(MailboxId, Arc<str>),
    /// It is not any more.
    Unwatch(MailboxId),
    /// Someone wants a fresh reading of it.
    Ask(MailboxId),
    /// A source that does so more cheaply has read it.
    ReadElsewhere(MailboxId),
    /// Of the connection with this number.
    Connection(MailboxId, u32, Report),
    /// The moment of [`Roster::poll_timeout`] has come.
    Timeout,
}

/// What a connection tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Its log-in worked.
    LoggedIn,
    /// It watches, in this way.
    Watching(Method),
    /// The reading that it brings for the sweep is news: the server had not told of it.
    Corrected,
    /// It brought a reading in answer to a question.
    Read,
    /// It ends, and brought so many readings that nobody asked for.
    Pushed(u32),
    /// Its log-in was refused; [`Report::Ended`] follows.
    Refused(Refusal, String),
    /// No connection came about.
    Unreachable(String),
    /// It is over.
    Ended(Ending),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect; every report must carry `number`.
    Connect {
        /// For this mailbox.
        mailbox: MailboxId,
        /// Its name.
        name: Arc<str>,
        /// To stay, or to read once.
        errand: Errand,
        /// What it finds changed only the sweep found.
        is_sweep: bool,
        /// The connection's number, never used again.
        number: u32,
    },
    /// Tell this mailbox's connection that a reading is wanted; the flag: for the sweep.
    Ask(MailboxId, bool),
    /// Close this mailbox's connection.
    HangUp(MailboxId),
}

/// One mailbox.
#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    /// Its connection, if there is one.
    number: Option<u32>,
    logged_in_at: Option<Moment>,
    /// Its connections read once and leave: by configuration, or as the last one found out.
    is_polled: bool,
    /// It was read at least once, or its watching began.
    is_covered: bool,
    /// Asked while a visit was under way, perhaps after its question.
    is_asked: bool,
    /// The next visit is the sweep's.
    is_swept: bool,
    refused: Option<Box<(Refusal, String)>>,
    /// How often it was read: the busiest reconnect first.
    readings: u32,
}

/// The table of all mailboxes of one source.
#[derive(Debug)]
pub struct Roster {
    watch: Watch,
    governor: Governor,
    sweep: Sweep,
    polls: Sweep,
    /// By mailbox id: ids are given out without gaps, and most mailboxes are watched.
    entries: Vec<Option<Box<Entry>>>,
    mailboxes: usize,
    outputs: VecDeque<Output>,
    connections: u32,
    covered: usize,
}

impl Roster {
    /// No mailbox yet.
    pub fn new(settings: &Settings, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        Self {
            watch: settings.watch,
            governor: Governor::new(settings.login_rate, settings.login.is_shared(), rng.u64(..)),
            sweep: Sweep::new(settings.sweep_interval, rng.u64(..)),
            polls: Sweep::new(settings.poll_interval.min(settings.sweep_interval), rng.u64(..)),
            entries: Vec::new(),
            mailboxes: 0,
            outputs: VecDeque::new(),
            connections: 0,
            covered: 0,
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input) {
        let moment = now.moment;
        match input {
            Input::Watch(mailbox, name) => self.watch(mailbox, name, moment),
            Input::Unwatch(mailbox) => self.unwatch(mailbox),
            Input::Ask(mailbox) => self.ask(mailbox, moment),
            Input::ReadElsewhere(mailbox) => self.sweep.read_elsewhere(mailbox, moment),
            Input::Connection(mailbox, number, report) => {
                if self.is_current(mailbox, number) {
                    self.report(mailbox, report, moment);
                }
            }
            Input::Timeout => {}
        }
        self.sweep_due(moment);
        self.connect_granted(moment);
    }

    /// The next thing to do; ask until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to say [`Input::Timeout`].
    pub fn poll_timeout(&self) -> Option<Moment> {
        [self.governor.poll_timeout(), self.sweep.poll_timeout(), self.polls.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// What keeps the whole source from working, for people.
    pub fn failure(&self) -> Option<String> {
        self.governor.failure()
    }

    /// How many mailboxes there are, and how many of them are watched (or, polled and swept, were read).
    pub fn coverage(&self) -> (usize, usize) {
        (self.mailboxes, self.covered)
    }

    /// Whether the connection of this number is the one that the mailbox has now.
    pub fn is_current(&self, mailbox: MailboxId, number: u32) -> bool {
        let entry = self.entries.get(mailbox.0 as usize).and_then(Option::as_deref);
        entry.is_some_and(|entry| entry.number == Some(number))
    }

    /// A mailbox that `auto` could only poll tries to be watched at each visit: servers learn.
    fn errand(&self) -> Errand {
        if matches!(self.watch, Watch::Poll | Watch::SweepOnly) { Errand::Visit } else { Errand::Watch }
    }

    fn entry(&mut self, mailbox: MailboxId) -> Option<&mut Entry> {
        self.entries.get_mut(mailbox.0 as usize)?.as_deref_mut()
    }

    fn watch(&mut self, mailbox: MailboxId, name: Arc<str>, now: Moment) {
        let index = mailbox.0 as usize;
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, || None);
        }
        let is_polled = self.errand() == Errand::Visit;
        let Some(place) = self.entries.get_mut(index).filter(|place| place.is_none()) else { return };
        *place = Some(Box::new(Entry {
            name,
            number: None,
            logged_in_at: None,
            is_polled,
            is_covered: false,
            is_asked: false,
            is_swept: false,
            refused: None,
            readings: 0,
        }));
        self.mailboxes += 1;
        self.governor.request(mailbox, 0, now);
    }

    fn unwatch(&mut self, mailbox: MailboxId) {
        let Some(entry) = self.entries.get_mut(mailbox.0 as usize).and_then(Option::take) else { return };
        self.mailboxes -= 1;
        self.covered -= usize::from(entry.is_covered);
        if entry.number.is_some() {
            self.outputs.push_back(Output::HangUp(mailbox));
        }
        self.governor.forget(mailbox);
        self.sweep.remove(mailbox);
        self.polls.remove(mailbox);
    }

    fn ask(&mut self, mailbox: MailboxId, now: Moment) {
        let Some(entry) = self.entry(mailbox) else { return };
        match (entry.number, entry.is_polled) {
            (Some(_), false) => self.outputs.push_back(Output::Ask(mailbox, false)),
            (Some(_), true) => entry.is_asked = true,
            (None, _) => self.governor.request(mailbox, WEIGHT_ASKED, now),
        }
    }

    fn report(&mut self, mailbox: MailboxId, report: Report, now: Moment) {
        let Some(entry) = self.entry(mailbox) else { return };
        match report {
            Report::LoggedIn => {
                entry.logged_in_at = Some(now);
                self.governor.logged_in(mailbox);
            }
            Report::Watching(method) => {
                entry.is_polled = method == Method::Poll;
                if entry.is_polled {
                    self.sweep.remove(mailbox);
                } else {
                    self.cover(mailbox, true);
                    self.sweep.add(mailbox, now);
                }
            }
            Report::Corrected => self.sweep.corrected(),
            Report::Read => {
                entry.readings = entry.readings.saturating_add(1).min(WEIGHT_ASKED - 1);
                if !entry.is_polled {
                    self.sweep.read(mailbox, now);
                }
                self.cover(mailbox, true);
            }
            Report::Pushed(readings) => {
                entry.readings = entry.readings.saturating_add(readings).min(WEIGHT_ASKED - 1);
            }
            Report::Refused(refusal, text) => entry.refused = Some(Box::new((refusal, text))),
            Report::Unreachable(text) => self.over(mailbox, Some(Failure::Unreachable(text)), now),
            Report::Ended(Ending::Done) => self.over(mailbox, None, now),
            Report::Ended(_) => {
                let lived = entry.logged_in_at.map_or(Duration::ZERO, |since| now.since(since));
                let failure = entry.refused.take().map(|refused| Failure::Refused(refused.0, refused.1));
                self.over(mailbox, Some(failure.unwrap_or(Failure::Lost(lived))), now);
            }
        }
    }

    /// A connection is over: well, or by a failure.
    fn over(&mut self, mailbox: MailboxId, failure: Option<Failure>, now: Moment) {
        let Some(entry) = self.entry(mailbox) else { return };
        entry.number = None;
        entry.logged_in_at = None;
        entry.refused = None;
        let is_asked = std::mem::take(&mut entry.is_asked);
        let (is_polled, weight) = (entry.is_polled, if is_asked { WEIGHT_ASKED } else { entry.readings });
        let is_well = failure.is_none();
        match failure {
            None => self.governor.done(mailbox),
            Some(failure) => self.governor.failed(mailbox, failure, now),
        }
        if is_well && is_polled && !is_asked {
            return self.next_visit(mailbox, now);
        }
        if !is_polled {
            self.cover(mailbox, false);
            self.sweep.remove(mailbox);
        }
        self.governor.request(mailbox, weight, now);
    }

    fn next_visit(&mut self, mailbox: MailboxId, now: Moment) {
        if self.watch == Watch::SweepOnly {
            self.sweep.read(mailbox, now);
        } else {
            self.polls.read(mailbox, now);
        }
    }

    fn cover(&mut self, mailbox: MailboxId, is_covered: bool) {
        let Some(entry) = self.entry(mailbox) else { return };
        let was = std::mem::replace(&mut entry.is_covered, is_covered);
        self.covered = self.covered + usize::from(is_covered) - usize::from(was);
    }

    /// A connected mailbox is asked; one without a connection is visited.
    fn sweep_due(&mut self, now: Moment) {
        while let Some(mailbox) = self.sweep.take(now).or_else(|| self.polls.take(now)) {
            let is_sweep_only = self.watch == Watch::SweepOnly;
            let Some(entry) = self.entry(mailbox) else { continue };
            if entry.number.is_some() {
                self.outputs.push_back(Output::Ask(mailbox, true));
                self.sweep.read(mailbox, now);
            } else {
                entry.is_swept = is_sweep_only;
                self.governor.request(mailbox, 0, now);
            }
        }
    }

    fn connect_granted(&mut self, now: Moment) {
        let errand = self.errand();
        while let Some(mailbox) = self.governor.grant(now) {
            let number = self.connections.wrapping_add(1);
            let Some(entry) = self.entry(mailbox) else { continue };
            entry.number = Some(number);
            let (name, is_sweep) = (entry.name.clone(), std::mem::take(&mut entry.is_swept));
            self.connections = number;
            self.outputs.push_back(Output::Connect { mailbox, name, errand, is_sweep, number });
        }
    }
}

#[cfg(test)]
mod tests;
