//! When a mailbox is unknown, case by case, and what the log says of it.

use super::*;
use Assurance::{Awaited, Known, Unconfirmed, Unknown};

const SWEEP: Duration = Duration::from_mins(15);

fn at(seconds: u64) -> Moment {
    Moment::from_micros(seconds * 1_000_000)
}

fn terms() -> Terms {
    Terms { sweep: SWEEP, login_rate: Some(10), since: at(0) }
}

fn never(seconds: u64) -> Seen {
    Seen::Never { since: at(seconds) }
}

fn seen(seconds: u64) -> Seen {
    Seen::At { at: at(seconds), is_stale: false }
}

fn stale(seconds: u64) -> Seen {
    Seen::At { at: at(seconds), is_stale: true }
}

/// A host with 1000 mailboxes, which log in within 100 s.
#[test]
fn each_mailbox_is_known_within_its_sweep_period_or_named() {
    let cases = [
        ("its turn", never(0), 160, Awaited),
        ("its turn is over", never(0), 161, Unknown),
        ("subscribed later", never(500), 660, Awaited),
        ("subscribed later, and its turn is over", never(500), 661, Unknown),
        ("seen", seen(100), 100, Known),
        ("seen two sweep periods ago", seen(100), 1900, Known),
        ("seen longer ago", seen(100), 1901, Unknown),
        ("subscribed again", stale(5000), 5160, Awaited),
        ("subscribed again, and not read since", stale(5000), 5161, Unknown),
    ];
    for (name, seen, now, expected) in cases {
        assert_eq!(judge(seen, Some(&terms()), 1000, at(now)), expected, "{name}");
    }
}

#[test]
fn where_no_source_can_be_asked_silence_is_unconfirmed_and_nothing_is_unknown() {
    for (seen, expected) in [(never(0), Unconfirmed), (seen(1), Known), (stale(1), Known)] {
        assert_eq!(judge(seen, None, 1000, at(1_000_000)), expected, "{seen:?}");
    }
}

#[test]
fn a_source_that_was_started_later_has_its_turn() {
    let later = Terms { since: at(10_000), ..terms() };
    let cases = [(seen(100), 10_160, Awaited), (seen(100), 10_161, Unknown), (never(0), 10_160, Awaited)];
    for (seen, now, expected) in cases {
        assert_eq!(judge(seen, Some(&later), 1000, at(now)), expected, "{seen:?} at {now}");
    }
}

#[test]
fn two_sources_promise_what_the_slower_one_does() {
    let files = Terms { sweep: Duration::from_hours(1), login_rate: None, since: at(7) };
    let both = Terms { sweep: Duration::from_hours(1), login_rate: Some(10), since: at(7) };
    assert_eq!((terms().with(files), files.with(terms())), (both, both));
}

#[test]
fn all_are_counted_and_the_first_are_listed() {
    let mut census = Census::default();
    for id in 0..3000 {
        let kinds = [Known, Unknown, Unconfirmed];
        census.add(MailboxId(id), kinds[id as usize % 3]);
    }
    assert_eq!((census.unknown, census.unconfirmed, census.awaited), (1000, 1000, 0));
    census.add(MailboxId(3000), Unknown);
    assert_eq!((census.unknown, census.listed_unknown.len()), (1001, LISTED_MAX));
    assert_eq!(census.listed_unconfirmed.first(), Some(&MailboxId(2)));
}

#[test]
fn the_log_says_once_that_a_mailbox_is_unknown_and_once_that_it_is_known_again() {
    let census = |ids: &[u32]| Census {
        unknown: ids.len(),
        listed_unknown: ids.iter().copied().map(MailboxId).collect(),
        ..Census::default()
    };
    let mut unknown_log = UnknownLog::default();
    let mut look = |ids: &[u32]| {
        let numbers = |ids: Vec<MailboxId>| ids.into_iter().map(|id| id.0).collect::<Vec<_>>();
        unknown_log.look(&census(ids)).map(|changes| (numbers(changes.begun), numbers(changes.ended)))
    };
    assert_eq!(look(&[]), None);
    assert_eq!(look(&[1, 3]), Some((vec![1, 3], vec![])));
    assert_eq!(look(&[1, 3]), None);
    assert_eq!(look(&[2, 3]), Some((vec![2], vec![1])));
    assert_eq!(look(&[]), Some((vec![], vec![2, 3])));
    assert_eq!(look(&[]), None);
}
