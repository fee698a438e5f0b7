//! Server-to-server tokens: challenge, choice, claims, signer, exchange, keeper (protocol.md §5).
//!
//! One token's way: the relay's [`challenge`] names whom it trusts; [`choice`] says which token that calls
//! for; its [`claims`] are signed by the [`signer`] with the host's certificate; where a token service is to issue it,
//! what was signed is an assertion and an [`exchange`] follows; the [`keeper`] says when all of that happens, [`refresh`]
//! when token services are asked who they are. Certificates and documents themselves are `identity`'s; requests to the
//! relay are `forwarder`'s.

pub mod keeper;
pub mod mint;
pub mod refresh;
pub mod choice;
pub mod challenge;
pub mod claims;
pub mod signer;
pub mod exchange;
pub mod driver;

use crate::https::Failure;
use exchange::Refusal;
use thiserror::Error;

/// Why there is no token. Each text says what to do about it and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The question for the challenge got no answer.
    #[error("no challenge from the relay: {0}")]
    Unreachable(String),
    /// The relay answered neither 2xx nor 401 to the empty bearer token.
    #[error("no challenge from the relay: it answered {0} instead of 401")]
    Unexpected(u16),
    /// A 401 without a Bearer challenge.
    #[error("the relay's 401 offers no Bearer challenge; is the relay's address right?")]
    NoChallenge,
    /// protocol.md §5.3 row 1.
    #[error("the relay's challenge names no client_id; the relay is misconfigured")]
    NoClientId,
    /// A name of the challenge would be read as another audience than the relay's: `id/authority@realm` has its separators.
    #[error(
        "the relay's challenge is malformed: its {name} {value:?} holds {character:?}; is the relay's address right?"
    )]
    Malformed {
        /// Of which parameter.
        name: &'static str,
        /// What stands there, cut where it is long.
        value: String,
        /// What must not be in it.
        character: char,
    },
    /// protocol.md §5.3 row 5.
    #[error(
        "the relay trusts {offered}, and configured is {configured}; have the relay trust the configured principal, \
         or correct auth.application-id and auth.realm, or see `mailbadge auth server list`"
    )]
    NotTrusted {
        /// Issuers and realm of the challenge.
        offered: String,
        /// What the agent could present.
        configured: String,
    },
    /// protocol.md §5.3 row 3: a token service that issues for every realm must be told for which.
    #[error(
        "token service {service} names no realm to ask in; give its metadata URL with `?realm=<domain>`: \
         `mailbadge auth server set {service} --auth-metadata-url …`"
    )]
    NoTenant {
        /// Its name.
        service: String,
    },
    /// The token service gave no answer.
    #[error("token service {service} ({authority}): {failure}")]
    ServiceUnreachable {
        /// Its name.
        service: String,
        /// Its host, with `:port` where that is not the default.
        authority: String,
        /// What went wrong.
        failure: Failure,
    },
    /// The token service gave no token.
    #[error("token service {service} {refusal}")]
    ServiceRefused {
        /// Its name.
        service: String,
        /// What it said.
        refusal: Refusal,
    },
    /// The certificate could not sign.
    #[error("no token could be signed: {0}")]
    Signing(String),
}

impl Error {
    /// Whether it says the same, dates and numbers in a token service's words aside.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::ServiceRefused { service, refusal },
                Self::ServiceRefused { service: other_service, refusal: other },
            ) => (service, refusal.cause, refusal.status) == (other_service, other.cause, other.status),
            _ => self == other,
        }
    }

    /// Whether more might be known if token services' documents were read that never were.
    pub fn may_be_cured_by_documents(&self) -> bool {
        matches!(self, Self::NotTrusted { .. } | Self::NoTenant { .. })
    }
}
