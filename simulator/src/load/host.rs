//! The mail host under load with its ledger: every change goes into both before anyone can hear of it, and every
//! notification that reaches a device comes back here.

use super::ledger::{DeviceIndex, Ledger};
use super::plan::{self, Step};
use crate::peers::device::{Arrival, Device, DeviceListener};
use crate::peers::mail_store::MailStore;
use crate::peers::unix_time::UnixMicros;
use crate::serve::notifiers::StatusChange;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// How long all icons must stay right before a load test believes it.
const STEADY: Duration = Duration::from_secs(1);

/// Mailboxes, what their devices show, and the clock of the whole load test.
pub(super) struct Host {
    /// The mailboxes, shared with the IMAP server.
    pub(super) store: Arc<Mutex<MailStore>>,
    /// Truth and icons.
    pub(super) ledger: Mutex<Ledger>,
    /// Start of the clock.
    pub(super) started: Instant,
    /// Notified whenever no icon is wrong any more.
    settled: Notify,
}

impl Host {
    /// A host of empty mailboxes, `user1` to `userN`.
    pub(super) fn new(mailboxes: usize, devices_per_mailbox: usize) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::new(Mutex::new(MailStore::new(mailboxes, ""))),
            ledger: Mutex::new(Ledger::new(mailboxes, devices_per_mailbox)),
            started: clock(),
            settled: Notify::new(),
        })
    }

    /// Time since the start.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Time since an earlier moment of this clock.
    pub(super) fn since(&self, earlier: Duration) -> Duration {
        self.now().saturating_sub(earlier)
    }

    /// Carries out a step that was due at `due`; the mailbox's numbers afterwards.
    pub(super) fn carry_out(
        &self,
        step: &Step,
        due: Duration,
        random: &mut fastrand::Rng,
    ) -> Option<StatusChange> {
        let mut store = self.store.lock();
        plan::carry_out(step, &mut store, random);
        let status = store.status(step.account)?;
        // Under the store's lock: no session can have told of it yet.
        self.ledger.lock().changed(step.account.0 as usize, status.unseen, due);
        Some(StatusChange { name: Arc::clone(store.name(step.account)?), status })
    }

    /// Waits until no icon is wrong, at most so long; says whether that came to be.
    pub(super) async fn settle(&self, at_most: Duration) -> bool {
        let settled = async {
            loop {
                let told = self.settled.notified();
                if self.ledger.lock().wrong() == 0 {
                    return;
                }
                told.await;
            }
        };
        timeout(at_most, settled).await.is_ok()
    }
}

impl Host {
    /// Waits until no icon is wrong and no notification changes that for [`STEADY`], at most so long; says how long it
    /// took until then. An icon may be right for a moment by chance: 1 and 0 follow each other, and the 1 is on its way.
    pub(super) async fn steady(&self, at_most: Duration) -> Option<Duration> {
        let since = self.now();
        while self.since(since) <= at_most && self.settle(at_most).await {
            let (took, before) = (self.since(since), self.ledger.lock().totals().notifications);
            sleep(STEADY).await;
            let ledger = self.ledger.lock();
            if ledger.wrong() == 0 && ledger.totals().notifications == before {
                return Some(took);
            }
        }
        None
    }
}

impl DeviceListener for Host {
    fn arrived(&self, device: &Device, arrival: Arrival, _: UnixMicros) {
        let now = self.now();
        let Some(index) = DeviceIndex::parse(&device.id) else { return };
        let mut ledger = self.ledger.lock();
        match (arrival, device.badge()) {
            (Arrival::Shown | Arrival::Repeated, Some(count)) => ledger.shows(index, count, now),
            _ => ledger.ignores(),
        }
        if ledger.wrong() == 0 {
            self.settled.notify_one();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a load test measures real time")]
fn clock() -> Instant {
    Instant::now()
}
