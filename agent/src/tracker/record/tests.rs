//! What is believed, and what each device is due, case by case.

mod mixed;
mod order;

use super::*;
use crate::time::UnixMs;
use std::num::{NonZeroU32, NonZeroU64};

const DICT: SourceId = SourceId(0);
const IMAP: SourceId = SourceId(1);

fn at(ms: u64) -> Now {
    Now { moment: Moment::from_micros(ms * 1000), unix: UnixMs(1_800_000_000_000 + ms) }
}

fn reading(unseen: u32, validity: u32, modseq: u64, asked_ms: Option<u64>) -> Reading {
    Reading {
        unseen,
        uid_validity: NonZeroU32::new(validity).map(UidValidity),
        modseq: NonZeroU64::new(modseq).map(ModSeq),
        asked_at: asked_ms.map(|ms| at(ms).moment),
    }
}

fn device(key: i64, id: &str) -> Recipient {
    Recipient {
        key: SubscriptionKey(key),
        app_id: "com.microsoft.exchange.mowa".to_owned().into(),
        device_id: id.into(),
        installation_id: None,
        last_update: UnixMs(0),
        expires_at: at(100_000).unix,
        background_sync: key == 32,
    }
}

/// A record whose last event, at 100 ms, said 3 unseen of validity 7.
fn known_by(source: SourceId, modseq: u64) -> Record {
    let mut record = Record::default();
    record.observe(source, News::Reading(reading(3, 7, modseq, None)), at(100));
    record
}

#[test]
fn newer_readings_are_believed_older_ones_dropped_and_the_rest_asked_for() {
    use Verdict::{Ask, Changed, Older, Unchanged};
    // modseq known from DICT, then: source, reading → verdict
    let cases = [
        ("a higher modseq", 10, DICT, reading(4, 7, 11, None), Changed),
        ("a higher modseq of another source", 10, IMAP, reading(4, 7, 11, None), Changed),
        ("the same again", 10, DICT, reading(3, 7, 10, None), Unchanged),
        ("a lower modseq", 10, DICT, reading(2, 7, 9, None), Older),
        ("a lower modseq of another source", 10, IMAP, reading(2, 7, 9, None), Older),
        ("another uidvalidity", 10, DICT, reading(0, 8, 1, None), Ask),
        ("another uidvalidity that we asked for", 10, IMAP, reading(0, 8, 1, Some(101)), Changed),
        ("no modseq, same source: arrival", 10, DICT, reading(2, 7, 0, None), Changed),
        ("no modseq, another source, contradiction", 10, IMAP, reading(2, 7, 0, None), Ask),
        ("no modseq, another source, agreement", 10, IMAP, reading(3, 7, 0, None), Unchanged),
        ("no uidvalidity fits any", 10, DICT, reading(4, 0, 11, None), Changed),
        ("an answer asked after the last event", 10, IMAP, reading(1, 7, 5, Some(100)), Changed),
        ("an answer asked before it, older by modseq", 10, IMAP, reading(1, 7, 9, Some(99)), Older),
        ("an answer asked before it, newer by modseq", 10, IMAP, reading(1, 7, 11, Some(99)), Changed),
        ("an answer asked before it, nothing orders them", 10, IMAP, reading(1, 7, 0, Some(99)), Ask),
        ("modseq where none was known, another source", 0, IMAP, reading(4, 7, 2, None), Ask),
        ("modseq where none was known, agreement", 0, IMAP, reading(3, 7, 2, None), Unchanged),
        ("modseq where none was known, same source", 0, DICT, reading(4, 7, 2, None), Changed),
        ("modseq where none was known, asked before it", 0, DICT, reading(4, 7, 2, Some(99)), Ask),
    ];
    for (name, modseq, source, next, expected) in cases {
        let mut record = known_by(DICT, modseq);
        assert_eq!(record.observe(source, News::Reading(next), at(102)), expected, "{name}");
        let unseen = record.known().map(|known| known.unseen);
        let is_believed = matches!(expected, Changed | Unchanged);
        assert_eq!(unseen, Some(if is_believed { next.unseen } else { 3 }), "{name}");
    }
}

#[test]
fn a_reading_without_modseq_does_not_let_older_ones_back_in() {
    let mut record = known_by(DICT, 10);
    record.observe(DICT, News::Reading(reading(0, 7, 0, None)), at(101));
    assert_eq!(record.observe(DICT, News::Reading(reading(2, 7, 9, None)), at(102)), Verdict::Older);
}

#[test]
fn late_events_of_a_former_uidvalidity_are_never_taken_for_the_next_incarnations() {
    use Verdict::{Ask, Changed};
    let late = at(106 + LATE_MAX.as_millis() as u64);
    let told = |record: &mut Record, unseen, validity, now| {
        record.observe(DICT, News::Reading(reading(unseen, validity, 4, None)), now)
    };
    let mut record = known_by(DICT, 10);
    let steps = [
        (3, 8, at(101), Ask),
        (2, 7, at(102), Ask),
        (2, 7, at(103), Ask),
        (1, 7, at(104), Ask),
        (4, 8, at(105), Changed),
    ];
    for (unseen, validity, now, verdict) in steps {
        assert_eq!(told(&mut record, unseen, validity, now), verdict, "{unseen} of {validity}");
    }
    assert_eq!(record.known().map(|known| known.unseen), Some(4));
    // A backup put back: its smaller one is believed once nothing can be late any more.
    assert_eq!((told(&mut record, 1, 5, late), told(&mut record, 1, 5, late)), (Ask, Changed));
}

#[test]
fn a_hint_is_a_reason_to_ask() {
    assert_eq!(known_by(DICT, 10).observe(IMAP, News::Hint, at(101)), Verdict::Ask);
}

#[test]
fn only_devices_that_differ_are_due_and_an_acknowledgement_sets_what_they_show() {
    let mut record = known_by(DICT, 10);
    record.subscribe(device(1, "a"), Some(3), at(100));
    record.subscribe(device(2, "b"), Some(5), at(100));
    record.subscribe(device(32, "c"), None, at(100));
    assert!(record.make_ready(at(101)));
    assert!(!record.make_ready(at(101)), "stands in the queue once");
    let due = record.take(at(102)).unwrap();
    let keys: Vec<i64> = due.recipients.iter().map(|recipient| recipient.key.0).collect();
    assert_eq!((due.unseen, keys, due.background_sync), (3, vec![2, 32], true));
    record.acknowledge(&[], at(103));
    assert!(record.devices().all(|(_, shown)| shown == Some(3)));
    assert!(!record.is_behind(at(103)) && !record.make_ready(at(103)));
    assert_eq!(record.oldest_change(), None);
}

#[test]
fn a_count_that_moves_in_flight_makes_the_mailbox_ready_again_after_the_acknowledgement() {
    let mut record = known_by(DICT, 10);
    record.subscribe(device(1, "a"), None, at(100));
    record.make_ready(at(100));
    record.take(at(100)).unwrap();
    record.observe(DICT, News::Reading(reading(4, 7, 11, None)), at(101));
    assert!(!record.make_ready(at(101)), "one notification of a device in flight");
    record.acknowledge(&[], at(102));
    assert!(record.make_ready(at(102)));
    assert_eq!(record.take(at(103)).unwrap().changed_at, at(101).moment);
}

#[test]
fn a_refused_batch_leaves_its_devices_due_and_the_age_of_the_change() {
    let mut record = known_by(DICT, 10);
    record.subscribe(device(1, "a"), None, at(100));
    record.make_ready(at(100));
    record.take(at(100)).unwrap();
    record.observe(DICT, News::Reading(reading(4, 7, 11, None)), at(150));
    record.refuse(false);
    assert!(record.make_ready(at(160)));
    let due = record.take(at(160)).unwrap();
    assert_eq!((due.unseen, due.changed_at), (4, at(100).moment));
}

#[test]
fn rejected_devices_wait_as_long_as_their_reason_says() {
    let mut record = known_by(DICT, 10);
    for (key, id) in [(1, "invalid"), (2, "throttled"), (3, "fine")] {
        record.subscribe(device(key, id), None, at(100));
    }
    record.make_ready(at(100));
    record.take(at(100)).unwrap();
    let rejected = [(SubscriptionKey(1), Rejection::Invalid), (SubscriptionKey(2), Rejection::Throttled)];
    record.acknowledge(&rejected, at(100));
    assert!(!record.make_ready(at(100)) && record.is_behind(at(100)));
    assert_eq!(record.held_until(at(100)), Some(at(100).moment.after(THROTTLED_WAIT)));
    record.observe(DICT, News::Reading(reading(4, 7, 11, None)), at(200));
    assert!(record.make_ready(at(200)));
    let keys: Vec<i64> = record.take(at(200)).unwrap().recipients.iter().map(|r| r.key.0).collect();
    assert_eq!(keys, [1, 3], "the mailbox changed, so the invalid one is tried; the throttled one waits");
}

#[test]
fn a_notification_put_aside_waits_for_the_mailbox_to_change() {
    let mut record = known_by(DICT, 10);
    record.subscribe(device(1, "a"), None, at(100));
    record.make_ready(at(100));
    record.take(at(100)).unwrap();
    record.put_aside(at(100));
    assert!(!record.make_ready(at(200)));
    assert_eq!(
        record.held_until(at(200)),
        Some(at(100).moment.after(ASIDE_WAIT)),
        "and is tried once an hour"
    );
    record.observe(DICT, News::Reading(reading(4, 7, 11, None)), at(300));
    assert!(record.make_ready(at(300)));
}

#[test]
fn a_renewal_while_in_flight_leaves_in_doubt_what_the_device_shows() {
    let mut record = known_by(DICT, 10);
    record.subscribe(device(1, "a"), None, at(100));
    record.make_ready(at(100));
    record.take(at(100)).unwrap();
    record.subscribe(device(1, "a"), Some(3), at(101));
    record.acknowledge(&[], at(102));
    assert!(
        record.make_ready(at(102)),
        "the report and the batch may have crossed, so the count is sent again"
    );
}

#[test]
fn a_count_that_may_have_arrived_is_corrected_even_when_the_mailbox_returns_to_what_was_shown() {
    for may_have_arrived in [true, false] {
        let mut record = known_by(DICT, 10);
        record.subscribe(device(1, "a"), Some(2), at(100));
        record.make_ready(at(100));
        record.take(at(100)).unwrap();
        record.observe(DICT, News::Reading(reading(2, 7, 11, None)), at(101));
        record.refuse(may_have_arrived);
        assert_eq!(record.make_ready(at(102)), may_have_arrived);
    }
}

#[test]
fn two_records_of_one_app_and_device_are_one_device() {
    let mut record = known_by(DICT, 10);
    record.subscribe(device(1, "a"), None, at(100));
    record.subscribe(device(2, "a"), None, at(101));
    assert_eq!(record.devices().map(|(recipient, _)| recipient.key.0).collect::<Vec<_>>(), [2]);
}

#[test]
fn an_expired_device_is_due_nothing() {
    let mut record = known_by(DICT, 10);
    record.subscribe(device(1, "a"), None, at(100));
    assert!(!record.make_ready(at(100_000)) && !record.is_behind(at(100_000)));
}

#[test]
fn a_record_with_its_first_device_stays_small() {
    assert!(size_of::<parking_lot::Mutex<Record>>() <= 176, "{}", size_of::<parking_lot::Mutex<Record>>());
    assert!(size_of::<Device>() <= 112, "{}", size_of::<Device>());
}

#[test]
fn devices_come_and_go_one_by_one() {
    let mut record = Record::default();
    let keys = |record: &Record| record.devices().map(|(device, _)| device.key.0).collect::<Vec<_>>();
    for (key, expected) in [(1, vec![1]), (2, vec![1, 2]), (3, vec![1, 2, 3]), (1, vec![2, 3, 1])] {
        record.subscribe(device(key, &format!("d{key}")), None, at(100));
        assert_eq!(keys(&record), expected);
    }
    for (key, was_there, expected) in [
        (2, true, vec![3, 1]),
        (9, false, vec![3, 1]),
        (3, true, vec![1]),
        (3, false, vec![1]),
        (1, true, vec![]),
    ] {
        assert_eq!((record.unsubscribe(SubscriptionKey(key)), keys(&record)), (was_there, expected));
    }
}

/// A renewal while its mailbox is in flight, then the mailbox sent once more: the doubt stays until that lands.
#[test]
fn a_renewal_that_is_sent_along_later_in_the_same_flight_stays_in_doubt() {
    let mut record = known_by(DICT, 10);
    record.subscribe(device(1, "a"), None, at(100));
    record.make_ready(at(100));
    record.take(at(100)).unwrap();
    record.subscribe(device(1, "a"), Some(2), at(101));
    record.take(at(102)).unwrap();
    assert!(record.devices().all(|(_, shown)| shown.is_none()));
    record.acknowledge(&[], at(103));
    assert_eq!(record.devices().map(|(_, shown)| shown).collect::<Vec<_>>(), [None]);
    assert!(record.make_ready(at(103)));
}

#[test]
fn a_wait_that_is_over_or_moot_does_not_hide_another_one() {
    let mut record = known_by(DICT, 10);
    for (key, id) in [(1, "first"), (2, "second")] {
        record.subscribe(device(key, id), None, at(100));
    }
    record.make_ready(at(100));
    record.take(at(100)).unwrap();
    let throttled = |key| [(SubscriptionKey(key), Rejection::Throttled)];
    record.acknowledge(&throttled(1), at(100));
    record.observe(DICT, News::Reading(reading(4, 7, 11, None)), at(200));
    record.make_ready(at(200));
    record.take(at(200)).unwrap();
    record.acknowledge(&throttled(2), at(5_200));
    let first_over = at(100).after(THROTTLED_WAIT);
    assert!(record.make_ready(first_over));
    record.take(first_over).unwrap();
    record.acknowledge(&[], first_over);
    assert_eq!(record.held_until(first_over), Some(at(5_200).moment.after(THROTTLED_WAIT)));
}

/// It reported 0 and subscribed anew; before that was noticed, it was told 1 under its former key.
#[test]
fn what_a_device_reported_before_it_was_told_something_else_is_in_doubt() {
    let mut record = known_by(IMAP, 10);
    record.subscribe(device(1, "phone"), Some(0), at(100));
    record.make_ready(at(100));
    assert_eq!(record.take(at(100)).map(|due| due.unseen), Some(3));
    record.acknowledge(&[], at(101));
    record.observe(IMAP, News::Reading(reading(0, 7, 11, None)), at(102));
    record.subscribe(device(2, "phone"), Some(0), at(103));
    record.make_ready(at(103));
    assert_eq!(record.take(at(103)).map(|due| due.unseen), Some(0), "it shows 3, or 0");
    record.acknowledge(&[], at(104));
    record.subscribe(device(3, "phone"), Some(0), at(105));
    record.make_ready(at(105));
    assert!(record.take(at(105)).is_none(), "both say the same");
}
