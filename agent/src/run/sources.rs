//! Starts, stops and exchanges sources as the configuration says.

use super::RunError;
use super::desk::{Askable, Desk};
use super::handed::Handed;
use super::watchdog::Pulses;
use crate::config;
use crate::counters::SourceCounters;
use crate::event::{MailboxId, Observer, SourceId};
use crate::source::pulse::Pulse;
use crate::source::{cyrus, doveadm, dovecot, imap, maildir};
use crate::time::driver::Clock;
use crate::tracker::assurance::Terms;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// A source that runs.
struct Running {
    id: SourceId,
    settings: config::Source,
    counters: Arc<SourceCounters>,
    part: Part,
}

/// What of a source has to be kept so that it runs.
enum Part {
    Dovecot(dovecot::DovecotSource),
    Cyrus(cyrus::CyrusSource),
    /// It can be asked, and stands at the desk for that.
    AtTheDesk,
}

impl Part {
    fn failure(&self) -> Option<String> {
        match self {
            Self::Dovecot(source) => source.failure(),
            Self::Cyrus(source) => source.failure(),
            Self::AtTheDesk => None,
        }
    }

    /// Of the thread that a mail server waits for.
    fn pulse(&self) -> Option<Arc<Pulse>> {
        match self {
            Self::Dovecot(source) => Some(source.pulse()),
            Self::Cyrus(source) => Some(source.pulse()),
            Self::AtTheDesk => None,
        }
    }
}

/// All sources that run, in the order of the configuration.
pub(super) struct Sources {
    desk: Arc<Desk>,
    clock: Clock,
    handed: Handed,
    pulses: Arc<Pulses>,
    running: Arc<Board>,
    ids_given: usize,
}

/// The sources that run, for who wants to know how they are: also while others are being stopped.
#[derive(Default)]
pub(super) struct Board(Mutex<Vec<Running>>);

/// What the outside is told of a source.
pub(super) struct Shown {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) counters: Arc<SourceCounters>,
    pub(super) trouble: Option<String>,
    /// What it works under, and what to do about it.
    pub(super) limit: Option<String>,
}

impl Sources {
    pub(super) fn new(desk: Arc<Desk>, clock: Clock, handed: Handed, pulses: Arc<Pulses>) -> Self {
        Self { desk, clock, handed, pulses, running: Arc::default(), ids_given: 0 }
    }

    /// Where they stand.
    pub(super) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.running)
    }

    /// Brings what runs in line with `wanted`: sources whose settings are the same go on untouched, others are stopped
    /// and started. `mailboxes` are those to be watched. The first error stops the change; what runs goes on.
    pub(super) async fn set(
        &mut self,
        wanted: &[config::Source],
        mailboxes: &[(MailboxId, Arc<str>)],
    ) -> Result<(), RunError> {
        let answering = wanted
            .iter()
            .filter(|source| matches!(source, config::Source::Dovecot(_) | config::Source::Cyrus(_)));
        self.handed.are_claimed(&answering.map(config::Source::name).collect::<Vec<_>>())?;
        let dropped: Vec<Running> =
            self.running.0.lock().extract_if(.., |source| !wanted.contains(&source.settings)).collect();
        self.show_pulses();
        for source in dropped {
            tracing::info!(source = source.settings.name(), "source stopped");
            self.stop_one(source).await;
        }
        for settings in wanted {
            let is_running = self.running.0.lock().iter().any(|source| source.settings == *settings);
            if !is_running {
                self.start(settings, mailboxes)?;
            }
        }
        Ok(())
    }

    fn start(
        &mut self,
        settings: &config::Source,
        mailboxes: &[(MailboxId, Arc<str>)],
    ) -> Result<(), RunError> {
        let id = SourceId(u8::try_from(self.ids_given).map_err(|_| RunError::TooManySources)?);
        self.ids_given += 1;
        let counters = Arc::new(SourceCounters::default());
        let observer: Arc<dyn Observer> = Arc::<Desk>::clone(&self.desk);
        let part = match settings {
            config::Source::Dovecot(settings) => {
                Part::Dovecot(self.start_dovecot(settings, id, observer, Arc::clone(&counters))?)
            }
            config::Source::Cyrus(settings) => {
                Part::Cyrus(self.start_cyrus(settings, id, observer, Arc::clone(&counters))?)
            }
            config::Source::Maildir(settings) => {
                let seed = fastrand::u64(..);
                let source = maildir::start(settings, id, observer, self.clock, Arc::clone(&counters), seed)?;
                self.to_the_desk(id, Askable::Maildir(source), settings.sweep_interval, None, mailboxes)
            }
            config::Source::Doveadm(settings) => {
                let seed = fastrand::u64(..);
                let source = doveadm::start(settings, id, observer, self.clock, Arc::clone(&counters), seed)?;
                self.to_the_desk(id, Askable::Doveadm(source), settings.sweep_interval, None, mailboxes)
            }
            config::Source::Imap(settings) => {
                let seed = fastrand::u64(..);
                let settings = imap::Settings::clone(settings);
                let (sweep, rate) = (settings.sweep_interval, settings.login_rate);
                let source =
                    imap::driver::start(settings, id, observer, self.clock, Arc::clone(&counters), seed)?;
                self.to_the_desk(id, Askable::Imap(source), sweep, Some(rate), mailboxes)
            }
        };
        tracing::info!(source = settings.name(), kind = settings.kind(), "source started");
        self.running.0.lock().push(Running { id, settings: settings.clone(), counters, part });
        self.show_pulses();
        Ok(())
    }

    fn start_dovecot(
        &self,
        settings: &dovecot::Settings,
        id: SourceId,
        observer: Arc<dyn Observer>,
        counters: Arc<SourceCounters>,
    ) -> Result<dovecot::DovecotSource, dovecot::Error> {
        let failed = |reason| dovecot::Error::Start { name: Arc::clone(&settings.name), reason };
        match self.handed.socket(&settings.name).map_err(failed)? {
            Some(socket) => {
                let listener = dovecot::Listener::inherited(socket).map_err(failed)?;
                dovecot::start_on(listener, settings, id, observer, self.clock, counters)
            }
            None => dovecot::start(settings, id, observer, self.clock, counters),
        }
    }

    fn start_cyrus(
        &self,
        settings: &cyrus::Settings,
        id: SourceId,
        observer: Arc<dyn Observer>,
        counters: Arc<SourceCounters>,
    ) -> Result<cyrus::CyrusSource, cyrus::Error> {
        let failed = |reason| cyrus::Error::Start { name: Arc::clone(&settings.name), reason };
        match self.handed.socket(&settings.name).map_err(failed)? {
            Some(socket) => cyrus::start_on(socket.into(), settings, id, observer, self.clock, counters),
            None => cyrus::start(settings, id, observer, self.clock, counters),
        }
    }

    /// Tells the watchdog which threads mail servers wait for now.
    fn show_pulses(&self) {
        self.pulses.set(self.running.0.lock().iter().filter_map(|source| source.part.pulse()).collect());
    }

    /// Has a source watch these mailboxes, and registers it with the desk as one that can be asked.
    fn to_the_desk(
        &self,
        id: SourceId,
        source: Askable,
        sweep: Duration,
        login_rate: Option<u32>,
        mailboxes: &[(MailboxId, Arc<str>)],
    ) -> Part {
        for (mailbox, name) in mailboxes {
            source.watch(*mailbox, name);
        }
        let since = self.clock.now().moment;
        self.desk.add(id, source, Terms { sweep, login_rate, since });
        Part::AtTheDesk
    }

    /// Stops them all.
    pub(super) async fn stop(&mut self) {
        let running = std::mem::take(&mut *self.running.0.lock());
        self.show_pulses();
        for source in running {
            self.stop_one(source).await;
        }
    }

    async fn stop_one(&self, source: Running) {
        drop(source.part);
        if let Some(askable) = self.desk.remove(source.id) {
            askable.stop().await;
        }
    }
}

impl Board {
    /// The configured name of a source that runs.
    pub(super) fn name_of(&self, id: SourceId) -> Option<String> {
        let running = self.0.lock();
        Some(running.iter().find(|source| source.id == id)?.settings.name().to_owned())
    }

    /// What the outside is told of each.
    pub(super) fn shown(&self, desk: &Desk) -> Vec<Shown> {
        let shown = |source: &Running| Shown {
            name: source.settings.name().to_owned(),
            kind: source.settings.kind(),
            counters: Arc::clone(&source.counters),
            trouble: source.part.failure().or_else(|| desk.failure(source.id)),
            limit: desk.limit(source.id),
        };
        self.0.lock().iter().map(shown).collect()
    }
}
