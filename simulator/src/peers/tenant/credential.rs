//! A key credential: the certificate that an issuer signs with, reduced to what checking needs (protocol.md §5.7).

use crate::peers::unix_time::UnixMicros;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use std::fmt::Write as _;
use thiserror::Error;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

/// The smallest RSA key taken, in bits.
pub const KEY_BITS_MIN: usize = 2048;
/// A certificate longer than this, in bytes, is not read.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// Why a certificate was not taken.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CredentialError {
    /// Neither DER, base64 of DER nor PEM.
    #[error("not a certificate: give DER, its base64, or PEM")]
    Unreadable,
    /// Longer than [`CERTIFICATE_BYTES_MAX`].
    #[error("a certificate of over {CERTIFICATE_BYTES_MAX} bytes")]
    TooLong,
    /// Not an RSA key.
    #[error("the certificate's key is not RSA; tokens are signed with RS256")]
    NotRsa,
    /// Too weak.
    #[error("the certificate's RSA key has {0} bits, {KEY_BITS_MIN} at least are needed")]
    TooSmall(usize),
    /// Dates that the certificate does not cover.
    #[error("start and end must lie in this order within the certificate's own validity")]
    Dates,
}

/// An asymmetric `Verify` credential: the public half of a signing certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyCredential {
    sha1: [u8; 20],
    x5t: String,
    public_key: Vec<u8>,
    bits: usize,
    not_before: UnixMicros,
    not_after: UnixMicros,
}

impl KeyCredential {
    /// From a certificate in DER.
    pub fn from_der(der: &[u8]) -> Result<Self, CredentialError> {
        if der.len() > CERTIFICATE_BYTES_MAX {
            return Err(CredentialError::TooLong);
        }
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| CredentialError::Unreadable)?;
        if !rest.is_empty() {
            return Err(CredentialError::Unreadable);
        }
        let key = certificate.public_key();
        let PublicKey::RSA(rsa) = key.parsed().map_err(|_| CredentialError::NotRsa)? else {
            return Err(CredentialError::NotRsa);
        };
        let bits = rsa.key_size();
        if bits < KEY_BITS_MIN {
            return Err(CredentialError::TooSmall(bits));
        }
        let mut sha1 = [0; 20];
        sha1.copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, der).as_ref());
        let instant = |seconds: i64| UnixMicros::from_seconds(u64::try_from(seconds).unwrap_or(0));
        Ok(Self {
            sha1,
            x5t: URL_SAFE_NO_PAD.encode(sha1),
            public_key: key.subject_public_key.data.to_vec(),
            bits,
            not_before: instant(certificate.validity().not_before.timestamp()),
            not_after: instant(certificate.validity().not_after.timestamp()),
        })
    }

    /// From what people have at hand: DER, its base64 (as a key credential is uploaded), or PEM.
    pub fn read(bytes: &[u8]) -> Result<Self, CredentialError> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Self::from_der(bytes);
        };
        if text.len() > 2 * CERTIFICATE_BYTES_MAX {
            return Err(CredentialError::TooLong);
        }
        let body = match text.split_once("-----BEGIN CERTIFICATE-----") {
            Some((_, rest)) => rest.split_once("-----END").ok_or(CredentialError::Unreadable)?.0,
            None => text,
        };
        let base64: String = body.split_ascii_whitespace().collect();
        Self::from_der(&STANDARD.decode(base64).map_err(|_| CredentialError::Unreadable)?)
    }

    /// The same, valid from `start` to `end` only; without one of them from or until when the certificate is.
    pub fn between(
        mut self,
        start: Option<UnixMicros>,
        end: Option<UnixMicros>,
    ) -> Result<Self, CredentialError> {
        let (start, end) = (start.unwrap_or(self.not_before), end.unwrap_or(self.not_after));
        if start < self.not_before || end > self.not_after || start >= end {
            return Err(CredentialError::Dates);
        }
        (self.not_before, self.not_after) = (start, end);
        Ok(self)
    }

    /// Base64url without padding of the SHA-1 of the DER, as a token's header names it.
    pub fn x5t(&self) -> &str {
        &self.x5t
    }

    /// The same 20 bytes in upper-case hex.
    pub fn thumbprint(&self) -> String {
        self.sha1.iter().fold(String::with_capacity(40), |mut text, byte| {
            write!(text, "{byte:02X}").expect("a String takes every write");
            text
        })
    }

    /// Length of the RSA modulus.
    pub const fn bits(&self) -> usize {
        self.bits
    }

    /// First and last instant at which it counts.
    pub const fn validity(&self) -> (UnixMicros, UnixMicros) {
        (self.not_before, self.not_after)
    }

    /// Whether `signature` over `message` is RS256 by this certificate's key (RFC 7518 §3.3).
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key)
            .verify(message, signature)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn thumbprints_and_sizes_are_those_of_the_vectors() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/certificates");
        let text = std::fs::read_to_string(format!("{folder}/certificates.json")).expect("the fixture");
        let vectors: Value = serde_json::from_str(&text).expect("JSON");
        for (name, expected) in vectors.as_object().expect("an object") {
            let der = std::fs::read(format!("{folder}/{name}.cer")).expect("DER");
            let pem = std::fs::read(format!("{folder}/{name}.cert.pem")).expect("PEM");
            let read = KeyCredential::read(&der);
            assert_eq!(read, KeyCredential::read(&pem), "{name}");
            assert_eq!(read, KeyCredential::read(STANDARD.encode(&der).as_bytes()), "{name}");
            match read {
                Ok(credential) => {
                    assert_eq!(credential.thumbprint(), expected["thumbprint"].as_str().expect("text"));
                    assert_eq!(credential.x5t(), expected["x5t"].as_str().expect("text"));
                    assert_eq!(Some(credential.bits() as u64), expected["bits"].as_u64());
                }
                Err(error) => {
                    assert_eq!((name.as_str(), error), ("small1024", CredentialError::TooSmall(1024)));
                }
            }
        }
    }

    #[test]
    fn dates_may_narrow_what_the_certificate_says_and_never_widen_it() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/certificates/agent.cer");
        let whole = KeyCredential::read(&std::fs::read(path).expect("DER")).expect("a certificate");
        let (start, end) = whole.validity();
        let second = 1000;
        let cases = [
            (None, None, Some((start, end))),
            (Some(start), Some(end), Some((start, end))),
            (Some(start.shifted_ms(second)), None, Some((start.shifted_ms(second), end))),
            (Some(start.shifted_ms(-second)), None, None),
            (None, Some(end.shifted_ms(second)), None),
            (Some(end), Some(start), None),
        ];
        for (from, until, expected) in cases {
            let got = whole.clone().between(from, until);
            assert_eq!(got.map(|c| c.validity()).ok(), expected, "{from:?} {until:?}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for bytes in [&b""[..], b"hello", b"-----BEGIN CERTIFICATE-----", b"\x30\x82\xff\xff"] {
            assert_eq!(KeyCredential::read(bytes), Err(CredentialError::Unreadable), "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = KeyCredential::read(&bytes);
        }
    }
}
