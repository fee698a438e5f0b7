//! The table: what each mailbox holds, what each of its devices shows, and the queue of those that differ.
//!
//! State, not events. A mailbox stands in the ready queue at most once; a batch carries the newest count; an
//! acknowledgement sets what is shown; if the count moved meanwhile, the mailbox is ready again. Coalescing, bounded
//! memory, order per mailbox and restart without loss follow from that alone. The transitions of one record are in
//! [`record`]; here are only lookup, locks and queues. Any number of threads may call [`Tracker::observe`] at once. Which
//! mailboxes nobody knows the count of is [`assurance`]'s.

pub mod record;
pub mod assurance;
mod register;
mod places;

use crate::event::{
    MailboxId, News, Notification, Recipient, Rejected, Rejection, SourceId, SubscriptionKey, Verdict,
};
use crate::time::{Moment, Now};
use assurance::{Census, Terms, judge};
use parking_lot::{Mutex, MutexGuard};
use places::Places;
use record::{Record, Stage};
use register::Register;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Records in one allocation of the slab.
const CHUNK: usize = 1 << 12;
/// Allocations the slab can grow to.
const CHUNKS: usize = 1 << 12;
/// Mailboxes one process can hold.
pub const MAILBOXES_MAX: usize = CHUNK * CHUNKS;

type Chunk = Box<[Mutex<Record>]>;

/// Mailboxes a queue keeps room for after a burst.
const QUEUE_KEPT: usize = 1 << 12;

/// More mailboxes than [`MAILBOXES_MAX`].
#[derive(Debug, thiserror::Error)]
#[error("{MAILBOXES_MAX} mailboxes are as many as one agent holds; run a second agent for the rest")]
pub struct Full;

/// The table of mailboxes.
pub struct Tracker {
    names: Register,
    chunks: Box<[OnceLock<Chunk>]>,
    enrolled: AtomicU32,
    places: Mutex<Places>,
    ready: Mutex<VecDeque<MailboxId>>,
    later: Mutex<BTreeSet<(Moment, MailboxId)>>,
    unsaved: Mutex<VecDeque<MailboxId>>,
    subscribed: Mutex<Subscribed>,
    numbers: AtomicU64,
    waker: OnceLock<ReadyWaker>,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscribed {
    /// Mailboxes with devices.
    pub mailboxes: usize,
    /// Their devices.
    pub devices: usize,
}

/// Wakes whoever takes batches once there is something to take.
struct ReadyWaker {
    /// Ready mailboxes that fill a batch.
    full: usize,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Default for Tracker {
    fn default() -> Self {
        Self {
            names: Register::default(),
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            enrolled: AtomicU32::new(0),
            places: Mutex::default(),
            ready: Mutex::default(),
            later: Mutex::default(),
            unsaved: Mutex::default(),
            subscribed: Mutex::default(),
            numbers: AtomicU64::new(1),
            waker: OnceLock::new(),
        }
    }
}

impl Tracker {
    /// Has `wake` called whenever the ready queue stops being empty or reaches `full`, and when [`Tracker::next_wake`] comes
    /// sooner. Only the first call counts.
    pub fn on_ready(&self, full: usize, wake: impl Fn() + Send + Sync + 'static) {
        self.waker.get_or_init(|| ReadyWaker { full, wake: Box::new(wake) });
    }

    /// The mailbox of this name, new where it is not known yet. Its place is given to another only after
    /// [`Tracker::forget`], and not soon.
    pub fn enroll(&self, name: &str) -> Result<MailboxId, Full> {
        if let Some(id) = self.find(name) {
            return Ok(id);
        }
        self.names.enter(name, || {
            if let Some(free) = self.places.lock().take() {
                // What a source said of the former mailbox after it was forgotten.
                if let Some(mut record) = self.record(free) {
                    *record = Record::default();
                }
                return Ok(free);
            }
            let id = MailboxId(self.enrolled.fetch_add(1, Ordering::AcqRel));
            let Some(chunk) = self.chunks.get(id.0 as usize / CHUNK) else {
                self.enrolled.fetch_sub(1, Ordering::AcqRel);
                return Err(Full);
            };
            chunk.get_or_init(|| (0..CHUNK).map(|_| Mutex::default()).collect());
            Ok(id)
        })
    }

    /// The mailbox of this name, if it was enrolled.
    pub fn find(&self, name: &str) -> Option<MailboxId> {
        self.names.find(name)
    }

    /// Forgets these mailboxes, name and count, but for those that somebody subscribes to or that are on their way to the
    /// relay; gives those that it forgot. Sources must not watch them any more.
    pub fn forget(&self, mailboxes: &[MailboxId], now: Moment) -> Vec<MailboxId> {
        let is_blank = |mailbox: &MailboxId| self.record(*mailbox).is_some_and(|record| record.is_blank());
        let forgotten: Vec<MailboxId> = mailboxes.iter().copied().filter(is_blank).collect();
        // The names first: nobody finds a mailbox whose count is gone.
        self.names.remove(&forgotten);
        for mailbox in &forgotten {
            if let Some(mut record) = self.record(*mailbox) {
                *record = Record::default();
            }
            self.places.lock().leave(*mailbox, now);
        }
        forgotten
    }

    /// Makes places free that were left long enough ago.
    pub fn release(&self, now: Moment) {
        self.places.lock().release(now);
    }

    /// Mailboxes that have a name now.
    pub fn named(&self) -> usize {
        self.names.len()
    }

    /// From now on letter case tells no mailboxes apart, or does; that of a domain never does. True where that is a
    /// change: then all names are forgotten, and whoever is subscribed is to be enrolled anew.
    pub fn fold_case(&self, folds_case: bool) -> bool {
        self.names.fold_case(folds_case)
    }

    /// The record, locked; `None` for an id of another table.
    fn record(&self, mailbox: MailboxId) -> Option<MutexGuard<'_, Record>> {
        let index = mailbox.0 as usize;
        Some(self.chunks.get(index / CHUNK)?.get()?.get(index % CHUNK)?.lock())
    }

    /// Takes news of a mailbox; where a device now differs, the mailbox is ready.
    pub fn observe(&self, mailbox: MailboxId, source: SourceId, news: News, now: Now) -> Verdict {
        let Some(mut record) = self.record(mailbox) else { return Verdict::Older };
        let verdict = record.observe(source, news, now);
        if verdict != Verdict::Older {
            self.settle(mailbox, record, now);
        }
        verdict
    }

    /// Adds or renews a device; `shown` is what it reported to show.
    pub fn subscribe(&self, mailbox: MailboxId, recipient: Recipient, shown: Option<u32>, now: Now) {
        if let Some(mut record) = self.record(mailbox) {
            let key = recipient.key;
            self.counting(&mut record, |record| record.subscribe(recipient, shown, now));
            // Else the store holds what the device reported, and nobody knows whether that still holds.
            let is_believed = record.devices().any(|(device, known)| device.key == key && known == shown);
            if !is_believed && record.mark_unsaved() {
                self.unsaved.lock().push_back(mailbox);
            }
            self.settle(mailbox, record, now);
        }
    }

    /// Forgets a device. True where it was there.
    pub fn unsubscribe(&self, mailbox: MailboxId, key: SubscriptionKey) -> bool {
        let unsubscribe = |record: &mut Record| record.unsubscribe(key);
        self.record(mailbox).is_some_and(|mut record| self.counting(&mut record, unsubscribe))
    }

    /// Changes who is subscribed.
    fn counting<T>(&self, record: &mut Record, change: impl FnOnce(&mut Record) -> T) -> T {
        let before = record.devices().count();
        let done = change(record);
        let after = record.devices().count();
        let mut subscribed = self.subscribed.lock();
        subscribed.devices = subscribed.devices + after - before;
        subscribed.mailboxes = subscribed.mailboxes + usize::from(after > 0) - usize::from(before > 0);
        done
    }

    /// How many mailboxes have devices, and how many.
    pub fn subscribed(&self) -> Subscribed {
        *self.subscribed.lock()
    }

    /// Every device with its mailbox. Walks the whole table.
    pub fn devices(&self) -> HashMap<SubscriptionKey, MailboxId> {
        let all = (0..self.enrolled.load(Ordering::Acquire)).map(MailboxId);
        let of = |mailbox| {
            let keys = |record: &Record| record.devices().map(|(device, _)| device.key).collect::<Vec<_>>();
            self.inspect(mailbox, keys).unwrap_or_default().into_iter().map(move |key| (key, mailbox))
        };
        all.flat_map(of).collect()
    }

    /// All names as they were first spelled, by the mailboxes' places. Walks the whole table.
    pub fn names(&self) -> Vec<(MailboxId, Arc<str>)> {
        self.names.all()
    }

    /// Whether anybody subscribes to the mailbox.
    pub fn has_devices(&self, mailbox: MailboxId) -> bool {
        self.inspect(mailbox, |record| record.devices().next().is_some()) == Some(true)
    }

    /// Puts up to `max` ready mailboxes in flight, each with its newest count; oldest first.
    pub fn take(&self, max: usize, now: Now) -> Vec<Notification> {
        let mut batch = Vec::new();
        while batch.len() < max {
            let Some(mailbox) = pop(&mut self.ready.lock()) else { break };
            batch.extend(self.notification(mailbox, Stage::Ready, now));
        }
        batch
    }

    /// The newest counts of mailboxes that are in flight already and are to be sent once more; those that nothing is
    /// due of any more leave the flight.
    pub fn take_again(&self, mailboxes: &[MailboxId], now: Now) -> Vec<Notification> {
        let again = |mailbox: &MailboxId| self.notification(*mailbox, Stage::InFlight, now);
        mailboxes.iter().filter_map(again).collect()
    }

    fn notification(&self, mailbox: MailboxId, stage: Stage, now: Now) -> Option<Notification> {
        let mut record = self.record(mailbox)?;
        if record.stage() != stage {
            return None;
        }
        let Some(due) = record.take(now) else {
            self.settle(mailbox, record, now);
            return None;
        };
        if record.mark_unsaved() {
            self.unsaved.lock().push_back(mailbox);
        }
        drop(record);
        Some(Notification {
            mailbox,
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            unseen: due.unseen,
            background_sync: due.background_sync,
            recipients: due.recipients,
            changed_at: due.changed_at,
            taken_at: now.unix,
        })
    }

    /// The relay took this batch, but for what it rejected.
    pub fn acknowledge(&self, batch: &[Notification], rejected: &[Rejected], now: Now) {
        for notification in batch {
            let of_mailbox: Vec<(SubscriptionKey, Rejection)> = rejected
                .iter()
                .filter(|line| line.mailbox == notification.mailbox)
                .map(|line| (line.subscription, line.reason))
                .collect();
            self.land(notification.mailbox, now, |record| record.acknowledge(&of_mailbox, now));
        }
    }

    /// This batch was not acknowledged; its mailboxes are ready again. Where it `may_have_arrived` its devices are sent
    /// their counts even if these come back to what they showed before.
    pub fn refuse(&self, batch: &[Notification], may_have_arrived: bool, now: Now) {
        for notification in batch {
            self.land(notification.mailbox, now, |record| record.refuse(may_have_arrived));
        }
    }

    /// The relay found these notifications themselves invalid; nothing is sent until their mailboxes change
    /// or [`record::ASIDE_WAIT`] is over.
    pub fn put_aside(&self, batch: &[Notification], now: Now) {
        for notification in batch {
            self.land(notification.mailbox, now, |record| record.put_aside(now));
        }
    }

    fn land(&self, mailbox: MailboxId, now: Now, transition: impl FnOnce(&mut Record)) {
        let Some(mut record) = self.record(mailbox) else { return };
        transition(&mut record);
        if record.mark_unsaved() {
            self.unsaved.lock().push_back(mailbox);
        }
        self.settle(mailbox, record, now);
    }

    /// Queues the mailbox where it must be: ready, or later for a device that must wait.
    fn settle(&self, mailbox: MailboxId, mut record: MutexGuard<'_, Record>, now: Now) {
        if record.make_ready(now) {
            let mut ready = self.ready.lock();
            ready.push_back(mailbox);
            let length = ready.len();
            drop((ready, record));
            if let Some(waker) = self.waker.get().filter(|waker| length == 1 || length == waker.full) {
                (waker.wake)();
            }
        } else if record.stage() == Stage::Idle
            && let Some(until) = record.held_until(now)
        {
            let mut later = self.later.lock();
            let is_sooner = later.first().is_none_or(|first| (until, mailbox) < *first);
            later.insert((until, mailbox));
            drop((later, record));
            // Whoever sleeps until the first of them must sleep less.
            if let Some(waker) = self.waker.get().filter(|_| is_sooner) {
                (waker.wake)();
            }
        }
    }

    /// Makes mailboxes ready whose devices have waited long enough.
    pub fn wake(&self, now: Now) {
        while let Some(mailbox) = self.pop_due(now.moment) {
            if let Some(record) = self.record(mailbox) {
                self.settle(mailbox, record, now);
            }
        }
    }

    fn pop_due(&self, now: Moment) -> Option<MailboxId> {
        let mut later = self.later.lock();
        let is_due = later.first().is_some_and(|(at, _)| *at <= now);
        if is_due { later.pop_first().map(|(_, mailbox)| mailbox) } else { None }
    }

    /// When [`Tracker::wake`] has something to do next.
    pub fn next_wake(&self) -> Option<Moment> {
        self.later.lock().first().map(|(at, _)| *at)
    }

    /// Mailboxes in the ready queue.
    pub fn ready(&self) -> usize {
        self.ready.lock().len()
    }

    /// Mailboxes whose devices show something that was not stored yet.
    pub fn unsaved(&self) -> usize {
        self.unsaved.lock().len()
    }

    /// What devices show that was not stored yet, of up to `max` mailboxes, those that waited longest first; `None` for
    /// devices that something is in flight to. The caller stores it, or gives it back by [`Tracker::not_saved`].
    pub fn take_unsaved(&self, max: usize) -> Vec<(MailboxId, SubscriptionKey, Option<u32>)> {
        let mailboxes: Vec<MailboxId> = {
            let mut unsaved = self.unsaved.lock();
            let count = unsaved.len().min(max);
            (0..count).filter_map(|_| pop(&mut unsaved)).collect()
        };
        let mut rows = Vec::with_capacity(mailboxes.len());
        for mailbox in mailboxes {
            if let Some(mut record) = self.record(mailbox) {
                record.saved();
                rows.extend(record.devices().map(|(recipient, shown)| (mailbox, recipient.key, shown)));
            }
        }
        rows
    }

    /// Storing failed: these mailboxes are to be stored again.
    pub fn not_saved(&self, rows: &[(MailboxId, SubscriptionKey, Option<u32>)]) {
        let mut mailboxes: Vec<MailboxId> = rows.iter().map(|(mailbox, ..)| *mailbox).collect();
        mailboxes.dedup();
        mailboxes.retain(|mailbox| self.record(*mailbox).is_some_and(|mut record| record.mark_unsaved()));
        self.unsaved.lock().extend(mailboxes);
    }

    /// Looks at one record under its lock.
    pub fn inspect<T>(&self, mailbox: MailboxId, look: impl FnOnce(&Record) -> T) -> Option<T> {
        self.record(mailbox).map(|record| look(&record))
    }

    /// How many mailboxes are behind, and when the oldest change among them was observed. Walks the whole table.
    pub fn behind(&self, now: Now) -> (usize, Option<Moment>) {
        let mut count = 0;
        let mut oldest: Option<Moment> = None;
        for id in 0..self.enrolled.load(Ordering::Acquire) {
            let Some(record) = self.record(MailboxId(id)) else { continue };
            if record.is_behind(now) {
                count += 1;
                oldest = [oldest, record.oldest_change()].into_iter().flatten().min();
            }
        }
        (count, oldest)
    }

    /// Whose count is unknown or unconfirmed on these terms. Walks the whole table.
    pub fn census(&self, terms: Option<&Terms>, now: Now) -> Census {
        let mut census = Census::default();
        let mailboxes = self.subscribed().mailboxes;
        for mailbox in (0..self.enrolled.load(Ordering::Acquire)).map(MailboxId) {
            if let Some(seen) = self.inspect(mailbox, |record| record.seen(now)).flatten() {
                census.add(mailbox, judge(seen, terms, mailboxes, now.moment));
            }
        }
        census
    }

    /// The names of these mailboxes, in the same order. Walks the whole table, unless there are none.
    pub fn names_of(&self, mailboxes: &[MailboxId]) -> Vec<Arc<str>> {
        if mailboxes.is_empty() { Vec::new() } else { self.names.of(mailboxes) }
    }

    /// Places of the table that were ever given to a mailbox.
    pub fn len(&self) -> usize {
        self.enrolled.load(Ordering::Acquire) as usize
    }

    /// Whether nothing was enrolled yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The first of the queue, whose memory goes with its last.
fn pop(queue: &mut VecDeque<MailboxId>) -> Option<MailboxId> {
    let first = queue.pop_front();
    if queue.is_empty() {
        queue.shrink_to(QUEUE_KEPT);
    }
    first
}

#[cfg(test)]
mod tests;
