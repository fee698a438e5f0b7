//! Calls the [`Ledger`](crate::ledger::Ledger) on threads that may wait for the disk, and carries out what it hands out.

use super::Daemon;
use super::relay::Relay;
use crate::admin::Health as _;
use crate::config::Config;
use crate::flow::Input;
use crate::forwarder::driver::Client;
use crate::forwarder::url::RelayUrl;
use crate::https;
use crate::ledger::{Ledger, Output, sign};
use crate::run::RunError;
use crate::store::{Proxy, SqliteStore, StoreError};
use crate::time::Now;
use crate::token::choice::Configured;
use crate::token::claims::Claims;
use crate::token::signer::SignedToken;
use std::sync::Arc;
use std::time::Duration;

/// How often the ledger looks: what devices show is at most this much behind in the store.
const TICK_EVERY: Duration = Duration::from_millis(250);
/// Bytes of a database whose trees are checked before the daemon begins: some 100,000 subscriptions.
const VERIFIED_FIRST_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Has the ledger look, until the daemon ends.
pub(super) async fn keep(daemon: Arc<Daemon>) {
    let mut rhythm = tokio::time::interval(TICK_EVERY);
    loop {
        tokio::select! {
            _ = rhythm.tick() => daemon.tick().await,
            () = daemon.until_closed() => return,
        }
    }
}

/// Refuses a database that is damaged. The file of a large one is read behind the start: the next tick of the ledger meets
/// what is found there.
pub(super) fn verify(store: &Arc<SqliteStore>) -> Result<(), StoreError> {
    store.verify_rows()?;
    if store.size() <= VERIFIED_FIRST_BYTES_MAX {
        return store.verify_trees();
    }
    let store = Arc::clone(store);
    tokio::task::spawn_blocking(move || match store.verify_trees() {
        Ok(()) => tracing::info!("the database is whole"),
        Err(error) => tracing::error!(%error, "the database was read behind the start"),
    });
    Ok(())
}

impl Daemon {
    /// Which mailboxes are told apart, and which are watched, as the configuration says; the next tick enrolls them.
    pub(super) async fn take_over_names(self: &Arc<Self>) -> Result<(), StoreError> {
        let daemon = Arc::clone(self);
        let taken_over = move || {
            let (folds_case, watches_all) = {
                let config = daemon.config.lock();
                (config.rulebook().folds_case(), config.watch_all)
            };
            let carry = &mut |ledger: &Ledger, output| daemon.carry(ledger, output);
            let mut ledger = daemon.ledger.lock();
            ledger.fold_case(folds_case, carry)?;
            daemon.observer.watch_all(watches_all);
            ledger.watch_all(watches_all, carry);
            Ok(())
        };
        // It may wait for the disk. A panic has its own message.
        tokio::task::spawn_blocking(taken_over).await.unwrap_or(Ok(()))
    }

    /// One look of the ledger, on a thread that may wait for the disk.
    pub(super) async fn tick(self: &Arc<Self>) {
        let daemon = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || daemon.tick_now()).await;
        if let Err(error) = done {
            tracing::error!(%error, "the ledger's thread ended");
        }
    }

    fn tick_now(&self) {
        if let Some(lost) = self.state_place.lost() {
            // Nothing is written any more to where nobody will look for it.
            self.troubles.state(Some(lost.clone()));
            self.state_lost.send_replace(Some(lost));
            return;
        }
        let now = self.clock.now();
        let carry = &mut |ledger: &Ledger, output| self.carry(ledger, output);
        let mut ledger = self.ledger.lock();
        ledger.found(self.observer.take_found(), now.moment, carry);
        let ticked = ledger.tick(now, carry);
        if ticked.is_ok() {
            *self.ledger_snapshot.lock() = ledger.snapshot();
        }
        drop(ledger);
        self.troubles.store(ticked.err().map(|error| match error {
            StoreError::Damaged { .. } => {
                format!("{error}. Until a restart mailbadge goes on from memory, and stores nothing")
            }
            other => other.to_string(),
        }));
        self.log_unknown(now);
        // Looked at regularly, so that what happened is told with its time.
        self.notices();
        self.trouble_log.look(|| self.running_sources.snapshots(), now.moment);
    }

    fn carry(&self, ledger: &Ledger, output: Output) {
        let now = self.clock.now();
        match output {
            Output::Watch(mailbox, name) => self.observer.watch(mailbox, &name),
            Output::Unwatch(mailbox) => self.observer.unwatch(mailbox),
            Output::TokenServicesChanged => {
                self.relay.handle(Input::TokenServices(ledger.trust().known()), now);
            }
            Output::ProxyChanged => self.set_relay(ledger),
            Output::CredentialsChanged => self.set_credentials(ledger, now),
            Output::SignerChanged => {
                self.relay.handle(Input::CertificateChanged, now);
            }
        }
    }

    /// Tells the flow what can be presented to its relay now.
    fn set_credentials(&self, ledger: &Ledger, now: Now) {
        let authority = self.relay.authority();
        let Some((authority, proxy)) = authority.zip(ledger.proxy()) else { return };
        let configured = configured(&self.config.lock(), ledger, proxy, authority);
        self.relay.handle(Input::Configured(Box::new(configured)), now);
    }

    /// Points the flow at the relay that the proxy's state names, or nowhere.
    pub(super) fn set_relay(&self, ledger: &Ledger) {
        let Some(proxy) = ledger.proxy() else { return };
        let config = self.config.lock().clone();
        let relay = if proxy.is_enabled { Some(connect(&config, &proxy.uri)).transpose() } else { Ok(None) };
        self.troubles.relay(relay.as_ref().err().map(ToString::to_string));
        let relay = relay.ok().flatten();
        let settings = relay
            .as_ref()
            .map(|relay| config.keeper_settings(configured(&config, ledger, proxy, relay.url.authority())));
        tracing::info!(enabled = settings.is_some(), uri = proxy.uri, "proxy");
        self.relay.lead_to(relay, settings, self.clock.now());
    }

    /// Signs with the current certificate, where it is fit to; the ledger goes on meanwhile.
    pub(super) fn sign(&self, claims: &Claims) -> Result<SignedToken, String> {
        let signer = self.ledger.lock().signer();
        sign(signer.as_deref(), claims)
    }
}

/// What can be presented to a relay at `authority`.
fn configured(config: &Config, ledger: &Ledger, proxy: &Proxy, authority: String) -> Configured {
    let organization = proxy.organization.clone().unwrap_or_else(|| config.organization.clone());
    config.configured(config.own(ledger.auth_config()), ledger.trust(), organization, authority)
}

fn connect(config: &Config, uri: &str) -> Result<Relay, RunError> {
    let url = Arc::new(RelayUrl::parse(uri)?);
    let client = Client::new(&config.client_settings())?;
    client.prepare(&url)?;
    let token_service = https::driver::Client::new(&config.token_client_settings())?;
    Ok(Relay { client, token_service, url })
}
