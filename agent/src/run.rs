//! The daemon's hall: opens the store, starts the drivers, connects the rooms, listens for signals, shuts down.
//!
//! Four things run beside each other: the sources in threads and tasks of their own, which call the [`desk`]; the
//! [`relay`] loop, which drives the flow; the [`ledger`], which keeps the store in step; the admin endpoint, which only
//! reads. They meet in the tracker, in the flow behind its lock, and nowhere else.

mod census;
mod desk;
mod endpoint;
mod handed;
mod health;
mod identity;
mod ledger;
mod mailbox;
mod relay;
mod sources;
mod watchdog;

use crate::admin;
use crate::config::{self, Config};
use crate::counters::FlowCounters;
use crate::endpoint as host_endpoint;
use crate::event::{MailboxId, SubscriptionKey};
use crate::flow::{self, Flow, Input};
use crate::forwarder::driver::Client;
use crate::forwarder::outbox;
use crate::forwarder::url::RelayUrl;
use crate::forwarder::wire::Stamp;
use crate::https;
use crate::source::kind::StartError;
use crate::store::doubt::{Doubt, InDoubt};
use crate::store::{Proxy, SqliteStore, Store, StoreError};
use crate::time::driver::Clock;
use crate::time::{Now, UnixMs};
use crate::token::choice::Configured;
use crate::token::signer::SignedToken;
use crate::token::{self, claims::Claims};
use crate::tracker::Tracker;
use desk::Desk;
use handed::Handed;
use health::Troubles;
use ledger::{Changed, Ledger, LedgerShown};
use parking_lot::Mutex;
use relay::Relay;
use sources::Sources;
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
/// How often the ledger looks: what devices show is at most this much behind in the store.
const LEDGER_EVERY: Duration = Duration::from_millis(250);
/// How often a stop looks whether all is sent.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

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
    Handed(#[from] handed::Error),
    /// An endpoint.
    #[error(transparent)]
    Admin(#[from] admin::driver::Error),
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
struct Hall {
    clock: Clock,
    started_at: UnixMs,
    tracker: Arc<Tracker>,
    counters: Arc<FlowCounters>,
    flow: Mutex<Flow>,
    relay: Mutex<Option<Relay>>,
    ledger: Mutex<Ledger>,
    doubt: Arc<Mutex<Doubt>>,
    /// Devices the relay called gone, until the ledger dropped them; bounded by the devices there are.
    gone: Mutex<Vec<(MailboxId, SubscriptionKey)>>,
    sources: tokio::sync::Mutex<Sources>,
    board: Arc<sources::Board>,
    desk: Arc<Desk>,
    pulses: Arc<Pulses>,
    config: Mutex<Config>,
    bell: Arc<Notify>,
    closed: watch::Sender<bool>,
    troubles: Troubles,
    /// What the log has said of unknown mailboxes.
    census_log: census::Log,
    /// The sources are up: before that nobody may take the daemon for ready.
    is_started: AtomicBool,
    /// What the ledger held at its last tick: read without waiting for the disk.
    ledger_shown: Mutex<LedgerShown>,
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
    runtime.block_on(daemon(path, config))
}

async fn daemon(path: &Path, config: Config) -> Result<(), RunError> {
    let mut signals = Signals::listen()?;
    let clock = Clock::start();
    let hall = open(config, clock, Handed::take_over()?)?;
    let health: Arc<dyn admin::Health> = Arc::<Hall>::clone(&hall);
    let admin_settings = hall.config.lock().admin.clone();
    let admin = admin::driver::start(&admin_settings, health).await?;
    if let Some(address) = admin.as_ref().and_then(admin::driver::Server::address) {
        tracing::info!(%address, "admin endpoint");
    }
    let endpoint_settings = hall.config.lock().endpoint.clone();
    let host: Arc<dyn host_endpoint::Host> = Arc::<Hall>::clone(&hall);
    let endpoint = host_endpoint::driver::start(&endpoint_settings, host).await?;
    if let Some(address) = endpoint.as_ref().and_then(admin::driver::Server::address) {
        tracing::info!(%address, "endpoint for relays");
    }
    hall.take_over_names().await?;
    hall.tick().await;
    let relay = tokio::spawn(relay::drive(Arc::clone(&hall)));
    let ledger = tokio::spawn(keep_ledger(Arc::clone(&hall)));
    let watchdog = tokio::spawn(watchdog::keep(Arc::clone(&hall)));
    let wanted = hall.config.lock().sources.clone();
    let watched = hall.ledger.lock().watched();
    hall.sources.lock().await.set(&wanted, &watched).await?;
    hall.is_started.store(true, Ordering::Release);
    tell_manager(&[sd_notify::NotifyState::Ready]);
    tracing::info!(mailboxes = watched.len(), "ready");
    while let Some(path) = signals.next(path).await {
        hall.reload(path).await;
    }
    tell_manager(&[sd_notify::NotifyState::Stopping]);
    hall.drain().await;
    hall.closed.send_replace(true);
    drop((admin, endpoint));
    let _ended = tokio::join!(relay, ledger, watchdog);
    hall.ledger.lock().save()?;
    hall.doubt.lock().close()?;
    tracing::info!("stopped");
    Ok(())
}

/// Opens the store and puts the rooms together; nothing runs yet.
fn open(config: Config, clock: Clock, handed: Handed) -> Result<Arc<Hall>, RunError> {
    let now = clock.now();
    let store = SqliteStore::open(&config.state_dir, now.unix)?;
    let lock = lock(&config.state_dir)?;
    store.verify()?;
    let (mut doubt, in_doubt) = Doubt::open(&config.state_dir)?;
    let in_doubt = match in_doubt {
        InDoubt::These(keys) => keys,
        InDoubt::Everyone => {
            let mut everyone = Vec::new();
            store.each_subscription(&mut |kept| everyone.push(kept.key))?;
            everyone
        }
    };
    let unknown: Vec<(SubscriptionKey, Option<u32>)> = in_doubt.into_iter().map(|key| (key, None)).collect();
    store.record_shown(&unknown)?;
    doubt.settle()?;
    let started_at = store.begin(now.unix)?;
    let tracker = Arc::new(Tracker::default());
    let counters = Arc::new(FlowCounters::default());
    let bell = Arc::new(Notify::new());
    let ring = Arc::clone(&bell);
    tracker.on_ready(config.relay.batch_max, move || ring.notify_one());
    let stamp = Stamp::new(started_at);
    let flow = Flow::new(
        flow_settings(&config),
        Arc::clone(&tracker),
        Arc::clone(&counters),
        stamp,
        fastrand::u64(..),
    );
    let desk = Arc::new(Desk::new(Arc::clone(&tracker), Arc::clone(&counters)));
    let doubt = Arc::new(Mutex::new(doubt));
    let ledger = Ledger::new(Arc::new(store), Arc::clone(&tracker), Arc::clone(&desk), Arc::clone(&doubt));
    let pulses = Arc::new(Pulses::default());
    let sources = Sources::new(Arc::clone(&desk), clock, handed, Arc::clone(&pulses));
    Ok(Arc::new(Hall {
        clock,
        started_at: now.unix,
        tracker,
        counters,
        flow: Mutex::new(flow),
        relay: Mutex::new(None),
        ledger: Mutex::new(ledger),
        doubt,
        gone: Mutex::default(),
        board: sources.board(),
        desk,
        sources: tokio::sync::Mutex::new(sources),
        pulses,
        config: Mutex::new(config),
        bell,
        closed: watch::Sender::new(false),
        troubles: Troubles::default(),
        census_log: census::Log::default(),
        is_started: AtomicBool::new(false),
        ledger_shown: Mutex::default(),
        _lock: lock,
    }))
}

/// Holds the state directory for this daemon alone, as long as the file is open.
fn lock(state_dir: &Path) -> Result<File, RunError> {
    let path = state_dir.join("daemon.lock");
    let io = |cause| RunError::Io { what: path.display().to_string(), cause };
    let file = File::options().create(true).append(true).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(RunError::AlreadyRunning { path }),
        Err(std::fs::TryLockError::Error(cause)) => Err(io(cause)),
    }
}

fn flow_settings(config: &Config) -> flow::Settings {
    flow::Settings {
        outbox: outbox::Settings { concurrency: config.relay.concurrency, batch_max: config.relay.batch_max },
        hold_max: config.relay.max_hold,
    }
}

async fn keep_ledger(hall: Arc<Hall>) {
    let mut rhythm = tokio::time::interval(LEDGER_EVERY);
    loop {
        tokio::select! {
            _ = rhythm.tick() => hall.tick().await,
            () = hall.until_closed() => return,
        }
    }
}

impl Hall {
    /// Until the daemon ends.
    async fn until_closed(&self) {
        let mut closed = self.closed.subscribe();
        // An error would mean that the sender, which is ours, is gone.
        let _is_closed = closed.wait_for(|is_closed| *is_closed).await;
    }

    /// Which mailboxes are told apart, and which are watched, as the configuration says; the next tick enrolls them.
    async fn take_over_names(self: &Arc<Self>) -> Result<(), StoreError> {
        let hall = Arc::clone(self);
        let taken_over = move || {
            let (folds_case, watches_all) = {
                let config = hall.config.lock();
                (config.rulebook().folds_case(), config.watch_all)
            };
            let mut ledger = hall.ledger.lock();
            ledger.fold_case(folds_case)?;
            ledger.watch_all(watches_all);
            Ok(())
        };
        // It may wait for the disk. A panic has its own message.
        tokio::task::spawn_blocking(taken_over).await.unwrap_or(Ok(()))
    }

    /// One look of the ledger, on a thread that may wait for the disk.
    async fn tick(self: &Arc<Self>) {
        let hall = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || hall.tick_now()).await;
        if let Err(error) = done {
            tracing::error!(%error, "the ledger's thread ended");
        }
    }

    fn tick_now(&self) {
        let now = self.clock.now();
        let mut ledger = self.ledger.lock();
        let gone = self.gone.lock().clone();
        let dropped = if gone.is_empty() { Ok(()) } else { ledger.drop_gone(&gone) };
        if dropped.is_ok() {
            self.gone.lock().drain(..gone.len());
        }
        let changed = dropped.and_then(|()| ledger.tick(now));
        match changed {
            Ok(changed) => {
                self.troubles.store(None);
                *self.ledger_shown.lock() = ledger.shown();
                self.apply(&ledger, &changed);
            }
            Err(error) => self.troubles.store(Some(error.to_string())),
        }
        drop(ledger);
        self.log_unknown(now);
    }

    fn apply(&self, ledger: &Ledger, changed: &Changed) {
        let now = self.clock.now();
        if changed.trust {
            self.flow.lock().handle(Input::TokenServices(ledger.trust.known()), now);
        }
        if changed.proxy {
            self.set_relay(ledger);
        } else if changed.trust || changed.identity.name {
            self.set_trust(ledger, now);
        }
        if changed.identity.signer {
            self.flow.lock().handle(Input::CertificateChanged, now);
            self.bell.notify_one();
        }
    }

    /// Tells the flow what can be presented to its relay now.
    fn set_trust(&self, ledger: &Ledger, now: Now) {
        let authority = self.relay.lock().as_ref().map(|relay| relay.url.authority());
        let Some((authority, proxy)) = authority.zip(ledger.proxy.as_ref()) else { return };
        let configured = configured(&self.config.lock(), ledger, proxy, authority);
        self.flow.lock().handle(Input::Configured(Box::new(configured)), now);
        self.bell.notify_one();
    }

    /// Points the flow at the relay that the proxy's state names, or nowhere.
    fn set_relay(&self, ledger: &Ledger) {
        let Some(proxy) = &ledger.proxy else { return };
        let config = self.config.lock().clone();
        let relay = if proxy.is_enabled { Some(connect(&config, &proxy.uri)).transpose() } else { Ok(None) };
        self.troubles.relay(relay.as_ref().err().map(ToString::to_string));
        let relay = relay.ok().flatten();
        let settings = relay
            .as_ref()
            .map(|relay| config.keeper_settings(configured(&config, ledger, proxy, relay.url.authority())));
        tracing::info!(enabled = settings.is_some(), uri = proxy.uri, "proxy");
        let mut flow = self.flow.lock();
        *self.relay.lock() = relay;
        flow.handle(Input::Relay(settings), self.clock.now());
        drop(flow);
        self.bell.notify_one();
    }

    /// Signs with the current certificate, where it is fit to.
    fn sign(&self, claims: &Claims) -> Result<SignedToken, String> {
        let signer = self.ledger.lock().identity.signer();
        let signer = signer.ok_or("there is no certificate yet; run `mailbadge setup`")?;
        signer.sign(claims).map_err(|error| match error {
            token::Error::Signing(why) => why,
            other => other.to_string(),
        })
    }

    /// Reads the configuration again: limits and sources change, what did not change goes on.
    async fn reload(self: &Arc<Self>, path: &Path) {
        tell_manager(&[sd_notify::NotifyState::Reloading]);
        match config::load(path) {
            Ok(config) => {
                self.flow.lock().set(flow_settings(&config));
                let wanted = config.sources.clone();
                let before = std::mem::replace(&mut *self.config.lock(), config.clone());
                let is_relay_same = before.relay == config.relay && before.auth == config.auth;
                if let Err(error) = self.take_over_names().await {
                    self.troubles.store(Some(error.to_string()));
                }
                self.tick().await;
                let watched = self.ledger.lock().watched();
                let set = self.sources.lock().await.set(&wanted, &watched).await;
                self.troubles.reload(set.err().map(|error| error.to_string()));
                if !is_relay_same {
                    self.set_relay(&self.ledger.lock());
                }
                tracing::info!(
                    "configuration read again; state-dir, admin and subscriptions.listen change at a restart only"
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
            while !self.is_sent() {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        if tokio::time::timeout(DRAIN_MAX / 2, all_sent).await.is_err() {
            tracing::warn!("not everything was sent; the rest is compared and sent after the next start");
        }
    }

    /// Nothing in flight, and nothing ready that could go.
    fn is_sent(&self) -> bool {
        let flow = self.flow.lock();
        flow.flying() == 0 && (flow.is_idle() || flow.trouble().is_some() || self.relay.lock().is_none())
    }
}

/// What can be presented to a relay at `authority`.
fn configured(config: &Config, ledger: &Ledger, proxy: &Proxy, authority: String) -> Configured {
    let organization = proxy.organization.clone().unwrap_or_else(|| config.organization.clone());
    config.configured(config.own(ledger.identity.config()), &ledger.trust, organization, authority)
}

fn connect(config: &Config, uri: &str) -> Result<Relay, RunError> {
    let client = Client::new(&config.client_settings())?;
    let token_service = https::driver::Client::new(&config.token_client_settings())?;
    Ok(Relay { client, token_service, url: Arc::new(RelayUrl::parse(uri)?) })
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
