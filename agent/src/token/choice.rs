//! Which token a challenge calls for (protocol.md §5.3): a pure function of the challenge and of what is configured.

use super::Error;
use super::challenge::Challenge;
use super::principal::{Audience, Principal, Realm};

/// What the agent can present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// Its own application id and realm.
    pub own: Principal,
    /// The organization's domain: the audience's realm where the challenge names none.
    pub organization: String,
    /// Host of the relay, with `:port` where that is not the scheme's default.
    pub relay_authority: String,
}

/// The token that the relay will take.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// One that the agent signs itself.
    SelfIssued {
        /// For whom.
        audience: Audience,
    },
}

/// Chooses by the rows of protocol.md §5.3 in their order. An issuer that is offered but not configured here, such as a
/// token service, is passed over and named in the error.
pub fn choose(challenge: &Challenge, configured: &Configured) -> Result<Choice, Error> {
    if challenge.client_id.is_empty() {
        return Err(Error::NoClientId);
    }
    if challenge.issuers.contains(&configured.own) {
        return Ok(Choice::SelfIssued { audience: audience(challenge, configured) });
    }
    Err(Error::NotTrusted { offered: offered(challenge), configured: configured.own.to_string() })
}

fn audience(challenge: &Challenge, configured: &Configured) -> Audience {
    let realm = challenge.realm.clone().filter(|realm| !realm.is_empty());
    Audience {
        id: challenge.client_id.clone(),
        authority: configured.relay_authority.clone(),
        realm: realm.unwrap_or_else(|| Realm::new(&configured.organization)),
    }
}

fn offered(challenge: &Challenge) -> String {
    let issuers: Vec<String> = challenge.issuers.iter().map(ToString::to_string).collect();
    let issuers = if issuers.is_empty() { String::from("no issuer") } else { issuers.join(", ") };
    match &challenge.realm {
        Some(realm) if !realm.is_empty() => format!("{issuers} (realm {realm})"),
        _ => issuers,
    }
}
