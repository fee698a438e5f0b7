//! The governor in virtual time: rates, the breaker, back-off.

use super::*;
use crate::source::imap::exchange::Refusal;

const RATE: u32 = 20;
/// The pause after the credential was refused that never worked, and that worked before.
const UNPROVEN_WAIT: Duration = Duration::from_mins(5);
const PROVEN_WAIT: Duration = Duration::from_secs(15);

fn at(ms: u64) -> Moment {
    Moment::from_micros(1_000_000_000 + ms * 1000)
}

fn after(from: Moment, wait: Duration) -> Moment {
    from.after(wait)
}

/// A governor with mailboxes 0 to `count` wanting in.
fn crowded(count: u32) -> Governor {
    let mut governor = Governor::new(RATE, true, 1);
    (0..count).for_each(|id| governor.request(MailboxId(id), 0, at(0)));
    governor
}

fn refused(refusal: Refusal) -> Failure {
    Failure::Refused(refusal, "no".into())
}

/// Lets through whoever may go until `end`; each log-in works at once.
fn run(governor: &mut Governor, from: Moment, end: Moment) -> Vec<(Moment, MailboxId)> {
    let mut granted = Vec::new();
    let mut now = from;
    loop {
        while let Some(mailbox) = governor.grant(now) {
            governor.logged_in(mailbox, now);
            granted.push((now, mailbox));
        }
        match governor.poll_timeout() {
            Some(next) if next <= end => now = next.max(now),
            _ => return granted,
        }
    }
}

#[test]
fn log_ins_keep_to_the_rate_and_all_get_their_turn() {
    let mut governor = crowded(1000);
    let granted = run(&mut governor, at(0), at(60_000));
    assert_eq!(granted.len(), 1000);
    let in_a_second = |start: u64| {
        granted.iter().filter(|(when, _)| *when >= at(start) && *when < at(start + 1000)).count() as u32
    };
    for start in (0..45_000).step_by(100) {
        assert!(in_a_second(start) <= RATE + BURST, "{} within a second", in_a_second(start));
    }
}

#[test]
fn until_the_shared_credential_worked_one_mailbox_tries_it() {
    let mut governor = crowded(10);
    let first = governor.grant(at(0)).unwrap();
    assert_eq!((governor.grant(at(500)), governor.poll_timeout()), (None, None));
    governor.logged_in(first, at(500));
    assert_eq!(std::iter::from_fn(|| governor.grant(at(500))).count(), BURST as usize);
}

#[test]
fn the_busiest_and_the_asked_go_first() {
    let mut governor = Governor::new(1, true, 1);
    governor.request(MailboxId(1), 0, at(0));
    governor.request(MailboxId(2), 7, at(0));
    governor.request(MailboxId(3), 0, at(0));
    governor.request(MailboxId(3), u32::MAX, at(0));
    let order: Vec<_> =
        run(&mut governor, at(0), at(9000)).into_iter().map(|(_, mailbox)| mailbox.0).collect();
    assert_eq!(order, [3, 2, 1]);
}

#[test]
fn the_first_refusal_of_the_shared_credential_stops_everybody_and_another_mailbox_tries_again() {
    let mut governor = crowded(100);
    let first = governor.grant(at(0)).unwrap();
    governor.failed(first, refused(Refusal::Source), at(100));
    governor.request(first, 0, at(100));
    assert!(governor.failure(false).unwrap().contains("stopped"));
    let until = after(at(100), UNPROVEN_WAIT);
    assert_eq!(run(&mut governor, at(100), Moment::from_micros(until.micros() - 1)), []);
    // One tries, nobody else meanwhile.
    let trial = governor.grant(until).unwrap();
    assert_ne!(trial, first);
    assert_eq!((governor.grant(until), governor.grant(after(until, Duration::from_mins(1)))), (None, None));
    governor.failed(trial, refused(Refusal::Source), until);
    let later = after(until, UNPROVEN_WAIT * 2);
    assert_eq!(run(&mut governor, until, Moment::from_micros(later.micros() - 1)), []);
    assert_eq!(run(&mut governor, later, after(later, Duration::from_hours(1))).len(), 99);
    assert_eq!(governor.failure(false), None);
}

#[test]
fn a_credential_that_worked_is_soon_tried_again_by_another_mailbox() {
    let mut governor = crowded(3);
    let good = governor.grant(at(0)).unwrap();
    governor.logged_in(good, at(0));
    let bad = governor.grant(at(0)).unwrap();
    for round in 0..5u32 {
        let now = after(at(0), Duration::from_hours(2) * round);
        governor.failed(bad, refused(Refusal::Source), now);
        governor.request(bad, 0, now);
        governor.request(good, 0, now);
        let granted = run(&mut governor, now, after(now, PROVEN_WAIT + Duration::from_secs(1)));
        assert!(granted.iter().any(|(_, mailbox)| *mailbox == good), "round {round}: {granted:?}");
    }
}

#[test]
fn a_refused_mailbox_waits_longer_and_longer_and_nobody_with_it() {
    let mut governor = crowded(2);
    let bad = governor.grant(at(0)).unwrap();
    let mut now = at(0);
    let mut waits = Vec::new();
    for _ in 0..12 {
        governor.failed(bad, refused(Refusal::Mailbox), now);
        governor.request(bad, 0, now);
        let (next, _) =
            *run(&mut governor, now, after(now, REFUSED_WAIT.1)).iter().find(|(_, m)| *m == bad).unwrap();
        waits.push(next.since(now));
        now = next;
    }
    let (early, late): (Duration, Duration) = (waits[..4].iter().sum(), waits[8..].iter().sum());
    assert!(late > early * 4, "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= REFUSED_WAIT.1));
    assert_eq!(governor.failure(false), None);
}

#[test]
fn back_off_grows_until_a_connection_survived_not_until_a_log_in_worked() {
    let mut governor = crowded(1);
    let mailbox = MailboxId(0);
    for expected in 1..=10 {
        governor.logged_in(mailbox, at(expected * 1000));
        governor.failed(mailbox, Failure::Lost(Duration::from_secs(2)), at(expected * 1000));
        assert_eq!(u64::from(governor.failures(mailbox)), expected);
    }
    governor.failed(mailbox, Failure::Lost(SURVIVED), at(20_000));
    assert_eq!(governor.failures(mailbox), 1);
}

#[test]
fn many_failures_of_one_instant_are_one_failure_of_the_server() {
    let mut governor = crowded(100);
    governor.proven = Some((MailboxId(0), at(0)));
    governor.window = LOGINS_IN_FLIGHT_MAX;
    let started: Vec<_> = (0..40).filter_map(|step| governor.grant(at(step * 50))).collect();
    assert_eq!(started.len(), 40);
    for mailbox in &started {
        governor.failed(*mailbox, Failure::Unreachable("down".into()), at(3000));
        governor.request(*mailbox, 0, at(3000));
    }
    assert_eq!(governor.server.failures, 1);
    assert_eq!(governor.failure(false).as_deref(), Some("down"));
    assert!(!run(&mut governor, at(3000), at(4100)).is_empty());
    assert_eq!(governor.failure(false), None);
}

#[test]
fn a_mailbox_forgotten_while_it_tries_leaves_the_way_free() {
    let mut governor = crowded(3);
    let first = governor.grant(at(0)).unwrap();
    governor.failed(first, refused(Refusal::Source), at(0));
    let trial = governor.grant(after(at(0), UNPROVEN_WAIT)).unwrap();
    governor.forget(trial);
    assert!(governor.grant(after(at(0), UNPROVEN_WAIT * 2)).is_some());
}

fn flooded() -> Failure {
    Failure::Flooded("server floods".into())
}

#[test]
fn a_mailbox_whose_connections_are_flooded_waits_longer_and_longer_though_each_log_in_works() {
    let mut governor = crowded(2);
    let good = governor.grant(at(0)).unwrap();
    governor.logged_in(good, at(0));
    let bad = governor.grant(at(0)).unwrap();
    let mut now = at(0);
    let mut waits = Vec::new();
    for _ in 0..12 {
        governor.logged_in(bad, now);
        now = after(now, Duration::from_secs(1));
        governor.failed(bad, flooded(), now);
        assert!(governor.failure(false).unwrap().contains("floods"));
        assert_eq!(governor.failure(true), None, "others are in");
        governor.request(bad, 0, now);
        let (next, _) = *run(&mut governor, now, after(now, FLOOD_WAIT.1)).first().unwrap();
        waits.push(next.since(now));
        now = next;
    }
    assert!(waits[0] >= FLOOD_WAIT.0 / 2 && waits[11] >= FLOOD_WAIT.1 / 2, "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= FLOOD_WAIT.1), "{waits:?}");
    assert!(run(&mut governor, now, after(now, Duration::from_secs(31))).is_empty());
    governor.grant(after(now, Duration::from_secs(31)));
    assert_eq!(governor.failure(false), None, "the last one was not flooded");
}

#[test]
fn a_server_that_floods_several_is_left_alone_by_everybody_for_longer_and_longer() {
    let mut governor = crowded(1000);
    let (mut now, mut connections) = (at(0), 0);
    while let Some(next) =
        governor.poll_timeout().filter(|next| *next <= after(at(0), Duration::from_hours(24)))
    {
        now = now.max(next);
        while let Some(mailbox) = governor.grant(now) {
            connections += 1;
            governor.logged_in(mailbox, now);
            governor.failed(mailbox, flooded(), now);
            governor.request(mailbox, 0, now);
        }
        assert!(connections < 2 || governor.failure(true).unwrap().contains("floods"));
    }
    assert!((40..120).contains(&connections), "{connections}");
}
