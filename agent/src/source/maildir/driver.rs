//! The thread that looks: inotify, folders, the clock. Decides nothing: that is the watcher's.
//!
//! Mail programs never wait for it. It is no task of the runtime, since reading a folder blocks for the disk's time.

mod discovery;
mod examine;
mod folder;

pub use examine::{instances_max, read_once};

use super::Settings;
use super::template::Refused;
use super::watcher::{Input, Look, Output, WatchId, Watcher};
use crate::counters::SourceCounters;
use crate::event::{MailboxId, News, Observer, Reading, SourceId, Verdict};
use crate::source::event_fd::driver::EventFd;
use crate::source::kind::{Running, StartError, Stopping};
use crate::source::shell::driver::Worker;
use crate::time::Moment;
use crate::time::driver::Clock;
pub(super) use examine::{examine, examine_host};
use folder::{Notifier, inotify_limit};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Watches of inotify that a mailbox takes: `new/` and `cur/`.
pub const WATCHES_PER_MAILBOX: u64 = 2;
/// How often a Maildir that appears while it is looked at is looked at again at once.
const LOOKS_MAX: usize = 3;

/// A running source. Every call returns at once and may be repeated. Dropping it stops it.
#[derive(Debug)]
pub struct MaildirSource {
    settings: Settings,
    shared: Arc<Shared>,
    worker: Worker,
}

/// What the thread is asked for, and what it reports.
#[derive(Debug)]
struct Shared {
    requests: Mutex<Requests>,
    wake: EventFd,
    is_stopping: AtomicBool,
    failure: Mutex<Option<String>>,
}

/// What was asked of the source and not taken up yet: bounded by the mailboxes there are.
#[derive(Debug, Default)]
struct Requests {
    /// In their order: watching and not watching a mailbox undo each other.
    changes: Vec<Input>,
    asked: HashSet<MailboxId>,
}

/// Starts the source; no mailbox is watched yet.
///
/// # Errors
/// [`StartError`], where the thread cannot be started. A missing inotify is none: mailboxes are then read by the sweep
/// alone, and [`Running::failure`] reports it.
pub fn start(
    settings: &Settings,
    id: SourceId,
    observer: Arc<dyn Observer>,
    clock: Clock,
    counters: Arc<SourceCounters>,
    seed: u64,
) -> Result<MaildirSource, StartError> {
    let failed = |reason| StartError::System { name: Arc::clone(&settings.name), reason };
    let shared = Arc::new(Shared {
        requests: Mutex::default(),
        wake: EventFd::new().map_err(failed)?,
        is_stopping: AtomicBool::new(false),
        failure: Mutex::default(),
    });
    let thread = Looking {
        settings: settings.clone(),
        id,
        observer,
        clock,
        counters,
        shared: Arc::clone(&shared),
        watcher: Watcher::new(settings.sweep_interval, seed),
        notifier: Notifier::open(),
        search_at: settings.is_searching.then(|| clock.now().moment),
    };
    let halted = Arc::clone(&shared);
    let halt = move || {
        halted.is_stopping.store(true, Ordering::Release);
        halted.wake.signal();
    };
    let worker = Worker::start("maildir", halt, move || thread.run()).map_err(failed)?;
    Ok(MaildirSource { settings: settings.clone(), shared, worker })
}

impl Running for MaildirSource {
    /// Watches the Maildir of the mailbox of this name, once it is there.
    fn watch(&self, mailbox: MailboxId, name: &Arc<str>) {
        let user = self.settings.names.server(name);
        match self.settings.path.path(&user) {
            Ok(path) => self.change(Input::Watch(mailbox, path)),
            Err(refused) => self.refuse(&user, refused),
        }
    }

    fn unwatch(&self, mailbox: MailboxId) {
        self.change(Input::Unwatch(mailbox));
    }

    fn ask(&self, mailbox: MailboxId) {
        self.shared.requests.lock().asked.insert(mailbox);
        self.shared.wake.signal();
    }

    fn failure(&self) -> Option<String> {
        let failure = self.shared.failure.lock().clone();
        let ended = (!self.worker.is_running()).then(|| "its thread has ended".to_owned());
        ended.or(failure).map(|what| format!("source {}: {what}", self.settings.name))
    }

    /// Ends the thread once its present look is done.
    fn stop(&self) -> Stopping<'_> {
        Box::pin(async { self.worker.end() })
    }
}

impl MaildirSource {
    fn change(&self, input: Input) {
        self.shared.requests.lock().changes.push(input);
        self.shared.wake.signal();
    }

    fn refuse(&self, user: &str, refused: Refused) {
        tracing::warn!(source = %self.settings.name, user, "no Maildir by the template: {refused}");
    }
}

/// What the thread works with.
struct Looking {
    settings: Settings,
    id: SourceId,
    observer: Arc<dyn Observer>,
    clock: Clock,
    counters: Arc<SourceCounters>,
    shared: Arc<Shared>,
    watcher: Watcher,
    notifier: io::Result<Notifier>,
    /// When everyone's Maildir is looked for next.
    search_at: Option<Moment>,
}

impl Looking {
    fn run(mut self) {
        if let Err(error) = &self.notifier {
            tracing::error!(source = %self.settings.name, %error, "no inotify: mailboxes are read by the sweep alone");
        }
        while !self.shared.is_stopping.load(Ordering::Acquire) {
            self.take_in();
            while !self.shared.is_stopping.load(Ordering::Acquire)
                && let Some(output) = self.watcher.poll_output()
            {
                self.carry_out(output);
                self.count();
                self.take_in();
            }
            self.count();
            self.tell();
            self.search();
            let due = [self.watcher.poll_timeout(), self.search_at].into_iter().flatten().min();
            let limit = due.map(|at| at.since(self.clock.now().moment));
            self.shared.wake.wait(self.notifier.as_ref().ok().map(AsFd::as_fd), limit);
        }
    }

    /// Names the owner of every Maildir there is to the observer, which has those watched that it wants.
    fn search(&mut self) {
        let now = self.clock.now().moment;
        if self.search_at.is_none_or(|at| at > now) {
            return;
        }
        let (observer, names) = (&self.observer, &self.settings.names);
        discovery::users(&self.settings.path, |user| {
            observer.find_listed(&names.mailbox(&user));
        });
        self.search_at = Some(now.after(self.settings.sweep_interval));
    }

    /// All that came in since the last time.
    fn take_in(&mut self) {
        let now = self.clock.now().moment;
        let requests = std::mem::take(&mut *self.shared.requests.lock());
        for input in requests.changes.into_iter().chain(requests.asked.into_iter().map(Input::Ask)) {
            self.watcher.handle(now, input);
        }
        if let Ok(notifier) = &mut self.notifier {
            notifier.events(|event| self.watcher.handle(now, event));
        }
        self.watcher.handle(now, Input::Timeout);
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Look(mailbox, path, is_sweep) => self.look(mailbox, &path, is_sweep),
            Output::Forget(watch) => {
                if let Ok(notifier) = &mut self.notifier {
                    notifier.forget(watch);
                }
            }
        }
    }

    /// Watches first and reads then: what comes in between is told once more.
    fn look(&mut self, mailbox: MailboxId, path: &Path, is_sweep: bool) {
        let start = self.clock.now().moment;
        let (mut watches, mut counted) = (self.watch(path), self.count_of(path));
        // A folder that came between the two steps could not be watched and was read.
        for _ in 1..LOOKS_MAX {
            if counted.is_err()
                || !watches.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
            {
                break;
            }
            (watches, counted) = (self.watch(path), self.count_of(path));
        }
        let now = self.clock.now();
        let took = now.moment.since(start);
        match counted {
            Ok(unseen) => {
                let look = watches.map_or(Look::Unwatched, Look::Watched);
                self.watcher.handle(now.moment, Input::Looked(mailbox, look, took));
                let reading = Reading { unseen, uid_validity: None, modseq: None, asked_at: Some(start) };
                self.counters.readings.one();
                let verdict = self.observer.observe(mailbox, self.id, News::Reading(reading), now);
                if is_sweep && verdict == Verdict::Changed {
                    self.counters.sweep_corrections.one();
                }
            }
            Err(error) => {
                self.not_read(mailbox, path, &error, took);
                watches.into_iter().flatten().for_each(|watch| self.unneeded(watch));
            }
        }
    }

    fn count_of(&self, path: &Path) -> io::Result<u32> {
        folder::count(path, self.settings.separator)
    }

    /// A Maildir that is not there is waited for: an account that never got mail has none. It gives no count, since a file
    /// system that is not mounted looks the same.
    fn not_read(&mut self, mailbox: MailboxId, path: &Path, error: &io::Error, took: Duration) {
        let now = self.clock.now().moment;
        if error.kind() != io::ErrorKind::NotFound {
            let look = Look::Failed(format!("{}: {error}", path.display()));
            return self.watcher.handle(now, Input::Looked(mailbox, look, took));
        }
        let Ok(notifier) = &mut self.notifier else {
            return self.watcher.handle(now, Input::Looked(mailbox, Look::Missing(None), took));
        };
        let awaited = notifier.await_folder(path);
        self.watcher.handle(now, Input::Looked(mailbox, Look::Missing(awaited.at), took));
        if awaited.is_there {
            self.watcher.handle(now, Input::Ask(mailbox));
        }
    }

    /// The watches of `new/` and `cur/`, where both are to be had.
    fn watch(&mut self, path: &Path) -> io::Result<[WatchId; 2]> {
        let Ok(notifier) = &mut self.notifier else { return Err(io::ErrorKind::Unsupported.into()) };
        let new = notifier.watch_folder(&path.join("new"))?;
        let cur = notifier.watch_folder(&path.join("cur"));
        if cur.is_err() {
            self.unneeded(new);
        }
        Ok([new, cur?])
    }

    /// Gives a watch back unless it is another mailbox's, too: only the watcher knows.
    fn unneeded(&mut self, watch: WatchId) {
        self.watcher.handle(self.clock.now().moment, Input::Unneeded(watch));
    }

    fn count(&self) {
        let coverage = self.watcher.coverage();
        self.counters.watched.set(coverage.watched as u64);
        self.counters.waiting.set((coverage.mailboxes - coverage.watched) as u64);
    }

    /// What keeps mailboxes from being watched; the log is told when it begins.
    fn tell(&self) {
        let coverage = self.watcher.coverage();
        let failure = self.failure(coverage.unwatched, coverage.mailboxes).or_else(|| {
            let why = coverage.failure?;
            Some(format!("{} Maildirs cannot be read; one of them: {why}", coverage.failed))
        });
        let mut known = self.shared.failure.lock();
        if let (None, Some(failure)) = (&*known, &failure) {
            tracing::warn!(source = %self.settings.name, "{failure}");
        }
        *known = failure;
    }

    fn failure(&self, unwatched: usize, mailboxes: usize) -> Option<String> {
        let every = humantime::format_duration(self.settings.sweep_interval);
        match &self.notifier {
            Err(error) => Some(format!(
                "no inotify ({error}), so Maildirs are only read every {every}; raise fs.inotify.max_user_instances, now {}",
                inotify_limit("max_user_instances")
            )),
            Ok(_) if unwatched > 0 => Some(format!(
                "{unwatched} of {mailboxes} Maildirs are only read every {every}: each needs {WATCHES_PER_MAILBOX} inotify watches; raise \
                 fs.inotify.max_user_watches, now {}",
                inotify_limit("max_user_watches")
            )),
            Ok(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
