//! The hot paths, each from fixed data: what a change costs from the mail server's line to the batch.

use mailbadge::event::{
    MailboxId, ModSeq, News, Notification, Reading, Recipient, SourceId, SubscriptionKey, UidValidity,
};
use mailbadge::forwarder::wire::{Stamp, batch};
use mailbadge::source::dovecot::dict::{Conversation, Step};
use mailbadge::source::imap::exchange::{Errand, Input};
use mailbadge::source::imap::lines::Line;
use mailbadge::source::imap::reply;
use mailbadge::source::imap::session::Session;
use mailbadge::source::imap::{Login, Settings};
use mailbadge::time::{Moment, Now, UnixMs};
use mailbadge::tracker::Tracker;
use std::fmt::Write as _;
use std::hint::black_box;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

const MAILBOXES: u32 = 1_000;
/// Mailboxes in a batch.
const BATCH: usize = 256;
/// STATUS lines that one read brings.
const LINES: usize = 256;
/// Transactions on a dict connection that one read brings; three lines each.
const TRANSACTIONS: u64 = 400;

/// A path to be counted.
pub(crate) struct Path {
    pub(crate) name: &'static str,
    /// How often [`Path::run`] is told to run it: enough that what comes once does not matter.
    pub(crate) times: u64,
    /// Operations in each of these times.
    pub(crate) operations: u64,
    pub(crate) run: fn(u64),
}

/// All of them, as a count passes them.
pub(crate) const PATHS: &[Path] = &[
    Path { name: "dict line", times: 20, operations: TRANSACTIONS * 3, run: dict },
    Path { name: "STATUS line, read", times: 20_000, operations: 1, run: status },
    Path { name: "STATUS line, session", times: 50, operations: LINES as u64, run: session },
    Path { name: "observe", times: 50, operations: MAILBOXES as u64, run: observe },
    Path { name: "observe, take, acknowledge", times: 50, operations: MAILBOXES as u64, run: acknowledge },
    Path { name: "wire, a notification", times: 20, operations: BATCH as u64, run: wire },
];

fn at(micros: u64) -> Now {
    Now { moment: Moment::from_micros(micros), unix: UnixMs(1_800_000_000_000) }
}

fn recipient(number: u32) -> Recipient {
    Recipient {
        key: SubscriptionKey(i64::from(number)),
        app_id: "com.microsoft.exchange.iphone".to_owned().into(),
        device_id: format!("{number:064x}").into(),
        installation_id: None,
        last_update: UnixMs(1_800_000_000_000),
        expires_at: UnixMs(u64::MAX),
        background_sync: false,
    }
}

/// A mailbox a device.
fn tracker() -> Tracker {
    let tracker = Tracker::default();
    for number in 0..MAILBOXES {
        let mailbox = tracker.enroll(&format!("user{number}@example.com")).expect("fewer than fit");
        tracker.subscribe(mailbox, recipient(number), Some(0), at(0));
    }
    tracker
}

/// A new count for each mailbox.
fn change(tracker: &Tracker, round: u64) {
    for mailbox in 0..MAILBOXES {
        let news = News::Reading(Reading {
            unseen: (round % 1000) as u32 + 1,
            uid_validity: NonZeroU32::new(1).map(UidValidity),
            modseq: NonZeroU64::new(round).map(ModSeq),
            asked_at: None,
        });
        black_box(tracker.observe(MailboxId(mailbox), SourceId(0), news, at(round)));
    }
}

fn observe(times: u64) {
    let tracker = tracker();
    (1..=times).for_each(|round| change(&tracker, round));
}

fn acknowledge(times: u64) {
    let tracker = tracker();
    for round in 1..=times {
        change(&tracker, round);
        loop {
            let batch = tracker.take(BATCH, at(round));
            if batch.is_empty() {
                break;
            }
            tracker.acknowledge(&batch, &[], at(round));
        }
        while !tracker.take_unsaved(BATCH).is_empty() {}
    }
}

fn wire(times: u64) {
    let notification = |number: u32| Notification {
        mailbox: MailboxId(number),
        number: number.into(),
        unseen: number % 100,
        background_sync: false,
        recipients: vec![recipient(number)],
        changed_at: Moment::START,
        taken_at: UnixMs(0),
    };
    let stamp = Stamp::new(UnixMs(1_800_000_000_000));
    let notifications: Vec<Notification> = (0..BATCH as u32).map(notification).collect();
    for _ in 0..times {
        black_box(batch(&stamp, black_box(&notifications)));
    }
}

fn dict(times: u64) {
    let mut input = String::from("H3\t2\t0\t\tunseen\n");
    for id in 1..=TRANSACTIONS {
        let count = format!("{{\"messages\":{id},\"unseen\":7,\"uidvalidity\":1795424325,\"modseq\":{id}}}");
        let _ = write!(input, "B{id}\tuser{id}@fabrikam.com\nS{id}\tpriv/status/INBOX\t{count}\nC{id}\n");
    }
    let mut step = Step::default();
    for _ in 0..times {
        step.clear();
        Conversation::new().handle(black_box(input.as_bytes()), &mut step);
        assert_eq!(step.updates.len() as u64, TRANSACTIONS);
    }
}

fn pushed(number: usize) -> String {
    format!(
        "* STATUS INBOX (MESSAGES {number} UIDNEXT {} UNSEEN {} HIGHESTMODSEQ {number})\r\n",
        number + 1,
        number % 90
    )
}

fn status(times: u64) {
    let text = pushed(4711);
    let bytes = text.trim_end().as_bytes();
    for _ in 0..times {
        black_box(reply::decode(black_box(Line { bytes, folded: 0 })));
    }
}

/// A session that NOTIFY watches is sent lines.
fn session(times: u64) {
    let password = "secret".to_owned().into();
    let login = Login::Master { user: "agent".into(), separator: "*".into(), password };
    let settings = Arc::new(Settings::new("bench", "127.0.0.1", login));
    let mut session = Session::new(settings, Arc::default(), "u1".into(), Errand::Watch, 1);
    session.handle(at(1), Input::Connected);
    for line in [
        "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n",
        "a1 OK [CAPABILITY IMAP4rev1 NOTIFY CONDSTORE] in\r\n",
        "* STATUS INBOX (MESSAGES 2 UIDNEXT 3 UIDVALIDITY 1795422745 UNSEEN 2 HIGHESTMODSEQ 3)\r\n",
        "a2 OK NOTIFY completed\r\n",
    ] {
        session.handle(at(1), Input::Bytes(line.as_bytes()));
    }
    while session.poll_output().is_some() {}
    let lines: String = (1..=LINES).map(pushed).collect();
    for _ in 0..times {
        session.handle(at(1), Input::Bytes(black_box(lines.as_bytes())));
        let outputs = std::iter::from_fn(|| session.poll_output()).inspect(|output| {
            black_box(output);
        });
        assert_eq!(outputs.count(), LINES);
    }
}
