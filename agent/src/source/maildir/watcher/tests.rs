//! Who is looked at when, which watches are kept, and that none is lost.

use super::*;

const INTERVAL: Duration = Duration::from_mins(15);
const FAST: Duration = Duration::from_micros(50);
const ONE: MailboxId = MailboxId(1);
const TWO: MailboxId = MailboxId(2);

fn at(ms: u64) -> Moment {
    Moment::from_micros(ms * 1000)
}

fn name(text: &str) -> OsString {
    OsString::from(text)
}

/// What it wants done now: mailboxes to look at, watches to give back.
fn wanted(watcher: &mut Watcher) -> (Vec<MailboxId>, Vec<WatchId>) {
    let (mut looks, mut forgotten) = (Vec::new(), Vec::new());
    while let Some(output) = watcher.poll_output() {
        match output {
            Output::Look(mailbox, ..) => looks.push(mailbox),
            Output::Forget(watch) => forgotten.push(watch),
        }
    }
    (looks, forgotten)
}

/// Both mailboxes looked at once, with these results.
fn looked(one: Look, two: Look) -> Watcher {
    let mut watcher = Watcher::new(INTERVAL, 7);
    watcher.handle(at(0), Input::Watch(ONE, "/m/u1".into()));
    watcher.handle(at(0), Input::Watch(TWO, "/m/u2".into()));
    assert_eq!(wanted(&mut watcher), (vec![ONE, TWO], vec![]));
    watcher.handle(at(1), Input::Looked(ONE, one, FAST));
    watcher.handle(at(1), Input::Looked(TWO, two, FAST));
    watcher
}

fn watched(first: i32) -> Look {
    Look::Watched([WatchId(first), WatchId(first + 1)])
}

fn missing(watch: i32, entry: &str) -> Look {
    Look::Missing(Some((WatchId(watch), name(entry))))
}

#[test]
fn whoever_stirred_is_looked_at_once_however_often_it_stirred() {
    let mut watcher = looked(watched(1), watched(3));
    for watch in [3, 4, 3, 99] {
        watcher.handle(at(10), Input::Stirred(WatchId(watch), name("m")));
    }
    assert_eq!(wanted(&mut watcher), (vec![TWO], vec![]));
    watcher.handle(at(11), Input::Looked(TWO, watched(3), FAST));
    watcher.handle(at(12), Input::Ask(ONE));
    watcher.handle(at(12), Input::Ask(MailboxId(9)));
    assert_eq!(wanted(&mut watcher), (vec![ONE], vec![]));
}

#[test]
fn who_stirs_while_it_is_looked_at_is_looked_at_again() {
    let mut watcher = looked(watched(1), watched(3));
    watcher.handle(at(10), Input::Stirred(WatchId(1), name("m")));
    assert_eq!(wanted(&mut watcher).0, [ONE]);
    watcher.handle(at(10), Input::Stirred(WatchId(2), name("m")));
    watcher.handle(at(11), Input::Looked(ONE, watched(1), FAST));
    assert_eq!(wanted(&mut watcher).0, [ONE]);
}

#[test]
fn a_mailbox_that_takes_long_rests_ten_times_as_long_and_is_not_forgotten() {
    let mut watcher = looked(watched(1), watched(3));
    watcher.handle(at(10), Input::Looked(ONE, watched(1), Duration::from_millis(50)));
    watcher.handle(at(20), Input::Stirred(WatchId(1), name("m")));
    assert_eq!((wanted(&mut watcher), watcher.poll_timeout()), ((vec![], vec![]), Some(at(510))));
    watcher.handle(at(510), Input::Timeout);
    assert_eq!(wanted(&mut watcher).0, [ONE]);
}

#[test]
fn an_overflow_is_a_reason_to_look_at_everyone() {
    let mut watcher = looked(watched(1), missing(9, "u2"));
    watcher.handle(at(10), Input::Overflow);
    let mut looks = wanted(&mut watcher).0;
    looks.sort_unstable();
    assert_eq!(looks, [ONE, TWO]);
}

#[test]
fn a_missing_maildir_is_looked_at_when_its_entry_appears_and_its_watch_is_kept_while_anyone_waits() {
    let mut watcher = looked(missing(9, "u1"), missing(9, "u2"));
    watcher.handle(at(10), Input::Stirred(WatchId(9), name("u3")));
    assert_eq!(wanted(&mut watcher), (vec![], vec![]));
    watcher.handle(at(10), Input::Stirred(WatchId(9), name("u1")));
    assert_eq!(wanted(&mut watcher), (vec![ONE], vec![]));
    watcher.handle(at(11), Input::Looked(ONE, missing(10, "new"), FAST));
    assert_eq!(wanted(&mut watcher), (vec![], vec![]), "the other one waits there still");
    watcher.handle(at(12), Input::Stirred(WatchId(10), name("new")));
    assert_eq!(wanted(&mut watcher).0, [ONE]);
    watcher.handle(at(12), Input::Looked(ONE, watched(11), FAST));
    assert_eq!(wanted(&mut watcher), (vec![], vec![WatchId(10)]));
    watcher.handle(at(13), Input::Looked(TWO, watched(13), FAST));
    assert_eq!(wanted(&mut watcher), (vec![], vec![WatchId(9)]));
    assert_eq!((watcher.coverage().watched, watcher.awaited.len()), (2, 0));
}

#[test]
fn folders_that_go_are_looked_for_and_their_watches_given_back() {
    let mut watcher = looked(watched(1), missing(9, "u2"));
    watcher.handle(at(10), Input::Gone(WatchId(2)));
    assert_eq!(wanted(&mut watcher), (vec![ONE], vec![WatchId(1), WatchId(2)]));
    watcher.handle(at(11), Input::Looked(ONE, missing(9, "u1"), FAST));
    assert_eq!(watcher.coverage().watched, 0);
    watcher.handle(at(12), Input::Gone(WatchId(9)));
    assert_eq!(wanted(&mut watcher), (vec![ONE, TWO], vec![WatchId(9)]));
    assert!(watcher.awaited.is_empty() && watcher.folders.is_empty());
}

#[test]
fn a_folder_that_was_replaced_is_watched_anew_and_the_old_watch_given_back() {
    let mut watcher = looked(watched(1), watched(3));
    watcher.handle(at(10), Input::Looked(ONE, Look::Watched([WatchId(1), WatchId(5)]), FAST));
    assert_eq!(wanted(&mut watcher).1, [WatchId(2)]);
    watcher.handle(at(11), Input::Stirred(WatchId(5), name("m")));
    assert_eq!(wanted(&mut watcher).0, [ONE]);
}

#[test]
fn an_unwatched_mailbox_leaves_nothing() {
    let mut watcher = looked(watched(1), missing(9, "u2"));
    watcher.handle(at(10), Input::Stirred(WatchId(1), name("m")));
    watcher.handle(at(10), Input::Unwatch(ONE));
    watcher.handle(at(10), Input::Unwatch(TWO));
    assert_eq!(wanted(&mut watcher), (vec![], vec![WatchId(1), WatchId(2), WatchId(9)]));
    // A look that was under way comes back.
    watcher.handle(at(11), Input::Looked(ONE, watched(5), FAST));
    assert_eq!(wanted(&mut watcher).1, [WatchId(5), WatchId(6)]);
    assert_eq!((watcher.coverage(), watcher.poll_timeout()), (Coverage::default(), None));
}

#[test]
fn everyone_is_swept_within_the_interval_with_or_without_a_watch() {
    let mut watcher = looked(Look::Unwatched, Look::Failed("denied".into()));
    let coverage = watcher.coverage();
    assert_eq!((coverage.unwatched, coverage.failed, coverage.failure.as_deref()), (1, 1, Some("denied")));
    watcher.handle(at(1).after(INTERVAL), Input::Timeout);
    let mut swept = Vec::new();
    while let Some(Output::Look(mailbox, _, is_sweep)) = watcher.poll_output() {
        assert!(is_sweep);
        swept.push(mailbox);
    }
    swept.sort_unstable();
    assert_eq!(swept, [ONE, TWO]);
    watcher.handle(at(2).after(INTERVAL), Input::Looked(ONE, watched(1), FAST));
    watcher.handle(at(2).after(INTERVAL), Input::Looked(TWO, Look::Failed("denied".into()), FAST));
    let coverage = watcher.coverage();
    assert_eq!((coverage.watched, coverage.unwatched, coverage.failed), (1, 0, 1));
    assert!(watcher.poll_timeout() <= Some(at(2).after(INTERVAL * 2)));
}

#[test]
fn mailboxes_that_lead_to_one_maildir_stir_together_and_the_last_one_releases_its_watches() {
    let mut watcher = looked(watched(1), watched(1));
    assert_eq!(watcher.coverage().watched, 2);
    watcher.handle(at(10), Input::Stirred(WatchId(2), name("m")));
    assert_eq!(wanted(&mut watcher), (vec![ONE, TWO], vec![]));
    for mailbox in [ONE, TWO] {
        watcher.handle(at(11), Input::Looked(mailbox, watched(1), FAST));
    }
    watcher.handle(at(12), Input::Unwatch(TWO));
    assert_eq!(wanted(&mut watcher), (vec![], vec![]), "the other one keeps the watches");
    watcher.handle(at(13), Input::Stirred(WatchId(1), name("m")));
    assert_eq!(wanted(&mut watcher), (vec![ONE], vec![]));
    watcher.handle(at(14), Input::Unwatch(ONE));
    assert_eq!(wanted(&mut watcher), (vec![], vec![WatchId(1), WatchId(2)]));
}

#[test]
fn mailboxes_that_lead_to_one_maildir_lose_and_find_it_together() {
    let mut watcher = looked(watched(1), watched(1));
    watcher.handle(at(10), Input::Gone(WatchId(1)));
    assert_eq!(wanted(&mut watcher), (vec![ONE, TWO], vec![WatchId(1), WatchId(2)]));
    watcher.handle(at(11), Input::Looked(ONE, watched(5), FAST));
    watcher.handle(at(11), Input::Looked(TWO, watched(5), FAST));
    watcher.handle(at(12), Input::Looked(TWO, watched(7), FAST));
    assert_eq!(
        wanted(&mut watcher).1,
        [],
        "a link that now leads elsewhere leaves the other one its watches"
    );
    assert_eq!(watcher.coverage().watched, 2);
}

#[test]
fn a_watch_is_given_back_only_where_nobody_has_it_and_not_when_it_was_taken_anew() {
    let mut watcher = looked(watched(1), missing(9, "u2"));
    // A look at another mailbox came to nothing after it had taken these.
    for watch in [1, 2, 9, 20] {
        watcher.handle(at(10), Input::Unneeded(WatchId(watch)));
    }
    assert_eq!(wanted(&mut watcher).1, [WatchId(20)]);
    // Given up, and taken by the next look before that was carried out.
    watcher.handle(at(11), Input::Unneeded(WatchId(21)));
    watcher.handle(at(12), Input::Looked(TWO, watched(21), FAST));
    assert_eq!(wanted(&mut watcher).1, [WatchId(9)]);
}

#[test]
fn one_folder_can_be_a_maildirs_and_the_place_where_another_one_is_awaited() {
    let mut watcher = looked(watched(1), missing(1, "Maildir"));
    watcher.handle(at(10), Input::Stirred(WatchId(1), name("m")));
    assert_eq!(wanted(&mut watcher).0, [ONE]);
    watcher.handle(at(11), Input::Looked(ONE, watched(1), FAST));
    watcher.handle(at(12), Input::Stirred(WatchId(1), name("Maildir")));
    assert_eq!(wanted(&mut watcher).0, [ONE, TWO]);
}
