//! Which mailbox is looked at when: the pure half of the source. It holds no message and opens no folder; the driver
//! tells it what stirred and what a look brought, and does what it says.
//!
//! A mailbox whose folder stirred is looked at at once, unless its last look took long: then it rests for a multiple of
//! that, so that a huge mailbox under constant change costs a share of the thread and not all of it.

use crate::event::MailboxId;
use crate::source::sweep::Sweep;
use crate::time::Moment;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How many times as long as its look took a mailbox rests.
const REST_FACTOR: u32 = 10;

/// A watch of inotify; the kernel gives each number once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub i32);

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The mailbox with this Maildir is to be watched.
    Watch(MailboxId, PathBuf),
    /// It is not any more.
    Unwatch(MailboxId),
    /// Someone wants a fresh reading of it.
    Ask(MailboxId),
    /// An entry of this name came or went in a watched folder.
    Stirred(WatchId, OsString),
    /// A watched folder was moved away or deleted.
    Gone(WatchId),
    /// This watch was taken for a look that came to nothing.
    Unneeded(WatchId),
    /// The kernel dropped events: anything may have happened.
    Overflow,
    /// What a look at the mailbox brought, and how long it took.
    Looked(MailboxId, Look, Duration),
    /// The moment of [`Watcher::poll_timeout`] has come.
    Timeout,
}

/// What a look at a Maildir brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It was read, and its `new/` and `cur/` are watched.
    Watched([WatchId; 2]),
    /// It was read; the kernel gives no more watches, so only the sweep finds what changes.
    Unwatched,
    /// It is not there. Where a watch was to be had, the entry to wait for, in the folder it must appear in.
    Missing(Option<(WatchId, OsString)>),
    /// It cannot be read, for this reason.
    Failed(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Watch and read this Maildir; the flag: for the sweep.
    Look(MailboxId, Arc<PathBuf>, bool),
    /// Give this watch back.
    Forget(WatchId),
}

/// How a mailbox stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Not looked at yet.
    New,
    Watched([WatchId; 2]),
    Unwatched,
    Missing(Option<(WatchId, OsString)>),
    Failed(String),
}

#[derive(Debug)]
struct Entry {
    path: Arc<PathBuf>,
    state: State,
    /// It stands in `due` or in `resting`.
    is_queued: bool,
    /// Its next look is the sweep's.
    is_swept: bool,
    rests_until: Moment,
}

/// How many mailboxes of a source are read, for metrics and readiness.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// All of them.
    pub mailboxes: usize,
    /// Those whose folders are watched.
    pub watched: usize,
    /// Those for which the kernel gave no watch.
    pub unwatched: usize,
    /// Those that cannot be read.
    pub failed: usize,
    /// Why, of one of them.
    pub failure: Option<String>,
}

/// The table of all mailboxes of one source.
#[derive(Debug)]
pub struct Watcher {
    entries: HashMap<MailboxId, Entry>,
    /// Whose folder a watch is of. Links, or a template without the domain, lead several mailboxes to one folder, and the
    /// kernel gives that folder one watch.
    folders: BTreeSet<(WatchId, MailboxId)>,
    /// Who waits for an entry to appear, and where.
    awaited: BTreeSet<(WatchId, OsString, MailboxId)>,
    due: VecDeque<MailboxId>,
    resting: BTreeSet<(Moment, MailboxId)>,
    sweep: Sweep,
    outputs: VecDeque<Output>,
    watched: usize,
    unwatched: usize,
    failed: BTreeSet<MailboxId>,
}

impl Watcher {
    /// No mailbox yet; each is to be read at least once in `sweep_interval`.
    pub fn new(sweep_interval: Duration, seed: u64) -> Self {
        Self {
            entries: HashMap::new(),
            folders: BTreeSet::new(),
            awaited: BTreeSet::new(),
            due: VecDeque::new(),
            resting: BTreeSet::new(),
            sweep: Sweep::new(sweep_interval, seed),
            outputs: VecDeque::new(),
            watched: 0,
            unwatched: 0,
            failed: BTreeSet::new(),
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Watch(mailbox, path) => self.watch(mailbox, path, now),
            Input::Unwatch(mailbox) => self.unwatch(mailbox),
            Input::Ask(mailbox) => self.queue(mailbox, now),
            Input::Stirred(watch, name) => self.stirred(watch, &name, now),
            Input::Gone(watch) => self.gone(watch, now),
            Input::Unneeded(watch) => self.release(watch),
            Input::Overflow => {
                let all: Vec<MailboxId> = self.entries.keys().copied().collect();
                for mailbox in all {
                    self.queue(mailbox, now);
                }
            }
            Input::Looked(mailbox, look, took) => self.looked(mailbox, look, took, now),
            Input::Timeout => {}
        }
        self.wake(now);
    }

    /// The next thing to do; ask until `None`. Each look must be answered by [`Input::Looked`] before the next is taken.
    pub fn poll_output(&mut self) -> Option<Output> {
        while let Some(output) = self.outputs.pop_front() {
            // A look may have taken the watch anew since it was given up.
            if matches!(output, Output::Forget(watch) if self.is_used(watch)) {
                continue;
            }
            return Some(output);
        }
        while let Some(mailbox) = self.due.pop_front() {
            if let Some(entry) = self.entries.get_mut(&mailbox) {
                entry.is_queued = false;
                let is_swept = std::mem::take(&mut entry.is_swept);
                return Some(Output::Look(mailbox, Arc::clone(&entry.path), is_swept));
            }
        }
        None
    }

    /// When to say [`Input::Timeout`].
    pub fn poll_timeout(&self) -> Option<Moment> {
        let rested = self.resting.first().map(|(at, _)| *at);
        rested.into_iter().chain(self.sweep.poll_timeout()).min()
    }

    /// How many mailboxes are read.
    pub fn coverage(&self) -> Coverage {
        let first = self.failed.first().and_then(|mailbox| self.entries.get(mailbox));
        Coverage {
            mailboxes: self.entries.len(),
            watched: self.watched,
            unwatched: self.unwatched,
            failed: self.failed.len(),
            failure: first.and_then(|entry| match &entry.state {
                State::Failed(why) => Some(why.clone()),
                _ => None,
            }),
        }
    }

    fn watch(&mut self, mailbox: MailboxId, path: PathBuf, now: Moment) {
        if self.entries.contains_key(&mailbox) {
            return;
        }
        let entry = Entry {
            path: Arc::new(path),
            state: State::New,
            is_queued: false,
            is_swept: false,
            rests_until: Moment::START,
        };
        self.entries.insert(mailbox, entry);
        self.queue(mailbox, now);
    }

    fn unwatch(&mut self, mailbox: MailboxId) {
        self.set(mailbox, &State::New);
        if let Some(entry) = self.entries.remove(&mailbox) {
            self.resting.remove(&(entry.rests_until, mailbox));
        }
        self.sweep.remove(mailbox);
    }

    /// Has the mailbox looked at once, as soon as it has rested.
    fn queue(&mut self, mailbox: MailboxId, now: Moment) {
        let Some(entry) = self.entries.get_mut(&mailbox) else { return };
        if std::mem::replace(&mut entry.is_queued, true) {
            return;
        }
        if entry.rests_until > now {
            self.resting.insert((entry.rests_until, mailbox));
        } else {
            self.due.push_back(mailbox);
        }
    }

    fn stirred(&mut self, watch: WatchId, name: &OsStr, now: Moment) {
        let mut concerned = self.living_at(watch);
        concerned.extend(self.waiting_at(watch, Some(name)));
        for mailbox in concerned {
            self.queue(mailbox, now);
        }
    }

    fn gone(&mut self, watch: WatchId, now: Moment) {
        let mut concerned = self.waiting_at(watch, None);
        concerned.extend(self.living_at(watch));
        for mailbox in concerned {
            self.set(mailbox, &State::Missing(None));
            self.queue(mailbox, now);
        }
    }

    /// Whose folder this watch is of.
    fn living_at(&self, watch: WatchId) -> Vec<MailboxId> {
        let here = self.folders.range((watch, MailboxId(0))..=(watch, MailboxId(u32::MAX)));
        here.map(|(_, mailbox)| *mailbox).collect()
    }

    /// Who waits at this watch: for the entry of this name, or for any.
    fn waiting_at(&self, watch: WatchId, name: Option<&OsStr>) -> Vec<MailboxId> {
        let from = (watch, name.unwrap_or_default().to_owned(), MailboxId(0));
        let here = self
            .awaited
            .range(from..)
            .take_while(|(at, awaited, _)| *at == watch && name.is_none_or(|name| name == awaited));
        here.map(|(.., mailbox)| *mailbox).collect()
    }

    fn looked(&mut self, mailbox: MailboxId, look: Look, took: Duration, now: Moment) {
        let Some(entry) = self.entries.get_mut(&mailbox) else {
            // Unwatched while it was looked at: what the look brought along goes back.
            return self.give_back(&look);
        };
        entry.rests_until = now.after(took * REST_FACTOR);
        self.sweep.read(mailbox, now);
        let state = match look {
            Look::Watched(watches) => State::Watched(watches),
            Look::Unwatched => State::Unwatched,
            Look::Missing(at) => State::Missing(at),
            Look::Failed(why) => State::Failed(why),
        };
        self.set(mailbox, &state);
    }

    fn give_back(&mut self, look: &Look) {
        match look {
            Look::Watched(watches) => watches.iter().for_each(|watch| self.release(*watch)),
            Look::Missing(Some((watch, _))) => self.release(*watch),
            Look::Missing(None) | Look::Unwatched | Look::Failed(_) => {}
        }
    }

    /// Changes how a mailbox stands; watches that nobody has any more are given back.
    fn set(&mut self, mailbox: MailboxId, state: &State) {
        let Some(entry) = self.entries.get_mut(&mailbox).filter(|entry| entry.state != *state) else {
            return;
        };
        let before = std::mem::replace(&mut entry.state, state.clone());
        self.count(mailbox, &before, false);
        self.count(mailbox, state, true);
        match state {
            State::Watched(watches) => self.folders.extend(watches.map(|watch| (watch, mailbox))),
            State::Missing(Some((watch, name))) => {
                self.awaited.insert((*watch, name.clone(), mailbox));
            }
            _ => {}
        }
        self.let_go(mailbox, before, state);
    }

    /// Gives up what `before` had and `now` has not.
    fn let_go(&mut self, mailbox: MailboxId, before: State, now: &State) {
        match before {
            State::Watched(watches) => {
                let is_kept = |watch: &WatchId| matches!(now, State::Watched(now) if now.contains(watch));
                for watch in watches.into_iter().filter(|watch| !is_kept(watch)) {
                    self.folders.remove(&(watch, mailbox));
                    self.release(watch);
                }
            }
            // `now` is another state, so that it waits elsewhere or no more.
            State::Missing(Some((watch, name))) => {
                self.awaited.remove(&(watch, name, mailbox));
                self.release(watch);
            }
            _ => {}
        }
    }

    /// Gives a watch back unless somebody has it still.
    fn release(&mut self, watch: WatchId) {
        if !self.is_used(watch) {
            self.outputs.push_back(Output::Forget(watch));
        }
    }

    fn is_used(&self, watch: WatchId) -> bool {
        !self.living_at(watch).is_empty() || !self.waiting_at(watch, None).is_empty()
    }

    fn count(&mut self, mailbox: MailboxId, state: &State, is_added: bool) {
        let counter = match state {
            State::Watched(_) => &mut self.watched,
            State::Unwatched => &mut self.unwatched,
            State::Failed(_) => {
                if is_added {
                    self.failed.insert(mailbox);
                } else {
                    self.failed.remove(&mailbox);
                }
                return;
            }
            State::New | State::Missing(_) => return,
        };
        if is_added { *counter += 1 } else { *counter -= 1 }
    }

    /// Queues who has rested, and who is due for the sweep.
    fn wake(&mut self, now: Moment) {
        while let Some(first) = self.resting.first().copied().filter(|(at, _)| *at <= now) {
            self.resting.remove(&first);
            self.due.push_back(first.1);
        }
        while let Some(mailbox) = self.sweep.take(now) {
            let Some(entry) = self.entries.get_mut(&mailbox) else { continue };
            entry.is_swept |= !entry.is_queued;
            self.queue(mailbox, now);
        }
    }
}

#[cfg(test)]
mod tests;
