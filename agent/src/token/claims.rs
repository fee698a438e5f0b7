//! What a self-issued token states (protocol.md §5.2), member by member in the order in which it is written.
//!
//! Signing is the `signer`'s; for whom a token is made is `choice`'s.

use crate::identity::principal::{Audience, Principal};
use crate::time::UnixMs;
use serde::Serialize;
use std::time::Duration;

/// The claims of a self-issued token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// Who issued it: our own `id@realm`.
    pub iss: String,
    /// For whom: `id/authority@realm`.
    pub aud: String,
    /// From when on it is valid, seconds since the UNIX epoch.
    pub nbf: u64,
    /// Until when it is valid, seconds since the UNIX epoch.
    pub exp: u64,
    /// Who acts: the same as `iss`.
    pub nameid: String,
    /// The text `true` or `false`.
    pub trustedfordelegation: &'static str,
}

impl Claims {
    /// The token of `own` for `audience`, valid from `now` for `lifetime`.
    pub fn self_issued(
        own: &Principal,
        audience: &Audience,
        may_delegate: bool,
        lifetime: Duration,
        now: UnixMs,
    ) -> Self {
        let name = own.to_string();
        Self {
            iss: name.clone(),
            aud: audience.to_string(),
            nbf: now.seconds(),
            exp: now.after(lifetime).seconds(),
            nameid: name,
            trustedfordelegation: if may_delegate { "true" } else { "false" },
        }
    }

    /// The end of its life.
    pub fn expires(&self) -> UnixMs {
        UnixMs::from_seconds(self.exp)
    }
}
