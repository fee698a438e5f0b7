//! The rounds in virtual time, against a doveadm that is told by each test what to answer.

use super::*;

const INTERVAL: Duration = Duration::from_mins(15);

/// Mailboxes `0..count`, and the time.
struct Bench {
    rounds: Rounds,
    now: Moment,
}

impl Bench {
    fn new(count: u32) -> Self {
        let mut bench = Self {
            rounds: Rounds::new(INTERVAL, false, 7),
            now: Moment::START.after(Duration::from_secs(100)),
        };
        for id in 0..count {
            bench.tell(Input::Watch(MailboxId(id), format!("u{id}").into()));
        }
        bench
    }

    fn tell(&mut self, input: Input) {
        self.rounds.handle(self.now, input);
    }

    /// What is asked now; nothing that comes later.
    fn asked(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.rounds.poll_output()).collect()
    }

    /// Waits for the next thing that is asked.
    fn wait(&mut self) -> Vec<Output> {
        let asked = self.asked();
        if !asked.is_empty() {
            return asked;
        }
        self.now = self.now.max(self.rounds.poll_timeout().expect("something is due"));
        self.tell(Input::Timeout);
        self.asked()
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    /// Rows of these mailboxes, and the end, in an answer about all.
    fn answer_everyone(&mut self, mailboxes: impl IntoIterator<Item = u32>, users: usize) {
        mailboxes.into_iter().for_each(|id| self.tell(Input::Read(MailboxId(id))));
        self.tell(Input::Ended(QuestionKind::Everyone, Ok(users)));
    }

    fn answer_these(&mut self, outputs: &[Output]) {
        let read = these(outputs);
        for id in &read {
            self.tell(Input::Read(MailboxId(*id)));
        }
        self.tell(Input::Ended(QuestionKind::ByName, Ok(read.len())));
    }
}

/// Who is asked by name in a single question.
fn these(outputs: &[Output]) -> Vec<u32> {
    match outputs {
        [Output::AskThese(users)] => users.iter().map(|(mailbox, _)| mailbox.0).collect(),
        other => panic!("one question by name, not {other:?}"),
    }
}

fn unreachable() -> Trouble {
    Trouble::Unreachable("gone".to_owned())
}

#[test]
fn a_thousand_mailboxes_are_read_by_one_question_and_again_within_the_interval() {
    let mut bench = Bench::new(1000);
    let began = bench.now;
    assert_eq!(bench.wait(), [Output::AskEveryone]);
    assert_eq!(bench.asked(), [], "whoever came meanwhile is covered");
    bench.pass(Duration::from_secs(3));
    bench.answer_everyone(0..1000, 1000);
    assert_eq!(bench.rounds.coverage(), Coverage { mailboxes: 1000, read: 1000 });
    assert_eq!(bench.wait(), [Output::AskEveryone]);
    let waited = bench.now.since(began);
    assert!(waited <= INTERVAL && waited >= INTERVAL * 8 / 10, "{waited:?}");
}

#[test]
fn nobody_is_asked_while_nobody_is_watched() {
    let mut bench = Bench::new(1);
    bench.wait();
    bench.answer_everyone([0], 1);
    bench.tell(Input::Unwatch(MailboxId(0)));
    assert_eq!((bench.rounds.poll_timeout(), bench.asked()), (None, vec![]));
    assert_eq!(bench.rounds.is_sweep(QuestionKind::Everyone, MailboxId(0)), None, "a late row is of no use");
    bench.tell(Input::Read(MailboxId(0)));
    assert_eq!(bench.rounds.coverage(), Coverage::default());
}

#[test]
fn a_source_that_looks_for_mailboxes_asks_for_all_and_those_that_it_found_are_read_by_a_second_round() {
    let mut bench = Bench::new(0);
    bench.rounds = Rounds::new(INTERVAL, true, 7);
    bench.tell(Input::Timeout);
    assert_eq!(bench.asked(), [Output::AskEveryone]);
    for id in 0..1000 {
        bench.tell(Input::Watch(MailboxId(id), "found".into()));
    }
    bench.pass(Duration::from_secs(1));
    bench.tell(Input::Ended(QuestionKind::Everyone, Ok(1000)));
    let (mut by_name, since) = (0, bench.now);
    loop {
        let asked = bench.wait();
        if asked == [Output::AskEveryone] {
            break;
        }
        by_name += these(&asked).len();
        bench.pass(Duration::from_millis(200));
        bench.answer_these(&asked);
    }
    let waited = bench.now.since(since);
    assert!(by_name < 500 && waited <= Duration::from_secs(2), "{by_name} by name, {waited:?}");
    bench.answer_everyone(0..1000, 1000);
    assert_eq!(bench.rounds.coverage().read, 1000);
    let before = bench.now;
    assert_eq!(bench.wait(), [Output::AskEveryone], "all, since there may be new ones");
    assert!(bench.now.since(before) > INTERVAL / 2);
    bench.tell(Input::Watch(MailboxId(1000), "one more".into()));
    bench.answer_everyone(0..1000, 1001);
    assert_eq!(these(&bench.wait()), [1000], "a single one is asked for by name");
}

#[test]
fn where_no_row_is_of_a_watched_mailbox_no_second_round_follows_at_once() {
    let mut bench = Bench::new(1000);
    bench.wait();
    bench.tell(Input::Ended(QuestionKind::Everyone, Ok(1000)));
    for _ in 0..10 {
        let asked = bench.wait();
        assert_eq!(these(&asked).len(), 100);
        bench.answer_these(&asked);
    }
    let before = bench.now;
    assert_eq!(bench.wait(), [Output::AskEveryone]);
    assert!(bench.now.since(before) > INTERVAL / 2);
}

#[test]
fn rounds_hasten_after_a_correction_until_they_find_nothing() {
    let mut bench = Bench::new(3);
    let mut waits = Vec::new();
    for is_corrected in [false, true, false, false, false] {
        let before = bench.now;
        assert_eq!(bench.wait(), [Output::AskEveryone]);
        waits.push(bench.now.since(before));
        if is_corrected {
            bench.tell(Input::Corrected);
        }
        bench.answer_everyone(0..3, 3);
    }
    assert!(waits[1] > INTERVAL * 3 / 4, "{waits:?}");
    assert!(waits[2] <= INTERVAL / 4 && waits[3] <= INTERVAL / 2 && waits[4] > INTERVAL / 2, "{waits:?}");
}

#[test]
fn a_mailbox_without_a_row_is_asked_by_name_and_one_that_cannot_be_read_is_told_of() {
    let mut bench = Bench::new(5);
    bench.wait();
    bench.answer_everyone([0, 1, 3], 3);
    let asked = bench.wait();
    assert_eq!(these(&asked), [2, 4]);
    bench.tell(Input::Read(MailboxId(2)));
    bench.tell(Input::Missed(MailboxId(4), "there is no such user".to_owned()));
    bench.tell(Input::Ended(QuestionKind::ByName, Ok(2)));
    assert_eq!(bench.rounds.coverage(), Coverage { mailboxes: 5, read: 4 });
    assert_eq!(bench.rounds.remark().as_deref(), Some("u4 cannot be read: there is no such user"));
    assert_eq!(bench.rounds.failure(), None, "the others are read");
    assert_eq!(bench.wait(), [Output::AskEveryone], "the round is over");
    bench.answer_everyone(0..5, 5);
    assert_eq!((bench.rounds.coverage().read, bench.rounds.remark()), (5, None));
}

#[test]
fn where_all_cannot_be_asked_for_everyone_is_asked_by_name_and_all_are_tried_again_hours_later() {
    let mut bench = Bench::new(250);
    bench.wait();
    bench.tell(Input::Ended(QuestionKind::Everyone, Err(Trouble::Unanswered("exit code 75".to_owned()))));
    let since = bench.now;
    for (round, name) in (0..3).flat_map(|round| [(round, 100), (round, 100), (round, 50)]) {
        let asked = bench.wait();
        assert_eq!(these(&asked).len(), name, "round {round}");
        assert_eq!(bench.asked(), [], "one at a time");
        bench.answer_these(&asked);
    }
    assert_eq!(bench.rounds.coverage().read, 250);
    assert!(bench.rounds.remark().expect("it should be known").contains("exit code 75"));
    assert_eq!(bench.rounds.failure(), None);
    loop {
        match bench.wait().as_slice() {
            [Output::AskEveryone] => break,
            asked => bench.answer_these(asked),
        }
    }
    let waited = bench.now.since(since);
    assert!(waited >= EVERYONE_AGAIN && waited <= EVERYONE_AGAIN + INTERVAL, "{waited:?}");
    bench.answer_everyone(0..250, 250);
    assert_eq!(bench.rounds.remark(), None);
}

#[test]
fn few_mailboxes_among_many_users_are_asked_by_name() {
    let mut bench = Bench::new(2);
    bench.wait();
    bench.answer_everyone(0..2, 1000);
    let asked = bench.wait();
    assert_eq!(these(&asked), [0, 1]);
    bench.answer_these(&asked);
    for id in 2..200 {
        bench.tell(Input::Watch(MailboxId(id), "more".into()));
    }
    while bench.now.since(Moment::START) < INTERVAL + INTERVAL / 2 {
        let asked = bench.wait();
        if asked == [Output::AskEveryone] {
            return;
        }
        bench.answer_these(&asked);
    }
    panic!("many watched mailboxes are worth a question about all");
}

#[test]
fn questions_of_others_are_asked_by_name_beside_a_round_and_gathered() {
    let mut bench = Bench::new(300);
    bench.wait();
    bench.tell(Input::Ask(MailboxId(7)));
    assert_eq!(these(&bench.asked()), [7]);
    assert_eq!(
        bench.rounds.is_sweep(QuestionKind::ByName, MailboxId(7)),
        Some(false),
        "somebody had told of it"
    );
    for id in (0..150).chain(0..150) {
        bench.tell(Input::Ask(MailboxId(id)));
    }
    assert_eq!(bench.asked(), [], "one question at a time");
    bench.tell(Input::Read(MailboxId(7)));
    bench.tell(Input::Ended(QuestionKind::ByName, Ok(1)));
    assert_eq!(bench.asked(), [], "it rests");
    let asked = bench.wait();
    assert_eq!(these(&asked), (0..100).collect::<Vec<_>>());
    bench.answer_these(&asked);
    let asked = bench.wait();
    assert_eq!(these(&asked), (100..150).collect::<Vec<_>>());
    bench.tell(Input::Ask(MailboxId(120)));
    bench.answer_these(&asked);
    assert_eq!(these(&bench.wait()), [120], "asked after its question was sent");
    bench.tell(Input::Ended(QuestionKind::ByName, Ok(0)));
    bench.answer_everyone(0..300, 300);
    bench.tell(Input::Watch(MailboxId(300), "new".into()));
    assert_eq!(these(&bench.wait()), [300], "a new mailbox is read at once");
}

#[test]
fn nothing_is_asked_of_a_server_that_is_down_but_now_and_then() {
    let mut bench = Bench::new(3);
    let mut tries = 0;
    let end = bench.now.after(Duration::from_hours(1));
    while bench.now < end {
        assert_eq!(bench.wait(), [Output::AskEveryone]);
        bench.tell(Input::Ended(QuestionKind::Everyone, Err(unreachable())));
        bench.tell(Input::Ask(MailboxId(1)));
        assert_eq!(bench.asked(), [], "not now");
        assert_eq!(bench.rounds.failure(), Some("gone"));
        tries += 1;
    }
    assert!((25..80).contains(&tries), "{tries} in an hour");
    bench.wait();
    bench.answer_everyone(0..3, 3);
    assert_eq!((bench.rounds.failure(), bench.rounds.coverage().read), (None, 3));
}

#[test]
fn a_refused_credential_is_tried_a_dozen_times_an_hour_or_two() {
    let mut bench = Bench::new(3);
    let (mut tries, end) = (0, bench.now.after(Duration::from_hours(1)));
    while bench.now < end {
        bench.wait();
        bench.tell(Input::Ended(QuestionKind::Everyone, Err(Trouble::Refused("401".to_owned()))));
        tries += 1;
    }
    assert!((12..=25).contains(&tries), "{tries} in an hour");
}

#[test]
fn what_was_asked_by_name_when_the_server_went_down_is_asked_again() {
    let mut bench = Bench::new(3);
    bench.wait();
    bench.answer_everyone([0], 1);
    assert_eq!(these(&bench.wait()), [1, 2]);
    bench.tell(Input::Ask(MailboxId(0)));
    bench.tell(Input::Ended(QuestionKind::ByName, Err(unreachable())));
    let asked = bench.wait();
    assert_eq!(these(&asked), [0, 1, 2]);
    assert_eq!(bench.rounds.is_sweep(QuestionKind::ByName, MailboxId(0)), Some(false));
    bench.answer_these(&asked);
    assert_eq!((bench.rounds.failure(), bench.rounds.coverage().read), (None, 3));
    assert_eq!(bench.wait(), [Output::AskEveryone]);
}

#[test]
fn only_what_a_sweep_finds_of_a_mailbox_that_was_read_before_is_a_correction() {
    let mut bench = Bench::new(2);
    bench.wait();
    assert_eq!(
        bench.rounds.is_sweep(QuestionKind::Everyone, MailboxId(0)),
        Some(false),
        "it is the first reading"
    );
    bench.answer_everyone([0, 1], 2);
    assert_eq!(bench.rounds.is_sweep(QuestionKind::Everyone, MailboxId(0)), Some(true));
    assert_eq!(bench.rounds.is_sweep(QuestionKind::Everyone, MailboxId(9)), None);
}

#[test]
fn a_long_round_is_followed_by_a_rest_as_long() {
    let mut bench = Bench::new(2);
    bench.wait();
    bench.pass(INTERVAL);
    bench.answer_everyone([0, 1], 2);
    let before = bench.now;
    assert_eq!(bench.wait(), [Output::AskEveryone]);
    assert_eq!(bench.now.since(before), INTERVAL);
}

#[test]
fn a_mailbox_unwatched_while_it_waits_or_is_asked_for_ends_no_round_too_late() {
    let mut bench = Bench::new(4);
    bench.wait();
    bench.answer_everyone([0], 1);
    assert_eq!(these(&bench.wait()), [1, 2, 3]);
    bench.tell(Input::Unwatch(MailboxId(2)));
    bench.tell(Input::Ask(MailboxId(3)));
    bench.tell(Input::Unwatch(MailboxId(3)));
    bench.tell(Input::Read(MailboxId(1)));
    bench.tell(Input::Ended(QuestionKind::ByName, Ok(1)));
    assert_eq!(bench.wait(), [Output::AskEveryone]);
}

#[test]
fn a_server_whose_answers_have_no_end_is_asked_for_less_and_less_often() {
    let flooded = || Trouble::Flooded("more than an answer has".to_owned());
    let mut bench = Bench::new(3);
    let (mut everyone, mut by_name) = (0, 0);
    let end = bench.now.after(Duration::from_hours(1));
    while bench.now < end {
        let kind = match bench.wait().first() {
            Some(Output::AskEveryone) => (everyone += 1, QuestionKind::Everyone).1,
            _ => (by_name += 1, QuestionKind::ByName).1,
        };
        bench.tell(Input::Ended(kind, Err(flooded())));
        assert_eq!(bench.rounds.failure(), Some("more than an answer has"));
    }
    assert_eq!(everyone, 1, "all users again would only be more of it");
    assert!((25..80).contains(&by_name), "{by_name} in an hour");
    let asked = bench.wait();
    bench.answer_these(&asked);
    assert_eq!((bench.rounds.failure(), bench.rounds.coverage().read), (None, 3));
}

#[test]
fn silence_is_a_failure_where_nothing_was_read_yet_or_single_mailboxes_were_asked_for() {
    let silent = |kind| Input::Silent(kind, "no answer yet".to_owned());
    let mut bench = Bench::new(3);
    bench.wait();
    bench.tell(silent(QuestionKind::Everyone));
    assert_eq!(bench.rounds.failure(), Some("no answer yet"));
    bench.tell(Input::Ended(QuestionKind::Everyone, Err(Trouble::Unanswered("late".to_owned()))));
    assert_eq!(bench.rounds.failure(), Some("no answer yet"), "still nothing was read");
    let asked = bench.wait();
    bench.answer_these(&asked);
    assert_eq!(bench.rounds.failure(), None);
    bench.tell(silent(QuestionKind::Everyone));
    assert_eq!(bench.rounds.failure(), None, "of many users it comes late");
    bench.tell(silent(QuestionKind::ByName));
    assert_eq!(bench.rounds.failure(), Some("no answer yet"));
}
