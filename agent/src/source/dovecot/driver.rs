//! The dict server's two threads: one answers Dovecot, one hands readings on.
//!
//! The answering thread has a runtime of its own and touches nothing that the rest of the agent could hold: it
//! reads, answers, and overwrites a table under a lock that nobody keeps longer than a swap. The handing thread
//! ([`HandOn`]) calls the observer. So a slow or dead-locked observer costs a delivery nothing.

use super::desk::driver::Desk;
use super::listener::driver::{Doorway, Listener, listen};
use super::{Error, Settings};
use crate::counters::SourceCounters;
use crate::event::{Observer, SourceId};
use crate::source::pending::driver::HandOn;
use crate::source::pulse::{BEAT_EVERY, Pulse};
use crate::source::socket_file::driver::SocketFile;
use crate::time::driver::Clock;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use tokio::sync::Notify;
use tokio::task::LocalSet;

/// The running source. Dropping it stops it.
#[derive(Debug)]
pub struct DovecotSource {
    name: Arc<str>,
    tcp_address: Option<SocketAddr>,
    stop: Arc<Notify>,
    answering: Option<JoinHandle<()>>,
    hand_on: HandOn,
    pulse: Arc<Pulse>,
    file: Option<SocketFile>,
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
) -> Result<DovecotSource, Error> {
    let (listener, file) = listen(settings)?;
    let mut source = start_on(listener, settings, id, observer, clock, counters)?;
    source.file = file;
    Ok(source)
}

/// Serves a socket that listens already, handed over by the service manager; its file stays when we stop.
pub fn start_on(
    listener: Listener,
    settings: &Settings,
    id: SourceId,
    observer: Arc<dyn Observer>,
    clock: Clock,
    counters: Arc<SourceCounters>,
) -> Result<DovecotSource, Error> {
    let failed = |reason| Error::Start { name: Arc::clone(&settings.name), reason };
    let tcp_address = listener.tcp_address();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let doorway = {
        let _within = runtime.enter();
        Doorway::open(listener).map_err(failed)?
    };
    let hand_on =
        HandOn::start("dovecot-hand-on", id, observer, Arc::clone(&counters), settings.names.clone())
            .map_err(failed)?;
    let handover = hand_on.handover();
    let mut source = DovecotSource {
        name: Arc::clone(&settings.name),
        tcp_address,
        stop: Arc::default(),
        answering: None,
        hand_on,
        pulse: Arc::new(Pulse::new(clock.now().moment)),
        file: None,
    };
    let (settings, stop, pulse) = (settings.clone(), Arc::clone(&source.stop), Arc::clone(&source.pulse));
    let answering = thread::Builder::new().name("dovecot-dict".into()).spawn(move || {
        let desk = Desk::new(&settings, clock, counters, handover);
        LocalSet::new().block_on(&runtime, async {
            tokio::select! {
                () = desk.serve(&doorway, &stop) => {}
                () = beat(&pulse, clock) => {}
            }
        });
    });
    source.answering =
        Some(answering.map_err(|reason| Error::Start { name: Arc::clone(&source.name), reason })?);
    Ok(source)
}

impl DovecotSource {
    /// Where it listens, when that is TCP: the real port where the configured one was 0.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp_address
    }

    /// Beats while Dovecot is answered.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Why Dovecot is not served any more, for readiness; `None` while all is well.
    pub fn failure(&self) -> Option<String> {
        let is_answering = self.answering.as_ref().is_some_and(|thread| !thread.is_finished());
        let is_well = is_answering && self.hand_on.is_running();
        (!is_well).then(|| format!("source {}: a thread of the dict server has ended", self.name))
    }

    /// Ends all conversations, removes the socket file and hands on what was committed, within about a second.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for DovecotSource {
    fn drop(&mut self) {
        // The file first: who connects from now on is refused at once and does not wait for an answer.
        self.file = None;
        self.stop.notify_one();
        if let Some(answering) = self.answering.take() {
            // It can only fail by a panic, which its own message told of.
            let _ = answering.join();
        }
        self.hand_on.finish();
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
