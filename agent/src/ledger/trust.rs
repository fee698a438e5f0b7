//! Whom the host trusts, as the store has it.

use crate::identity::partner::{AuthServer, PartnerApplication};
use crate::store::{Store, StoreError};
use crate::token::refresh::Known;

/// What the store holds of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Token services.
    pub auth_servers: Vec<AuthServer>,
    /// Whom we may send our own tokens to by realm.
    pub partners: Vec<PartnerApplication>,
}

impl Trust {
    /// Reads it.
    pub fn read(store: &dyn Store) -> Result<Self, StoreError> {
        Ok(Self { auth_servers: store.auth_servers()?, partners: store.partners()? })
    }

    /// The token services with the age of what is known of them.
    pub fn known(&self) -> Vec<Known> {
        let known = |server: &AuthServer| Known {
            name: server.name.clone(),
            url: server.metadata_url.clone(),
            fetched_at: server.fetched_at.filter(|_| server.document.is_some()),
        };
        self.auth_servers.iter().map(known).collect()
    }
}
