//! Where sources deliver their news: hands it to the tracker, and a question back to a source that can be asked.

use crate::counters::FlowCounters;
use crate::event::{MailboxId, News, Observer, SourceId, Verdict};
use crate::source::kind::{Cost, Running};
use crate::time::Now;
use crate::tracker::Tracker;
use crate::tracker::assurance::Terms;
use parking_lot::{Mutex, RwLock};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Names that sources told of and the ledger has not taken up, most; more are told again, by the next event or search.
const FOUND_MAX: usize = 65_536;

/// Mailboxes whose counts are kept while nobody knows who subscribes, most.
const KEPT_MAX: usize = 65_536;

/// The daemon's [`Observer`], and the sources that can be asked.
pub(super) struct DaemonObserver {
    tracker: Arc<Tracker>,
    counters: Arc<FlowCounters>,
    askable: RwLock<Vec<AskableSource>>,
    /// Mailboxes are watched although nobody subscribes to them (`watch-all`).
    watches_all: AtomicBool,
    /// Every mailbox that is reported is enrolled: who subscribes is not known yet.
    keeps_all: AtomicBool,
    /// Mailboxes that sources told of and nobody knows.
    found: Mutex<HashSet<Box<str>>>,
    /// One mailbox that a source reported and nobody subscribes to: a hint that names are spelled in another way.
    stranger: OnceLock<Box<str>>,
}

/// A source that can be asked, and what it promises.
struct AskableSource {
    id: SourceId,
    running: Arc<dyn Running>,
    cost: Cost,
    terms: Terms,
}

impl DaemonObserver {
    pub(super) fn new(tracker: Arc<Tracker>, counters: Arc<FlowCounters>) -> Self {
        Self {
            tracker,
            counters,
            askable: RwLock::default(),
            watches_all: AtomicBool::new(false),
            keeps_all: AtomicBool::new(false),
            found: Mutex::default(),
            stranger: OnceLock::new(),
        }
    }

    /// From now on names that nobody subscribes to are kept for [`DaemonObserver::take_found`], or not any more.
    pub(super) fn watch_all(&self, watches_all: bool) {
        self.watches_all.store(watches_all, Ordering::Release);
        self.found.lock().clear();
    }

    /// While nobody knows who subscribes, what is reported of any mailbox is kept, of [`KEPT_MAX`] mailboxes at most.
    pub(super) fn keep_all(&self, keeps_all: bool) {
        self.keeps_all.store(keeps_all, Ordering::Release);
    }

    fn is_kept(&self) -> bool {
        self.keeps_all.load(Ordering::Acquire) && self.tracker.len() < KEPT_MAX
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

    /// A mailbox that a source reported and nobody subscribes to, if there was one.
    pub(super) fn stranger(&self) -> Option<&str> {
        self.stranger.get().map(|name| &**name)
    }

    /// A source that watches mailboxes and can be asked about them.
    pub(super) fn add(&self, id: SourceId, source: Arc<dyn Running>, cost: Cost, terms: Terms) {
        self.askable.write().push(AskableSource { id, running: source, cost, terms });
    }

    /// What all sources that can be asked promise together; `None` where there is none.
    pub(super) fn terms(&self) -> Option<Terms> {
        self.askable.read().iter().map(|source| source.terms).reduce(Terms::with)
    }

    /// The server's own words for a mailbox that is not read.
    pub(super) fn words(&self, mailbox: MailboxId) -> Option<String> {
        self.askable.read().iter().find_map(|source| source.running.words(mailbox))
    }

    /// Asks a source no more: it is about to be stopped.
    pub(super) fn remove(&self, id: SourceId) {
        self.askable.write().retain(|source| source.id != id);
    }

    /// Has every source that can watch `mailbox` do so.
    pub(super) fn watch(&self, mailbox: MailboxId, name: &Arc<str>) {
        for source in self.askable.read().iter() {
            source.running.watch(mailbox, name);
        }
    }

    /// Nobody subscribes to `mailbox` any more.
    pub(super) fn unwatch(&self, mailbox: MailboxId) {
        for source in self.askable.read().iter() {
            source.running.unwatch(mailbox);
        }
    }

    fn ask(&self, mailbox: MailboxId) {
        for source in self.askable.read().iter() {
            source.running.ask(mailbox);
        }
    }

    /// A source has read the mailbox. Where its reading cost little, those that need a log-in for one are spared it: that
    /// is what costs a server most.
    fn was_read(&self, mailbox: MailboxId, by: SourceId) {
        let askable = self.askable.read();
        if askable.iter().any(|source| source.id == by && source.cost == Cost::LogIn) {
            return;
        }
        for source in askable.iter().filter(|source| source.cost == Cost::LogIn) {
            source.running.read_elsewhere(mailbox);
        }
    }
}

impl Observer for DaemonObserver {
    fn find(&self, name: &str) -> Option<MailboxId> {
        let known =
            self.tracker.find(name).or_else(|| self.is_kept().then(|| self.tracker.enroll(name).ok())?);
        if known.is_none() && self.watches_all.load(Ordering::Acquire) {
            self.keep(name);
        } else if known.is_none() {
            self.stranger.get_or_init(|| name.into());
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

#[cfg(test)]
mod tests {
    mod asked;

    use super::*;
    use crate::event::Reading;

    fn observer() -> (Arc<Tracker>, Arc<FlowCounters>, DaemonObserver) {
        let (tracker, counters) = (Arc::new(Tracker::default()), Arc::new(FlowCounters::default()));
        let observer = DaemonObserver::new(Arc::clone(&tracker), Arc::clone(&counters));
        (tracker, counters, observer)
    }

    #[test]
    fn a_name_that_nobody_subscribes_to_is_remembered_once_as_a_stranger() {
        let (tracker, _, observer) = observer();
        let known = tracker.enroll("u1").unwrap();
        assert_eq!((observer.find("u1"), observer.stranger()), (Some(known), None));
        assert_eq!((observer.find("u2"), observer.find("u3"), observer.stranger()), (None, None, Some("u2")));
        assert!(observer.take_found().is_empty());
    }

    #[test]
    fn where_all_are_watched_unknown_names_are_kept_for_the_ledger_up_to_a_limit() {
        let (_, _, observer) = observer();
        observer.watch_all(true);
        assert_eq!((observer.find("u1"), observer.find("u1"), observer.stranger()), (None, None, None));
        assert_eq!(observer.take_found(), HashSet::from(["u1".into()]));
        for number in 0..=FOUND_MAX {
            observer.find(&format!("u{number}"));
        }
        assert_eq!(observer.take_found().len(), FOUND_MAX);
        observer.find("u1");
        observer.watch_all(false);
        assert!(observer.take_found().is_empty(), "what was found before is no matter any more");
    }

    #[test]
    fn what_is_reported_before_anybody_knows_who_subscribes_is_kept_up_to_a_limit() {
        let (tracker, _, observer) = observer();
        observer.keep_all(true);
        let kept = observer.find("u1").unwrap();
        for number in 0..=KEPT_MAX {
            observer.find(&format!("v{number}"));
        }
        assert_eq!((tracker.len(), observer.find("v65536")), (KEPT_MAX, None));
        observer.keep_all(false);
        assert_eq!((observer.find("u1"), observer.find("u2")), (Some(kept), None));
    }

    #[test]
    fn a_change_is_counted_once() {
        let (tracker, counters, observer) = observer();
        let mailbox = tracker.enroll("u1").unwrap();
        let now = Now::default();
        for (unseen, changes) in [(1, 1), (1, 1), (2, 2)] {
            let reading = Reading { unseen, uid_validity: None, modseq: None, asked_at: Some(now.moment) };
            observer.observe(mailbox, SourceId(0), News::Reading(reading), now);
            assert_eq!(counters.changes.get(), changes);
        }
    }
}
