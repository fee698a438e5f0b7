//! Starts, stops and exchanges sources as the configuration says.

use super::RunError;
use super::descriptors::Shares;
use super::observer::DaemonObserver;
use super::socket_activation::ActivatedSockets;
use super::watchdog::Pulses;
use crate::counters::SourceCounters;
use crate::event::{MailboxId, Observer, SourceId};
use crate::source::kind::{Configured, Pace, Running, StartError, Wiring};
use crate::time::driver::Clock;
use crate::tracker::assurance::Terms;
use parking_lot::Mutex;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A source that was started.
struct Started {
    id: SourceId,
    settings: Arc<dyn Configured>,
    counters: Arc<SourceCounters>,
    source: Arc<dyn Running>,
}

/// All sources that run, in the order of the configuration.
pub(super) struct Sources {
    observer: Arc<DaemonObserver>,
    clock: Clock,
    activated: ActivatedSockets,
    pulses: Arc<Pulses>,
    started: Arc<RunningSources>,
    ids_given: usize,
    /// What those hold that are started from now on.
    descriptors: Shares,
}

/// The sources that run, for who wants to know how they are: also while others are being stopped.
#[derive(Default)]
pub(super) struct RunningSources(Mutex<Vec<Started>>);

/// What the outside sees of a source.
pub(super) struct SourceSnapshot {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) counters: Arc<SourceCounters>,
    pub(super) trouble: Option<String>,
    /// What it works under, and what to do about it.
    pub(super) limit: Option<String>,
}

impl Sources {
    pub(super) fn new(
        observer: Arc<DaemonObserver>,
        clock: Clock,
        activated: ActivatedSockets,
        pulses: Arc<Pulses>,
    ) -> Self {
        Self {
            observer,
            clock,
            activated,
            pulses,
            started: Arc::default(),
            ids_given: 0,
            descriptors: Shares::default(),
        }
    }

    /// What those may hold that are started from now on; who runs keeps his.
    pub(super) fn share(&mut self, descriptors: Shares) {
        self.descriptors = descriptors;
    }

    /// Where they are listed.
    pub(super) fn running(&self) -> Arc<RunningSources> {
        Arc::clone(&self.started)
    }

    /// Brings what runs in line with `wanted`: sources whose settings are the same go on untouched, others are stopped
    /// and started. `mailboxes` are those to be watched. The first error stops the change; what runs goes on.
    pub(super) async fn set(
        &mut self,
        wanted: &[Arc<dyn Configured>],
        mailboxes: &[(MailboxId, Arc<str>)],
    ) -> Result<(), RunError> {
        let waited_for = wanted.iter().filter(|source| source.kind().abilities.is_waited_for);
        self.activated.are_claimed(&waited_for.map(|source| source.name()).collect::<Vec<_>>())?;
        let dropped: Vec<Started> =
            self.started.0.lock().extract_if(.., |source| !wanted.contains(&source.settings)).collect();
        self.show_pulses();
        for source in dropped {
            tracing::info!(source = source.settings.name(), "source stopped");
            self.stop_one(source).await;
        }
        for settings in wanted {
            if !self.started.0.lock().iter().any(|source| &source.settings == settings) {
                self.start(settings, mailboxes)?;
            }
        }
        Ok(())
    }

    fn start(
        &mut self,
        settings: &Arc<dyn Configured>,
        mailboxes: &[(MailboxId, Arc<str>)],
    ) -> Result<(), RunError> {
        let id = SourceId(u8::try_from(self.ids_given).map_err(|_| RunError::TooManySources)?);
        self.ids_given += 1;
        let counters = Arc::new(SourceCounters::default());
        let source = settings.start(Wiring {
            id,
            observer: Arc::<DaemonObserver>::clone(&self.observer) as Arc<dyn Observer>,
            clock: self.clock,
            counters: Arc::clone(&counters),
            seed: fastrand::u64(..),
            socket: self.socket(settings.as_ref())?,
            connections: if settings.kind().abilities.is_waited_for {
                self.descriptors.mail_server
            } else {
                self.descriptors.connecting
            },
        })?;
        if let Some(pace) = settings.pace() {
            self.register(id, settings.as_ref(), &source, pace, mailboxes);
        }
        tracing::info!(source = settings.name(), kind = settings.kind().name, "source started");
        self.started.0.lock().push(Started { id, settings: Arc::clone(settings), counters, source });
        self.show_pulses();
        Ok(())
    }

    /// The socket that the service manager holds for a source.
    fn socket(&self, settings: &dyn Configured) -> Result<Option<OwnedFd>, StartError> {
        if !settings.kind().abilities.is_waited_for {
            return Ok(None);
        }
        let failed = |reason| StartError::System { name: settings.name().into(), reason };
        self.activated.socket(settings.name()).map_err(failed)
    }

    /// Has a source watch these mailboxes, and registers it with the observer as one that can be asked.
    fn register(
        &self,
        id: SourceId,
        settings: &dyn Configured,
        source: &Arc<dyn Running>,
        pace: Pace,
        mailboxes: &[(MailboxId, Arc<str>)],
    ) {
        for (mailbox, name) in mailboxes {
            source.watch(*mailbox, name);
        }
        let Some(cost) = settings.kind().abilities.asked_at else { return };
        let Pace { sweep_interval: sweep, login_rate } = pace;
        let terms = Terms { sweep, login_rate, since: self.clock.now().moment };
        self.observer.add(id, Arc::clone(source), cost, terms);
    }

    /// Has the watchdog look at the threads that mail servers wait for now.
    fn show_pulses(&self) {
        self.pulses.set(self.started.0.lock().iter().filter_map(|source| source.source.pulse()).collect());
    }

    /// Stops them all.
    pub(super) async fn stop(&mut self) {
        let started = std::mem::take(&mut *self.started.0.lock());
        self.show_pulses();
        for source in started {
            self.stop_one(source).await;
        }
    }

    async fn stop_one(&self, source: Started) {
        self.observer.remove(source.id);
        source.source.stop().await;
    }
}

impl RunningSources {
    /// The configured name of a source that runs.
    pub(super) fn name_of(&self, id: SourceId) -> Option<String> {
        let started = self.0.lock();
        Some(started.iter().find(|source| source.id == id)?.settings.name().to_owned())
    }

    /// What the outside sees of each.
    pub(super) fn snapshots(&self) -> Vec<SourceSnapshot> {
        let snapshot = |source: &Started| SourceSnapshot {
            name: source.settings.name().to_owned(),
            kind: source.settings.kind().name,
            counters: Arc::clone(&source.counters),
            trouble: source.source.failure(),
            limit: source.source.limit(),
        };
        self.0.lock().iter().map(snapshot).collect()
    }
}
