//! Whether a certificate will do for signing, whether `setup` reuses it, and when its end must be spoken of
//! (protocol.md §5.7).

use super::certificate::Certificate;
use super::key::PrivateKey;
use crate::time::UnixMs;
use std::time::Duration;
use thiserror::Error;
use time::OffsetDateTime;
use time::macros::format_description;

/// The shortest RSA key that may sign.
pub const BITS_MIN: usize = 2048;
/// `setup` reuses certificates whose friendly name holds this, in any case.
pub const FRIENDLY_NAME_MARK: &str = "OAuth";

/// Why a certificate must not sign.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    /// Its key is no RSA key.
    #[error("certificate {0} has no RSA key; `mailbadge setup` makes one that fits")]
    NotRsa(String),
    /// Its key is too short.
    #[error("certificate {0} has a key of {1} bits; 2048 are the least, `mailbadge setup` makes such a one")]
    TooShort(String, usize),
    /// The private key is another one's.
    #[error("the private key does not belong to certificate {0}; `mailbadge setup` makes both anew")]
    WrongKey(String),
    /// Not valid yet.
    #[error("certificate {0} is not valid before {1}; check this machine's clock")]
    TooEarly(String, String),
    /// Not valid any more.
    #[error("certificate {0} has expired on {1}; `mailbadge setup` makes another")]
    Expired(String, String),
}

/// Whether `certificate` with `key` may sign at `now`.
pub fn check(certificate: &Certificate, key: &PrivateKey, now: UnixMs) -> Result<(), Unfit> {
    let name = certificate.thumbprint().to_string();
    match certificate.rsa_bits() {
        None => return Err(Unfit::NotRsa(name)),
        Some(bits) if bits < BITS_MIN => return Err(Unfit::TooShort(name, bits)),
        Some(_) => {}
    }
    if !certificate.belongs_to(key) {
        return Err(Unfit::WrongKey(name));
    }
    if now < certificate.not_before() {
        return Err(Unfit::TooEarly(name, day(certificate.not_before())));
    }
    if now > certificate.not_after() {
        return Err(Unfit::Expired(name, day(certificate.not_after())));
    }
    Ok(())
}

/// Whether `setup` takes this certificate instead of making one: its friendly name says so, and it may sign.
pub fn is_reusable(certificate: &Certificate, key: &PrivateKey, now: UnixMs) -> bool {
    let name = certificate.friendly_name().to_ascii_lowercase();
    name.contains(&FRIENDLY_NAME_MARK.to_ascii_lowercase()) && check(certificate, key, now).is_ok()
}

/// How near a certificate's end is, in steps of which each is worth a warning of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// More than 60 days.
    None,
    /// 60 days or less.
    Within60Days,
    /// 30 days or less.
    Within30Days,
    /// 7 days or less.
    Within7Days,
    /// Over.
    Expired,
}

/// How near the end of `certificate` is.
pub fn urgency(certificate: &Certificate, now: UnixMs) -> Urgency {
    match days_left(certificate, now) {
        _ if now > certificate.not_after() => Urgency::Expired,
        0..7 => Urgency::Within7Days,
        7..30 => Urgency::Within30Days,
        30..60 => Urgency::Within60Days,
        _ => Urgency::None,
    }
}

/// Whole days until the end of `certificate`; zero on its last day and after it.
pub fn days_left(certificate: &Certificate, now: UnixMs) -> u64 {
    let left = Duration::from_millis(certificate.not_after().0.saturating_sub(now.0));
    left.as_secs() / (24 * 60 * 60)
}

fn day(time: UnixMs) -> String {
    let seconds = i64::try_from(time.seconds()).unwrap_or(i64::MAX);
    let date = OffsetDateTime::from_unix_timestamp(seconds).ok();
    let format = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    date.and_then(|date| date.format(format).ok())
        .unwrap_or_else(|| String::from("a date beyond the calendar"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::issue::{FRIENDLY_NAME, VALIDITY, self_signed};

    const NOW: UnixMs = UnixMs(1_767_268_500_000);
    const DAY: Duration = Duration::from_hours(24);

    fn fixture(certificate: &str, key: &str) -> (Certificate, Result<PrivateKey, crate::identity::Error>) {
        (Certificate::from_pem(certificate, FRIENDLY_NAME).unwrap(), PrivateKey::from_pem(key))
    }

    #[test]
    fn a_fresh_certificate_fits_its_own_key_only() {
        let (certificate, key) = self_signed("fabrikam.com", NOW).unwrap();
        assert_eq!(check(&certificate, &key, NOW), Ok(()));
        let other = PrivateKey::generate().unwrap();
        assert!(matches!(check(&certificate, &other, NOW), Err(Unfit::WrongKey(_))));
    }

    #[test]
    fn a_certificate_signs_only_between_its_dates() {
        let (certificate, key) = self_signed("fabrikam.com", NOW).unwrap();
        let early = check(&certificate, &key, UnixMs(NOW.0 - 301_000)).unwrap_err();
        assert!(
            early
                .to_string()
                .ends_with("is not valid before 2026-01-01 11:50 UTC; check this machine's clock"),
            "{early}"
        );
        assert_eq!(check(&certificate, &key, NOW.after(VALIDITY)), Ok(()));
        let late = check(&certificate, &key, NOW.after(VALIDITY + DAY)).unwrap_err();
        assert!(late.to_string().contains("has expired on 2030-12-31"), "{late}");
    }

    #[test]
    fn an_expired_and_a_short_certificate_are_refused() {
        let expired = include_str!("../../../fixtures/certificates/expired.cert.pem");
        let (certificate, key) =
            fixture(expired, include_str!("../../../fixtures/certificates/expired.key.pem"));
        let late = certificate.not_after().after(DAY);
        assert!(matches!(check(&certificate, &key.unwrap(), late), Err(Unfit::Expired(..))));
        let small = include_str!("../../../fixtures/certificates/small1024.cert.pem");
        let (certificate, _) = fixture(small, "");
        let key = PrivateKey::generate().unwrap();
        assert!(matches!(check(&certificate, &key, NOW), Err(Unfit::TooShort(_, 1024))));
    }

    #[test]
    fn an_elliptic_certificate_is_refused() {
        let elliptic = rcgen::generate_simple_self_signed([String::from("x.example")]).unwrap();
        let certificate = Certificate::from_der(elliptic.cert.der(), "").unwrap();
        let key = PrivateKey::generate().unwrap();
        assert!(matches!(check(&certificate, &key, NOW), Err(Unfit::NotRsa(_))));
    }

    #[test]
    fn setup_reuses_what_is_called_oauth_and_fits() {
        let (certificate, key) = self_signed("fabrikam.com", NOW).unwrap();
        let named = |name| Certificate::from_der(certificate.der(), name).unwrap();
        for (name, is_reused) in
            [("Exchange S2S OAuth", true), ("my oauth one", true), ("TLS", false), ("", false)]
        {
            assert_eq!(is_reusable(&named(name), &key, NOW), is_reused, "{name:?}");
        }
        assert!(!is_reusable(&certificate, &key, NOW.after(VALIDITY + DAY)));
    }

    #[test]
    fn the_end_is_announced_in_steps() {
        let (certificate, _) = self_signed("fabrikam.com", NOW).unwrap();
        let end = certificate.not_after();
        let before = |days: u32| UnixMs(end.0 - u64::try_from((DAY * days).as_millis()).unwrap() + 1);
        for (now, days, expected) in [
            (before(61), 60, Urgency::None),
            (before(60), 59, Urgency::Within60Days),
            (before(31), 30, Urgency::Within60Days),
            (before(30), 29, Urgency::Within30Days),
            (before(7), 6, Urgency::Within7Days),
            (end, 0, Urgency::Within7Days),
            (UnixMs(end.0 + 1), 0, Urgency::Expired),
        ] {
            assert_eq!((days_left(&certificate, now), urgency(&certificate, now)), (days, expected));
        }
    }
}
