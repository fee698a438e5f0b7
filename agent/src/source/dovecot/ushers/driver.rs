//! Lets callers in where there is a crowd. A system that is short of time gives each thread the same share of it: one that
//! serves could not keep up with three that do nothing but connect, and a delivery waits behind all who connected before it.

use crate::counters::SourceCounters;
use crate::source::dovecot::arrivals::Arrivals;
use crate::source::dovecot::listener::driver::{Caller, Heard, Listener};
use crate::source::shell::driver::Worker;
use crate::time::Moment;
use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::Notify;

/// How many help.
const USHERS: usize = 2;

/// A second in which fewer came is calm again.
const CROWD_MIN: u32 = 2000;

/// Longest wait for somebody to come, before it is asked whether all is over.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Pause where nobody is let in since too many are who have spoken.
const PAUSE: Duration = Duration::from_millis(1);

/// The threads, and whom they let in. Dropping it ends them.
pub(in crate::source::dovecot) struct Ushers {
    shared: Arc<Shared>,
    _workers: Vec<Worker>,
}

struct Shared {
    listener: Listener,
    counters: Arc<SourceCounters>,
    hall: Mutex<Hall>,
    called: Condvar,
    came: Notify,
}

struct Hall {
    arrivals: Arrivals<Caller>,
    is_crowded: bool,
    /// Let in since it was last asked whether all is calm.
    came: u32,
    is_over: bool,
}

impl Ushers {
    /// Threads that share `listener`, which does not block, and let so many callers wait who have spoken, and who are silent.
    pub(in crate::source::dovecot) fn start(
        listener: Listener,
        (speaking_max, silent_max): (usize, usize),
        counters: Arc<SourceCounters>,
    ) -> io::Result<Self> {
        let hall = Hall {
            arrivals: Arrivals::new(speaking_max, silent_max),
            is_crowded: false,
            came: 0,
            is_over: false,
        };
        let (hall, called, came) = (Mutex::new(hall), Condvar::new(), Notify::new());
        let shared = Arc::new(Shared { listener, counters, hall, called, came });
        let start = |_| {
            let (ending, working) = (Arc::clone(&shared), Arc::clone(&shared));
            Worker::start("dovecot-usher", move || ending.end(), move || working.help())
        };
        let workers = (0..USHERS).map(start).collect::<io::Result<_>>()?;
        Ok(Self { shared, _workers: workers })
    }

    /// There is a crowd.
    pub(in crate::source::dovecot) fn call(&self) {
        self.shared.hall.lock().is_crowded = true;
        self.shared.called.notify_all();
    }

    /// Whether there is a crowd: nobody else needs to accept.
    pub(in crate::source::dovecot) fn is_crowded(&self) -> bool {
        self.shared.hall.lock().is_crowded
    }

    /// To be asked each second: sends them to sleep where few came since.
    pub(in crate::source::dovecot) fn calm(&self) {
        let mut hall = self.shared.hall.lock();
        let is_over = hall.is_crowded && hall.came < CROWD_MIN;
        hall.is_crowded &= !is_over;
        hall.came = 0;
        drop(hall);
        if is_over {
            // Whoever waits must begin to accept again.
            self.shared.came.notify_one();
        }
    }

    /// Who was let in and is served now.
    pub(in crate::source::dovecot) fn next(&self, now: Moment) -> Option<Caller> {
        self.shared.hall.lock().arrivals.next(now)
    }

    /// Whether somebody who was let in is not served yet.
    pub(in crate::source::dovecot) fn has_waiting(&self) -> bool {
        !self.shared.hall.lock().arrivals.is_empty()
    }

    /// Waits until somebody was let in, or was since this was last asked.
    pub(in crate::source::dovecot) async fn came(&self) {
        self.shared.came.notified().await;
    }
}

impl Shared {
    fn end(&self) {
        self.hall.lock().is_over = true;
        self.called.notify_all();
    }

    /// Sleeps until there is a crowd, and lets in who is there; until it is over.
    fn help(&self) {
        loop {
            let mut hall = self.hall.lock();
            while !hall.is_crowded && !hall.is_over {
                self.called.wait(&mut hall);
            }
            if hall.is_over {
                return;
            }
            let is_full = hall.arrivals.is_full();
            drop(hall);
            match (!is_full).then(|| self.listener.accept_now()) {
                Some(Ok(caller)) => self.let_in(caller),
                Some(Err(error)) if error.kind() == ErrorKind::WouldBlock => self.wait(),
                Some(Err(_)) => self.leave_to_server(),
                None => thread::sleep(PAUSE),
            }
        }
    }

    /// Nobody can be let in: descriptors are short, most likely. The one who serves sees it, too, and makes room.
    fn leave_to_server(&self) {
        self.hall.lock().is_crowded = false;
        self.came.notify_one();
    }

    fn wait(&self) {
        let mut listener = [PollFd::new(&self.listener, PollFlags::IN)];
        // Whatever it says: what to do is asked anew.
        let _ready = poll(&mut listener, Some(&WAIT));
    }

    fn let_in(&self, caller: Caller) {
        let silent = match caller.listen() {
            Heard::Lines => return self.speaks(caller),
            Heard::End => return,
            Heard::Less => self.is_silent(caller),
        };
        // It may have spoken while it waited.
        if let Some(caller) = silent {
            match caller.listen() {
                Heard::Lines => self.speaks(caller),
                Heard::Less | Heard::End => self.counters.connections_evicted.one(),
            }
        }
    }

    fn speaks(&self, caller: Caller) {
        self.hall.lock().speaks(caller);
        self.came.notify_one();
    }

    /// Who is silent is looked for from time to time; that there is somebody at all must be told.
    fn is_silent(&self, caller: Caller) -> Option<Caller> {
        let (leaves, was_empty) = self.hall.lock().is_silent(caller);
        if was_empty {
            self.came.notify_one();
        }
        leaves
    }
}

impl Hall {
    fn speaks(&mut self, caller: Caller) {
        self.came = self.came.saturating_add(1);
        self.arrivals.speaks(caller);
    }

    /// Who must go for it, and whether nobody waited before.
    fn is_silent(&mut self, caller: Caller) -> (Option<Caller>, bool) {
        self.came = self.came.saturating_add(1);
        let was_empty = self.arrivals.is_empty();
        (self.arrivals.is_silent(caller), was_empty)
    }
}

impl fmt::Debug for Ushers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ushers").finish_non_exhaustive()
    }
}
