//! Whom the agent knows: what the store keeps of it, put together with the file for the token room.

use super::Config;
use crate::identity::metadata::Document;
use crate::identity::partner::{self, PartnerApplication};
use crate::identity::principal::Principal;
use crate::ledger::Trust;
use crate::token::choice::{AuthServer, Configured};
use crate::token::keeper;

impl Config {
    /// What `own` can present to a relay at `authority` under the proxy's `organization`.
    pub fn configured(
        &self,
        own: Principal,
        trust: &Trust,
        organization: String,
        authority: String,
    ) -> Configured {
        let partner = |one: &PartnerApplication| Principal::new(&one.application_id, &one.realm);
        Configured {
            own,
            organization,
            relay_authority: authority,
            auth_servers: trust.auth_servers.iter().map(auth_server).collect(),
            partners: trust.partners.iter().map(partner).collect(),
        }
    }

    /// The tokens for such a relay.
    pub fn keeper_settings(&self, configured: Configured) -> keeper::Settings {
        keeper::Settings {
            configured,
            may_delegate: self.auth.may_delegate,
            lifetime: self.auth.token_lifetime,
        }
    }
}

fn auth_server(server: &partner::AuthServer) -> AuthServer {
    let service = match &server.document {
        None => Err(format!("its metadata document at {} was never read", server.metadata_url)),
        Some(bytes) => Document::read(bytes)
            .and_then(|document| document.token_service())
            .map_err(|error| error.to_string()),
    };
    AuthServer { name: server.name.clone(), service }
}
