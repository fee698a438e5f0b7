//! Every row of protocol.md §1.6 as it looks from the outbox.

use super::*;
use crate::event::Recipient;

const SERIAL: u64 = 1;

fn at(ms: u64) -> Now {
    Now { moment: Moment::from_micros(ms * 1000), unix: UnixMs(1_800_000_000_000 + ms) }
}

fn notifications(mailboxes: std::ops::Range<u32>) -> Vec<Notification> {
    mailboxes
        .map(|mailbox| Notification {
            mailbox: MailboxId(mailbox),
            number: u64::from(mailbox) + 1,
            unseen: 1,
            background_sync: false,
            recipients: Vec::<Recipient>::new(),
            changed_at: Moment::START,
            taken_at: UnixMs(0),
        })
        .collect()
}

fn outbox() -> Outbox {
    Outbox::new(Settings { concurrency: 2, batch_max: 8 }, 7)
}

fn cause() -> String {
    "the relay said so".to_owned()
}

fn unauthorized() -> Disposition {
    Disposition::Unauthorized { www_authenticate: vec!["Bearer".to_owned()], cause: cause() }
}

/// Sends `n` mailboxes at `ms` and settles them at once.
fn send(outbox: &mut Outbox, n: u32, ms: u64, answer: Disposition) -> Settlement {
    let departed = outbox.depart(notifications(0..n), None, SERIAL, at(ms).moment);
    outbox.settle(departed.attempt, answer, SERIAL, at(ms))
}

fn wait(outbox: &Outbox, ms: u64) -> Option<Duration> {
    let wait = outbox.opens_at(at(ms).moment).map(|until| until.since(at(ms).moment));
    wait.filter(|wait| !wait.is_zero())
}

#[test]
fn accepted_batches_leave_all_slots_open() {
    let mut outbox = outbox();
    let settlement = send(&mut outbox, 2, 0, Disposition::Acknowledged { rejected: Vec::new() });
    assert_eq!(settlement.acknowledged.len(), 2);
    assert_eq!(outbox.next_batch(at(0).moment), NextBatch::Fresh { max: 8 });
    assert_eq!(outbox.last().unwrap().outcome, "accepted");
}

#[test]
fn no_more_batches_fly_than_allowed() {
    let mut outbox = outbox();
    for _ in 0..2 {
        outbox.depart(notifications(0..1), None, SERIAL, at(0).moment);
    }
    assert_eq!((outbox.next_batch(at(0).moment), outbox.flying()), (NextBatch::Nothing, 2));
}

#[test]
fn a_relay_that_names_the_wait_is_left_alone_exactly_that_long() {
    let mut outbox = outbox();
    let exactly = Duration::from_secs(17);
    let settlement = send(&mut outbox, 2, 0, Disposition::Wait { exactly, cause: cause() });
    assert_eq!((settlement.refused.len(), wait(&outbox, 0)), (2, Some(exactly)));
    assert_eq!(outbox.next_batch(at(16_999).moment), NextBatch::Nothing);
    assert_eq!(outbox.next_batch(at(17_000).moment), NextBatch::Fresh { max: 8 });
}

#[test]
fn passing_trouble_backs_off_exponentially_between_one_second_and_a_minute() {
    let mut outbox = outbox();
    let mut ms = 0;
    let mut longest = Duration::ZERO;
    for failures in 1..=20u32 {
        send(&mut outbox, 1, ms, Disposition::Retry { cause: cause() });
        let wait = wait(&outbox, ms).unwrap();
        let ceiling = BACK_OFF.0.saturating_mul(1 << failures.min(6)).min(BACK_OFF.1);
        let now = at(ms).moment;
        assert_eq!(outbox.waits_until(now), Some(now.after(wait)));
        assert!(BACK_OFF.0 <= wait && wait <= ceiling, "failure {failures}: {wait:?}");
        longest = longest.max(wait);
        ms += wait.as_millis() as u64 + 1;
    }
    assert!(longest > Duration::from_secs(8), "it grows: {longest:?}");
    assert!(!outbox.is_halted() && outbox.trouble().is_some());
}

#[test]
fn after_trouble_one_batch_tries_until_one_is_accepted() {
    let mut outbox = outbox();
    send(&mut outbox, 1, 0, Disposition::Retry { cause: cause() });
    let later = at(2_000).moment;
    let trying = outbox.depart(notifications(0..1), None, SERIAL, later);
    assert_eq!(outbox.next_batch(later), NextBatch::Nothing);
    outbox.settle(trying.attempt, Disposition::Acknowledged { rejected: Vec::new() }, SERIAL, at(2_100));
    assert_eq!((outbox.next_batch(later), outbox.trouble()), (NextBatch::Fresh { max: 8 }, None));
}

#[test]
fn a_batch_accepted_meanwhile_does_not_cut_short_the_wait_another_one_was_told() {
    let mut outbox = outbox();
    let first = outbox.depart(notifications(0..1), None, SERIAL, at(0).moment);
    let second = outbox.depart(notifications(1..2), None, SERIAL, at(0).moment);
    let exactly = Duration::from_secs(30);
    outbox.settle(first.attempt, Disposition::Wait { exactly, cause: cause() }, SERIAL, at(10));
    outbox.settle(second.attempt, Disposition::Acknowledged { rejected: Vec::new() }, SERIAL, at(20));
    assert_eq!((outbox.next_batch(at(20).moment), wait(&outbox, 10)), (NextBatch::Nothing, Some(exactly)));
}

#[test]
fn batches_that_fail_together_count_once() {
    let mut outbox = outbox();
    let first = outbox.depart(notifications(0..1), None, SERIAL, at(0).moment);
    let second = outbox.depart(notifications(1..2), None, SERIAL, at(0).moment);
    for departed in [first, second] {
        outbox.settle(departed.attempt, Disposition::Retry { cause: cause() }, SERIAL, at(10));
    }
    assert!(wait(&outbox, 10).unwrap() <= Duration::from_secs(2));
}

#[test]
fn what_nobody_foresaw_halts_for_a_minute() {
    let mut outbox = outbox();
    send(&mut outbox, 1, 0, Disposition::Halt { cause: cause() });
    assert_eq!((outbox.is_halted(), wait(&outbox, 0)), (true, Some(HALT)));
    outbox.forgive();
    assert_eq!((outbox.is_halted(), wait(&outbox, 0)), (false, None));
}

#[test]
fn the_first_401_repeats_the_same_mailboxes_under_the_same_id_with_a_new_token() {
    let mut outbox = outbox();
    let departed = outbox.depart(notifications(0..2), None, SERIAL, at(0).moment);
    let settlement = outbox.settle(departed.attempt, unauthorized(), SERIAL, at(1));
    assert_eq!(settlement.unauthorized, Some((SERIAL, vec!["Bearer".to_owned()])));
    assert_eq!((settlement.refused.len(), outbox.is_empty()), (0, false));
    let NextBatch::Again(group) = outbox.next_batch(at(1).moment) else { panic!("no group") };
    assert_eq!(group.mailboxes, [MailboxId(0), MailboxId(1)]);
    let again = outbox.depart(notifications(0..2), group.repeats, SERIAL + 1, at(2).moment);
    assert_eq!(again.request_id, departed.request_id);
    let settlement = outbox.settle(again.attempt, unauthorized(), SERIAL + 1, at(3));
    assert_eq!((settlement.refused.len(), outbox.is_halted()), (2, true), "the second 401 halts the relay");
    assert!(settlement.unauthorized.is_some(), "and forgets that token too");
}

#[test]
fn a_401_for_a_token_that_was_replaced_meanwhile_is_only_sent_again() {
    let mut outbox = outbox();
    let departed = outbox.depart(notifications(0..1), None, SERIAL, at(0).moment);
    let settlement = outbox.settle(departed.attempt, unauthorized(), SERIAL + 1, at(1));
    assert_eq!(settlement.unauthorized, None);
    assert!(matches!(outbox.next_batch(at(1).moment), NextBatch::Again(_)) && !outbox.is_halted());
}

#[test]
fn a_batch_too_large_halves_the_limit_which_grows_back() {
    let mut outbox = outbox();
    let settlement = send(&mut outbox, 8, 0, Disposition::TooLarge { cause: cause() });
    assert_eq!((settlement.refused.len(), outbox.limit()), (8, 4));
    for _ in 0..ACCEPTED_TO_GROW {
        send(&mut outbox, 4, 1, Disposition::Acknowledged { rejected: Vec::new() });
    }
    assert_eq!(outbox.limit(), 8);
    let settlement = send(&mut outbox, 1, 2, Disposition::TooLarge { cause: cause() });
    assert_eq!((settlement.refused.len(), outbox.is_halted()), (1, true), "one alone can be no smaller");
}

#[test]
fn one_bad_notification_is_found_by_halves_and_the_others_arrive() {
    let mut outbox = outbox();
    let bad = MailboxId(5);
    let mut waiting = vec![notifications(0..8)];
    let (mut arrived, mut found, mut posts) = (Vec::new(), Vec::new(), 0);
    while let Some(batch) = waiting.pop() {
        posts += 1;
        let is_bad = batch.iter().any(|notification| notification.mailbox == bad);
        let departed = outbox.depart(batch, None, SERIAL, at(posts).moment);
        let answer = if is_bad {
            Disposition::Invalid { cause: cause() }
        } else {
            Disposition::Acknowledged { rejected: Vec::new() }
        };
        let settlement = outbox.settle(departed.attempt, answer, SERIAL, at(posts));
        arrived.extend(settlement.acknowledged.iter().map(|n| n.mailbox.0));
        found.extend(settlement.bad.iter().map(|n| n.mailbox));
        while let NextBatch::Again(group) = outbox.next_batch(at(posts).moment) {
            waiting.push(group.mailboxes.iter().flat_map(|m| notifications(m.0..m.0 + 1)).collect());
        }
    }
    arrived.sort_unstable();
    assert_eq!((found, arrived, posts), (vec![bad], vec![0, 1, 2, 3, 4, 6, 7], 7));
}

#[test]
fn an_answer_to_nothing_in_flight_changes_nothing() {
    let mut outbox = outbox();
    let settlement = outbox.settle(Attempt(99), Disposition::Halt { cause: cause() }, SERIAL, at(0));
    assert_eq!((settlement, outbox.is_halted()), (Settlement::default(), false));
}
