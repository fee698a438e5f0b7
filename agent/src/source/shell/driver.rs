//! Threads and tasks that end with their source.

use crate::source::kind::Stopping;
use crate::source::pending::driver::HandOn;
use crate::source::pulse::Pulse;
use crate::source::socket_file::driver::SocketFile;
use crate::time::Moment;
use crate::time::driver::Clock;
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use tokio::sync::Notify;
use tokio::task;

/// A thread of a source. Dropping it ends it.
pub(in crate::source) struct Worker {
    thread: Mutex<Option<JoinHandle<()>>>,
    halt: Box<dyn Fn() + Send + Sync>,
}

impl Worker {
    /// Starts `work` in a thread of this name. It must return soon after `halt` was called.
    pub(in crate::source) fn start(
        name: &str,
        halt: impl Fn() + Send + Sync + 'static,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self { thread: Mutex::new(Some(thread)), halt: Box::new(halt) })
    }

    /// Whether the thread still runs.
    pub(in crate::source) fn is_running(&self) -> bool {
        self.thread.lock().as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Ends the thread and waits for its end. A second call does nothing.
    pub(in crate::source) fn end(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        (self.halt)();
        // It can only fail by a panic, which has printed its own message.
        let _ = thread.join();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("is_running", &self.is_running()).finish_non_exhaustive()
    }
}

/// The shell of a source that a mail server waits for: a thread answers on a socket, another one hands readings on.
/// Dropping it stops it.
#[derive(Debug)]
pub(in crate::source) struct Answering {
    name: Arc<str>,
    /// What the mail server knows it as, for texts: `dict server`.
    place: &'static str,
    worker: Worker,
    pulse: Arc<Pulse>,
    /// The file of a socket that is ours. Taken when the source stops.
    file: Mutex<Option<SocketFile>>,
    /// Taken when the source stops.
    hand_on: Mutex<Option<HandOn>>,
}

impl Answering {
    /// Of threads that run already. `worker` beats `pulse`, and puts readings into the table of `hand_on`.
    pub(in crate::source) fn new(
        name: &Arc<str>,
        place: &'static str,
        worker: Worker,
        pulse: Arc<Pulse>,
        hand_on: HandOn,
        file: Option<SocketFile>,
    ) -> Self {
        let (file, hand_on) = (Mutex::new(file), Mutex::new(Some(hand_on)));
        Self { name: Arc::clone(name), place, worker, pulse, file, hand_on }
    }

    pub(in crate::source) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Why the mail server is not answered any more; `None` while all is well.
    pub(in crate::source) fn failure(&self) -> Option<String> {
        let is_well =
            self.worker.is_running() && self.hand_on.lock().as_ref().is_some_and(HandOn::is_running);
        (!is_well).then(|| format!("source {}: a thread of the {} has ended", self.name, self.place))
    }

    /// Removes the socket file, ends the answering thread, and hands on what was put, within about a second.
    pub(in crate::source) fn end(&self) {
        // The file first: who connects from now on is refused at once and does not wait for an answer.
        drop(self.file.lock().take());
        self.worker.end();
        let hand_on = self.hand_on.lock().take();
        if let Some(hand_on) = hand_on {
            hand_on.finish();
        }
    }

    /// The same as [`Running::stop`](crate::source::kind::Running::stop) has it.
    pub(in crate::source) fn stop(&self) -> Stopping<'_> {
        Box::pin(async { self.end() })
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.end();
    }
}

/// When the machine of a source is woken: a task waits for its next timer, and for whoever wakes it before.
#[derive(Debug)]
pub(in crate::source) struct Rhythm {
    clock: Clock,
    wake: Notify,
    is_stopping: AtomicBool,
    task: Mutex<Option<task::JoinHandle<()>>>,
}

impl Rhythm {
    /// Nothing runs yet.
    pub(in crate::source) fn new(clock: Clock) -> Self {
        Self { clock, wake: Notify::new(), is_stopping: AtomicBool::new(false), task: Mutex::default() }
    }

    /// Starts the task within the current runtime. It must return soon after [`Self::is_stopping`].
    pub(in crate::source) fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        *self.task.lock() = Some(tokio::spawn(task));
    }

    pub(in crate::source) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Ends a wait now, or the next one.
    pub(in crate::source) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until somebody wakes.
    pub(in crate::source) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Waits until then, or until somebody wakes.
    pub(in crate::source) async fn until(&self, next: Option<Moment>) {
        let Some(at) = next else { return self.woken().await };
        let at = tokio::time::Instant::from_std(self.clock.instant(at));
        let _ = tokio::time::timeout_at(at, self.woken()).await;
    }

    /// Ends the task and waits for its end.
    pub(in crate::source) async fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.wake();
        let task = self.task.lock().take();
        if let Some(task) = task {
            // It ends by the flag; a panic in it has been reported by the runtime.
            let _ = task.await;
        }
    }
}

#[cfg(test)]
mod tests;
