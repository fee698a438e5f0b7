//! What the daemon does while its state cannot be used, as on a full disk: it listens, answers mail servers at once, keeps
//! what they report, and says why it is not ready. It goes on by itself.

use super::sources::{RunningSources, SourceSnapshot, Sources};
use super::state::{State, is_passing, probe};
use super::{RunError, Signals, observer::DaemonObserver, tell_manager};
use crate::admin::{self, Figures, Health, MailboxStatus, SourceFigures, SourceStatus, Status};
use crate::config::Config;
use crate::counters::FlowCounters;
use crate::time::UnixMs;
use crate::time::driver::Clock;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often the state is tried.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// What is shown meanwhile.
struct Standby {
    started_at: UnixMs,
    reason: Mutex<String>,
    sources: Arc<RunningSources>,
    counters: Arc<FlowCounters>,
}

/// Opens the state; where that fails for now, waits until it can be opened. `None`: the daemon is to stop.
pub(super) async fn open(
    config: &Config,
    path: &Path,
    clock: Clock,
    sources: &mut Sources,
    observer: &DaemonObserver,
    signals: &mut Signals,
) -> Result<Option<State>, RunError> {
    let reason = match State::open(config, clock.now().unix) {
        Err(error) if is_passing(&error) => reason(&error, config),
        opened => return opened.map(Some),
    };
    tracing::error!("{reason}");
    let standby = Arc::new(Standby {
        started_at: clock.now().unix,
        reason: Mutex::new(reason),
        sources: sources.running(),
        counters: Arc::default(),
    });
    observer.keep_all(true);
    sources.set(&config.sources, &[]).await?;
    let admin =
        admin::driver::start(&config.admin, Arc::<Standby>::clone(&standby) as Arc<dyn Health>).await?;
    tell_manager(&[sd_notify::NotifyState::Ready]);
    let opened = wait(config, path, clock, signals, &standby).await;
    drop(admin);
    observer.keep_all(false);
    if matches!(opened, Ok(Some(_))) {
        tracing::info!("the state can be used again");
    } else {
        sources.stop().await;
    }
    opened
}

async fn wait(
    config: &Config,
    path: &Path,
    clock: Clock,
    signals: &mut Signals,
    standby: &Standby,
) -> Result<Option<State>, RunError> {
    let mut rhythm = tokio::time::interval(TRY_EVERY);
    loop {
        tokio::select! {
            _ = rhythm.tick() => {}
            next = signals.next(path) => {
                if next.is_none() {
                    return Ok(None);
                }
                tracing::warn!("the configuration is read again at the next start only, while the state cannot be used");
            }
        }
        let (tried, now) = (config.clone(), clock.now().unix);
        // It may wait for the disk. A panic has its own message, and the next try follows.
        let opened =
            tokio::task::spawn_blocking(move || probe(&tried.state_dir).map(|()| State::open(&tried, now)));
        match opened.await {
            Err(_) | Ok(Err(_)) => {}
            Ok(Ok(Err(error))) if is_passing(&error) => *standby.reason.lock() = reason(&error, config),
            Ok(Ok(opened)) => return opened.map(Some),
        }
    }
}

fn reason(error: &RunError, config: &Config) -> String {
    let folder = config.state_dir.display();
    let (cause, remedy) = match probe(&config.state_dir) {
        Err(cause) => (format!("{folder}: {cause}"), "when it can be written: free some room there"),
        Ok(()) => (error.to_string(), "when that is over"),
    };
    format!(
        "state: {cause}; mail servers are answered, but no badge moves; mailbadge goes on by itself {remedy}"
    )
}

impl Health for Standby {
    fn status(&self) -> Status {
        let reported = |source: SourceSnapshot| SourceStatus {
            trouble: source.trouble,
            limit: source.limit,
            ..SourceStatus::of(&source.name, source.kind, &source.counters)
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: self.started_at,
            unready: self.unready(),
            is_standby: true,
            sources: self.sources.snapshots().into_iter().map(reported).collect(),
            ..Status::default()
        }
    }

    fn unready(&self) -> Vec<String> {
        vec![self.reason.lock().clone()]
    }

    fn figures(&self) -> Figures {
        let reported =
            |source: SourceSnapshot| SourceFigures { name: source.name, counters: source.counters };
        Figures {
            sources: self.sources.snapshots().into_iter().map(reported).collect(),
            flow: Arc::clone(&self.counters),
            behind: 0,
            unknown: 0,
            unconfirmed: 0,
            oldest_unacknowledged_seconds: 0.0,
            token_expires_at: None,
            certificates: Vec::new(),
            documents: Vec::new(),
            clock_offset_seconds: None,
            is_relay_halted: false,
        }
    }

    fn mailbox(&self, _name: &str) -> Option<MailboxStatus> {
        None
    }
}
