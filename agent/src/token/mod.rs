//! Server-to-server tokens: challenge, choice, claims, signer, keeper (protocol.md §5).
//!
//! One token's way: the relay's [`challenge`] names whom it trusts; [`choice`] says which token that calls
//! for; its [`claims`] are signed by the [`signer`] with the host's certificate; the [`keeper`] says when all
//! of that happens. Certificates themselves are `identity`'s; requests to the relay are `forwarder`'s.

pub mod keeper;
pub mod choice;
pub mod challenge;
pub mod claims;
pub mod signer;
pub mod driver;

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
    /// protocol.md §5.3 row 5.
    #[error(
        "the relay trusts {offered}, and configured is {configured}; have the relay trust the configured principal, \
         or correct auth.application-id and auth.realm"
    )]
    NotTrusted {
        /// Issuers and realm of the challenge.
        offered: String,
        /// What the agent could present.
        configured: String,
    },
    /// The certificate could not sign.
    #[error("no token could be signed: {0}")]
    Signing(String),
}
