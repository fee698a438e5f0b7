//! The daemon: opens the store, starts the drivers, connects the rooms, listens for signals, shuts down.
//!
//! Four things run beside each other: the sources in threads and tasks of their own, which call the [`observer`]; the
//! [`relay`] loop, which drives the flow; the [`Ledger`], which keeps the store in step; the admin endpoint, which only
//! reads. They meet in the tracker, in the way to the relay behind its lock, and nowhere else.

mod census;
mod crowds;
mod descriptors;
mod endpoint;
mod health;
mod ledger;
mod mailbox;
mod observer;
mod relay;
mod socket_activation;
mod sources;
mod standby;
mod state;
mod state_place;
mod trouble_log;
mod watchdog;

pub use state::{lock, lock_path};

use crate::admin;
use crate::config::{self, Config};
use crate::counters::FlowCounters;
use crate::endpoint as host_endpoint;
use crate::flow::{self, Flow};
use crate::forwarder::outbox;
use crate::forwarder::wire::Stamp;
use crate::https;
use crate::ledger::{Gone, Ledger, LedgerSnapshot, Reported};
use crate::listen::Listen;
use crate::listen::driver::Server;
use crate::source::kind::StartError;
use crate::store::StoreError;
use crate::store::notes::Notes;
use crate::time::UnixMs;
use crate::time::driver::Clock;
use crate::tracker::Tracker;
use crowds::Crowds;
use descriptors::Shares;
use health::Troubles;
use observer::DaemonObserver;
use parking_lot::Mutex;
use relay::RelayWay;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket_activation::ActivatedSockets;
use sources::Sources;
use state::State;
use state_place::StatePlace;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use watchdog::Pulses;

/// How long a stop may take: batches in flight, then what devices show is stored.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);
/// How often a stop looks whether all is sent.
const DRAIN_LOOK: Duration = Duration::from_millis(10);
/// For how long a daemon whose state was taken away says so before it ends.
const LOST_SHOWN: Duration = Duration::from_secs(1);

/// Why the daemon did not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another daemon has this state directory.
    #[error("{path}: another mailbadge runs on this state directory; stop it first", path = .path.display())]
    AlreadyRunning {
        /// The lock file.
        path: PathBuf,
    },
    /// The operating system refused something.
    #[error("{what}: {cause}")]
    Io {
        /// What was to be done.
        what: String,
        /// What it said.
        cause: std::io::Error,
    },
    /// A source.
    #[error(transparent)]
    Source(#[from] StartError),
    /// Sockets of the service manager.
    #[error(transparent)]
    SocketActivation(#[from] socket_activation::Error),
    /// An endpoint.
    #[error(transparent)]
    Listen(#[from] crate::listen::driver::Error),
    /// Its state is not where it was.
    #[error("{0}")]
    StateLost(String),
    /// More sources than have a number.
    #[error("more than 256 sources were started since the start; restart the daemon")]
    TooManySources,
    /// The relay's address.
    #[error(transparent)]
    Forwarder(#[from] crate::forwarder::Error),
    /// The client towards relay and token service.
    #[error(transparent)]
    Https(#[from] https::Error),
}

/// What the rooms share.
struct Daemon {
    clock: Clock,
    started_at: UnixMs,
    tracker: Arc<Tracker>,
    counters: Arc<FlowCounters>,
    relay: RelayWay,
    ledger: Mutex<Ledger>,
    /// What is in doubt: apart from the ledger, which may be waiting for the disk.
    notes: Arc<dyn Notes>,
    gone: Arc<Gone>,
    sources: tokio::sync::Mutex<Sources>,
    running_sources: Arc<sources::RunningSources>,
    observer: Arc<DaemonObserver>,
    config: Mutex<Config>,
    closed: watch::Sender<bool>,
    state_place: StatePlace,
    /// What of the state is not where it was.
    state_lost: watch::Sender<Option<String>>,
    troubles: Troubles,
    crowds: Crowds,
    /// What the log has said of unknown mailboxes.
    census_log: census::Log,
    trouble_log: trouble_log::TroubleLog,
    /// The sources are up: before that nobody may take the daemon for ready.
    is_started: AtomicBool,
    /// What the ledger held at its last tick: read without waiting for the disk.
    ledger_snapshot: Mutex<LedgerSnapshot>,
    /// The state directory is this daemon's alone while this is open.
    _lock: File,
}

/// Runs the daemon until SIGTERM or SIGINT. `path` is the configuration's, read again at SIGHUP.
pub fn run(path: &Path, config: Config) -> Result<(), RunError> {
    let io = |what: &str| {
        let what = what.to_owned();
        move |cause| RunError::Io { what, cause }
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(io("starting threads"))?;
    runtime.block_on(run_until_stopped(path, config))
}

async fn run_until_stopped(path: &Path, mut config: Config) -> Result<(), RunError> {
    let mut signals = Signals::listen()?;
    let clock = Clock::start();
    let shares = share_descriptors(&mut config);
    let mut front = Front::new(&config, clock, ActivatedSockets::take_over()?);
    front.sources.share(shares);
    let watchdog = tokio::spawn(watchdog::keep(Arc::clone(&front.pulses), clock, front.closed.subscribe()));
    let (sources, observer) = (&mut front.sources, &*front.observer);
    let opened = standby::open(&config, path, clock, sources, observer, &mut signals).await?;
    let Some(state) = opened else { return Ok(()) };
    let daemon = assemble(config, clock, front, state);
    let health: Arc<dyn admin::Health> = Arc::<Daemon>::clone(&daemon);
    let admin_settings = daemon.config.lock().admin.clone();
    let admin = admin::driver::start(&admin_settings, health).await?;
    daemon.listens("admin endpoint", "admin.listen", admin.as_ref());
    let endpoint_settings = daemon.config.lock().endpoint.clone();
    let host: Arc<dyn host_endpoint::Host> = Arc::<Daemon>::clone(&daemon);
    let endpoint = host_endpoint::driver::start(&endpoint_settings, host).await?;
    daemon.listens("endpoint for relays", "subscriptions.listen", endpoint.as_ref());
    daemon.take_over_names().await?;
    daemon.tick().await;
    let relay = tokio::spawn(relay::drive(Arc::clone(&daemon)));
    let ledger = tokio::spawn(ledger::keep(Arc::clone(&daemon)));
    let wanted = daemon.config.lock().sources.clone();
    let watched = daemon.ledger.lock().watched();
    daemon.sources.lock().await.set(&wanted, &watched).await?;
    daemon.is_started.store(true, Ordering::Release);
    tell_manager(&[sd_notify::NotifyState::Ready]);
    tracing::info!(mailboxes = watched.len(), "ready");
    loop {
        tokio::select! {
            next = signals.next(path) => match next {
                Some(path) => daemon.reload(path).await,
                None => break,
            },
            lost = daemon.until_state_lost() => {
                tokio::time::sleep(LOST_SHOWN).await;
                return Err(RunError::StateLost(lost));
            }
        }
    }
    tell_manager(&[sd_notify::NotifyState::Stopping]);
    daemon.drain().await;
    daemon.closed.send_replace(true);
    drop((admin, endpoint));
    let _ended = tokio::join!(relay, ledger, watchdog);
    daemon.ledger.lock().end()?;
    tracing::info!("stopped");
    Ok(())
}

/// What works without the state: sources deliver into it whatever the disk does.
struct Front {
    tracker: Arc<Tracker>,
    counters: Arc<FlowCounters>,
    reported: Arc<Reported>,
    observer: Arc<DaemonObserver>,
    pulses: Arc<Pulses>,
    sources: Sources,
    closed: watch::Sender<bool>,
}

impl Front {
    fn new(config: &Config, clock: Clock, activated: ActivatedSockets) -> Self {
        let (tracker, counters) = (Arc::new(Tracker::default()), Arc::new(FlowCounters::default()));
        // What is reported before the ledger takes names over must not be forgotten then.
        tracker.fold_case(config.rulebook().folds_case());
        let reported: Arc<Reported> = Arc::default();
        let observer =
            DaemonObserver::new(Arc::clone(&tracker), Arc::clone(&counters), Arc::clone(&reported));
        let observer = Arc::new(observer);
        let pulses = Arc::new(Pulses::default());
        let sources = Sources::new(Arc::clone(&observer), clock, activated, Arc::clone(&pulses));
        Self { tracker, counters, reported, observer, pulses, sources, closed: watch::Sender::new(false) }
    }
}

/// Puts the rooms together; nothing but sources may run yet.
fn assemble(config: Config, clock: Clock, front: Front, state: State) -> Arc<Daemon> {
    let Front { tracker, counters, reported, observer, sources, closed, .. } = front;
    let State { store, notes, started_at, place, lock } = state;
    let wake_relay = Arc::new(Notify::new());
    let wake = Arc::clone(&wake_relay);
    tracker.on_ready(config.relay.batch_max, move || wake.notify_one());
    let flow = Flow::new(
        flow_settings(&config),
        Arc::clone(&tracker),
        Arc::clone(&counters),
        Stamp::new(started_at),
        fastrand::u64(..),
    );
    let ledger = Ledger::new(store, Arc::clone(&notes), Arc::clone(&tracker));
    let ledger = ledger.sharing(reported);
    Arc::new(Daemon {
        clock,
        started_at: clock.now().unix,
        tracker,
        counters,
        relay: RelayWay::new(flow, wake_relay),
        gone: ledger.gone(),
        ledger: Mutex::new(ledger),
        notes,
        running_sources: sources.running(),
        observer,
        sources: tokio::sync::Mutex::new(sources),
        config: Mutex::new(config),
        closed,
        state_place: place,
        state_lost: watch::Sender::new(None),
        troubles: Troubles::default(),
        crowds: Crowds::default(),
        census_log: census::Log::default(),
        trouble_log: trouble_log::TroubleLog::default(),
        is_started: AtomicBool::new(false),
        ledger_snapshot: Mutex::default(),
        _lock: lock,
    })
}

/// Has the system grant as many descriptors as it may, and shares them out: the endpoints' limits come down to what is left
/// for them.
fn share_descriptors(config: &mut Config) -> Shares {
    let granted = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: granted.maximum, ..granted });
    let limit = if raised.is_ok() { granted.maximum } else { granted.current };
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let connections = |listen: &Option<Listen>, most: usize| listen.as_ref().map_or(0, |_| most);
    let (waited_for, others): (Vec<_>, Vec<_>) =
        config.sources.iter().partition(|source| source.kind().abilities.is_waited_for);
    let shares = Shares::of(
        limit,
        descriptors::Wanted {
            relay: config.relay.concurrency,
            admin: connections(&config.admin.listen, config.admin.connections_max),
            endpoint: connections(&config.endpoint.listen, config.endpoint.connections_max),
            mail_server: (waited_for.iter().map(|source| source.connections_max()).sum(), waited_for.len()),
            connecting: others.len(),
        },
    );
    tracing::debug!(limit, ?shares, "descriptors");
    config.admin.connections_max = config.admin.connections_max.min(shares.admin).max(1);
    config.endpoint.connections_max = config.endpoint.connections_max.min(shares.endpoint).max(1);
    shares
}

fn flow_settings(config: &Config) -> flow::Settings {
    flow::Settings {
        outbox: outbox::Settings { concurrency: config.relay.concurrency, batch_max: config.relay.batch_max },
        hold_max: config.relay.max_hold,
    }
}

impl Daemon {
    /// Until the daemon ends.
    async fn until_closed(&self) {
        let mut closed = self.closed.subscribe();
        // An error would mean that the sender, which is ours, is gone.
        let _is_closed = closed.wait_for(|is_closed| *is_closed).await;
    }

    /// One more listener, if it is on; `key` of the configuration says where.
    fn listens(&self, what: &str, key: &'static str, server: Option<&Server>) {
        let Some(server) = server else { return };
        self.crowds.add(key, server.evicted());
        if let Some(address) = server.address() {
            tracing::info!(%address, "{what}");
        }
    }

    /// What of the state was taken away, once it was.
    async fn until_state_lost(&self) -> String {
        let mut lost = self.state_lost.subscribe();
        // The sender is ours: there is an answer, or none for ever.
        let found = lost.wait_for(Option::is_some).await.ok().and_then(|lost| lost.clone());
        found.unwrap_or_default()
    }

    /// Reads the configuration again: limits and sources change, what did not change goes on.
    async fn reload(self: &Arc<Self>, path: &Path) {
        tell_manager(&[sd_notify::NotifyState::Reloading]);
        match config::load(path) {
            Ok(mut config) => {
                let shares = share_descriptors(&mut config);
                self.relay.flow().set(flow_settings(&config));
                let wanted = config.sources.clone();
                let before = std::mem::replace(&mut *self.config.lock(), config.clone());
                let is_relay_same = before.relay == config.relay && before.auth == config.auth;
                if let Err(error) = self.take_over_names().await {
                    self.troubles.store(Some(error.to_string()));
                }
                self.tick().await;
                let watched = self.ledger.lock().watched();
                let set = {
                    let mut sources = self.sources.lock().await;
                    sources.share(shares);
                    sources.set(&wanted, &watched).await
                };
                self.troubles.reload(set.err().map(|error| error.to_string()));
                if !is_relay_same {
                    self.set_relay(&self.ledger.lock());
                }
                tracing::info!(
                    "configuration read again; state-dir, admin and the listener of subscriptions change at a restart only"
                );
            }
            Err(error) => self.troubles.reload(Some(format!("configuration not taken over: {error}"))),
        }
        tell_manager(&[sd_notify::NotifyState::Ready]);
    }

    /// Stops the sources, lets batches arrive, for [`DRAIN_MAX`] at most.
    async fn drain(&self) {
        self.sources.lock().await.stop().await;
        let all_sent = async {
            while !self.relay.is_sent() {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        if tokio::time::timeout(DRAIN_MAX / 2, all_sent).await.is_err() {
            tracing::warn!("not everything was sent; the rest is compared and sent after the next start");
        }
    }
}

/// Tells the service manager, where there is one.
fn tell_manager(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// The signals a daemon lives by.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, RunError> {
        let on = |kind| {
            signal(kind).map_err(|cause| RunError::Io { what: "listening for signals".to_owned(), cause })
        };
        Ok(Self {
            hangup: on(SignalKind::hangup())?,
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }

    /// `path` where it is to be read again, `None` where the daemon is to stop.
    async fn next<'a>(&mut self, path: &'a Path) -> Option<&'a Path> {
        tokio::select! {
            _ = self.hangup.recv() => Some(path),
            _ = self.terminate.recv() => None,
            _ = self.interrupt.recv() => None,
        }
    }
}
