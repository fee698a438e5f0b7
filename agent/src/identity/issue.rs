//! Makes the self-signed certificate of the help page's recipe (protocol.md §5.7).

use super::Error;
use super::certificate::Certificate;
use super::key::PrivateKey;
use crate::time::UnixMs;
use aws_lc_rs::rand;
use rcgen::{CertificateParams, DistinguishedName, DnType, IsCa, KeyIdMethod, KeyUsagePurpose, SerialNumber};
use std::time::Duration;
use time::OffsetDateTime;

/// The friendly name by which Exchange's tools know such a certificate.
pub const FRIENDLY_NAME: &str = "Exchange S2S OAuth";
/// How long a new certificate is valid.
pub const VALIDITY: Duration = Duration::from_hours(24 * 365 * 5);
/// A new certificate is valid this much earlier already, for readers whose clocks are behind.
const CLOCK_TOLERANCE: Duration = Duration::from_mins(5);

/// A new RSA key of 2048 bits with a self-signed certificate for `CN=<domain>`, valid from `now` for
/// [`VALIDITY`].
///
/// The subject key identifier is a fresh GUID's 16 bytes, the serial number random as well.
pub fn self_signed(domain: &str, now: UnixMs) -> Result<(Certificate, PrivateKey), Error> {
    let error =
        |reason: &dyn ToString| Error::Issue { domain: domain.to_owned(), reason: reason.to_string() };
    if domain.trim().is_empty() {
        return Err(error(&"no domain given"));
    }
    let key = PrivateKey::generate()?;
    let params = params(domain, now).map_err(|reason| error(&reason))?;
    let certificate = params.self_signed(&SelfSigner(&key)).map_err(|reason| error(&reason))?;
    Ok((Certificate::from_der(certificate.der(), FRIENDLY_NAME)?, key))
}

fn params(domain: &str, now: UnixMs) -> Result<CertificateParams, String> {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, domain);
    let mut serial: [u8; 16] = random()?;
    // A serial number is positive and of full length (RFC 5280 §4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    let start = UnixMs(now.0.saturating_sub(u64::try_from(CLOCK_TOLERANCE.as_millis()).unwrap_or(0)));
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = date(start)?;
    params.not_after = date(now.after(VALIDITY))?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.key_identifier_method = KeyIdMethod::PreSpecified(guid()?.to_vec());
    Ok(params)
}

/// A random GUID (RFC 9562 §5.4), its bytes in the order of its digits.
fn guid() -> Result<[u8; 16], String> {
    Ok(uuid::Builder::from_random_bytes(random()?).into_uuid().into_bytes())
}

fn random() -> Result<[u8; 16], String> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| String::from("the operating system gives no randomness"))?;
    Ok(bytes)
}

fn date(time: UnixMs) -> Result<OffsetDateTime, String> {
    let seconds = i64::try_from(time.seconds()).map_err(|error| error.to_string())?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| error.to_string())
}

/// Our key as rcgen wants to see it, so that the private half never leaves AWS-LC.
struct SelfSigner<'a>(&'a PrivateKey);

impl rcgen::PublicKeyData for SelfSigner<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_der()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

impl rcgen::SigningKey for SelfSigner<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}
