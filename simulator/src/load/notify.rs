//! Cyrus's processes under load: the datagrams of each change go to the agent's notify socket, and wait for room in its
//! queue as Cyrus would.

use crate::peers::cyrus_client::{CyrusClient, Settings};
use crate::serve::notifiers::StatusChange;
use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

/// The longest wait for room; a real Cyrus would wait for good.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The notify socket, seen from Cyrus.
pub(super) struct NotifySocket {
    socket: UnixDatagram,
    client: CyrusClient,
    started: Instant,
    waits: Histogram<u64>,
    failure: Option<String>,
}

impl NotifySocket {
    /// Connects to the agent's socket.
    pub(super) fn connect(path: &Path, seed: u64, started: Instant) -> Result<Self> {
        let socket = UnixDatagram::unbound().context("a socket")?;
        socket.connect(path).with_context(|| format!("cannot connect to {}", path.display()))?;
        socket.set_write_timeout(Some(WAIT_MAX)).context("a limit to waiting")?;
        let waits =
            Histogram::new_with_bounds(1, WAIT_MAX.as_micros() as u64, 3).context("bounds of waits")?;
        let client = CyrusClient::new(Settings::default(), seed);
        Ok(Self { socket, client, started, waits, failure: None })
    }

    /// Tells of a change; blocks while the queue is full.
    pub(super) fn tell_blocking(&mut self, change: &StatusChange) {
        self.client.changed(&change.name, change.status);
        while let Some(datagram) = self.client.poll_output() {
            let before = self.started.elapsed();
            if let Err(error) = self.socket.send(&datagram) {
                self.failure.get_or_insert_with(|| format!("the agent's notify socket: {error}"));
            }
            let waited = self.started.elapsed().saturating_sub(before);
            self.waits.saturating_record(waited.as_micros().max(1) as u64);
        }
    }

    /// Forgets the waits measured so far.
    pub(super) fn begin(&mut self) {
        self.waits.reset();
    }

    /// How long each datagram waited, in microseconds.
    pub(super) fn waits(&self) -> Histogram<u64> {
        self.waits.clone()
    }

    /// What the first datagram that could not be sent met.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.clone()
    }
}
