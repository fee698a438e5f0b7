//! Where sources deliver their news: hands it to the tracker, and a question back to a source that can be asked.

use crate::counters::FlowCounters;
use crate::event::{MailboxId, News, Observer, SourceId, Verdict};
use crate::ledger::{Found, Reported};
use crate::source::kind::{Cost, Running};
use crate::time::{Moment, Now};
use crate::tracker::Tracker;
use crate::tracker::assurance::Terms;
use parking_lot::{Mutex, RwLock};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Listed names that the ledger has not taken up, most; more are found by the next search.
const FOUND_MAX: usize = 65_536;
/// Bytes of a name that is kept, most: an address has 320 (RFC 5321 §4.5.3.1).
const NAME_MAX: usize = 512;

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
    found: Mutex<Found>,
    reported: Arc<Reported>,
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
    pub(super) fn new(tracker: Arc<Tracker>, counters: Arc<FlowCounters>, reported: Arc<Reported>) -> Self {
        Self {
            tracker,
            counters,
            reported,
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
        *self.found.lock() = Found::default();
    }

    /// While nobody knows who subscribes, what is reported of any mailbox is kept, of [`KEPT_MAX`] mailboxes at most.
    pub(super) fn keep_all(&self, keeps_all: bool) {
        self.keeps_all.store(keeps_all, Ordering::Release);
    }

    /// The mailbox of this name from now on, while what is reported of any is kept.
    fn keep_unheard(&self, name: &str) -> Option<MailboxId> {
        let is_kept = self.keeps_all.load(Ordering::Acquire)
            && name.len() <= NAME_MAX
            && self.tracker.named() < KEPT_MAX;
        let mailbox = is_kept.then(|| self.tracker.enroll(name).ok())??;
        self.reported.add(mailbox, Moment::START);
        Some(mailbox)
    }

    /// The names that sources told of since the last time and nobody knew.
    pub(super) fn take_found(&self) -> Found {
        std::mem::take(&mut *self.found.lock())
    }

    fn keep(&self, name: &str, is_listed: bool) {
        if !is_listed && self.reported.room() == 0 {
            return self.reported.leave_out(1);
        }
        let mut found = self.found.lock();
        let Found { listed, reported } = &mut *found;
        let (names, most) = if is_listed { (listed, FOUND_MAX) } else { (reported, self.reported.room()) };
        if name.len() <= NAME_MAX && names.len() < most {
            if !names.contains(name) {
                names.insert(name.into());
            }
        } else if !is_listed && !names.contains(name) {
            self.reported.leave_out(1);
        }
    }

    fn find_as(&self, name: &str, is_listed: bool) -> Option<MailboxId> {
        let known = self.tracker.find(name).or_else(|| self.keep_unheard(name));
        match known {
            Some(mailbox) if is_listed => self.reported.is_known(mailbox),
            None if self.watches_all.load(Ordering::Acquire) => self.keep(name, is_listed),
            None if name.len() <= NAME_MAX => drop(self.stranger.get_or_init(|| name.into())),
            Some(_) | None => {}
        }
        known
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
        self.find_as(name, false)
    }

    fn find_listed(&self, name: &str) -> Option<MailboxId> {
        self.find_as(name, true)
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
    use crate::ledger::REPORTED_MAX;
    use std::collections::HashSet;

    fn observer() -> (Arc<Tracker>, Arc<FlowCounters>, DaemonObserver) {
        let (tracker, counters) = (Arc::new(Tracker::default()), Arc::new(FlowCounters::default()));
        let observer = DaemonObserver::new(Arc::clone(&tracker), Arc::clone(&counters), Arc::default());
        (tracker, counters, observer)
    }

    #[test]
    fn a_name_that_nobody_subscribes_to_is_remembered_once_as_a_stranger() {
        let (tracker, _, observer) = observer();
        let known = tracker.enroll("u1").unwrap();
        assert_eq!((observer.find("u1"), observer.stranger()), (Some(known), None));
        assert_eq!((observer.find("u2"), observer.find("u3"), observer.stranger()), (None, None, Some("u2")));
        assert_eq!(observer.take_found(), Found::default());
    }

    #[test]
    fn where_all_are_watched_unknown_names_are_kept_for_the_ledger_up_to_a_limit() {
        let (_, _, observer) = observer();
        observer.watch_all(true);
        assert_eq!((observer.find("u1"), observer.find("u1"), observer.stranger()), (None, None, None));
        observer.find_listed("u2");
        let set = |name: &str| HashSet::from([name.into()]);
        assert_eq!(observer.take_found(), Found { listed: set("u2"), reported: set("u1") });
        for number in 0..=FOUND_MAX {
            observer.find(&format!("u{number}"));
            observer.find_listed(&format!("u{number}"));
        }
        observer.find_listed(&"u".repeat(NAME_MAX + 1));
        let left_out = observer.reported.counts().1;
        assert_eq!(left_out as usize, FOUND_MAX + 1 - REPORTED_MAX);
        let found = observer.take_found();
        assert_eq!((found.listed.len(), found.reported.len()), (FOUND_MAX, REPORTED_MAX));
        observer.find("u1");
        observer.watch_all(false);
        assert_eq!(observer.take_found(), Found::default(), "what was found before is no matter any more");
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
