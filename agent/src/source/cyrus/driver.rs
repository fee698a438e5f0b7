//! The notify socket's two threads: one reads datagrams, one hands readings on.
//!
//! The reading thread waits for nothing but datagrams: it understands one, overwrites a table under a lock that nobody
//! keeps longer than a swap, and reads the next. How many may wait in the meantime is the kernel's choice
//! (`net.unix.max_dgram_qlen`; a larger receive buffer does not change it), so it is told in the log.

use super::notify::{self, DATAGRAM_MAX, Skip};
use super::{Error, Settings};
use crate::counters::SourceCounters;
use crate::event::{Observer, SourceId};
use crate::source::pending::driver::{HandOn, Handover};
use crate::source::pulse::{BEAT_EVERY, Pulse};
use crate::source::socket_file::driver::{SocketFile, bind};
use crate::time::driver::Clock;
use std::fs;
use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Where Linux tells how many datagrams may wait to be read.
const QUEUE_LENGTH: &str = "/proc/sys/net/unix/max_dgram_qlen";

/// Pause after the socket could not be read: memory is short, most likely.
const READ_PAUSE: Duration = Duration::from_millis(10);

/// The running source. Dropping it stops it.
#[derive(Debug)]
pub struct CyrusSource {
    name: Arc<str>,
    socket: Arc<UnixDatagram>,
    is_stopping: Arc<AtomicBool>,
    reading: Option<JoinHandle<()>>,
    hand_on: HandOn,
    pulse: Arc<Pulse>,
    file: Option<SocketFile>,
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
) -> Result<CyrusSource, Error> {
    let (socket, file) = bind(&settings.listen, settings.mode, |path| UnixDatagram::bind(path), reach)?;
    let mut source = start_on(socket, settings, id, observer, clock, counters)?;
    source.file = Some(file);
    Ok(source)
}

/// Drains a socket that is bound already, handed over by the service manager; its file stays when we stop.
pub fn start_on(
    socket: UnixDatagram,
    settings: &Settings,
    id: SourceId,
    observer: Arc<dyn Observer>,
    clock: Clock,
    counters: Arc<SourceCounters>,
) -> Result<CyrusSource, Error> {
    let failed = |reason| Error::Start { name: Arc::clone(&settings.name), reason };
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
    let reading =
        thread::Builder::new().name("cyrus-notify".into()).spawn(move || reader.run()).map_err(failed)?;
    let queue = fs::read_to_string(QUEUE_LENGTH).unwrap_or_default();
    tracing::info!(source = %settings.name, queue = queue.trim(), "Cyrus waits when so many datagrams are not read");
    Ok(CyrusSource {
        name: Arc::clone(&settings.name),
        socket,
        is_stopping,
        reading: Some(reading),
        hand_on,
        pulse,
        file: None,
    })
}

/// Whether somebody reads at `path`.
fn reach(path: &Path) -> std::io::Result<()> {
    UnixDatagram::unbound()?.connect(path)
}

impl CyrusSource {
    /// Beats while the socket is drained.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Why Cyrus's events are not read any more, for readiness; `None` while all is well.
    pub fn failure(&self) -> Option<String> {
        let is_reading = self.reading.as_ref().is_some_and(|thread| !thread.is_finished());
        let is_well = is_reading && self.hand_on.is_running();
        (!is_well).then(|| format!("source {}: a thread of the notify socket has ended", self.name))
    }

    /// Removes the socket file and hands on what was told, within about a second.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for CyrusSource {
    fn drop(&mut self) {
        // The file first: from now on Cyrus finds nobody and goes on at once.
        self.file = None;
        self.is_stopping.store(true, Ordering::Release);
        // What waits is still read; then the reading thread is told that no more comes.
        let _ = self.socket.shutdown(Shutdown::Read);
        if let Some(reading) = self.reading.take() {
            // It can only fail by a panic, which its own message told of.
            let _ = reading.join();
        }
        self.hand_on.finish();
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
