//! Between two threads: one that a mail server waits for puts readings into the table and goes on at once, one that
//! this file starts takes them and calls the observer, however slow that is.
//!
//! The lock is held for a swap or an overwrite, never across a call of the observer.

use super::{Pending, Update, WAITING_MAX, Waiting};
use crate::counters::SourceCounters;
use crate::event::{News, Observer, Reading, SourceId};
use crate::source::names::Names;
use crate::time::Now;
use foldhash::HashMap;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long [`HandOn::finish`] waits for the observer to take what was told.
const HAND_ON_LIMIT: Duration = Duration::from_secs(1);

/// The table between the two threads.
#[derive(Debug)]
pub(in crate::source) struct Handover {
    table: Mutex<Table>,
    news: Condvar,
}

#[derive(Debug)]
struct Table {
    pending: Pending,
    is_ending: bool,
}

impl Default for Handover {
    fn default() -> Self {
        let table = Table { pending: Pending::new(WAITING_MAX), is_ending: false };
        Self { table: Mutex::new(table), news: Condvar::new() }
    }
}

impl Handover {
    /// Overwrites; says how many did not fit.
    pub(in crate::source) fn put(&self, updates: impl IntoIterator<Item = Update>, now: Now) -> u64 {
        let mut table = self.table.lock();
        let mut dropped = 0;
        for update in updates {
            dropped += u64::from(!table.pending.put(update, now));
        }
        drop(table);
        self.news.notify_one();
        dropped
    }

    /// Waits for news; `None` when all was taken and no more will come.
    fn take(&self) -> Option<HashMap<Box<str>, Waiting>> {
        let mut table = self.table.lock();
        while table.pending.is_empty() && !table.is_ending {
            self.news.wait(&mut table);
        }
        Some(table.pending.take()).filter(|waiting| !waiting.is_empty())
    }

    fn end(&self) {
        self.table.lock().is_ending = true;
        self.news.notify_one();
    }
}

/// The thread that hands on, as the source that started it sees it.
#[derive(Debug)]
pub(in crate::source) struct HandOn {
    handover: Arc<Handover>,
    is_running: Arc<AtomicBool>,
    done: mpsc::Receiver<()>,
}

impl HandOn {
    /// Starts the thread under this name; what is put into [`HandOn::handover`] reaches `observer` as news of `id`,
    /// of the mailbox that `names` makes of the user.
    pub(in crate::source) fn start(
        thread_name: &str,
        id: SourceId,
        observer: Arc<dyn Observer>,
        counters: Arc<SourceCounters>,
        names: Names,
    ) -> io::Result<Self> {
        let handover = Arc::new(Handover::default());
        let is_running = Arc::new(AtomicBool::new(true));
        let (done, told) = mpsc::channel();
        let handing = Handing { id, observer, counters, names, is_running: Arc::clone(&is_running) };
        let outbox = Arc::clone(&handover);
        thread::Builder::new().name(thread_name.to_owned()).spawn(move || handing.run(&outbox, &done))?;
        Ok(Self { handover, is_running, done: told })
    }

    /// Where readings are put.
    pub(in crate::source) fn handover(&self) -> Arc<Handover> {
        Arc::clone(&self.handover)
    }

    /// Whether its thread still runs.
    pub(in crate::source) fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Relaxed)
    }

    /// Nothing more will be put: waits until what was put is handed on, [`HAND_ON_LIMIT`] at most.
    pub(in crate::source) fn finish(&self) {
        self.handover.end();
        // Whether it was in time or not, there is nothing left to do about it.
        let _ = self.done.recv_timeout(HAND_ON_LIMIT);
    }
}

/// What the thread works with.
struct Handing {
    id: SourceId,
    observer: Arc<dyn Observer>,
    counters: Arc<SourceCounters>,
    names: Names,
    is_running: Arc<AtomicBool>,
}

impl Drop for Handing {
    fn drop(&mut self) {
        self.is_running.store(false, Ordering::Relaxed);
    }
}

impl Handing {
    fn run(self, handover: &Handover, done: &mpsc::Sender<()>) {
        while let Some(waiting) = handover.take() {
            for (user, readings) in waiting {
                self.hand_on(&user, &readings);
            }
        }
        // Nobody listens when the source was given up before.
        let _ = done.send(());
    }

    fn hand_on(&self, user: &str, readings: &Waiting) {
        let Some(mailbox) = self.observer.find(&self.names.mailbox(user)) else {
            self.counters.unknown.one();
            return;
        };
        let observe = |(reading, now): (Reading, Now)| {
            self.counters.readings.one();
            // A verdict "ask" is on its way to a source that can answer; we cannot.
            self.observer.observe(mailbox, self.id, News::Reading(reading), now);
        };
        readings.before.into_iter().for_each(&observe);
        observe(readings.newest);
    }
}
