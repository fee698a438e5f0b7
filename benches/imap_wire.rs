//! The IMAP source's hot way: STATUS lines that a server pushes, through a session to readings; and the two ways of reading
//! such a line beside each other.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mailbadge::source::imap::exchange::{Errand, Input, Output};
use mailbadge::source::imap::lines::Line;
use mailbadge::source::imap::reply;
use mailbadge::source::imap::session::Session;
use mailbadge::source::imap::{Login, Settings};
use mailbadge::time::{Moment, Now, UnixMs};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// Lines that one read brings on a busy connection.
const LINES: usize = 256;

/// Between two reads: without it the lines would be a flood.
const READ_EVERY: Duration = Duration::from_millis(10);

const NOW: Now = Now { moment: Moment::from_micros(1), unix: UnixMs(1_800_000_000_000) };

/// A session that NOTIFY watches.
fn watching() -> Session {
    let password = "secret".to_owned().into();
    let login = Login::Master { user: "agent".into(), separator: "*".into(), password };
    let settings = Arc::new(Settings::new("bench", "127.0.0.1", login));
    let mut session = Session::new(settings, Arc::default(), "u1".into(), Errand::Watch, 1);
    session.handle(NOW, Input::Connected);
    for line in [
        "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n",
        "a1 OK [CAPABILITY IMAP4rev1 NOTIFY CONDSTORE] in\r\n",
        "* STATUS INBOX (MESSAGES 2 UIDNEXT 3 UIDVALIDITY 1795422745 UNSEEN 2 HIGHESTMODSEQ 3)\r\n",
        "a2 OK NOTIFY completed\r\n",
    ] {
        session.handle(NOW, Input::Bytes(line.as_bytes()));
    }
    while session.poll_output().is_some() {}
    session
}

fn pushed(number: usize) -> String {
    format!(
        "* STATUS INBOX (MESSAGES {number} UIDNEXT {} UNSEEN {} HIGHESTMODSEQ {number})\r\n",
        number + 1,
        number % 90
    )
}

fn session(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("imap_wire");
    let many: String = (1..=LINES).map(pushed).collect();
    let mut session = watching();
    let mut now = NOW;
    let mut readings = move |bytes: &[u8]| {
        now = now.after(READ_EVERY);
        session.handle(now, Input::Bytes(bytes));
        std::iter::from_fn(|| session.poll_output())
            .filter(|output| matches!(output, Output::News(_)))
            .count()
    };
    assert_eq!(readings(many.as_bytes()), LINES);
    group.throughput(Throughput::Elements(LINES as u64));
    group.bench_function("session, 256 lines a read", |bencher| {
        bencher.iter(|| readings(black_box(many.as_bytes())));
    });
    let one = pushed(1);
    group.throughput(Throughput::Elements(1));
    group.bench_function("session, one line a read", |bencher| {
        bencher.iter(|| readings(black_box(one.as_bytes())));
    });
    group.finish();
}

fn line(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("imap_line");
    group.throughput(Throughput::Elements(1));
    let text = pushed(4711);
    let bytes = text.trim_end().as_bytes();
    assert_eq!(reply::decode(Line { bytes, folded: 0 }), reply::decode_by_codec(bytes));
    group.bench_function("STATUS by hand", |bencher| {
        bencher.iter(|| reply::decode(black_box(Line { bytes, folded: 0 })));
    });
    group.bench_function("STATUS by imap-codec", |bencher| {
        bencher.iter(|| reply::decode_by_codec(black_box(bytes)));
    });
    group.finish();
}

criterion_group!(benches, session, line);
criterion_main!(benches);
