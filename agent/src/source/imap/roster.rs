//! Which mailbox has a connection, and what for: the pure half of the source as a whole. Joins the governor, the sweep and
//! the server's limit of connections (`limit`); orders the driver whom to connect, whom to ask, whom to hang up. It holds
//! no session and opens no socket.

mod entry;
mod limit;

use super::exchange::{Ending, Errand, Refusal};
use super::governor::{Failure, Governor};
use super::{Method, Settings, Watch, too_slow};
use crate::event::MailboxId;
use crate::source::sweep::Sweep;
use crate::time::{Moment, Now};
use entry::{Entry, kept};
use limit::{Found, Limit};
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
    Connection(MailboxId, u32, ConnectionReport),
    /// The moment of [`Roster::poll_timeout`] has come.
    Timeout,
}

/// What a connection tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionReport {
    /// Its log-in worked.
    LoggedIn,
    /// It watches, in this way.
    Watching(Method),
    /// The reading that it brings for the sweep is news: the server had not told of it.
    Corrected,
    /// It brought a reading in answer to a question.
    Read,
    /// It ends, and brought so many readings more that nobody asked for.
    Pushed(u32),
    /// Its log-in was refused; [`ConnectionReport::Ended`] follows.
    Refused(Refusal, String),
    /// The server sent an alert for people (RFC 9051 §7.1).
    Alert(String),
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
    /// Log this: the server's limit of connections was found, or is gone.
    Note(String),
}

/// The table of all mailboxes of one source.
#[derive(Debug)]
pub struct Roster {
    watch: Watch,
    login_rate: u32,
    sweep_interval: Duration,
    poll_interval: Duration,
    limit: Limit,
    /// Mailboxes that have a connection, and those of them that are logged in, and whose connection is to watch.
    connected: usize,
    logged_in: usize,
    watchers: usize,
    /// Mailboxes that are visited since the server is full.
    limited: usize,
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
            login_rate: settings.login_rate.max(1),
            sweep_interval: settings.sweep_interval,
            poll_interval: settings.poll_interval.min(settings.sweep_interval),
            limit: Limit::default(),
            connected: 0,
            logged_in: 0,
            watchers: 0,
            limited: 0,
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

    /// There may be so many connections at once, whatever the server lets in: no more descriptors are left for them.
    pub fn hold_at_most(&mut self, connections: usize) {
        self.limit.hold_at_most(connections);
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
        self.raise_limit(moment);
        self.sweep_due(moment);
        self.connect_granted(moment);
    }

    /// The next thing to do; ask until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to say [`Input::Timeout`].
    pub fn poll_timeout(&self) -> Option<Moment> {
        // While the server is full the end of a connection lets the next one in.
        let governor = self.governor.poll_timeout().filter(|_| self.has_room());
        let sweeps = [self.sweep.poll_timeout(), self.polls.poll_timeout(), self.limit.raise_at()];
        sweeps.into_iter().flatten().chain(governor).min()
    }

    /// What keeps the whole source from working, for people.
    pub fn failure(&self) -> Option<String> {
        let flooded =
            self.governor.flooded_last().and_then(|mailbox| self.entries.get(mailbox.0 as usize)?.as_ref());
        let is_flooded_in = flooded.is_some_and(|entry| entry.logged_in_at.is_some());
        self.governor.failure(self.logged_in > usize::from(is_flooded_in))
    }

    /// What keeps mailboxes from being watched, or from being read in time, and what to do about it, for people: the
    /// server's limit of connections, a log-in rate that is too low.
    pub fn limit(&self) -> Option<String> {
        let parts = [self.too_slow(), self.limit.report(), self.limit.too_few(self.mailboxes)];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// Why the mailbox is not read, in the words of its last refusal or the end of its last connection.
    pub fn words(&self, mailbox: MailboxId) -> Option<&str> {
        self.entries.get(mailbox.0 as usize)?.as_ref()?.words.as_deref()
    }

    /// Whether visits alone are more than the log-in rate lets through in a sweep.
    fn too_slow(&self) -> Option<String> {
        let visited = self.mailboxes - self.watchers.min(self.mailboxes);
        let is_limited = self.limit.most() < self.mailboxes || self.errand() == Errand::Visit;
        is_limited.then(|| too_slow(visited, self.login_rate, self.sweep_interval)).flatten()
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

    /// What connections are for where the server is not full. A mailbox that `auto` could only poll tries to be watched at
    /// each visit: servers learn.
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
        *place = Some(Box::new(Entry::new(name, is_polled)));
        self.mailboxes += 1;
        self.governor.request(mailbox, 0, now);
    }

    fn unwatch(&mut self, mailbox: MailboxId) {
        let is_connected = self.disconnect(mailbox);
        let Some(entry) = self.entries.get_mut(mailbox.0 as usize).and_then(Option::take) else { return };
        self.mailboxes -= 1;
        self.covered -= usize::from(entry.is_covered);
        self.limited -= usize::from(entry.is_limited);
        if is_connected {
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

    fn report(&mut self, mailbox: MailboxId, report: ConnectionReport, now: Moment) {
        let Some(entry) = self.entry(mailbox) else { return };
        match report {
            ConnectionReport::LoggedIn => self.logged_in(mailbox, now),
            ConnectionReport::Watching(method) => self.watching(mailbox, method, now),
            ConnectionReport::Corrected => self.sweep.corrected(),
            ConnectionReport::Read => {
                entry.readings = entry.readings.saturating_add(1).min(WEIGHT_ASKED - 1);
                entry.words = None;
                entry.is_swept = false;
                if !entry.is_polled {
                    self.sweep.read(mailbox, now);
                }
                self.cover(mailbox, true);
            }
            ConnectionReport::Pushed(readings) => {
                entry.readings = entry.readings.saturating_add(readings).min(WEIGHT_ASKED - 1);
            }
            ConnectionReport::Refused(refusal, text) => entry.refused = Some(Box::new((refusal, text))),
            ConnectionReport::Alert(text) => entry.alert(&text),
            ConnectionReport::Unreachable(text) => {
                entry.words = Some(kept(&text));
                self.over(mailbox, Some(Failure::Unreachable(text)), now);
            }
            ConnectionReport::Ended(Ending::Done) => self.over(mailbox, None, now),
            ConnectionReport::Ended(ending) => {
                let failure = entry.failure(&ending, now);
                self.over(mailbox, Some(failure), now);
            }
        }
    }

    fn logged_in(&mut self, mailbox: MailboxId, now: Moment) {
        let Some(entry) = self.entry(mailbox) else { return };
        if entry.logged_in_at.replace(now).is_none() {
            self.logged_in += 1;
        }
        self.governor.logged_in(mailbox, now);
        self.outputs.extend(self.limit.worked(self.logged_in).map(Output::Note));
        // It was on its way when the limit was learned.
        if self.watchers > self.watchers_max() {
            self.give_way(now);
        }
    }

    fn watching(&mut self, mailbox: MailboxId, method: Method, now: Moment) {
        let Some(entry) = self.entry(mailbox) else { return };
        entry.is_polled = method == Method::Poll;
        if entry.is_polled {
            let was = std::mem::replace(&mut entry.errand, Errand::Visit);
            self.watchers -= usize::from(was == Errand::Watch);
            self.sweep.remove(mailbox);
        } else {
            self.cover(mailbox, true);
            self.sweep.add(mailbox, now);
        }
    }

    /// Forgets the mailbox's connection, if there is one.
    fn disconnect(&mut self, mailbox: MailboxId) -> bool {
        let Some(entry) = self.entry(mailbox) else { return false };
        let is_connected = entry.number.take().is_some();
        let was_logged_in = entry.logged_in_at.take().is_some();
        let errand = std::mem::replace(&mut entry.errand, Errand::Visit);
        self.connected -= usize::from(is_connected);
        self.logged_in -= usize::from(was_logged_in);
        self.watchers -= usize::from(is_connected && errand == Errand::Watch);
        is_connected
    }

    /// A connection is over: well, or by a failure.
    fn over(&mut self, mailbox: MailboxId, failure: Option<Failure>, now: Moment) {
        self.disconnect(mailbox);
        match &failure {
            Some(Failure::Refused(Refusal::Busy, text) | Failure::TurnedAway(text)) => {
                self.turned_away(mailbox, text, now);
            }
            Some(Failure::Lost(_)) => self.limit.lost(now),
            Some(Failure::Unreachable(_)) => self.limit.unreachable(),
            Some(Failure::Refused(..) | Failure::Flooded(_)) | None => {}
        }
        let Some(entry) = self.entry(mailbox) else { return };
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

    /// The server may be full: then watching connections give way, so that every mailbox is visited.
    fn turned_away(&mut self, mailbox: MailboxId, words: &str, now: Moment) {
        let begun_at = self.entry(mailbox).map_or(now, |entry| entry.begun_at);
        match self.limit.turned_away(mailbox, self.logged_in, words, begun_at, now) {
            Found::Full => {
                let holders = self.entries.iter().flatten().filter(|entry| entry.is_holding()).count();
                for _ in self.watchers_max()..holders {
                    self.give_way(now);
                }
            }
            Found::Gone => self.note_gone(),
            Found::Nothing => {}
        }
    }

    /// Lets more connections in where it is time to try that.
    fn raise_limit(&mut self, now: Moment) {
        if self.limit.raise_at().is_none_or(|at| at > now) {
            return;
        }
        let has_all_tried = self.limited == 0;
        let is_used = self.watchers >= self.watchers_max();
        if self.limit.raise(self.mailboxes, has_all_tried, is_used, now) {
            self.note_gone();
        }
    }

    fn note_gone(&mut self) {
        self.outputs.push_back(Output::Note("server does not limit connections any more".into()));
    }

    /// Hangs up the quietest watching connection, of these the one that was held longest; its mailbox is visited from now on.
    fn give_way(&mut self, now: Moment) {
        let holders = self.entries.iter().zip(0..).filter_map(|(entry, id)| {
            let entry = entry.as_ref().filter(|entry| entry.is_holding())?;
            Some((entry.readings, entry.logged_in_at, MailboxId(id)))
        });
        let Some((_, _, mailbox)) = holders.min() else { return };
        self.disconnect(mailbox);
        self.outputs.push_back(Output::HangUp(mailbox));
        self.sweep.remove(mailbox);
        self.governor.done(mailbox);
        if let Some(entry) = self.entry(mailbox) {
            entry.is_polled = true;
        }
        self.set_limited(mailbox, true);
        self.next_visit(mailbox, now);
    }

    fn set_limited(&mut self, mailbox: MailboxId, is_limited: bool) {
        let Some(entry) = self.entry(mailbox) else { return };
        let was = std::mem::replace(&mut entry.is_limited, is_limited);
        self.limited = self.limited + usize::from(is_limited) - usize::from(was);
    }

    /// How many mailboxes may be watched at once.
    fn watchers_max(&self) -> usize {
        self.limit.watchers(self.mailboxes, self.poll_interval)
    }

    fn has_room(&self) -> bool {
        self.connected < self.limit.most()
    }

    fn connect_granted(&mut self, now: Moment) {
        while self.has_room()
            && let Some(mailbox) = self.governor.grant(now)
        {
            let number = self.connections.wrapping_add(1);
            let is_watched = self.errand() == Errand::Watch;
            let may_watch = is_watched && self.watchers < self.watchers_max();
            self.set_limited(mailbox, is_watched && !may_watch);
            let Some(entry) = self.entry(mailbox) else { continue };
            let errand = if may_watch { Errand::Watch } else { Errand::Visit };
            entry.number = Some(number);
            entry.begun_at = now;
            entry.errand = errand;
            entry.is_polled |= entry.is_limited;
            entry.is_alerted = false;
            let (name, is_sweep) = (entry.name.clone(), entry.is_swept);
            self.connected += 1;
            self.watchers += usize::from(may_watch);
            self.connections = number;
            self.outputs.push_back(Output::Connect { mailbox, name, errand, is_sweep, number });
        }
    }
}

#[cfg(test)]
mod tests;
