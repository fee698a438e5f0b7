//! Access to the relay as the daemon has it, for commands that try it.

use super::certificate::current;
use super::{Context, Exit, Failure};
use crate::config::Config;
use crate::forwarder::driver::{Client, Post};
use crate::forwarder::url::RelayUrl;
use crate::https;
use crate::identity::metadata::Document;
use crate::ledger::Trust;
use crate::store::{SqliteStore, Store};
use crate::time::UnixMs;
use crate::token::driver::fetch_document;
use crate::token::keeper;
use crate::token::signer::Signer;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

/// Relay, clients, certificate: all that a request needs.
pub(super) struct RelayAccess {
    pub(super) url: Arc<RelayUrl>,
    pub(super) client: Client,
    pub(super) token_service: https::driver::Client,
    pub(super) token: keeper::Settings,
    pub(super) signer: Signer,
    pub(super) is_enabled: bool,
    config: Config,
    store: SqliteStore,
    trust: Trust,
}

/// Opens it by configuration and state; what is missing or wrong there is told with its remedy.
pub(super) fn open(context: &Context) -> Result<RelayAccess, Failure> {
    let config = context.load_config()?;
    let store = context.open_store(&config)?;
    let proxy = store.proxy()?;
    let refused = |error: crate::forwarder::Error| Failure { exit: Exit::Config, error: Some(error.into()) };
    let url = Arc::new(RelayUrl::parse(&proxy.uri).map_err(refused)?);
    let organization = proxy.organization.ok_or_else(|| {
        Failure::new(
            Exit::Config,
            "no relay is set up; `mailbadge proxy enable --organization D --uri U` does",
        )
    })?;
    let signing = current(&store, context.now())?;
    let unusable = |error: https::Error| Failure { exit: Exit::Config, error: Some(error.into()) };
    let client = Client::new(&config.client_settings()).map_err(unusable)?;
    client.prepare(&url).map_err(unusable)?;
    let token_service = https::driver::Client::new(&config.token_client_settings()).map_err(unusable)?;
    let trust = Trust::read(&store)?;
    let own = config.own(&store.auth_config()?);
    let token = config.keeper_settings(config.configured(own, &trust, organization, url.authority()));
    let signer = Signer::new(signing.certificate, signing.key);
    let is_enabled = proxy.is_enabled;
    Ok(RelayAccess { url, client, token_service, token, signer, is_enabled, config, store, trust })
}

/// A runtime for a few requests.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// A new `client-request-id`.
pub(super) fn request_id() -> Uuid {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid()
}

impl RelayAccess {
    /// A POST to this relay.
    pub(super) fn post(&self, bearer: crate::forwarder::driver::Bearer, body: &'static [u8]) -> Post {
        let body = bytes::Bytes::from_static(body);
        Post { url: Arc::clone(&self.url), request_id: request_id(), bearer, is_probe: false, body }
    }

    /// Reads the metadata documents that never were, as the daemon does when it misses them, and keeps them; false
    /// where there is none such. What prevents one is told with the token's error.
    pub(super) async fn read_documents(&mut self, now: UnixMs) -> Result<bool, Failure> {
        let mut is_any = false;
        let mut failures = Vec::new();
        for server in self.trust.auth_servers.iter().filter(|server| server.document.is_none()) {
            is_any = true;
            match self.good_document(&server.metadata_url).await {
                Ok(document) => drop(self.store.keep_auth_document(server, &document, now)?),
                Err(reason) => failures.push((server.name.clone(), reason)),
            }
        }
        self.trust = Trust::read(&self.store)?;
        let former = &self.token.configured;
        let (organization, authority) = (former.organization.clone(), former.relay_authority.clone());
        let mut configured = self.config.configured(former.own.clone(), &self.trust, organization, authority);
        for server in &mut configured.auth_servers {
            let failure = failures.iter().find(|(name, _)| *name == server.name);
            server.service = failure.map_or(server.service.clone(), |(_, reason)| Err(reason.clone()));
        }
        self.token.configured = configured;
        Ok(is_any)
    }

    async fn good_document(&self, url: &str) -> Result<Vec<u8>, String> {
        let document = fetch_document(&self.token_service, url).await.map_err(|error| error.to_string())?;
        let read = Document::read(&document).and_then(|document| document.token_service());
        read.map(|_| document).map_err(|error| format!("{error}, at {url}"))
    }
}
