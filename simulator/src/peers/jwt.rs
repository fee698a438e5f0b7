//! What relay and token service demand alike of any signed token: its form, its signature, its lifetime.
//!
//! Signatures are verified straight from the certificate's key with one fixed algorithm: no library gets to choose it
//! by the token's header. What claims must say besides is each peer's own.

use super::tenant::credential::KeyCredential;
use super::unix_time::UnixMicros;
use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use std::time::Duration;
use thiserror::Error;

/// A longer token is not looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// How far clocks may differ where a peer is tolerant, as protocol.md §5.6 has it.
pub const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// Base64url by its letters alone: a cut signature is a bad signature, not another kind of text.
const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

/// Header and claims, decoded; the signature stays behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// The JOSE header.
    pub header: Map<String, Value>,
    /// The claims.
    pub claims: Map<String, Value>,
}

/// Whether the header demands that something be understood: `crit`, whatever it holds. No extension is known here, so
/// that such a token is refused; an empty list, or what is no list, is not allowed at all (RFC 7515 §4.1.11).
pub fn demands_extensions(header: &Map<String, Value>) -> bool {
    header.contains_key("crit")
}

/// Three base64url parts, of which two are JSON objects. `None` where it is something else or too long.
pub fn decode(token: &str) -> Option<Decoded> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let mut parts = token.split('.');
    let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    LENIENT.decode(signature).ok()?;
    let object = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    Some(Decoded { header: object(header)?, claims: object(claims)? })
}

/// Why a signature was not taken. The texts hold nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SignatureFault {
    /// `alg` is another one.
    #[error("the algorithm is not RS256")]
    Algorithm,
    /// Its last characters cannot be.
    #[error("the signature is cut")]
    Cut,
    /// By none of the certificates.
    #[error("no certificate of the issuer made this signature")]
    Unknown,
    /// By one that is not valid now.
    #[error("the certificate that signed has expired or is not valid yet")]
    Expired,
}

/// The certificate that signed a token: the one that its `x5t` names, else any that fits (protocol.md §5.6).
pub fn signer<'a>(
    token: &str,
    header: &Map<String, Value>,
    mut credentials: impl Iterator<Item = &'a KeyCredential> + Clone,
    now: UnixMicros,
) -> Result<&'a KeyCredential, SignatureFault> {
    if text(header, "alg") != Some("RS256") {
        return Err(SignatureFault::Algorithm);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(SignatureFault::Cut)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| SignatureFault::Cut)?;
    let has_signed = |credential: &&KeyCredential| credential.has_signed(message.as_bytes(), &signature);
    let named = text(header, "x5t").and_then(|x5t| credentials.clone().find(|c| c.x5t() == x5t));
    let signer = match named {
        Some(named) => Some(named).filter(has_signed),
        None => credentials.find(has_signed),
    };
    let signer = signer.ok_or(SignatureFault::Unknown)?;
    if is_valid(signer.validity(), now) { Ok(signer) } else { Err(SignatureFault::Expired) }
}

/// Why a token is not for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LifetimeFault {
    /// A bound is not there.
    #[error("nbf or exp is missing or is not a number")]
    Missing,
    /// The bounds are exchanged.
    #[error("the token ends before it begins")]
    Reversed,
    /// Too early or too late.
    #[error("the token has expired or is not valid yet; compare the clocks")]
    NotNow,
}

/// `nbf` and `exp` in seconds since the epoch, where `now` lies between them with `tolerance` to spare.
pub fn lifetime(
    claims: &Map<String, Value>,
    now: UnixMicros,
    tolerance: Duration,
) -> Result<(u64, u64), LifetimeFault> {
    let (Some(not_before), Some(expires)) = (seconds(claims, "nbf"), seconds(claims, "exp")) else {
        return Err(LifetimeFault::Missing);
    };
    if not_before > expires {
        return Err(LifetimeFault::Reversed);
    }
    if is_live(not_before, expires, now, tolerance) {
        Ok((not_before, expires))
    } else {
        Err(LifetimeFault::NotNow)
    }
}

/// Whether `now` lies between these seconds, with `tolerance` to spare.
pub fn is_live(not_before_s: u64, expires_s: u64, now: UnixMicros, tolerance: Duration) -> bool {
    let (now, skew) = (now.seconds(), tolerance.as_secs());
    not_before_s <= now.saturating_add(skew) && expires_s.saturating_add(skew) >= now
}

/// Whether a certificate's validity holds `now`, with [`CLOCK_SKEW`] to spare.
pub fn is_valid((not_before, not_after): (UnixMicros, UnixMicros), now: UnixMicros) -> bool {
    not_before <= now.after(CLOCK_SKEW) && not_after.after(CLOCK_SKEW) >= now
}

/// A member that is text.
pub fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}

/// A number of seconds, quoted or not.
fn seconds(claims: &Map<String, Value>, name: &str) -> Option<u64> {
    match claims.get(name)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}
