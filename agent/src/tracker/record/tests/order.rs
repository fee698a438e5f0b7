//! The order goes back: index files were deleted or a backup was restored. Whoever reports the new counts is asked about,
//! and is believed where nobody answers; events that are merely late are not.

use super::*;
use std::time::Duration;

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// The dict reports this count, UIDVALIDITY and MODSEQ.
    Event(u32, u32, u64),
    /// IMAP answers a question that is sent now.
    Answer(u32, u32, u64),
    /// Time passes, and nothing else.
    Nothing,
}

/// Seconds since 3 unseen of UIDVALIDITY 7 and MODSEQ 100 were reported; what happens then; which count is believed, and
/// whether a question is asked.
type Step = (f64, Deed, u32, bool);

#[track_caller]
fn check(story: &str, steps: &[Step]) {
    let mut record = known_by(DICT, 100);
    record.subscribe(device(1, "a"), Some(3), at(100));
    for (seconds, deed, believed, is_asked) in steps {
        let now = at(100).after(Duration::from_secs_f64(*seconds));
        let verdict = match *deed {
            Deed::Event(unseen, validity, modseq) => {
                record.observe(DICT, News::Reading(reading(unseen, validity, modseq, None)), now)
            }
            Deed::Answer(unseen, validity, modseq) => {
                let answer =
                    Reading { asked_at: Some(now.moment), ..reading(unseen, validity, modseq, None) };
                record.observe(IMAP, News::Reading(answer), now)
            }
            Deed::Nothing => {
                record.make_ready(now);
                Verdict::Unchanged
            }
        };
        assert_eq!(verdict == Verdict::Ask, *is_asked, "{story}, after {seconds} s: {verdict:?}");
        let known = record.known().map(|known| known.unseen);
        assert_eq!(known, Some(*believed), "{story}, after {seconds} s");
    }
}

#[test]
fn what_is_late_never_wins() {
    use Deed::{Event, Nothing};
    check("overtaken by half a second", &[(0.5, Event(2, 7, 99), 3, false), (120.0, Nothing, 3, false)]);
    check(
        "overtaken by a minute, by what a stuck process sent",
        &[(40.0, Event(2, 7, 98), 3, true), (60.0, Event(1, 7, 97), 3, true), (120.0, Nothing, 3, false)],
    );
    check(
        "a smaller UIDVALIDITY within a minute",
        &[(40.0, Event(2, 6, 900), 3, true), (120.0, Nothing, 3, false)],
    );
}

#[test]
fn an_order_that_went_back_is_asked_about_and_the_answer_is_believed() {
    use Deed::{Answer, Event, Nothing};
    check(
        "index files were deleted soon after an event",
        &[(5.0, Event(4, 7, 1), 3, true), (5.1, Answer(4, 7, 1), 4, false), (6.0, Event(5, 7, 2), 5, false)],
    );
    check(
        "index files were deleted at once, and two events followed",
        &[
            (0.5, Event(4, 7, 1), 3, false),
            (0.6, Event(5, 7, 2), 3, true),
            (0.7, Answer(5, 7, 2), 5, false),
            (0.8, Event(6, 7, 3), 6, false),
        ],
    );
    check(
        "a backup was restored long after it",
        &[
            (900.0, Event(1, 7, 60), 3, true),
            (900.1, Answer(1, 7, 60), 1, false),
            (930.0, Nothing, 1, false),
            (931.0, Event(2, 7, 61), 2, false),
        ],
    );
    check(
        "UIDVALIDITY fell, too",
        &[
            (900.0, Event(1, 5, 60), 3, true),
            (900.1, Answer(1, 5, 60), 1, false),
            (901.0, Event(2, 5, 61), 2, false),
        ],
    );
}

#[test]
fn where_nobody_answers_the_newest_arrival_is_believed_after_a_bounded_wait() {
    use Deed::{Event, Nothing};
    let one_event: [(&str, u32, u64); 3] =
        [("MODSEQ fell", 7, 1), ("UIDVALIDITY fell", 5, 200), ("the mailbox was made anew", 8, 1)];
    for (story, validity, modseq) in one_event {
        let event = Event(4, validity, modseq);
        check(story, &[(300.0, event, 3, true), (309.9, Nothing, 3, false), (310.0, Nothing, 4, false)]);
    }
    check(
        "the next event is believed at once, one that it overtook is not",
        &[
            (300.0, Event(4, 7, 1), 3, true),
            (301.0, Event(6, 7, 3), 6, false),
            (301.5, Event(5, 7, 2), 6, false),
        ],
    );
    check(
        "events again and again, the first of them soon after the last that was believed",
        &[
            (20.0, Event(4, 7, 1), 3, true),
            (40.0, Event(5, 7, 2), 3, true),
            (61.0, Event(6, 7, 3), 3, true),
            (62.0, Event(7, 7, 4), 7, false),
        ],
    );
}

#[test]
fn an_event_in_doubt_is_due_by_itself() {
    let mut record = known_by(DICT, 100);
    record.subscribe(device(1, "a"), Some(3), at(100));
    let event = at(100).after(LATE_MAX + Duration::from_secs(1));
    record.observe(DICT, News::Reading(reading(4, 7, 1, None)), event);
    assert_eq!((record.make_ready(event), record.is_behind(event)), (false, false));
    assert_eq!(record.held_until(event), Some(event.moment.after(ANSWER_WAIT)));
    let believed = event.after(ANSWER_WAIT);
    assert!(record.make_ready(believed));
    assert_eq!(record.take(believed).map(|due| (due.unseen, due.changed_at)), Some((4, believed.moment)));
    assert_eq!(record.held_until(believed), None);
}

/// How long a device that shows this waits for a first count; `asked`: the count is the answer to a question.
fn first_wait(unseen: u32, shown: Option<u32>, asked: Option<u64>) -> Option<Duration> {
    let mut record = Record::default();
    record.subscribe(device(1, "a"), shown, at(0));
    record.observe(DICT, News::Reading(reading(unseen, 7, 1, asked)), at(100));
    record.held_until(at(100)).map(|until| until.since(at(100).moment))
}

#[test]
fn only_a_first_reported_0_waits_for_a_device_that_was_never_shown_anything() {
    let cases = [
        ("INBOX is created", 0, None, None, Some(FIRST_ZERO_WAIT)),
        ("a message", 1, None, None, None),
        ("a device that shows something", 0, Some(5), None, None),
        ("an answer", 0, None, Some(0), None),
    ];
    for (name, unseen, shown, asked, wait) in cases {
        assert_eq!(first_wait(unseen, shown, asked), wait, "{name}");
    }
}

#[test]
fn a_first_0_goes_with_the_next_reading_or_after_its_wait() {
    let first = || {
        let mut record = Record::default();
        record.subscribe(device(1, "a"), None, at(0));
        record.observe(DICT, News::Reading(reading(0, 7, 1, None)), at(100));
        assert!(!record.make_ready(at(100)) && record.is_behind(at(100)));
        record
    };
    let taken = |record: &mut Record, now| {
        assert!(record.make_ready(now));
        record.take(now).map(|due| due.unseen)
    };
    assert_eq!(taken(&mut first(), at(100).after(FIRST_ZERO_WAIT)), Some(0));
    for unseen in [0, 1] {
        let mut record = first();
        record.observe(DICT, News::Reading(reading(unseen, 7, 2, None)), at(900));
        assert_eq!(taken(&mut record, at(900)), Some(unseen));
    }
}
