//! Serves connections: read, answer, hand over, in this order.
//!
//! All tasks run on the answering thread, so what they share needs no lock; no borrow lives across an `.await`.

use crate::counters::SourceCounters;
use crate::source::dovecot::Settings;
use crate::source::dovecot::dict::{Conversation, Step};
use crate::source::dovecot::listener::driver::{Doorway, Stream};
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
const READ_MAX: usize = 64 * 1024;

/// How long a client may leave its answers unread before its connection ends.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// Pause after a connection could not be accepted: descriptors are short, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// What all conversations share.
pub(in crate::source::dovecot) struct Desk {
    name: Arc<str>,
    connections_max: usize,
    clock: Clock,
    counters: Arc<SourceCounters>,
    handover: Arc<Handover>,
    buffer: RefCell<Vec<u8>>,
    step: RefCell<Step>,
    places: RefCell<HashMap<u64, Rc<Place>>>,
    admitted: Cell<u64>,
    has_warned: Cell<bool>,
}

/// One connection, as those see it that look for a place.
struct Place {
    number: u64,
    spoke_at: Cell<Moment>,
    is_idle: Cell<bool>,
    leave: Notify,
}

/// How a connection goes on after something was read.
enum Turn {
    Done,
    Unsent(Vec<u8>),
    Ended,
}

impl Desk {
    pub(in crate::source::dovecot) fn new(
        settings: &Settings,
        clock: Clock,
        counters: Arc<SourceCounters>,
        handover: Arc<Handover>,
    ) -> Self {
        Self {
            name: Arc::clone(&settings.name),
            connections_max: settings.connections_max,
            clock,
            counters,
            handover,
            buffer: RefCell::new(vec![0; READ_MAX]),
            step: RefCell::default(),
            places: RefCell::default(),
            admitted: Cell::new(0),
            has_warned: Cell::new(false),
        }
    }

    /// Accepts and serves until `stop` is notified; must run in a `LocalSet`.
    pub(in crate::source::dovecot) async fn serve(self, doorway: &Doorway, stop: &Notify) {
        let desk = Rc::new(self);
        loop {
            let accepted = tokio::select! {
                () = stop.notified() => return,
                accepted = doorway.accept() => accepted,
            };
            if let Ok(stream) = accepted {
                let place = desk.admit();
                tokio::task::spawn_local(converse(stream, place, Rc::clone(&desk)));
            } else {
                desk.counters.connections_lost.one();
                desk.make_place();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn admit(&self) -> Rc<Place> {
        if self.places.borrow().len() >= self.connections_max {
            self.make_place();
        }
        let number = self.admitted.get();
        self.admitted.set(number + 1);
        let place = Rc::new(Place {
            number,
            spoke_at: Cell::new(self.clock.now().moment),
            is_idle: Cell::new(false),
            leave: Notify::new(),
        });
        self.places.borrow_mut().insert(number, Rc::clone(&place));
        place
    }

    /// Ends the idle connection that was silent the longest: its process connects again when it next writes.
    ///
    /// Where none is idle nothing ends: what is in the middle of a delivery is short, and the system's own limit of
    /// descriptors stands behind ours.
    fn make_place(&self) {
        let places = self.places.borrow();
        let silent = places
            .values()
            .filter(|place| place.is_idle.get())
            .min_by_key(|place| (place.spoke_at.get(), place.number));
        if let Some(place) = silent {
            place.is_idle.set(false);
            place.leave.notify_one();
        }
    }

    /// Reads once, answers at once, and only then hands over what was committed.
    fn turn(&self, stream: &Stream, conversation: &mut Conversation) -> Turn {
        let mut buffer = self.buffer.borrow_mut();
        let mut step = self.step.borrow_mut();
        step.clear();
        let is_open = match stream.try_read(&mut buffer) {
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

async fn converse(stream: Stream, place: Rc<Place>, desk: Rc<Desk>) {
    let mut conversation = Conversation::new();
    loop {
        let ready = tokio::select! {
            biased;
            ready = stream.ready(Interest::READABLE) => ready,
            () = place.leave.notified() => break,
        };
        if ready.is_err() {
            break;
        }
        match desk.turn(&stream, &mut conversation) {
            Turn::Done => {}
            Turn::Unsent(replies) => {
                if send(&stream, &replies).await.is_err() {
                    desk.counters.connections_lost.one();
                    break;
                }
            }
            Turn::Ended => break,
        }
        place.spoke_at.set(desk.clock.now().moment);
        place.is_idle.set(conversation.is_idle());
    }
    desk.places.borrow_mut().remove(&place.number);
}

/// Sends what did not fit at once, within [`WRITE_LIMIT`].
async fn send(stream: &Stream, replies: &[u8]) -> io::Result<()> {
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
fn write_now<'a>(stream: &Stream, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
    if bytes.is_empty() {
        return Ok(bytes);
    }
    match stream.try_write(bytes) {
        Ok(written) => Ok(bytes.get(written..).unwrap_or_default()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(bytes),
        Err(error) => Err(error),
    }
}
