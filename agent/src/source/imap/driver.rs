//! The IMAP source on real sockets and clocks: starts connections as the roster says, wakes them when they are due. Decides
//! nothing: that is the roster's and the session's.

mod connection;
mod link;
mod stream;
mod tls;
mod token;
mod trial;

pub use stream::Error;
pub use trial::{Checked, check_login};

use super::Settings;
use super::exchange::Errand;
use super::roster::{Input, Output, Report, Roster};
use super::session::Session;
use super::traits::Traits;
use crate::counters::SourceCounters;
use crate::event::{MailboxId, Observer, SourceId};
use crate::time::Moment;
use crate::time::driver::Clock;
use connection::Connection;
use link::{ALARM, ASK, Link, STOP, SWEEP};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use stream::Server;
use token::Tokens;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How long stopping waits for connections to close.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// A running source. Every call but [`ImapSource::stop`] returns at once and may be repeated.
#[derive(Debug)]
pub struct ImapSource {
    shared: Arc<Shared>,
    hall: JoinHandle<()>,
}

/// What connections and the hall share.
struct Shared {
    settings: Arc<Settings>,
    id: SourceId,
    observer: Arc<dyn Observer>,
    clock: Clock,
    counters: Arc<SourceCounters>,
    server: Server,
    tokens: Option<Tokens>,
    traits: Arc<Traits>,
    seed: u64,
    runtime: tokio::runtime::Handle,
    desk: Mutex<Desk>,
    /// When to raise [`ALARM`] for whom: one entry a connection.
    alarms: Mutex<BTreeSet<(Moment, MailboxId, u32)>>,
    wake: Notify,
    live: AtomicUsize,
    is_stopping: AtomicBool,
}

struct Desk {
    roster: Roster,
    /// By mailbox id.
    links: Vec<Option<Arc<Link>>>,
}

impl Desk {
    fn link(&self, mailbox: MailboxId) -> Option<&Arc<Link>> {
        self.links.get(mailbox.0 as usize)?.as_ref()
    }

    fn set_link(&mut self, mailbox: MailboxId, link: Option<Arc<Link>>) -> Option<Arc<Link>> {
        let index = mailbox.0 as usize;
        if index >= self.links.len() {
            self.links.resize_with(index + 1, || None);
        }
        std::mem::replace(self.links.get_mut(index)?, link)
    }
}

/// Starts the source in the current tokio runtime; no mailbox is watched yet.
///
/// # Errors
/// [`Error`], where TLS cannot be set up. An unreachable server is none: [`ImapSource::failure`] tells of it.
pub fn start(
    settings: Settings,
    id: SourceId,
    observer: Arc<dyn Observer>,
    clock: Clock,
    counters: Arc<SourceCounters>,
    seed: u64,
) -> Result<ImapSource, Error> {
    let server = Server::new(&settings)?;
    let roster = Roster::new(&settings, seed);
    let tokens = Tokens::new(&settings, clock);
    let shared = Arc::new(Shared {
        settings: Arc::new(settings),
        id,
        observer,
        clock,
        counters,
        server,
        tokens,
        traits: Arc::default(),
        seed,
        runtime: tokio::runtime::Handle::current(),
        desk: Mutex::new(Desk { roster, links: Vec::new() }),
        alarms: Mutex::default(),
        wake: Notify::new(),
        live: AtomicUsize::new(0),
        is_stopping: AtomicBool::new(false),
    });
    let hall = tokio::spawn(hall(shared.clone()));
    Ok(ImapSource { shared, hall })
}

impl ImapSource {
    /// Watches the mailbox of this name.
    pub fn watch(&self, mailbox: MailboxId, name: Arc<str>) {
        let user = Some(self.shared.settings.names.server(&name)).filter(|user| **user != *name);
        let user = user.map(Arc::from).unwrap_or(name);
        self.shared.tell(Input::Watch(mailbox, user));
    }

    /// Ends the mailbox's connection; nothing of it stays.
    pub fn unwatch(&self, mailbox: MailboxId) {
        self.shared.tell(Input::Unwatch(mailbox));
    }

    /// Reads the mailbox as soon as may be; the reading goes to the observer.
    pub fn ask(&self, mailbox: MailboxId) {
        self.shared.tell(Input::Ask(mailbox));
    }

    /// What keeps the whole source from working, for `/readyz`: a refused credential, an unreachable server.
    pub fn failure(&self) -> Option<String> {
        let name = &self.shared.settings.name;
        self.shared.desk.lock().roster.failure().map(|text| format!("source {name}: {text}"))
    }

    /// Closes every connection and waits until they are closed, 5 s at most.
    pub async fn stop(self) {
        let shared = self.shared;
        shared.is_stopping.store(true, Ordering::Release);
        shared.wake.notify_one();
        // The hall ends by the flag; a panic in it has been reported by the runtime.
        let _ = self.hall.await;
        shared.desk.lock().links.iter().flatten().for_each(|link| link.raise(STOP));
        let closed = async {
            while shared.live.load(Ordering::Acquire) > 0 {
                shared.wake.notified().await;
            }
        };
        if tokio::time::timeout(STOP_WAIT, closed).await.is_err() {
            tracing::warn!(source = %shared.settings.name, "some connections did not close in time");
        }
    }
}

/// Wakes connections and the roster when they are due.
async fn hall(shared: Arc<Shared>) {
    while !shared.is_stopping.load(Ordering::Acquire) {
        shared.tell(Input::Timeout);
        let next = shared.ring_alarms();
        let next = next.into_iter().chain(shared.desk.lock().roster.poll_timeout()).min();
        match next {
            Some(at) => {
                let at = tokio::time::Instant::from_std(shared.clock.instant(at));
                let _ = tokio::time::timeout_at(at, shared.wake.notified()).await;
            }
            None => shared.wake.notified().await,
        }
    }
}

impl Shared {
    /// Gives the roster an input and does what it says.
    fn tell(self: &Arc<Self>, input: Input) {
        let now = self.clock.now();
        let mut desk = self.desk.lock();
        let before = desk.roster.poll_timeout();
        desk.roster.handle(now, input);
        let mut connections = Vec::new();
        while let Some(output) = desk.roster.poll_output() {
            connections.extend(self.carry_out(&mut desk, output));
        }
        let (mailboxes, covered) = desk.roster.coverage();
        self.traits.learn_mailboxes(mailboxes);
        self.counters.watched.set(covered as u64);
        self.counters.waiting.set((mailboxes - covered) as u64);
        let is_moved = desk.roster.poll_timeout() != before;
        drop(desk);
        // Outside the lock: a runtime that shuts down drops the task here and now, and that takes the lock.
        for connection in connections {
            self.runtime.spawn(connection);
        }
        if is_moved {
            self.wake.notify_one();
        }
    }

    fn report(self: &Arc<Self>, mailbox: MailboxId, number: u32, report: Report) {
        self.tell(Input::Connection(mailbox, number, report));
    }

    fn carry_out(self: &Arc<Self>, desk: &mut Desk, output: Output) -> Option<Connection> {
        match output {
            Output::Connect { mailbox, name, errand, is_sweep, number } => {
                if !self.is_stopping.load(Ordering::Acquire) {
                    let link = Arc::new(Link::new(number));
                    desk.set_link(mailbox, Some(link.clone()));
                    return Some(self.connection(mailbox, name, errand, is_sweep, link));
                }
            }
            Output::Ask(mailbox, is_sweep) => {
                if let Some(link) = desk.link(mailbox) {
                    link.raise(if is_sweep { ASK | SWEEP } else { ASK });
                }
            }
            Output::HangUp(mailbox) => {
                if let Some(link) = desk.set_link(mailbox, None) {
                    link.raise(STOP);
                }
            }
        }
        None
    }

    fn connection(
        self: &Arc<Self>,
        mailbox: MailboxId,
        name: Arc<str>,
        errand: Errand,
        is_sweep: bool,
        link: Arc<Link>,
    ) -> Connection {
        let seed = fastrand::Rng::with_seed(self.seed ^ u64::from(link.number)).u64(..);
        let session = Session::new(self.settings.clone(), self.traits.clone(), name, errand, seed);
        self.live.fetch_add(1, Ordering::AcqRel);
        Connection::new(self.clone(), link, session, mailbox, is_sweep)
    }

    /// A connection is gone for good, however it went.
    fn ended(&self, mailbox: MailboxId, number: u32, alarm: Option<Moment>) {
        if let Some(at) = alarm {
            self.alarms.lock().remove(&(at, mailbox, number));
        }
        let mut desk = self.desk.lock();
        if desk.link(mailbox).is_some_and(|link| link.number == number) {
            desk.set_link(mailbox, None);
        }
        drop(desk);
        self.live.fetch_sub(1, Ordering::AcqRel);
        if self.is_stopping.load(Ordering::Acquire) {
            self.wake.notify_one();
        }
    }

    /// Replaces a connection's alarm.
    fn set_alarm(&self, before: Option<Moment>, at: Moment, mailbox: MailboxId, number: u32) {
        let mut alarms = self.alarms.lock();
        if let Some(before) = before {
            alarms.remove(&(before, mailbox, number));
        }
        alarms.insert((at, mailbox, number));
        let is_first = alarms.first() == Some(&(at, mailbox, number));
        drop(alarms);
        if is_first {
            self.wake.notify_one();
        }
    }

    /// Raises what is due, and says when the next one is.
    fn ring_alarms(&self) -> Option<Moment> {
        let now = self.clock.now().moment;
        let mut alarms = self.alarms.lock();
        let later = alarms.split_off(&(Moment::from_micros(now.micros() + 1), MailboxId(0), 0));
        let due = std::mem::replace(&mut *alarms, later);
        let next = alarms.first().map(|(at, ..)| *at);
        drop(alarms);
        let desk = self.desk.lock();
        for (_, mailbox, number) in due {
            if let Some(link) = desk.link(mailbox).filter(|link| link.number == number) {
                link.raise(ALARM);
            }
        }
        next
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("source", &self.settings.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
