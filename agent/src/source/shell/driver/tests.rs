//! Threads and tasks end with their source, once, however that comes about.

use super::*;
use crate::counters::SourceCounters;
use crate::event::{MailboxId, News, Observer, Reading, SourceId, Verdict};
use crate::source::names::Names;
use crate::source::pending::Update;
use crate::time::Now;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::time::Duration;

/// Longest wait for anything that must come.
const LIMIT: Duration = Duration::from_secs(10);

/// A thread that works until it is halted, and how often it was halted.
fn worker() -> (Worker, Arc<AtomicUsize>) {
    let (halted, times) = (mpsc::channel(), Arc::new(AtomicUsize::new(0)));
    let (counted, work) = (Arc::clone(&times), halted.1);
    let halt = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let _ = halted.0.send(());
    };
    let worker = Worker::start("test", halt, move || work.recv().unwrap_or_default()).expect("a thread");
    (worker, times)
}

#[test]
fn a_worker_is_ended_once_by_whoever_comes_first() {
    let (worker, halted) = worker();
    assert!(worker.is_running());
    worker.end();
    assert!(!worker.is_running());
    worker.end();
    drop(worker);
    assert_eq!(halted.load(Ordering::Relaxed), 1);
}

/// Counts what reaches it; knows every name.
#[derive(Default)]
struct Recorder(AtomicUsize);

impl Observer for Recorder {
    fn find(&self, _: &str) -> Option<MailboxId> {
        Some(MailboxId(0))
    }

    fn observe(&self, _: MailboxId, _: SourceId, _: News, _: Now) -> Verdict {
        self.0.fetch_add(1, Ordering::AcqRel);
        Verdict::Changed
    }
}

#[test]
fn a_source_that_is_stopped_hands_on_what_was_put_and_has_ended() {
    let recorder = Arc::new(Recorder::default());
    let observer = Arc::clone(&recorder) as Arc<dyn Observer>;
    let counters = Arc::new(SourceCounters::default());
    let hand_on = HandOn::start("test-hand-on", SourceId(0), observer, counters, Names::default());
    let hand_on = hand_on.expect("a thread");
    let handover = hand_on.handover();
    let (worker, halted) = worker();
    let pulse = Arc::new(Pulse::new(Moment::START));
    let source = Answering::new(&"main".into(), "dict server", worker, pulse, hand_on, None);
    assert_eq!(source.failure(), None);
    let reading = Reading { unseen: 1, uid_validity: None, modseq: None, asked_at: None };
    handover.put([Update { user: "u1".into(), reading }], Now::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(source.stop());
    assert_eq!(recorder.0.load(Ordering::Acquire), 1);
    let ended = "source main: a thread of the dict server has ended";
    assert_eq!(source.failure().as_deref(), Some(ended));
    drop(source);
    assert_eq!(halted.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_rhythm_wakes_its_task_when_it_is_due_when_it_is_woken_and_to_end_it() {
    let clock = Clock::start();
    let rhythm = Arc::new(Rhythm::new(clock));
    let turns = Arc::new(AtomicUsize::new(0));
    let (beating, counted) = (Arc::clone(&rhythm), Arc::clone(&turns));
    rhythm.start(async move {
        // Due at once, then only when somebody wakes.
        let mut next = Some(clock.now().moment);
        while !beating.is_stopping() {
            beating.until(next.take()).await;
            counted.fetch_add(1, Ordering::AcqRel);
        }
    });
    let turned = async |at_least| {
        while turns.load(Ordering::Acquire) < at_least {
            task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, turned(1)).await.expect("it is due");
    rhythm.wake();
    tokio::time::timeout(LIMIT, turned(2)).await.expect("it was woken");
    tokio::time::timeout(LIMIT, rhythm.stop()).await.expect("it ends");
    assert_eq!(turns.load(Ordering::Acquire), 3);
    tokio::time::timeout(LIMIT, rhythm.stop()).await.expect("it has ended");
}
