//! The way to the relay as the daemon would go it, for commands that try it.

use super::certificate::current;
use super::{Context, Exit, Failure};
use crate::forwarder::driver::{Client, Post};
use crate::forwarder::url::RelayUrl;
use crate::store::Store;
use crate::token::keeper;
use crate::token::signer::Signer;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

/// Relay, client, certificate: all that a request needs.
pub(super) struct Way {
    pub(super) url: Arc<RelayUrl>,
    pub(super) client: Client,
    pub(super) token: keeper::Settings,
    pub(super) signer: Signer,
    pub(super) is_enabled: bool,
}

/// Opens the way by configuration and state; what is missing or wrong there is told with its remedy.
pub(super) fn open(context: &Context) -> Result<Way, Failure> {
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
    let unusable = |error: crate::https::Error| Failure { exit: Exit::Config, error: Some(error.into()) };
    let client = Client::new(&config.client_settings()).map_err(unusable)?;
    let own = config.own(&store.auth_config()?);
    let token = config.keeper_settings(own, organization, url.authority());
    let signer = Signer::new(signing.certificate, signing.key);
    Ok(Way { url, client, token, signer, is_enabled: proxy.is_enabled })
}

/// A runtime for a few requests.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// A new `client-request-id`.
pub(super) fn request_id() -> Uuid {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid()
}

impl Way {
    /// A POST on this way.
    pub(super) fn post(&self, bearer: crate::forwarder::driver::Bearer, body: &'static [u8]) -> Post {
        let body = bytes::Bytes::from_static(body);
        Post { url: Arc::clone(&self.url), request_id: request_id(), bearer, is_probe: false, body }
    }
}
