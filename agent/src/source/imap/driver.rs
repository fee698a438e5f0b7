//! The IMAP source on real sockets and clocks: opens connections as the roster says, and gives each to one of the threads
//! that hold them. Decides nothing: that is the roster's and the connection's.

mod connection;
mod event_loop;
mod examine;
mod stream;
mod tls;
mod token;
mod trial;

pub use stream::Error;
pub use trial::{Checked, check_login};

pub(super) use examine::examine;

use super::Settings;
use super::connection::{Connection as Machine, Wish};
use super::exchange::Errand;
use super::roster::{ConnectionReport, Input, Output, Roster};
use super::session::Session;
use super::traits::Traits;
use crate::counters::SourceCounters;
use crate::event::{MailboxId, Observer, SourceId};
use crate::source::kind::{Running, Stopping};
use crate::source::shell::driver::Rhythm;
use crate::time::driver::Clock;
use connection::Connection;
use event_loop::{EventLoops, Order};
use parking_lot::Mutex;
use secrecy::SecretString;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use stream::{Server, Stream};
use token::Tokens;
use tokio::sync::Notify;

/// How long stopping waits for connections to close.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// A running source.
#[derive(Debug)]
pub struct ImapSource {
    shared: Arc<Shared>,
    _threads: Threads,
}

/// The threads end with the source, however that ends.
#[derive(Debug)]
struct Threads(Arc<Shared>);

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.event_loops.end();
    }
}

/// What connections, their threads and the roster loop share.
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
    roster: Mutex<Roster>,
    event_loops: EventLoops,
    rhythm: Rhythm,
    /// Wakes those that are about to open a socket when the source stops.
    stopping: Notify,
    live: AtomicUsize,
}

/// Starts the source in the current tokio runtime; no mailbox is watched yet.
///
/// # Errors
/// [`Error`], where TLS cannot be set up. An unreachable server is none: [`Running::failure`] reports it.
pub fn start(
    settings: Settings,
    id: SourceId,
    observer: Arc<dyn Observer>,
    clock: Clock,
    counters: Arc<SourceCounters>,
    seed: u64,
) -> Result<ImapSource, Error> {
    let server = Server::new(&settings)?;
    let threads = |reason| Error::Threads { source_name: settings.name.clone(), reason };
    let event_loops = EventLoops::new().map_err(threads)?;
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
        roster: Mutex::new(roster),
        event_loops,
        rhythm: Rhythm::new(clock),
        stopping: Notify::new(),
        live: AtomicUsize::new(0),
    });
    let ends = Threads(shared.clone());
    let opened = shared.event_loops.start(&shared);
    opened.map_err(|reason| Error::Threads { source_name: shared.settings.name.clone(), reason })?;
    shared.rhythm.start(drive_roster(shared.clone()));
    Ok(ImapSource { shared, _threads: ends })
}

impl ImapSource {
    /// From now on it holds so many connections at once, most; without this there is no limit of ours.
    pub fn hold_at_most(&self, connections: usize) {
        self.shared.roster.lock().hold_at_most(connections);
    }
}

impl Running for ImapSource {
    fn watch(&self, mailbox: MailboxId, name: &Arc<str>) {
        let user = self.shared.settings.names.server_shared(name);
        self.shared.tell(Input::Watch(mailbox, user));
    }

    /// Ends the mailbox's connection.
    fn unwatch(&self, mailbox: MailboxId) {
        self.shared.tell(Input::Unwatch(mailbox));
    }

    fn ask(&self, mailbox: MailboxId) {
        self.shared.tell(Input::Ask(mailbox));
    }

    fn read_elsewhere(&self, mailbox: MailboxId) {
        self.shared.tell(Input::ReadElsewhere(mailbox));
    }

    /// A refused credential, an unreachable server.
    fn failure(&self) -> Option<String> {
        let name = &self.shared.settings.name;
        self.shared.roster.lock().failure().map(|text| format!("source {name}: {text}"))
    }

    /// A server that lets in so many connections only, a log-in rate that is too low.
    fn limit(&self) -> Option<String> {
        let name = &self.shared.settings.name;
        self.shared.roster.lock().limit().map(|text| format!("source {name}: {text}"))
    }

    /// The server's last refusal or alert, or how the last connection ended.
    fn words(&self, mailbox: MailboxId) -> Option<String> {
        self.shared.roster.lock().words(mailbox).map(str::to_owned)
    }

    /// Closes every connection and waits until they are closed, 5 s at most.
    fn stop(&self) -> Stopping<'_> {
        Box::pin(self.shared.stop())
    }
}

/// The roster loop: wakes the roster when it is due.
async fn drive_roster(shared: Arc<Shared>) {
    while !shared.rhythm.is_stopping() {
        shared.tell(Input::Timeout);
        let next = shared.roster.lock().poll_timeout();
        shared.rhythm.until(next).await;
    }
}

impl Shared {
    async fn stop(&self) {
        self.rhythm.stop().await;
        self.stopping.notify_waiters();
        self.event_loops.end();
        let closed = async {
            while self.live.load(Ordering::Acquire) > 0 {
                self.rhythm.woken().await;
            }
        };
        if tokio::time::timeout(STOP_WAIT, closed).await.is_err() {
            tracing::warn!(source = %self.settings.name, "some connections did not close in time");
        }
    }

    /// Gives the roster an input and does what it says.
    fn tell(self: &Arc<Self>, input: Input) {
        let now = self.clock.now();
        let mut roster = self.roster.lock();
        let before = roster.poll_timeout();
        roster.handle(now, input);
        let mut connections = Vec::new();
        while let Some(output) = roster.poll_output() {
            connections.extend(self.carry_out(output));
        }
        let (mailboxes, covered) = roster.coverage();
        self.counters.watched.set(covered as u64);
        self.counters.waiting.set((mailboxes - covered) as u64);
        let is_moved = roster.poll_timeout() != before;
        drop(roster);
        // Outside the lock: a runtime that shuts down drops the task here and now.
        for connection in connections {
            self.runtime.spawn(open(self.clone(), connection));
        }
        if is_moved {
            self.rhythm.wake();
        }
    }

    fn report(self: &Arc<Self>, mailbox: MailboxId, number: u32, report: ConnectionReport) {
        self.tell(Input::Connection(mailbox, number, report));
    }

    /// What is wished is told under the roster's lock, so that it reaches the connection that the roster meant. One that
    /// is not open yet needs no wish: it reads when it is, and nobody adopts it that the roster gave up.
    fn carry_out(self: &Arc<Self>, output: Output) -> Option<Box<Connection>> {
        let (mailbox, wish) = match output {
            Output::Connect { mailbox, name, errand, is_sweep, number } => {
                return (!self.rhythm.is_stopping())
                    .then(|| self.connection(mailbox, name, errand, is_sweep, number));
            }
            Output::Ask(mailbox, false) => (mailbox, Wish::Ask),
            Output::Ask(mailbox, true) => (mailbox, Wish::Sweep),
            Output::HangUp(mailbox) => (mailbox, Wish::HangUp),
            Output::Note(text) => {
                tracing::warn!(source = %self.settings.name, "{text}");
                return None;
            }
        };
        self.event_loops.send(mailbox, Order::Wish(mailbox, wish));
        None
    }

    fn connection(
        self: &Arc<Self>,
        mailbox: MailboxId,
        name: Arc<str>,
        errand: Errand,
        is_sweep: bool,
        number: u32,
    ) -> Box<Connection> {
        let seed = fastrand::Rng::with_seed(self.seed ^ u64::from(number)).u64(..);
        let session = Session::new(self.settings.clone(), self.traits.clone(), name, errand, seed);
        self.live.fetch_add(1, Ordering::AcqRel);
        Box::new(Connection::new(self.clone(), Machine::new(session, is_sweep), mailbox, number))
    }

    /// A socket is open: its thread has it from now on, unless the roster gave the connection up meanwhile.
    fn adopt(&self, connection: Box<Connection>, stream: Stream, token: Option<SecretString>) {
        let roster = self.roster.lock();
        if roster.is_current(connection.mailbox, connection.number) {
            self.event_loops.send(connection.mailbox, Order::Adopt(connection, stream, token));
        }
    }

    /// A connection is gone for good, however it went.
    fn ended(&self) {
        self.live.fetch_sub(1, Ordering::AcqRel);
        if self.rhythm.is_stopping() {
            self.rhythm.wake();
        }
    }
}

/// Opens a connection's socket, with a token where the log-in takes one.
async fn open(shared: Arc<Shared>, mut connection: Box<Connection>) {
    let stopping = shared.stopping.notified();
    if shared.rhythm.is_stopping() {
        return;
    }
    let opening = async {
        let token = match &shared.tokens {
            Some(tokens) => Some(tokens.token().await?),
            None => None,
        };
        Ok((shared.server.connect().await?, token))
    };
    let opened = tokio::select! {
        opened = opening => opened,
        () = stopping => return,
    };
    match opened {
        Ok((stream, token)) => shared.adopt(connection, stream, token),
        Err(reason) => {
            connection.unreachable(reason);
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("source", &self.settings.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
