//! The dict server's two threads: one answers Dovecot, one hands readings on.
//!
//! The answering thread has a runtime of its own and touches nothing that the rest of the agent could hold: it
//! reads, answers, overwrites [`Pending`] under a lock that nobody keeps longer than a swap. The handing thread
//! calls the observer. So a slow or dead-locked observer costs a delivery nothing.

use super::desk::driver::Desk;
use super::dict::Step;
use super::listener::driver::{Doorway, Listener, SocketFile, listen};
use super::pending::{Pending, WAITING_MAX, Waiting};
use super::{Error, Settings};
use crate::counters::SourceCounters;
use crate::event::{News, Observer, Reading, SourceId};
use crate::time::Now;
use crate::time::driver::Clock;
use foldhash::HashMap;
use parking_lot::{Condvar, Mutex};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::LocalSet;

/// How long [`DovecotSource::stop`] waits for the observer to take what was committed.
const HAND_ON_LIMIT: Duration = Duration::from_secs(1);

/// The running source. Dropping it stops it.
#[derive(Debug)]
pub struct DovecotSource {
    name: Arc<str>,
    tcp_address: Option<SocketAddr>,
    stop: Arc<Notify>,
    handover: Arc<Handover>,
    answering: Option<JoinHandle<()>>,
    handed_on: mpsc::Receiver<()>,
    is_handing: Arc<AtomicBool>,
    file: Option<SocketFile>,
}

/// Opens the configured socket and serves it from threads of its own.
///
/// When it returns, Dovecot can connect.
pub fn start(
    settings: &Settings,
    id: SourceId,
    observer: Arc<dyn Observer>,
    clock: Clock,
    counters: Arc<SourceCounters>,
) -> Result<DovecotSource, Error> {
    let (listener, file) = listen(settings)?;
    let mut source = start_on(listener, settings, id, observer, clock, counters)?;
    source.file = file;
    Ok(source)
}

/// Serves a socket that listens already, handed over by the service manager; its file stays when we stop.
pub fn start_on(
    listener: Listener,
    settings: &Settings,
    id: SourceId,
    observer: Arc<dyn Observer>,
    clock: Clock,
    counters: Arc<SourceCounters>,
) -> Result<DovecotSource, Error> {
    let failed = |reason| Error::Start { name: Arc::clone(&settings.name), reason };
    let tcp_address = listener.tcp_address();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let doorway = {
        let _within = runtime.enter();
        Doorway::open(listener).map_err(failed)?
    };
    let handover = Arc::new(Handover::default());
    let (done, handed_on) = mpsc::channel();
    let is_handing = Arc::new(AtomicBool::new(true));
    let mut source = DovecotSource {
        name: Arc::clone(&settings.name),
        tcp_address,
        stop: Arc::default(),
        handover: Arc::clone(&handover),
        answering: None,
        handed_on,
        is_handing: Arc::clone(&is_handing),
        file: None,
    };
    let handing = Handing { id, observer, counters: Arc::clone(&counters), is_running: is_handing };
    let outbox = Arc::clone(&handover);
    thread::Builder::new()
        .name("dovecot-hand-on".into())
        .spawn(move || handing.run(&outbox, &done))
        .map_err(failed)?;

    let (settings, stop) = (settings.clone(), Arc::clone(&source.stop));
    let answering = thread::Builder::new()
        .name("dovecot-dict".into())
        .spawn(move || answer(&runtime, &doorway, Desk::new(&settings, clock, counters, handover), &stop));
    source.answering =
        Some(answering.map_err(|reason| Error::Start { name: Arc::clone(&source.name), reason })?);
    Ok(source)
}

impl DovecotSource {
    /// Where it listens, when that is TCP: the real port where the configured one was 0.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp_address
    }

    /// Why Dovecot is not served any more, for readiness; `None` while all is well.
    pub fn failure(&self) -> Option<String> {
        let is_answering = self.answering.as_ref().is_some_and(|thread| !thread.is_finished());
        let is_well = is_answering && self.is_handing.load(Ordering::Relaxed);
        (!is_well).then(|| format!("source {}: a thread of the dict server has ended", self.name))
    }

    /// Ends all conversations, removes the socket file and hands on what was committed, within about a second.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for DovecotSource {
    fn drop(&mut self) {
        // The file first: who connects from now on is refused at once and does not wait for an answer.
        self.file = None;
        self.stop.notify_one();
        if let Some(answering) = self.answering.take() {
            // It can only fail by a panic, which its own message told of.
            let _ = answering.join();
        }
        self.handover.end();
        let _ = self.handed_on.recv_timeout(HAND_ON_LIMIT);
    }
}

/// The table between the two threads.
#[derive(Debug)]
pub(super) struct Handover {
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
    pub(super) fn put(&self, step: &mut Step, now: Now) -> u64 {
        let mut table = self.table.lock();
        let mut dropped = 0;
        for update in step.updates.drain(..) {
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

/// The thread that hands on.
struct Handing {
    id: SourceId,
    observer: Arc<dyn Observer>,
    counters: Arc<SourceCounters>,
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
        let Some(mailbox) = self.observer.find(user) else {
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

/// The thread that answers.
fn answer(runtime: &Runtime, doorway: &Doorway, desk: Desk, stop: &Notify) {
    LocalSet::new().block_on(runtime, desk.serve(doorway, stop));
}

#[cfg(test)]
mod tests;
