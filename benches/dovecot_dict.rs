//! Dovecot's dict: lines through one conversation, and what a commit waits for on a real socket.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mailbadge::counters::SourceCounters;
use mailbadge::event::{MailboxId, News, Observer, SourceId, Verdict};
use mailbadge::source::dovecot::dict::{Conversation, Step};
use mailbadge::source::dovecot::{Listen, Settings, start};
use mailbadge::time::Now;
use mailbadge::time::driver::Clock;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// Transactions in one piece of input; about what a read of 64 KiB holds.
const TRANSACTIONS: u32 = 400;

/// `B`, `S` and `C`.
const LINES_OF_A_TRANSACTION: u32 = 3;

const HELLO: &str = "H3\t2\t0\t\tunseen\n";

fn transaction(id: u32) -> String {
    let mut text = format!("B{id}\tuser{id}@fabrikam.com\n");
    let _ = writeln!(
        text,
        "S{id}\tpriv/status/INBOX\t{{\"messages\":{id},\"unseen\":{},\"uidnext\":{id},\"uidvalidity\":1795424325,\"modseq\":{id}}}",
        id % 100
    );
    let _ = writeln!(text, "C{id}");
    text
}

fn conversation(criterion: &mut Criterion) {
    let mut input = String::from(HELLO);
    for id in 1..=TRANSACTIONS {
        input += &transaction(id);
    }
    let mut group = criterion.benchmark_group("dovecot_dict");
    group.throughput(Throughput::Elements(u64::from(TRANSACTIONS * LINES_OF_A_TRANSACTION)));
    let mut step = Step::default();
    group.bench_function("lines, one connection", |bencher| {
        bencher.iter_batched(
            Conversation::new,
            |mut conversation| {
                step.clear();
                conversation.handle(black_box(input.as_bytes()), &mut step);
                assert_eq!(step.updates.len(), TRANSACTIONS as usize);
            },
            BatchSize::SmallInput,
        );
    });
    // What a delivery costs us: a conversation of its own.
    let delivery = format!("{HELLO}{}", transaction(1));
    group.throughput(Throughput::Elements(1));
    group.bench_function("delivery, a connection of its own", |bencher| {
        bencher.iter(|| {
            step.clear();
            Conversation::new().handle(black_box(delivery.as_bytes()), &mut step);
            assert_eq!(step.updates.len(), 1);
        });
    });
    group.finish();
}

/// Everybody is subscribed, nobody cares.
struct Indifferent;

impl Observer for Indifferent {
    fn find(&self, _name: &str) -> Option<MailboxId> {
        Some(MailboxId(1))
    }

    fn observe(&self, mailbox: MailboxId, source: SourceId, news: News, now: Now) -> Verdict {
        black_box((mailbox, source, news, now));
        Verdict::Changed
    }
}

fn socket(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("dict.sock");
    let settings = Settings::new("dovecot", Listen::Unix(path.clone()));
    let counters = Arc::new(SourceCounters::default());
    let source = start(&settings, SourceId(0), Arc::new(Indifferent), Clock::start(), counters);
    let _source = source.expect("the socket is ours");
    let mut group = criterion.benchmark_group("dovecot_dict_socket");
    let transaction = transaction(1);
    let mut lines: Vec<&str> = transaction.split_inclusive('\n').collect();
    // As Dovecot writes them: one write a line.
    lines.insert(0, HELLO);
    group.bench_function("delivery: connect to answer", |bencher| {
        bencher.iter(|| {
            let mut stream = UnixStream::connect(&path).expect("it listens");
            for line in &lines {
                stream.write_all(line.as_bytes()).expect("it listens");
            }
            let mut answer = [0; 3];
            stream.read_exact(&mut answer).expect("it answers");
            assert_eq!(&answer, b"O1\n");
        });
    });
    let mut stream = UnixStream::connect(&path).expect("it listens");
    stream.write_all(HELLO.as_bytes()).expect("it listens");
    group.bench_function("commit on an open connection", |bencher| {
        bencher.iter(|| {
            stream.write_all(transaction.as_bytes()).expect("it listens");
            let mut answer = [0; 3];
            stream.read_exact(&mut answer).expect("it answers");
            assert_eq!(&answer, b"O1\n");
        });
    });
    group.finish();
}

criterion_group!(benches, conversation, socket);
criterion_main!(benches);
