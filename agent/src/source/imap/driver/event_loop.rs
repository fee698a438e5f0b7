//! The threads that hold the connections. Each waits in one epoll for all its sockets, hands what it read to the
//! connection whose socket it is, and does what others wish of its connections; between two events nothing runs.

use super::Shared;
use super::connection::{Connection, Fate};
use super::stream::Stream;
use crate::event::MailboxId;
use crate::source::event_fd::driver::EventFd;
use crate::source::imap::connection::Wish;
use crate::time::Moment;
use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use secrecy::SecretString;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

/// Threads of one source, most: what a connection does is little, and the agent is a guest on its host.
const THREADS_MAX: usize = 4;
/// Sockets served between two looks at wishes and alarms, most.
const EVENTS_MAX: usize = 512;
/// The buffer that all connections of a thread read into.
const BUFFER: usize = 16 * 1024;
/// How epoll names the event descriptor that wakes the thread; connections are named by their place.
const WAKE: u64 = u64::MAX;

/// What a thread is to do.
pub(super) enum Order {
    /// To hold this connection, whose socket is open.
    Adopt(Box<Connection>, Stream, Option<SecretString>),
    /// Somebody wants something of the connection of this mailbox, if there is one.
    Wish(MailboxId, Wish),
    /// To hang up on everybody and end.
    End,
}

/// Orders for one thread, which any other thread sends.
pub(super) struct OrderQueue {
    /// `None`: it has ended, and what is sent to it is dropped.
    orders: Mutex<Option<Vec<Order>>>,
    wake: EventFd,
}

impl OrderQueue {
    /// Sends the thread an order.
    pub(super) fn send(&self, order: Order) {
        let mut orders = self.orders.lock();
        let Some(waiting) = orders.as_mut() else { return };
        waiting.push(order);
        let is_first = waiting.len() == 1;
        drop(orders);
        if is_first {
            self.wake.signal();
        }
    }
}

/// The threads of one source, by their queues; each mailbox belongs to one of them.
pub(super) struct EventLoops(Vec<Arc<OrderQueue>>);

impl EventLoops {
    /// As many as are useful here.
    pub(super) fn new() -> io::Result<Self> {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let queue =
            |_| Ok(Arc::new(OrderQueue { orders: Mutex::new(Some(Vec::new())), wake: EventFd::new()? }));
        (0..threads).map(queue).collect::<io::Result<_>>().map(Self)
    }

    /// Starts the threads.
    pub(super) fn start(&self, shared: &Arc<Shared>) -> io::Result<()> {
        for (number, queue) in self.0.iter().enumerate() {
            let event_loop = EventLoop::new(Arc::clone(queue), Arc::clone(shared), self.0.len())?;
            thread::Builder::new().name(format!("imap-{number}")).spawn(move || event_loop.run())?;
        }
        Ok(())
    }

    /// Sends the thread of this mailbox an order.
    pub(super) fn send(&self, mailbox: MailboxId, order: Order) {
        if let Some(queue) = self.0.get(mailbox.0 as usize % self.0.len().max(1)) {
            queue.send(order);
        }
    }

    /// Tells every thread to end.
    pub(super) fn end(&self) {
        self.0.iter().for_each(|queue| queue.send(Order::End));
    }
}

/// One thread's own.
struct EventLoop {
    queue: Arc<OrderQueue>,
    shared: Arc<Shared>,
    epoll: OwnedFd,
    /// By mailbox, of which every `stride`-th is this thread's.
    connections: Vec<Option<Box<Connection>>>,
    stride: usize,
    /// One entry a connection.
    alarms: BTreeSet<(Moment, usize)>,
    buffer: Vec<u8>,
}

impl EventLoop {
    fn new(queue: Arc<OrderQueue>, shared: Arc<Shared>, stride: usize) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &queue.wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        let buffer = vec![0; BUFFER];
        Ok(Self { queue, shared, epoll, connections: Vec::new(), stride, alarms: BTreeSet::new(), buffer })
    }

    fn run(mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
        loop {
            let limit = self.until_alarm();
            // An interrupted wait returns early; nothing else can go wrong with a descriptor of our own.
            let _ = epoll::wait(&self.epoll, spare_capacity(&mut events), limit.as_ref());
            for event in events.drain(..) {
                match event.data.u64() {
                    WAKE => self.queue.wake.clear(),
                    place => self.serve(place as usize, Connection::ready),
                }
            }
            if !self.carry_out() {
                return;
            }
            self.ring_alarms();
        }
    }

    /// How long nothing is due; `None` without end.
    fn until_alarm(&self) -> Option<Timespec> {
        let (at, _) = self.alarms.first()?;
        Timespec::try_from(at.since(self.shared.clock.now().moment)).ok()
    }

    /// Does what was told meanwhile. False: the thread ends.
    fn carry_out(&mut self) -> bool {
        let orders = self.queue.orders.lock().as_mut().map(std::mem::take).unwrap_or_default();
        for order in orders {
            match order {
                Order::Adopt(connection, stream, token) => self.adopt(connection, stream, token.as_ref()),
                Order::Wish(mailbox, wish) => {
                    self.serve(mailbox.0 as usize / self.stride, |connection, _| connection.wish(wish));
                }
                Order::End => {
                    self.end();
                    return false;
                }
            }
        }
        true
    }

    fn adopt(&mut self, mut connection: Box<Connection>, stream: Stream, token: Option<&SecretString>) {
        let place = connection.mailbox.0 as usize / self.stride;
        if let Err(error) = epoll::add(&self.epoll, &stream, EventData::new_u64(place as u64), EventFlags::IN)
        {
            connection.unreachable(format!("its socket cannot be watched: {error}"));
            return;
        }
        if place >= self.connections.len() {
            self.connections.resize_with(place + 1, || None);
        }
        let fate = connection.begin(stream, token);
        if let Some(free) = self.connections.get_mut(place) {
            *free = Some(connection);
        }
        self.settle(place, fate);
    }

    fn serve(&mut self, place: usize, with: impl FnOnce(&mut Connection, &mut [u8]) -> Fate) {
        if let Some(Some(connection)) = self.connections.get_mut(place) {
            let fate = with(connection, &mut self.buffer);
            self.settle(place, fate);
        }
    }

    /// Waits for what the connection waits for from now on, or lets it go.
    fn settle(&mut self, place: usize, fate: Fate) {
        let Some(slot) = self.connections.get_mut(place) else { return };
        if fate == Fate::Over {
            if let Some(alarm) = slot.take().and_then(|connection| connection.alarm) {
                self.alarms.remove(&(alarm, place));
            }
            return;
        }
        let Some(connection) = slot else { return };
        if let Some(at) = connection.sooner() {
            if let Some(before) = connection.alarm.replace(at) {
                self.alarms.remove(&(before, place));
            }
            self.alarms.insert((at, place));
        }
        let wants_room = connection.wants_room();
        if std::mem::replace(&mut connection.is_blocked, wants_room) != wants_room
            && let Some(socket) = connection.socket()
        {
            let flags = if wants_room { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            // It fails only for a descriptor that was never added.
            let _ = epoll::modify(&self.epoll, socket, EventData::new_u64(place as u64), flags);
        }
    }

    fn ring_alarms(&mut self) {
        let now = self.shared.clock.now().moment;
        while let Some((_, place)) = self.alarms.first().copied().filter(|(at, _)| *at <= now) {
            self.alarms.pop_first();
            self.serve(place, |connection, _| {
                connection.alarm = None;
                connection.due()
            });
        }
    }

    fn end(&mut self) {
        // Outside the lock: what is dropped here may send this queue an order.
        let late = self.queue.orders.lock().take();
        drop(late);
        for place in 0..self.connections.len() {
            self.serve(place, |connection, _| connection.wish(Wish::HangUp));
        }
    }
}
