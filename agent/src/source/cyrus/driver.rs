//! The notify socket's two threads: one reads datagrams, one hands readings on.
//!
//! The reading thread waits for nothing but datagrams: it understands one, overwrites a table under a lock that nobody
//! keeps longer than a swap, and reads the next. How many may wait in the meantime is the kernel's choice
//! (`net.unix.max_dgram_qlen`; a larger receive buffer does not change it), so it is told in the log.

use super::Settings;
use super::notify::{self, DATAGRAM_MAX, Skip};
use crate::counters::SourceCounters;
use crate::event::{Observer, SourceId};
use crate::source::kind::{Running, StartError, Stopping, Wiring};
use crate::source::pending::driver::{HandOn, Handover};
use crate::source::pulse::{BEAT_EVERY, Pulse};
use crate::source::shell::driver::{Answering, Worker};
use crate::source::socket_file::driver::{SocketFile, bind};
use crate::time::driver::Clock;
use std::fs;
use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Where Linux tells how many datagrams may wait to be read.
const QUEUE_LENGTH: &str = "/proc/sys/net/unix/max_dgram_qlen";

/// Pause after the socket could not be read: memory is short, most likely.
const READ_PAUSE: Duration = Duration::from_millis(10);

/// The running source. Dropping it stops it.
#[derive(Debug)]
pub struct CyrusSource(Answering);

/// Drains the socket that the service manager holds, else opens the configured one.
pub(super) fn start_wired(settings: &Settings, wiring: Wiring) -> Result<CyrusSource, StartError> {
    let Wiring { id, observer, clock, counters, socket, .. } = wiring;
    match socket {
        Some(socket) => start_on(socket.into(), settings, id, observer, clock, counters),
        None => start(settings, id, observer, clock, counters),
    }
}

/// Opens the configured socket and drains it from threads of its own.
///
/// When it returns, Cyrus's events arrive.
pub fn start(
    settings: &Settings,
    id: SourceId,
    observer: Arc<dyn Observer>,
    clock: Clock,
    counters: Arc<SourceCounters>,
) -> Result<CyrusSource, StartError> {
    let (socket, file) = bind(&settings.listen, settings.mode, |path| UnixDatagram::bind(path), reach)?;
    open(socket, Some(file), settings, id, observer, clock, counters)
}

/// Drains a socket that is bound already, handed over by the service manager; its file stays when we stop.
pub fn start_on(
    socket: UnixDatagram,
    settings: &Settings,
    id: SourceId,
    observer: Arc<dyn Observer>,
    clock: Clock,
    counters: Arc<SourceCounters>,
) -> Result<CyrusSource, StartError> {
    open(socket, None, settings, id, observer, clock, counters)
}

fn open(
    socket: UnixDatagram,
    file: Option<SocketFile>,
    settings: &Settings,
    id: SourceId,
    observer: Arc<dyn Observer>,
    clock: Clock,
    counters: Arc<SourceCounters>,
) -> Result<CyrusSource, StartError> {
    let failed = |reason| StartError::System { name: Arc::clone(&settings.name), reason };
    socket.set_nonblocking(false).and_then(|()| socket.set_read_timeout(Some(BEAT_EVERY))).map_err(failed)?;
    let socket = Arc::new(socket);
    let pulse = Arc::new(Pulse::new(clock.now().moment));
    let hand_on = HandOn::start("cyrus-hand-on", id, observer, Arc::clone(&counters), settings.names.clone())
        .map_err(failed)?;
    let is_stopping = Arc::new(AtomicBool::new(false));
    let reader = Reader {
        name: Arc::clone(&settings.name),
        socket: Arc::clone(&socket),
        is_stopping: Arc::clone(&is_stopping),
        pulse: Arc::clone(&pulse),
        clock,
        counters,
        handover: hand_on.handover(),
    };
    let halt = move || {
        is_stopping.store(true, Ordering::Release);
        // What waits is still read; then the reading thread learns that no more comes.
        let _ = socket.shutdown(Shutdown::Read);
    };
    let worker = Worker::start("cyrus-notify", halt, move || reader.run()).map_err(failed)?;
    let queue = fs::read_to_string(QUEUE_LENGTH).unwrap_or_default();
    tracing::info!(source = %settings.name, queue = queue.trim(), "Cyrus waits when so many datagrams are not read");
    Ok(CyrusSource(Answering::new(&settings.name, "notify socket", worker, pulse, hand_on, file)))
}

/// Whether somebody reads at `path`.
fn reach(path: &Path) -> std::io::Result<()> {
    UnixDatagram::unbound()?.connect(path)
}

impl Running for CyrusSource {
    fn failure(&self) -> Option<String> {
        self.0.failure()
    }

    fn pulse(&self) -> Option<Arc<Pulse>> {
        Some(self.0.pulse())
    }

    fn stop(&self) -> Stopping<'_> {
        self.0.stop()
    }
}

/// What the reading thread works with.
struct Reader {
    name: Arc<str>,
    socket: Arc<UnixDatagram>,
    is_stopping: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
    clock: Clock,
    counters: Arc<SourceCounters>,
    handover: Arc<Handover>,
}

impl Reader {
    fn run(self) {
        // One byte more than is read, to know an over-long datagram by it.
        let mut buffer = vec![0; DATAGRAM_MAX + 1];
        let mut has_warned = false;
        loop {
            self.pulse.beat(self.clock.now().moment);
            match self.socket.recv(&mut buffer) {
                // An empty datagram, or the end.
                Ok(0) if self.is_stopping.load(Ordering::Acquire) => return,
                Ok(length) => {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    self.take(datagram, &mut has_warned);
                }
                // Nothing came for a while: time for a beat.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => {
                    tracing::error!(source = %self.name, %error, "the notify socket cannot be read");
                    thread::sleep(READ_PAUSE);
                }
            }
        }
    }

    fn take(&self, datagram: &[u8], has_warned: &mut bool) {
        match notify::read(datagram) {
            Ok(update) => self.counters.skipped.add(self.handover.put([update], self.clock.now())),
            Err(why) if why.is_ordinary() => self.counters.ignored.one(),
            Err(why) => self.skip(why, has_warned),
        }
    }

    fn skip(&self, why: Skip, has_warned: &mut bool) {
        self.counters.skipped.one();
        if !std::mem::replace(has_warned, true) {
            tracing::warn!(
                source = %self.name,
                "a datagram of the notify socket {why}: compare event_extra_params and event_notifier with packaging/cyrus; said once"
            );
        }
    }
}

#[cfg(test)]
mod tests;
