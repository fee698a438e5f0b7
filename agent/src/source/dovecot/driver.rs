//! The dict server's two threads: one answers Dovecot, one hands readings on.
//!
//! The answering thread has a runtime of its own and touches nothing that the rest of the agent could hold: it
//! reads, answers, and overwrites a table under a lock that nobody keeps longer than a swap. The handing thread
//! ([`HandOn`]) calls the observer. So a slow or dead-locked observer costs a delivery nothing.

use super::Settings;
use super::listener::driver::{Listener, listen};
use super::server::driver::{DictServer, Door};
use crate::counters::SourceCounters;
use crate::event::{Observer, SourceId};
use crate::source::kind::{Running, StartError, Stopping, Wiring};
use crate::source::pending::driver::HandOn;
use crate::source::pulse::{BEAT_EVERY, Pulse};
use crate::source::shell::driver::{Answering, Worker};
use crate::source::socket_file::driver::SocketFile;
use crate::time::driver::Clock;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::task::LocalSet;

/// The running source. Dropping it stops it.
#[derive(Debug)]
pub struct DovecotSource {
    answering: Answering,
    tcp_address: Option<SocketAddr>,
}

/// Serves the socket that the service manager holds, else opens the configured one.
pub(super) fn start_wired(settings: &Settings, wiring: Wiring) -> Result<DovecotSource, StartError> {
    let Wiring { id, observer, clock, counters, socket, connections, .. } = wiring;
    let settings =
        &Settings { connections_max: settings.connections_max.min(connections), ..settings.clone() };
    match socket {
        Some(socket) => {
            let failed = |reason| StartError::System { name: Arc::clone(&settings.name), reason };
            let listener = Listener::inherited(socket).map_err(failed)?;
            start_on(listener, settings, id, observer, clock, counters)
        }
        None => start(settings, id, observer, clock, counters),
    }
}

/// Opens the configured socket and serves it from threads of its own.
///
/// When it returns, Dovecot can connect.
pub fn start(
    settings: &Settings,
    id: SourceId,
    observer: Arc<dyn Observer>,
    clock: Clock,
    counters: Arc<SourceCounters>,
) -> Result<DovecotSource, StartError> {
    let (listener, file) = listen(settings)?;
    open(listener, file, settings, id, observer, clock, counters)
}

/// Serves a socket that listens already, handed over by the service manager; its file stays when we stop.
pub fn start_on(
    listener: Listener,
    settings: &Settings,
    id: SourceId,
    observer: Arc<dyn Observer>,
    clock: Clock,
    counters: Arc<SourceCounters>,
) -> Result<DovecotSource, StartError> {
    open(listener, None, settings, id, observer, clock, counters)
}

fn open(
    listener: Listener,
    file: Option<SocketFile>,
    settings: &Settings,
    id: SourceId,
    observer: Arc<dyn Observer>,
    clock: Clock,
    counters: Arc<SourceCounters>,
) -> Result<DovecotSource, StartError> {
    let failed = |reason| StartError::System { name: Arc::clone(&settings.name), reason };
    let tcp_address = listener.tcp_address();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let door = {
        let _within = runtime.enter();
        Door::open(listener, settings, Arc::clone(&counters)).map_err(failed)?
    };
    let hand_on =
        HandOn::start("dovecot-hand-on", id, observer, Arc::clone(&counters), settings.names.clone())
            .map_err(failed)?;
    let (handover, stop) = (hand_on.handover(), Arc::new(Notify::new()));
    let (pulse, is_over) = (Arc::new(Pulse::new(clock.now().moment)), Arc::clone(&stop));
    let (answered, beating) = (settings.clone(), Arc::clone(&pulse));
    let serve = move || {
        let server = DictServer::new(&answered, clock, counters, handover);
        LocalSet::new().block_on(&runtime, async {
            tokio::select! {
                () = server.serve(&door, &is_over) => {}
                () = beat(&beating, clock) => {}
            }
        });
    };
    let worker = Worker::start("dovecot-dict", move || stop.notify_one(), serve).map_err(failed)?;
    let answering = Answering::new(&settings.name, "dict server", worker, pulse, hand_on, file);
    Ok(DovecotSource { answering, tcp_address })
}

impl DovecotSource {
    /// Where it listens, when that is TCP: the real port where the configured one was 0.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp_address
    }
}

impl Running for DovecotSource {
    fn failure(&self) -> Option<String> {
        self.answering.failure()
    }

    fn pulse(&self) -> Option<Arc<Pulse>> {
        Some(self.answering.pulse())
    }

    fn stop(&self) -> Stopping<'_> {
        self.answering.stop()
    }
}

/// Shows that the answering thread turns; never ends.
async fn beat(pulse: &Pulse, clock: Clock) {
    let mut rhythm = tokio::time::interval(BEAT_EVERY);
    loop {
        rhythm.tick().await;
        pulse.beat(clock.now().moment);
    }
}

#[cfg(test)]
mod tests;
