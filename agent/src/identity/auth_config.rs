//! The auth config's rules: which certificate signs now, which did before, which will from a date on (protocol.md §5.7).
//!
//! Pure: each rule makes the config that comes after, or says why not and what to do instead. Keeping it is the
//! `store`'s; the daemon publishes the next certificate when [`is_due`] says so.

use super::certificate::Certificate;
use super::fitness::{self, Unfit};
use super::key::PrivateKey;
use crate::store::{AuthConfig, NextCertificate};
use crate::time::UnixMs;
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// A next certificate must wait at least so long, since relays read our metadata document once a day.
pub const NOTICE_MIN: Duration = Duration::from_hours(48);
/// An effective date may lie so far in the past, for clocks that differ.
pub const PAST_MAX: Duration = Duration::from_mins(5);

/// What a certificate is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Tokens are signed with it.
    Current,
    /// Tokens were signed with it; others still take it for ours.
    Previous,
    /// Tokens will be signed with it from a date on.
    Next,
}

impl Role {
    /// All of them, in the order people are told of them.
    pub const ALL: [Self; 3] = [Self::Current, Self::Previous, Self::Next];

    /// As it stands in commands and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Previous => "previous",
            Self::Next => "next",
        }
    }

    /// The thumbprint of the certificate that has this role.
    pub fn holder(self, config: &AuthConfig) -> Option<&str> {
        match self {
            Self::Current => config.current.as_deref(),
            Self::Previous => config.previous.as_deref(),
            Self::Next => config.next.as_ref().map(|next| next.thumbprint.as_str()),
        }
    }

    /// What the certificate of this thumbprint is used for, if anything.
    pub fn of(thumbprint: &str, config: &AuthConfig) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.holder(config) == Some(thumbprint))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a change of the auth config is not made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The certificate must not sign.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The next certificate signs already.
    #[error(
        "certificate {0} is the current one already; give another, `mailbadge certificate new` makes one"
    )]
    IsCurrent(String),
    /// Others would not learn it in time.
    #[error(
        "--effective {at} is less than 48 hours ahead: relays might not know the certificate by then; choose {earliest} or later, or add --force"
    )]
    TooSoon {
        /// The date that was given.
        at: UnixMs,
        /// The first one that will do.
        earliest: UnixMs,
    },
    /// The date is over.
    #[error(
        "--effective {0} is over; choose a date ahead, or `mailbadge auth config set --certificate` to sign with it at once"
    )]
    Past(UnixMs),
    /// The certificate is not valid on its date.
    #[error(
        "certificate {thumbprint} is valid from {from} to {until}, not on --effective {at}; choose a date within, or another certificate"
    )]
    NotValidThen {
        /// The certificate.
        thumbprint: String,
        /// The date that was given.
        at: UnixMs,
        /// Its first instant.
        from: UnixMs,
        /// Its last one.
        until: UnixMs,
    },
    /// Nothing waits to be published.
    #[error(
        "there is no next certificate; name one with `mailbadge auth config set --next THUMBPRINT --effective DATE`"
    )]
    NoNext,
}

/// `set --certificate`: it signs from now on, and what signed until now becomes the previous one.
///
/// The current one stays as it is; the next one does not wait any more.
pub fn make_current(
    config: &AuthConfig,
    (certificate, key): (&Certificate, &PrivateKey),
    now: UnixMs,
) -> Result<AuthConfig, Refusal> {
    fitness::check(certificate, key, now)?;
    Ok(promoted(config, &certificate.thumbprint().to_string()))
}

/// `set --next --effective`: it signs from `at` on.
pub fn plan(
    config: &AuthConfig,
    (certificate, key): (&Certificate, &PrivateKey),
    at: UnixMs,
    is_forced: bool,
    now: UnixMs,
) -> Result<AuthConfig, Refusal> {
    let thumbprint = certificate.thumbprint().to_string();
    if config.current.as_ref() == Some(&thumbprint) {
        return Err(Refusal::IsCurrent(thumbprint));
    }
    if at.after(PAST_MAX) < now {
        return Err(Refusal::Past(at));
    }
    let earliest = now.after(NOTICE_MIN);
    if at < earliest && !is_forced {
        return Err(Refusal::TooSoon { at, earliest });
    }
    match fitness::check(certificate, key, at) {
        Ok(()) => {}
        Err(Unfit::TooEarly(..) | Unfit::Expired(..)) => {
            let (from, until) = (certificate.not_before(), certificate.not_after());
            return Err(Refusal::NotValidThen { thumbprint, at, from, until });
        }
        Err(unfit) => return Err(unfit.into()),
    }
    Ok(AuthConfig { next: Some(NextCertificate { thumbprint, effective_at: at }), ..config.clone() })
}

/// `publish`, and what the daemon does on the date: current → previous, next → current.
///
/// The certificate is the one that [`next_of`] names.
pub fn publish(
    config: &AuthConfig,
    (certificate, key): (&Certificate, &PrivateKey),
    now: UnixMs,
) -> Result<AuthConfig, Refusal> {
    if Role::Next.holder(config) != Some(&certificate.thumbprint().to_string()) {
        return Err(Refusal::NoNext);
    }
    make_current(config, (certificate, key), now)
}

/// The certificate that `publish` is about.
pub fn next_of(config: &AuthConfig) -> Result<&NextCertificate, Refusal> {
    config.next.as_ref().ok_or(Refusal::NoNext)
}

/// Whether the next certificate's date has come.
pub fn is_due(config: &AuthConfig, now: UnixMs) -> bool {
    config.next.as_ref().is_some_and(|next| next.effective_at <= now)
}

/// `clear-previous`: nobody needs to take it for ours any more.
pub fn clear_previous(config: &AuthConfig) -> AuthConfig {
    AuthConfig { previous: None, ..config.clone() }
}

/// `clear-next`: it will not sign by itself.
pub fn clear_next(config: &AuthConfig) -> AuthConfig {
    AuthConfig { next: None, ..config.clone() }
}

fn promoted(config: &AuthConfig, thumbprint: &str) -> AuthConfig {
    if config.current.as_deref() == Some(thumbprint) {
        return config.clone();
    }
    AuthConfig {
        current: Some(thumbprint.to_owned()),
        previous: config.current.clone(),
        next: config.next.clone().filter(|next| next.thumbprint != thumbprint),
        ..config.clone()
    }
}
