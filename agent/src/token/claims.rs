//! What a token of ours states (protocol.md §5.2), member by member in the order in which it is written.
//!
//! Signing is the `signer`'s; for whom a token is made is `choice`'s.

use crate::identity::principal::{Audience, Principal};
use crate::time::UnixMs;
use serde::Serialize;
use std::time::Duration;

/// Life of an assertion: it is used once, at once.
pub const ASSERTION_LIFE: Duration = Duration::from_mins(10);

/// `nbf` lies so long before the signing, the most that protocol.md §5.2 allows: a verifier without tolerance, whose clock
/// is behind ours by less, takes the token at once. What differs by more than twice as much is reported as a wrong clock.
pub const BACK_DATED: Duration = Duration::from_mins(1);

/// The claims of a self-issued token or of an assertion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// Who issued it: our own `id@realm`; in an assertion the realm is the tenant.
    pub iss: String,
    /// For whom: `id/authority@realm`.
    pub aud: String,
    /// From when on it is valid, seconds since the UNIX epoch.
    pub nbf: u64,
    /// Until when it is valid, seconds since the UNIX epoch.
    pub exp: u64,
    /// Who acts: the same as `iss`. Not in an assertion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nameid: Option<String>,
    /// The text `true` or `false`. Not in an assertion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trustedfordelegation: Option<&'static str>,
}

impl Claims {
    /// The token of `own` for `audience`, signed at `now`. It lives for `lifetime` from `nbf` on: what a verifier computes
    /// from both claims is what was configured.
    pub fn self_issued(
        own: &Principal,
        audience: &Audience,
        may_delegate: bool,
        lifetime: Duration,
        now: UnixMs,
    ) -> Self {
        let assertion = Self::assertion(own, audience, now);
        Self {
            exp: assertion.begins().after(lifetime).seconds(),
            nameid: Some(own.to_string()),
            trustedfordelegation: Some(if may_delegate { "true" } else { "false" }),
            ..assertion
        }
    }

    /// What proves to a token service, `audience`, that `own` asks; signed at `now`, it lives for [`ASSERTION_LIFE`] from
    /// `nbf` on.
    pub fn assertion(own: &Principal, audience: &Audience, now: UnixMs) -> Self {
        let begin = UnixMs::from_seconds(now.seconds().saturating_sub(BACK_DATED.as_secs()));
        Self {
            iss: own.to_string(),
            aud: audience.to_string(),
            nbf: begin.seconds(),
            exp: begin.after(ASSERTION_LIFE).seconds(),
            nameid: None,
            trustedfordelegation: None,
        }
    }

    /// The second in which it was signed.
    pub fn signed_at(&self) -> UnixMs {
        self.begins().after(BACK_DATED)
    }

    fn begins(&self) -> UnixMs {
        UnixMs::from_seconds(self.nbf)
    }

    /// The end of its life.
    pub fn expires(&self) -> UnixMs {
        UnixMs::from_seconds(self.exp)
    }
}
