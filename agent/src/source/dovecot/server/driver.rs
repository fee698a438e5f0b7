//! Serves connections: read, answer, hand over, in this order.
//!
//! All tasks run on the answering thread, so what they share needs no lock; no borrow lives across an `.await`.

use crate::counters::SourceCounters;
use crate::source::dovecot::Settings;
use crate::source::dovecot::arrivals::PACE;
use crate::source::dovecot::connection_limits::{Activity, ConnectionLimits};
use crate::source::dovecot::dict::{Conversation, Step};
use crate::source::dovecot::listener::driver::{Acceptor, Caller, Exchange, Listener, Stream};
use crate::source::dovecot::ushers::driver::Ushers;
use crate::source::pending::driver::Handover;
use crate::time::Moment;
use crate::time::driver::Clock;
use foldhash::HashMap;
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::sync::Notify;

/// What is read of a connection at once, into one buffer for all of them.
const READ_MAX: usize = 16 * 1024;

/// How long a client may leave its answers unread before its connection ends.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// How often connections are looked for that are in the midst of something for too long.
const CLEAR_EVERY: Duration = Duration::from_secs(1);

/// So many in a row, without a moment in which nobody waited, are a crowd. The others are served before the next ones.
const CROWD: usize = 32;

/// A part of the connections granted, one of so many, is for those who leave, one for those who have spoken in a crowd, and
/// [`SILENT_PARTS`] for those who are silent there.
const HALL_PART: usize = 16;
/// Connections of such a part, most.
const HALL_MAX: usize = 256;
/// At 30,000 that come in a second, each has some 15 ms to speak.
const SILENT_PARTS: usize = 2;

/// Pause after a connection could not be accepted: descriptors are short, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// What all conversations share.
pub(in crate::source::dovecot) struct DictServer {
    name: Arc<str>,
    clock: Clock,
    counters: Arc<SourceCounters>,
    handover: Arc<Handover>,
    buffer: RefCell<Vec<u8>>,
    step: RefCell<Step>,
    limits: RefCell<ConnectionLimits>,
    /// How to end each connection whose socket is open.
    leave: RefCell<HashMap<u64, Rc<Notify>>>,
    /// A socket was closed.
    closed: Notify,
    /// Connections that may be open, those included who are to leave.
    places: usize,
    has_warned: Cell<bool>,
}

/// How a connection goes on after something was read.
enum Turn {
    Done,
    Unsent(Vec<u8>),
    Ended,
}

/// How many may wait in a crowd who have spoken, and as many may be about to leave.
fn hall(settings: &Settings) -> usize {
    (settings.connections_max / HALL_PART).clamp(1, HALL_MAX)
}

/// How many are served at once.
fn seats(settings: &Settings) -> usize {
    settings.connections_max.saturating_sub((2 + SILENT_PARTS) * hall(settings)).max(1)
}

/// Where connections come in.
pub(in crate::source::dovecot) struct Door {
    listener: Listener,
    acceptor: Acceptor,
    ushers: Arc<Ushers>,
}

impl Door {
    /// Must be called within the runtime that is to serve it.
    pub(in crate::source::dovecot) fn open(
        listener: Listener,
        settings: &Settings,
        counters: Arc<SourceCounters>,
    ) -> io::Result<Self> {
        let ushers = Arc::new(Ushers::start(
            listener.share()?,
            (hall(settings), SILENT_PARTS * hall(settings)),
            counters,
        )?);
        Ok(Self { listener: listener.share()?, acceptor: Acceptor::open(listener)?, ushers })
    }

    /// Who is there already.
    fn next(&self, now: Moment) -> Option<io::Result<Caller>> {
        if let Some(caller) = self.ushers.next(now) {
            return Some(Ok(caller));
        }
        if self.ushers.is_crowded() {
            return None;
        }
        match self.listener.accept_now() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            accepted => Some(accepted),
        }
    }
}

impl DictServer {
    pub(in crate::source::dovecot) fn new(
        settings: &Settings,
        clock: Clock,
        counters: Arc<SourceCounters>,
        handover: Arc<Handover>,
    ) -> Self {
        Self {
            name: Arc::clone(&settings.name),
            clock,
            counters,
            handover,
            buffer: RefCell::new(vec![0; READ_MAX]),
            step: RefCell::default(),
            limits: RefCell::new(ConnectionLimits::new(seats(settings))),
            leave: RefCell::default(),
            closed: Notify::new(),
            places: seats(settings) + hall(settings),
            has_warned: Cell::new(false),
        }
    }

    /// Accepts and serves until `stop` is notified; must run in a `LocalSet`.
    pub(in crate::source::dovecot) async fn serve(self, door: &Door, stop: &Notify) {
        let server = Rc::new(self);
        let (clearing, ushers) = (Rc::clone(&server), Arc::clone(&door.ushers));
        let clearing = tokio::task::spawn_local(async move { clearing.clear_out(&ushers).await });
        let mut in_a_row = 0;
        loop {
            in_a_row += 1;
            if in_a_row % CROWD == 0 {
                door.ushers.call();
                tokio::select! {
                    biased;
                    () = stop.notified() => break,
                    () = tokio::task::yield_now() => {}
                }
            }
            let accepted = if let Some(accepted) = door.next(server.clock.now().moment) {
                accepted
            } else {
                in_a_row = 0;
                tokio::select! {
                    () = stop.notified() => break,
                    () = door.ushers.came() => continue,
                    () = tokio::time::sleep(PACE), if door.ushers.has_waiting() => continue,
                    accepted = door.acceptor.accept(), if !door.ushers.is_crowded() => accepted,
                }
            };
            match accepted {
                Ok(caller) => {
                    Self::greet(&server, caller);
                    server.until_there_is_room().await;
                }
                // It left before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(_) => {
                    server.counters.connections_lost.one();
                    let leaves = server.limits.borrow_mut().free_one();
                    server.evict(leaves);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        clearing.abort();
    }

    /// Waits until those who are to leave have left. Whoever connects faster than connections end would else have more and
    /// more of them open.
    async fn until_there_is_room(&self) {
        while self.leave.borrow().len() >= self.places {
            self.closed.notified().await;
        }
    }

    /// Lets a connection in, and answers at once what has come already: a delivery writes all it has to say behind its
    /// connect, and needs no task of its own then. Nor does one who has left again.
    fn greet(server: &Rc<Self>, caller: Caller) {
        let (number, leave) = server.admit();
        let mut conversation = Conversation::new();
        let unsent = match server.turn(number, &caller, &mut conversation) {
            Turn::Done => Vec::new(),
            Turn::Unsent(replies) => replies,
            Turn::Ended => return server.gone(number),
        };
        let Ok(stream) = caller.stay() else {
            server.counters.connections_lost.one();
            return server.gone(number);
        };
        let server = Rc::clone(server);
        tokio::task::spawn_local(converse(stream, number, leave, conversation, unsent, server));
    }

    /// This connection is over, and its socket closed.
    fn gone(&self, number: u64) {
        self.limits.borrow_mut().closed(number);
        self.leave.borrow_mut().remove(&number);
        self.closed.notify_one();
    }

    fn admit(&self) -> (u64, Rc<Notify>) {
        let (number, leaves) = self.limits.borrow_mut().opened(self.clock.now().moment);
        self.evict(leaves);
        let leave = Rc::<Notify>::default();
        self.leave.borrow_mut().insert(number, Rc::clone(&leave));
        (number, leave)
    }

    /// Ends this connection, to make room.
    fn evict(&self, number: Option<u64>) {
        if number.is_some() {
            self.counters.connections_evicted.one();
            self.end(number);
        }
    }

    /// Ends these connections; each notices when it next waits.
    fn end(&self, numbers: impl IntoIterator<Item = u64>) {
        let leave = self.leave.borrow();
        numbers.into_iter().filter_map(|number| leave.get(&number)).for_each(|leave| leave.notify_one());
    }

    /// Ends who is in the midst of something for too long; never ends itself.
    async fn clear_out(&self, ushers: &Ushers) {
        let mut rhythm = tokio::time::interval(CLEAR_EVERY);
        loop {
            rhythm.tick().await;
            ushers.calm();
            let overdue = self.limits.borrow_mut().overdue(self.clock.now().moment);
            self.counters.connections_lost.add(overdue.len() as u64);
            self.end(overdue);
        }
    }

    /// Reads once, answers at once, and only then hands over what was committed.
    fn turn(&self, number: u64, stream: &impl Exchange, conversation: &mut Conversation) -> Turn {
        let mut buffer = self.buffer.borrow_mut();
        let mut step = self.step.borrow_mut();
        step.clear();
        let is_open = match stream.read(&mut buffer) {
            Ok(read @ 1..) => {
                conversation.handle(buffer.get(..read).unwrap_or_default(), &mut step);
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Turn::Done,
            Ok(0) | Err(_) => {
                conversation.finish(&mut step);
                false
            }
        };
        let activity = Activity {
            is_idle: conversation.is_idle(),
            has_answered: !step.replies.is_empty(),
            unfinished: conversation.unfinished(),
        };
        let leaves = self.limits.borrow_mut().received(number, activity, self.clock.now().moment);
        self.evict(leaves);
        let unsent = write_now(stream, &step.replies).map(<[u8]>::to_vec);
        let is_hopeless = step.is_hopeless;
        self.hand_over(&mut step);
        match unsent {
            Ok(replies) if is_open && !is_hopeless && replies.is_empty() => Turn::Done,
            Ok(replies) if is_open && !is_hopeless => Turn::Unsent(replies),
            _ => Turn::Ended,
        }
    }

    fn hand_over(&self, step: &mut Step) {
        if step.unreadable_values > 0 && !self.has_warned.replace(true) {
            tracing::warn!(
                source = %self.name,
                "a value of Dovecot's notify_status is not the JSON expected: compare notify_status_value with packaging/dovecot; said once"
            );
        }
        self.counters.skipped.add(step.skipped);
        if !step.updates.is_empty() {
            let dropped = self.handover.put(step.updates.drain(..), self.clock.now());
            self.counters.skipped.add(dropped);
        }
    }
}

async fn converse(
    stream: Stream,
    number: u64,
    leave: Rc<Notify>,
    mut conversation: Conversation,
    mut unsent: Vec<u8>,
    server: Rc<DictServer>,
) {
    loop {
        let sent = tokio::select! {
            biased;
            sent = send(&stream, &unsent) => sent,
            () = leave.notified() => break,
        };
        if sent.is_err() {
            server.counters.connections_lost.one();
            break;
        }
        let ready = tokio::select! {
            biased;
            () = leave.notified() => {
                // What was written before the end is answered still.
                let _ended = server.turn(number, &stream, &mut conversation);
                break;
            }
            ready = stream.ready(Interest::READABLE) => ready,
        };
        if ready.is_err() {
            break;
        }
        match server.turn(number, &stream, &mut conversation) {
            Turn::Done => unsent.clear(),
            Turn::Unsent(replies) => unsent = replies,
            Turn::Ended => break,
        }
    }
    drop(stream);
    server.gone(number);
}

/// Sends what did not fit at once, within [`WRITE_LIMIT`].
async fn send(stream: &Stream, replies: &[u8]) -> io::Result<()> {
    if replies.is_empty() {
        return Ok(());
    }
    let send_all = async {
        let mut rest = replies;
        while !rest.is_empty() {
            stream.ready(Interest::WRITABLE).await?;
            rest = write_now(stream, rest)?;
        }
        Ok(())
    };
    tokio::time::timeout(WRITE_LIMIT, send_all).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// Writes what fits at once; returns what did not.
fn write_now<'a>(stream: &impl Exchange, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
    if bytes.is_empty() {
        return Ok(bytes);
    }
    match stream.write(bytes) {
        Ok(written) => Ok(bytes.get(written..).unwrap_or_default()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(bytes),
        Err(error) => Err(error),
    }
}
