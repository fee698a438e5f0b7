//! The table as a whole: queues, and a property over random histories that what devices show ends at the truth.

use super::*;
use crate::event::{ModSeq, Reading, UidValidity};
use crate::time::UnixMs;
use proptest::prelude::*;
use std::collections::HashMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

const SOURCE: SourceId = SourceId(0);

fn at(ms: u64) -> Now {
    Now { moment: Moment::from_micros(ms * 1000), unix: UnixMs(1_800_000_000_000 + ms) }
}

fn recipient(key: i64) -> Recipient {
    Recipient {
        key: SubscriptionKey(key),
        app_id: "com.microsoft.exchange.mowa".to_owned().into(),
        device_id: format!("d{key}").into(),
        installation_id: None,
        last_update: UnixMs(0),
        expires_at: UnixMs(u64::MAX),
        background_sync: false,
    }
}

fn count(unseen: u32, modseq: u64) -> News {
    News::Reading(Reading {
        unseen,
        uid_validity: NonZeroU32::new(1).map(UidValidity),
        modseq: NonZeroU64::new(modseq).map(ModSeq),
        asked_at: None,
    })
}

/// `n` mailboxes with a device each, all ready with 1 unseen.
fn ready(n: u32) -> (Tracker, Vec<MailboxId>) {
    let tracker = Tracker::default();
    let mailboxes: Vec<MailboxId> = (0..n).map(|i| tracker.enroll(&format!("u{i}")).unwrap()).collect();
    for mailbox in &mailboxes {
        tracker.subscribe(*mailbox, recipient(i64::from(mailbox.0)), Some(0), at(0));
        tracker.observe(*mailbox, SOURCE, count(1, 1), at(0));
    }
    (tracker, mailboxes)
}

#[test]
fn a_name_has_one_place_for_good() {
    let tracker = Tracker::default();
    let first = tracker.enroll("u1").unwrap();
    assert_eq!(tracker.enroll("u1").unwrap(), first);
    assert_ne!(tracker.enroll("u2").unwrap(), first);
    assert_eq!((tracker.find("u1"), tracker.find("u3"), tracker.len()), (Some(first), None, 2));
}

#[test]
fn who_is_subscribed_is_counted_and_listed() {
    let tracker = Tracker::default();
    let [first, second, third] = ["u1", "u2", "u3"].map(|name| tracker.enroll(name).unwrap());
    for (mailbox, key) in [(third, 1), (first, 2), (first, 3), (first, 3)] {
        tracker.subscribe(mailbox, recipient(key), None, at(0));
    }
    assert_eq!(tracker.subscribed(), Subscribed { mailboxes: 2, devices: 3 });
    let key = SubscriptionKey;
    assert_eq!(tracker.devices(), HashMap::from([(key(1), third), (key(2), first), (key(3), first)]));
    assert_eq!(tracker.names(), [(first, "u1".into()), (second, "u2".into()), (third, "u3".into())]);
    assert_eq!([first, second, third].map(|mailbox| tracker.has_devices(mailbox)), [true, false, true]);
    assert!(tracker.unsubscribe(third, key(1)) && !tracker.unsubscribe(second, key(2)));
    assert_eq!(tracker.subscribed(), Subscribed { mailboxes: 1, devices: 2 });
}

#[test]
fn batches_take_the_oldest_first_and_never_more_than_asked() {
    let (tracker, mailboxes) = ready(5);
    let order: Vec<MailboxId> = tracker.take(3, at(1)).iter().map(|n| n.mailbox).collect();
    assert_eq!(order, mailboxes[..3]);
    assert_eq!((tracker.take(9, at(1)).len(), tracker.take(9, at(1)).len()), (2, 0));
}

#[test]
fn numbers_grow_by_one() {
    let (tracker, _) = ready(3);
    let numbers: Vec<u64> = tracker.take(3, at(1)).iter().map(|n| n.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn the_relay_loop_is_woken_for_the_first_and_for_a_full_batch() {
    let tracker = Tracker::default();
    let woken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&woken);
    tracker.on_ready(3, move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    for i in 0..4 {
        let mailbox = tracker.enroll(&format!("u{i}")).unwrap();
        tracker.subscribe(mailbox, recipient(i), None, at(0));
        tracker.observe(mailbox, SOURCE, count(1, 1), at(0));
    }
    assert_eq!(woken.load(Ordering::Relaxed), 2);
}

/// Found by `tests/quirks/told.rs`: a first 0 waited for two seconds in a table that nobody looked at before the next
/// change.
#[test]
fn the_relay_loop_is_woken_when_the_next_wake_comes_sooner_and_not_for_what_comes_later() {
    let tracker = Tracker::default();
    let woken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&woken);
    tracker.on_ready(3, move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    for (i, ms) in [(0, 0), (1, 5)] {
        let mailbox = tracker.enroll(&format!("u{i}")).unwrap();
        tracker.subscribe(mailbox, recipient(i), None, at(ms));
        tracker.observe(mailbox, SOURCE, count(0, 1), at(ms));
    }
    assert_eq!((tracker.ready(), woken.load(Ordering::Relaxed)), (0, 1));
    assert_eq!(tracker.next_wake(), Some(at(0).moment.after(record::FIRST_ZERO_WAIT)));
}

#[test]
fn a_throttled_device_is_woken_when_its_time_has_come() {
    let (tracker, mailboxes) = ready(1);
    let batch = tracker.take(1, at(1));
    let rejected =
        Rejected { mailbox: mailboxes[0], subscription: SubscriptionKey(0), reason: Rejection::Throttled };
    tracker.acknowledge(&batch, &[rejected], at(1));
    let due = tracker.next_wake().unwrap();
    tracker.wake(at(1));
    assert_eq!(tracker.ready(), 0);
    tracker.wake(at(1).after(due.since(at(1).moment)));
    assert_eq!((tracker.ready(), tracker.next_wake()), (1, None));
}

#[test]
fn what_a_batch_changed_is_stored_once_and_again_when_storing_failed() {
    let (tracker, _) = ready(2);
    let batch = tracker.take(2, at(1));
    let in_flight = tracker.take_unsaved(10);
    assert!(in_flight.len() == 2 && in_flight.iter().all(|(.., shown)| shown.is_none()));
    tracker.acknowledge(&batch, &[], at(1));
    let rows = tracker.take_unsaved(10);
    assert_eq!(
        rows.iter().map(|(_, key, shown)| (key.0, *shown)).collect::<Vec<_>>(),
        [(0, Some(1)), (1, Some(1))]
    );
    assert!(tracker.take_unsaved(10).is_empty());
    tracker.not_saved(&rows);
    assert_eq!(tracker.take_unsaved(10), rows);
}

#[test]
fn behind_counts_mailboxes_until_they_are_acknowledged() {
    let (tracker, _) = ready(2);
    assert_eq!(tracker.behind(at(5)), (2, Some(at(0).moment)));
    let batch = tracker.take(1, at(6));
    assert_eq!(tracker.behind(at(6)).0, 2);
    tracker.acknowledge(&batch, &[], at(7));
    assert_eq!(tracker.behind(at(7)).0, 1);
}

#[test]
fn mailboxes_sent_again_carry_their_newest_count() {
    let (tracker, mailboxes) = ready(2);
    tracker.take(2, at(1));
    tracker.observe(mailboxes[0], SOURCE, count(0, 2), at(2));
    tracker.observe(mailboxes[1], SOURCE, count(9, 2), at(2));
    let again = tracker.take_again(&mailboxes, at(3));
    assert_eq!(
        again.iter().map(|n| n.unseen).collect::<Vec<_>>(),
        [9],
        "u0 is back at what its device shows"
    );
    assert_eq!(tracker.behind(at(3)).0, 1);
}

/// What becomes of a batch in flight.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Accepted,
    AnswerLost,
    Refused,
}

/// One step of a random history over few mailboxes and devices.
#[derive(Clone, Debug)]
enum Step {
    Change { mailbox: u32, unseen: u32 },
    Late { mailbox: u32, unseen: u32 },
    Take(usize),
    Settle { fate: Fate, is_oldest_first: bool },
    Renew { mailbox: u32, shown: Option<u32> },
    Unsubscribe { mailbox: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let mailbox = 0..4u32;
    prop_oneof![
        4 => (mailbox.clone(), 0..5u32).prop_map(|(mailbox, unseen)| Step::Change { mailbox, unseen }),
        1 => (mailbox.clone(), 0..5u32).prop_map(|(mailbox, unseen)| Step::Late { mailbox, unseen }),
        3 => (1..4usize).prop_map(Step::Take),
        3 => (prop_oneof![Just(Fate::Accepted), Just(Fate::AnswerLost), Just(Fate::Refused)], any::<bool>())
            .prop_map(|(fate, is_oldest_first)| Step::Settle { fate, is_oldest_first }),
        1 => (mailbox.clone(), proptest::option::of(0..5u32))
            .prop_map(|(mailbox, shown)| Step::Renew { mailbox, shown }),
        1 => mailbox.prop_map(|mailbox| Step::Unsubscribe { mailbox }),
    ]
}

/// The other side: what devices really show, and what is in flight.
#[derive(Default)]
struct World {
    truth: HashMap<u32, u32>,
    screens: HashMap<i64, u32>,
    flights: VecDeque<Vec<Notification>>,
    modseq: u64,
}

impl World {
    fn play(&mut self, tracker: &Tracker, step: &Step, now: Now) {
        match *step {
            Step::Change { mailbox, unseen } => {
                self.modseq += 1;
                self.truth.insert(mailbox, unseen);
                tracker.observe(MailboxId(mailbox), SOURCE, count(unseen, self.modseq + 1), now);
            }
            Step::Late { mailbox, unseen } => {
                if self.truth.contains_key(&mailbox) {
                    tracker.observe(MailboxId(mailbox), SOURCE, count(unseen, 1), now);
                }
            }
            Step::Take(max) => {
                let batch = tracker.take(max, now);
                self.check_alone_in_flight(&batch);
                self.flights.extend((!batch.is_empty()).then_some(batch));
            }
            Step::Settle { fate, is_oldest_first } => {
                let flight = if is_oldest_first { self.flights.pop_front() } else { self.flights.pop_back() };
                self.arrive(tracker, flight, fate, now);
            }
            Step::Renew { mailbox, shown } => {
                let key = i64::from(mailbox);
                shown.and_then(|shown| self.screens.insert(key, shown));
                tracker.subscribe(MailboxId(mailbox), recipient(key), shown, now);
            }
            Step::Unsubscribe { mailbox } => {
                tracker.unsubscribe(MailboxId(mailbox), SubscriptionKey(i64::from(mailbox)));
            }
        }
    }

    fn check_alone_in_flight(&self, batch: &[Notification]) {
        for notification in batch {
            let is_flying = self.flights.iter().flatten().any(|n| n.mailbox == notification.mailbox);
            assert!(!is_flying, "two notifications of {:?} in flight", notification.mailbox);
        }
    }

    fn arrive(&mut self, tracker: &Tracker, flight: Option<Vec<Notification>>, fate: Fate, now: Now) {
        let Some(batch) = flight else { return };
        for notification in batch.iter().filter(|_| !matches!(fate, Fate::Refused)) {
            for recipient in &notification.recipients {
                self.screens.insert(recipient.key.0, notification.unseen);
            }
        }
        match fate {
            Fate::Accepted => tracker.acknowledge(&batch, &[], now),
            Fate::AnswerLost => tracker.refuse(&batch, true, now),
            Fate::Refused => tracker.refuse(&batch, false, now),
        }
    }
}

proptest! {
    #[test]
    fn whatever_happened_every_live_device_ends_at_the_truth(steps in proptest::collection::vec(step(), 0..80)) {
        let tracker = Tracker::default();
        let mut world = World::default();
        for i in 0..4 {
            tracker.enroll(&format!("u{i}")).unwrap();
            tracker.subscribe(MailboxId(i), recipient(i64::from(i)), None, at(0));
        }
        let mut now = at(0);
        for step in &steps {
            now = now.after(Duration::from_millis(1));
            world.play(&tracker, step, now);
            prop_assert!(tracker.ready() <= 4, "a mailbox stands in the queue at most once");
        }
        now = now.after(record::FIRST_ZERO_WAIT);
        tracker.wake(now);
        for _ in 0..10 {
            while let Some(flight) = world.flights.pop_front() {
                world.arrive(&tracker, Some(flight), Fate::Accepted, now);
            }
            world.play(&tracker, &Step::Take(9), now);
        }
        for i in 0..4u32 {
            let is_live = tracker.inspect(MailboxId(i), |record| record.devices().count() > 0).unwrap();
            if let Some(truth) = world.truth.get(&i).filter(|_| is_live) {
                prop_assert_eq!(world.screens.get(&i64::from(i)), Some(truth));
            }
        }
        prop_assert_eq!(tracker.behind(now).0, 0);
    }
}

#[test]
fn a_forgotten_mailbox_leaves_its_place_to_another_after_a_rest_and_its_news_to_nobody() {
    let tracker = Tracker::default();
    let [old, kept] = ["old", "kept"].map(|name| tracker.enroll(name).unwrap());
    tracker.subscribe(kept, recipient(1), Some(0), at(0));
    tracker.observe(old, SOURCE, count(7, 1), at(0));
    assert_eq!(tracker.forget(&[old, kept], at(0).moment), [old], "somebody subscribes to the other");
    assert_eq!((tracker.find("old"), tracker.find("kept"), tracker.named()), (None, Some(kept), 1));
    // A source's thread that still has its number.
    tracker.observe(old, SOURCE, count(9, 2), at(1));
    let rested = at(0).after(places::RESTS);
    tracker.release(Moment::from_micros(rested.moment.micros() - 1));
    let soon = tracker.enroll("soon").unwrap();
    assert_ne!(soon, old);
    tracker.release(rested.moment);
    let new = tracker.enroll("new").unwrap();
    assert_eq!((new, tracker.len()), (old, 3));
    assert_eq!(tracker.inspect(new, Record::known), Some(None));
    tracker.subscribe(new, recipient(2), None, rested);
    assert!(tracker.take(9, rested).is_empty(), "nothing is known of it");
    assert_eq!(tracker.forget(&[new], rested.moment), []);
}

proptest! {
    #[test]
    fn no_two_names_ever_share_a_place_and_no_name_hears_of_another(
        steps in proptest::collection::vec((0..4u32, 0..6u32, 0..40u64), 0..200),
    ) {
        let tracker = Tracker::default();
        let mut now = at(0);
        for (kind, name, minutes) in steps {
            now = now.after(Duration::from_secs(minutes * 60));
            let spelled = format!("u{name}");
            match kind {
                0 => drop(tracker.enroll(&spelled).unwrap()),
                1 => {
                    if let Some(mailbox) = tracker.find(&spelled) {
                        tracker.observe(mailbox, SOURCE, count(name, 1), now);
                    }
                }
                2 => {
                    let found: Vec<MailboxId> = tracker.find(&spelled).into_iter().collect();
                    prop_assert_eq!(tracker.forget(&found, now.moment), found);
                }
                _ => tracker.release(now.moment),
            }
            let names = tracker.names();
            let places: HashMap<MailboxId, Arc<str>> = names.iter().cloned().collect();
            prop_assert_eq!(places.len(), names.len());
            for (mailbox, name) in names {
                let known = tracker.inspect(mailbox, |record| record.known().map(|known| known.unseen)).flatten();
                prop_assert!(known.is_none_or(|unseen| *name == *format!("u{unseen}")), "{} hears {:?}", name, known);
            }
        }
    }
}
