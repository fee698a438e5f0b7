//! Detection: counts that arrive at the tracker, and mailboxes that become ready and are taken in batches.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mailbadge::event::{MailboxId, ModSeq, News, Reading, Recipient, SourceId, SubscriptionKey, UidValidity};
use mailbadge::time::{Moment, Now, UnixMs};
use mailbadge::tracker::Tracker;
use std::hint::black_box;
use std::num::{NonZeroU32, NonZeroU64};

const MAILBOXES: u32 = 100_000;
const BATCH: usize = 256;

fn at(micros: u64) -> Now {
    Now { moment: Moment::from_micros(micros), unix: UnixMs(1_800_000_000_000) }
}

fn count(unseen: u32, modseq: u64) -> News {
    News::Reading(Reading {
        unseen,
        uid_validity: NonZeroU32::new(1).map(UidValidity),
        modseq: NonZeroU64::new(modseq).map(ModSeq),
        asked_at: None,
    })
}

fn tracker() -> Tracker {
    let tracker = Tracker::default();
    for i in 0..MAILBOXES {
        let mailbox = tracker.enroll(&format!("user{i}@example.com")).expect("fewer than fit");
        let recipient = Recipient {
            key: SubscriptionKey(i64::from(i)),
            app_id: "com.microsoft.exchange.mowa".to_owned().into(),
            device_id: format!("reg-{i}").into(),
            installation_id: None,
            last_update: UnixMs(0),
            expires_at: UnixMs(u64::MAX),
            background_sync: false,
        };
        tracker.subscribe(mailbox, recipient, Some(0), at(0));
    }
    tracker
}

/// One change for each of `mailboxes`, all of them different from what devices show.
fn change(tracker: &Tracker, mailboxes: std::ops::Range<u32>, round: u64) {
    for mailbox in mailboxes {
        let news = count((round % 1000) as u32 + 1, round);
        black_box(tracker.observe(MailboxId(mailbox), SourceId(0), news, at(round)));
    }
}

fn drain(tracker: &Tracker, round: u64) {
    loop {
        let batch = tracker.take(BATCH, at(round));
        if batch.is_empty() {
            break;
        }
        tracker.acknowledge(&batch, &[], at(round));
    }
    while !tracker.take_unsaved(BATCH).is_empty() {}
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("detection");
    group.throughput(Throughput::Elements(u64::from(MAILBOXES)));
    let tracker = tracker();
    let mut round = 0;
    group.bench_function(BenchmarkId::new("observe", "1 thread"), |bencher| {
        bencher.iter(|| {
            round += 1;
            change(&tracker, 0..MAILBOXES, round);
        });
    });
    group.bench_function(BenchmarkId::new("observe", "2 threads"), |bencher| {
        bencher.iter(|| {
            round += 1;
            std::thread::scope(|scope| {
                scope.spawn(|| change(&tracker, 0..MAILBOXES / 2, round));
                scope.spawn(|| change(&tracker, MAILBOXES / 2..MAILBOXES, round));
            });
        });
    });
    group.bench_function("observe, ready, take, acknowledge", |bencher| {
        bencher.iter(|| {
            round += 1;
            change(&tracker, 0..MAILBOXES, round);
            drain(&tracker, round);
        });
    });
    group.bench_function("find by name", |bencher| {
        let names: Vec<String> = (0..MAILBOXES).map(|i| format!("user{i}@example.com")).collect();
        bencher.iter(|| names.iter().filter_map(|name| tracker.find(name)).count());
    });
    group.finish();
}

criterion_group! { name = benches; config = Criterion::default().sample_size(20); targets = bench }
criterion_main!(benches);
