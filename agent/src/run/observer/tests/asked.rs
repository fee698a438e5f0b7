//! Which sources are asked, and which are spared a question.

use super::*;
use crate::event::Reading;
use crate::source::kind::Stopping;
use crate::time::Moment;
use std::time::Duration;

/// Remembers what it was asked for.
#[derive(Debug, Default)]
struct Source {
    asked: Mutex<Vec<MailboxId>>,
    spared: Mutex<Vec<MailboxId>>,
}

impl Running for Source {
    fn ask(&self, mailbox: MailboxId) {
        self.asked.lock().push(mailbox);
    }

    fn read_elsewhere(&self, mailbox: MailboxId) {
        self.spared.lock().push(mailbox);
    }

    fn failure(&self) -> Option<String> {
        None
    }

    fn stop(&self) -> Stopping<'_> {
        Box::pin(async {})
    }
}

/// An observer with a source whose reading costs little and one that logs in, numbers 1 and 2.
fn observer() -> (DaemonObserver, MailboxId, [Arc<Source>; 2]) {
    let tracker = Arc::new(Tracker::default());
    let mailbox = tracker.enroll("u1").unwrap();
    let observer = DaemonObserver::new(tracker, Arc::default(), Arc::default());
    let sources = [Arc::<Source>::default(), Arc::default()];
    for (id, cost) in [(1, Cost::Low), (2, Cost::LogIn)] {
        let terms = Terms { sweep: Duration::from_mins(1), login_rate: None, since: Moment::START };
        let source = Arc::clone(&sources[usize::from(id) - 1]) as Arc<dyn Running>;
        observer.add(SourceId(id), source, cost, terms);
    }
    (observer, mailbox, sources)
}

fn reading(asked_at: Option<Moment>) -> News {
    News::Reading(Reading { unseen: 1, uid_validity: None, modseq: None, asked_at })
}

#[test]
fn a_source_that_logs_in_is_spared_what_another_one_has_read() {
    for (by, asked_at, is_spared) in [
        (1, Some(Moment::START), true),
        // A count that was reported by itself is confirmed by the sweep.
        (1, None, false),
        // It has read the mailbox itself.
        (2, Some(Moment::START), false),
    ] {
        let (observer, mailbox, [cheap, dear]) = observer();
        observer.observe(mailbox, SourceId(by), reading(asked_at), Now::default());
        assert_eq!(dear.spared.lock().len(), usize::from(is_spared), "by {by}, asked at {asked_at:?}");
        assert!(cheap.spared.lock().is_empty());
    }
}

#[test]
fn a_hint_asks_every_source_until_it_is_removed() {
    let (observer, mailbox, [first, second]) = observer();
    assert_eq!(observer.observe(mailbox, SourceId(3), News::Hint, Now::default()), Verdict::Ask);
    observer.remove(SourceId(1));
    observer.observe(mailbox, SourceId(3), News::Hint, Now::default());
    assert_eq!((first.asked.lock().len(), second.asked.lock().len()), (1, 2));
}
