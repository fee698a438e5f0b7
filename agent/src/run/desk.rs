//! Where sources deliver their news: hands it to the tracker, and a question back to a source that can be asked.

use crate::counters::FlowCounters;
use crate::event::{MailboxId, News, Observer, SourceId, Verdict};
use crate::source::doveadm::DoveadmSource;
use crate::source::imap::driver::ImapSource;
use crate::source::maildir::MaildirSource;
use crate::time::Now;
use crate::tracker::Tracker;
use parking_lot::{Mutex, RwLock};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Names that sources told of and the ledger has not taken up, most; more are told again, by the next event or search.
const FOUND_MAX: usize = 65_536;

/// The daemon's [`Observer`], and the sources that can be asked.
pub(super) struct Desk {
    tracker: Arc<Tracker>,
    counters: Arc<FlowCounters>,
    askable: RwLock<Vec<(SourceId, Askable)>>,
    /// Mailboxes are watched although nobody subscribes to them (`watch-all`).
    watches_all: AtomicBool,
    /// Mailboxes that sources told of and nobody knows.
    found: Mutex<HashSet<Box<str>>>,
}

/// A source that watches mailboxes by name and can be asked about them.
pub(super) enum Askable {
    Imap(ImapSource),
    Maildir(MaildirSource),
    Doveadm(DoveadmSource),
}

impl Askable {
    pub(super) fn watch(&self, mailbox: MailboxId, name: &Arc<str>) {
        match self {
            Self::Imap(source) => source.watch(mailbox, name),
            Self::Maildir(source) => source.watch(mailbox, name),
            Self::Doveadm(source) => source.watch(mailbox, name),
        }
    }

    fn unwatch(&self, mailbox: MailboxId) {
        match self {
            Self::Imap(source) => source.unwatch(mailbox),
            Self::Maildir(source) => source.unwatch(mailbox),
            Self::Doveadm(source) => source.unwatch(mailbox),
        }
    }

    fn ask(&self, mailbox: MailboxId) {
        match self {
            Self::Imap(source) => source.ask(mailbox),
            Self::Maildir(source) => source.ask(mailbox),
            Self::Doveadm(source) => source.ask(mailbox),
        }
    }

    fn failure(&self) -> Option<String> {
        match self {
            Self::Imap(source) => source.failure(),
            Self::Maildir(source) => source.failure(),
            Self::Doveadm(source) => source.failure(),
        }
    }

    pub(super) async fn stop(self) {
        match self {
            Self::Imap(source) => source.stop().await,
            Self::Maildir(source) => source.stop(),
            Self::Doveadm(source) => source.stop().await,
        }
    }
}

impl Desk {
    pub(super) fn new(tracker: Arc<Tracker>, counters: Arc<FlowCounters>) -> Self {
        Self {
            tracker,
            counters,
            askable: RwLock::default(),
            watches_all: AtomicBool::new(false),
            found: Mutex::default(),
        }
    }

    /// From now on names that nobody subscribes to are kept for [`Desk::take_found`], or not any more.
    pub(super) fn watch_all(&self, watches_all: bool) {
        self.watches_all.store(watches_all, Ordering::Release);
        self.found.lock().clear();
    }

    /// The names that sources told of since the last time and nobody knew.
    pub(super) fn take_found(&self) -> HashSet<Box<str>> {
        std::mem::take(&mut *self.found.lock())
    }

    fn keep(&self, name: &str) {
        let mut found = self.found.lock();
        if found.len() < FOUND_MAX && !found.contains(name) {
            found.insert(name.into());
        }
    }

    /// A source that watches mailboxes and can be asked about them.
    pub(super) fn add(&self, id: SourceId, source: Askable) {
        self.askable.write().push((id, source));
    }

    /// Takes a source back, to stop it.
    pub(super) fn remove(&self, id: SourceId) -> Option<Askable> {
        let mut askable = self.askable.write();
        let at = askable.iter().position(|(known, _)| *known == id)?;
        Some(askable.remove(at).1)
    }

    /// Has every source that can watch `mailbox` do so.
    pub(super) fn watch(&self, mailbox: MailboxId, name: &Arc<str>) {
        for (_, source) in self.askable.read().iter() {
            source.watch(mailbox, name);
        }
    }

    /// Nobody subscribes to `mailbox` any more.
    pub(super) fn unwatch(&self, mailbox: MailboxId) {
        for (_, source) in self.askable.read().iter() {
            source.unwatch(mailbox);
        }
    }

    /// What is wrong with a source that can be asked.
    pub(super) fn failure(&self, id: SourceId) -> Option<String> {
        self.askable.read().iter().find(|(known, _)| *known == id)?.1.failure()
    }

    fn ask(&self, mailbox: MailboxId) {
        for (_, source) in self.askable.read().iter() {
            source.ask(mailbox);
        }
    }

    /// A source has read the mailbox. Where it is no IMAP source, those need not: a log-in is what costs a server most.
    fn was_read(&self, mailbox: MailboxId, by: SourceId) {
        let askable = self.askable.read();
        let is_imap = |source: &Askable| matches!(source, Askable::Imap(_));
        if askable.iter().any(|(id, source)| *id == by && is_imap(source)) {
            return;
        }
        for (_, source) in askable.iter() {
            if let Askable::Imap(source) = source {
                source.read_elsewhere(mailbox);
            }
        }
    }
}

impl Observer for Desk {
    fn find(&self, name: &str) -> Option<MailboxId> {
        let known = self.tracker.find(name);
        if known.is_none() && self.watches_all.load(Ordering::Acquire) {
            self.keep(name);
        }
        known
    }

    fn observe(&self, mailbox: MailboxId, source: SourceId, news: News, now: Now) -> Verdict {
        let verdict = self.tracker.observe(mailbox, source, news, now);
        if matches!(news, News::Reading(reading) if reading.asked_at.is_some()) {
            self.was_read(mailbox, source);
        }
        match verdict {
            Verdict::Changed => self.counters.changes.one(),
            Verdict::Ask => self.ask(mailbox),
            Verdict::Older | Verdict::Unchanged => {}
        }
        verdict
    }
}
