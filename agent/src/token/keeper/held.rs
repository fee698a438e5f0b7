//! What a keeper has in hand: a token, what the relay's challenge led to, a token in the making.

use super::{CHALLENGE_LIFE, CLOCK_TOLERANCE, TokenChoice, UNUSED_END};
use crate::time::{Moment, UnixMs};
use secrecy::SecretString;
use std::sync::Arc;

/// A token in the making.
pub(super) struct Work {
    pub(super) choice: TokenChoice,
    pub(super) since: UnixMs,
    /// The certificate changed meanwhile: what comes back is signed with the former one.
    pub(super) is_outdated: bool,
}

/// What the relay's last challenge led to.
pub(super) struct Access {
    /// `None`: the relay asks for no token.
    pub(super) choice: Option<TokenChoice>,
    pub(super) learned_at: Moment,
}

impl Access {
    pub(super) fn ends(&self) -> Moment {
        self.learned_at.after(CHALLENGE_LIFE)
    }
}

/// A token.
pub(super) struct Token {
    pub(super) serial: u64,
    pub(super) secret: Arc<SecretString>,
    pub(super) choice: TokenChoice,
    pub(super) signed_at: UnixMs,
    pub(super) expires: UnixMs,
    /// Signed, or asked for, with a former certificate or name.
    pub(super) is_outdated: bool,
}

impl Token {
    fn life_ms(&self) -> u64 {
        self.expires.0.saturating_sub(self.signed_at.0)
    }

    pub(super) fn is_usable(&self, now: UnixMs) -> bool {
        // Short lives, as tests have them, still leave time between renewal and end.
        let unused_end_ms = u64::try_from(UNUSED_END.as_millis()).unwrap_or(u64::MAX).min(self.life_ms() / 4);
        now.0.saturating_add(unused_end_ms) < self.expires.0
    }

    /// When a third of its life is left.
    pub(super) fn renewal_at(&self) -> UnixMs {
        UnixMs(self.expires.0.saturating_sub(self.life_ms() / 3))
    }

    pub(super) fn is_renewal_due(&self, now: UnixMs) -> bool {
        // A clock that was set back leaves a token that begins in the future.
        let is_ahead = now.after(CLOCK_TOLERANCE) < self.signed_at;
        self.is_outdated || is_ahead || now >= self.renewal_at()
    }
}
