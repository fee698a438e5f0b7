//! The auth config's rules: which certificate signs now, which did before, which will from a date on (protocol.md §5.7).
//!
//! Pure: each rule makes the config that comes after, or says why not and what to do instead. Keeping it is the
//! `store`'s; the daemon publishes the next certificate when [`is_due`] says so.

use super::certificate::Certificate;
use super::fitness::{self, Unfit};
use super::key::PrivateKey;
use crate::time::UnixMs;
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// A next certificate must wait at least so long, since relays read our metadata document once a day.
pub const NOTICE_MIN: Duration = Duration::from_hours(48);
/// An effective date may lie so far in the past, for clocks that differ.
pub const PAST_MAX: Duration = Duration::from_mins(5);

/// Who this host is in tokens, and what it signs them with (protocol.md §5.7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthConfig {
    /// `ServiceName`, the own application id; `None`: the configuration's.
    pub service_name: Option<String>,
    /// `Realm`; `None`: the configuration's.
    pub realm: Option<String>,
    /// `CurrentCertificateThumbprint`: tokens are signed with this one; `None` before the first.
    pub current: Option<String>,
    /// `PreviousCertificateThumbprint`: others still take it for ours.
    pub previous: Option<String>,
    /// The certificate that becomes the current one by itself.
    pub next: Option<NextCertificate>,
}

/// A certificate that waits for its date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextCertificate {
    /// `NextCertificateThumbprint`.
    pub thumbprint: String,
    /// `NextCertificateEffectiveDate`.
    pub effective_at: UnixMs,
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::issue::{VALIDITY, self_signed};
    use std::sync::LazyLock;

    const NOW: UnixMs = UnixMs(1_767_268_500_000);
    const HOUR: Duration = Duration::from_hours(1);

    type Pair = (Certificate, PrivateKey);

    /// Two that begin now and one that begins in 30 days; made once, since keys take their time.
    static PAIRS: LazyLock<[Pair; 3]> = LazyLock::new(|| {
        [NOW, NOW, NOW.after(HOUR * 24 * 30)].map(|begin| self_signed("fabrikam.com", begin).unwrap())
    });

    fn named(index: usize) -> String {
        PAIRS[index].0.thumbprint().to_string()
    }

    fn pair(index: usize) -> (&'static Certificate, &'static PrivateKey) {
        (&PAIRS[index].0, &PAIRS[index].1)
    }

    /// Current, previous and next, by their place in [`PAIRS`]; the next one's date in hours from now.
    fn config(current: Option<usize>, previous: Option<usize>, next: Option<(usize, u32)>) -> AuthConfig {
        AuthConfig {
            current: current.map(named),
            previous: previous.map(named),
            next: next.map(|(index, hours)| NextCertificate {
                thumbprint: named(index),
                effective_at: NOW.after(HOUR * hours),
            }),
            ..AuthConfig::default()
        }
    }

    #[test]
    fn making_a_certificate_current_moves_the_one_before() {
        // Before, which one becomes current, after.
        let rows = [
            (config(None, None, None), 0, config(Some(0), None, None)),
            (config(Some(0), None, None), 1, config(Some(1), Some(0), None)),
            (config(Some(0), Some(1), None), 1, config(Some(1), Some(0), None)),
            (config(Some(0), Some(1), None), 0, config(Some(0), Some(1), None)),
            (config(Some(0), None, Some((1, 50))), 1, config(Some(1), Some(0), None)),
            (config(Some(0), None, Some((2, 999))), 1, config(Some(1), Some(0), Some((2, 999)))),
        ];
        for (before, index, after) in rows {
            assert_eq!(make_current(&before, pair(index), NOW), Ok(after), "{before:?} {index}");
        }
    }

    #[test]
    fn a_certificate_that_must_not_sign_becomes_neither_current_nor_next() {
        let before = config(Some(0), None, None);
        let early = make_current(&before, pair(2), NOW).unwrap_err();
        assert!(matches!(early, Refusal::Unfit(Unfit::TooEarly(..))), "{early}");
        let late = make_current(&before, pair(1), NOW.after(VALIDITY + HOUR)).unwrap_err();
        assert!(matches!(late, Refusal::Unfit(Unfit::Expired(..))), "{late}");
        let strange = plan(&before, (pair(1).0, pair(0).1), NOW.after(HOUR * 50), false, NOW).unwrap_err();
        assert!(matches!(strange, Refusal::Unfit(Unfit::WrongKey(_))), "{strange}");
    }

    #[test]
    fn a_next_certificate_needs_48_hours_and_a_date_on_which_it_is_valid() {
        let minutes = |minutes: u64| UnixMs(NOW.0 + minutes * 60_000);
        let ago = |minutes: u64| UnixMs(NOW.0 - minutes * 60_000);
        // Which one, its date, whether forced, how the refusal begins; none: planned.
        let rows = [
            (1, minutes(48 * 60), false, None),
            (
                1,
                UnixMs(minutes(48 * 60).0 - 1),
                false,
                Some("--effective 2026-01-03T11:54:59Z is less than 48"),
            ),
            (1, minutes(1), true, None),
            (1, ago(5), true, None),
            (1, UnixMs(ago(5).0 - 1), true, Some("--effective 2026-01-01T11:49:59Z is over")),
            (1, ago(6), false, Some("--effective 2026-01-01T11:49:00Z is over")),
            (2, minutes(30 * 24 * 60), false, None),
            (2, minutes(29 * 24 * 60), false, Some("certificate ")),
            (1, NOW.after(VALIDITY + HOUR), false, Some("certificate ")),
            (0, minutes(50 * 60), false, Some("certificate ")),
        ];
        let before = config(Some(0), None, None);
        for (index, at, is_forced, refusal) in rows {
            let planned = plan(&before, pair(index), at, is_forced, NOW);
            let next = NextCertificate { thumbprint: named(index), effective_at: at };
            match refusal {
                None => assert_eq!(planned, Ok(AuthConfig { next: Some(next), ..before.clone() }), "{at}"),
                Some(begin) => {
                    let text = planned.unwrap_err().to_string();
                    let has_remedy = ["choose", "give another"].iter().any(|remedy| text.contains(remedy));
                    assert!(text.starts_with(begin) && has_remedy, "{at}: {text}");
                }
            }
        }
    }

    #[test]
    fn publishing_moves_each_certificate_one_place_on() {
        let before = config(Some(0), None, Some((1, 50)));
        assert_eq!(publish(&before, pair(1), NOW), Ok(config(Some(1), Some(0), None)));
        assert_eq!(
            publish(&config(None, None, Some((1, 50))), pair(1), NOW),
            Ok(config(Some(1), None, None))
        );
        assert_eq!(publish(&before, pair(0), NOW), Err(Refusal::NoNext), "another than the next one");
        assert_eq!(next_of(&config(Some(0), None, None)), Err(Refusal::NoNext));
        let early = publish(&config(Some(0), None, Some((2, 50))), pair(2), NOW).unwrap_err();
        assert!(matches!(early, Refusal::Unfit(Unfit::TooEarly(..))), "{early}");
    }

    #[test]
    fn the_next_one_is_due_on_its_date_and_also_long_after_it() {
        let waiting = config(Some(0), None, Some((1, 50)));
        let date = NOW.after(HOUR * 50);
        for (now, expected) in [(UnixMs(date.0 - 1), false), (date, true), (date.after(HOUR * 999), true)] {
            assert_eq!(is_due(&waiting, now), expected, "{now}");
        }
        assert!(!is_due(&clear_next(&waiting), date));
    }

    #[test]
    fn clearing_the_previous_one_leaves_the_others() {
        let before = config(Some(0), Some(1), Some((2, 999)));
        assert_eq!(clear_previous(&before), config(Some(0), None, Some((2, 999))));
    }

    #[test]
    fn a_role_is_found_by_thumbprint() {
        let all = config(Some(0), Some(1), Some((2, 999)));
        let roles = [0, 1, 2].map(|index| Role::of(&named(index), &all).map(Role::name));
        assert_eq!(roles, [Some("current"), Some("previous"), Some("next")]);
        assert_eq!(Role::of("AA", &all), None);
    }
}
