//! A certificate and what it says: thumbprint, `x5t`, dates, subject. Pure; no trust is decided here.

use super::Error;
use super::key::{PrivateKey, pem_text};
use super::pem;
use crate::time::UnixMs;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use std::fmt;
use std::str::FromStr;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;

/// A certificate as it is kept; its private key stands in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCertificate {
    /// SHA-1 of `der`, upper-case hex.
    pub thumbprint: String,
    /// `FriendlyName`: X.509 has no place for it.
    pub friendly_name: String,
    /// The certificate.
    pub der: Vec<u8>,
}

/// SHA-1 of a certificate's DER: names it, proves nothing. Displayed as upper-case hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thumbprint([u8; 20]);

impl Thumbprint {
    /// The thumbprint of a certificate's DER.
    pub fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 20];
        bytes.copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, der).as_ref());
        Self(bytes)
    }

    /// The same bytes as a JWS header names them: base64url without padding (RFC 7515 §4.1.7).
    pub fn x5t(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Thumbprint {
    type Err = Error;

    /// 40 hex digits in any case; spaces and colons between them are passed over.
    fn from_str(text: &str) -> Result<Self, Error> {
        let error = || Error::Thumbprint(text.chars().take(80).collect());
        let digits = text.chars().filter(|char| !matches!(char, ' ' | ':'));
        let digits: Vec<u32> =
            digits.map(|char| char.to_digit(16)).collect::<Option<_>>().ok_or_else(error)?;
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8))
            .collect();
        if digits.len() % 2 == 1 {
            return Err(error());
        }
        bytes.try_into().map(Self).map_err(|_| error())
    }
}

/// An X.509 certificate with the friendly name that Windows keeps beside it.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    friendly_name: String,
    thumbprint: Thumbprint,
    subject: String,
    subject_key_id: Option<Vec<u8>>,
    not_before: UnixMs,
    not_after: UnixMs,
    /// RSAPublicKey DER and the modulus' bits; `None` for keys of another kind.
    rsa_key: Option<(Vec<u8>, usize)>,
}

impl Certificate {
    /// Reads a certificate's DER; nothing may follow it.
    pub fn from_der(der: &[u8], friendly_name: &str) -> Result<Self, Error> {
        let (rest, parsed) =
            X509Certificate::from_der(der).map_err(|error| Error::Certificate(error.to_string()))?;
        if !rest.is_empty() {
            return Err(Error::Certificate(String::from("something follows it")));
        }
        Ok(Self {
            der: der.to_vec(),
            friendly_name: friendly_name.to_owned(),
            thumbprint: Thumbprint::of(der),
            subject: parsed.subject().to_string(),
            subject_key_id: subject_key_id(&parsed),
            not_before: unix_ms(parsed.validity().not_before),
            not_after: unix_ms(parsed.validity().not_after),
            rsa_key: rsa_key(&parsed),
        })
    }

    /// Reads the first certificate in `pem` that can be read.
    pub fn from_pem(pem: &str, friendly_name: &str) -> Result<Self, Error> {
        let mut found = Self::each_of_pem(pem, friendly_name);
        let first = found.next().unwrap_or_else(|| Err(none_in(pem)));
        first.or_else(|error| found.find_map(Result::ok).ok_or(error))
    }

    /// Each certificate in `pem`, in its order, or what keeps it from being read. Blocks of other kinds are passed over.
    pub fn each_of_pem<'p>(
        pem: &'p str,
        friendly_name: &'p str,
    ) -> impl Iterator<Item = Result<Self, Error>> + 'p {
        const LABELS: [&str; 2] = ["CERTIFICATE", "X509 CERTIFICATE"];
        let blocks = pem::blocks(pem).filter(|block| LABELS.contains(&block.label));
        blocks.map(move |block| {
            let der = block.der().map_err(Error::Certificate)?;
            Self::from_der(&der, friendly_name)
        })
    }

    /// The certificate itself, as it goes into a `.cer` file.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate as PEM.
    pub fn pem(&self) -> String {
        pem_text("CERTIFICATE", &self.der)
    }

    /// The certificate as base64 without line breaks, as it goes to the tenant (protocol.md §5.7).
    pub fn base64(&self) -> String {
        STANDARD.encode(&self.der)
    }

    /// `FriendlyName`; kept beside the certificate, since X.509 has no place for it.
    pub fn friendly_name(&self) -> &str {
        &self.friendly_name
    }

    /// What it is called in every command and setting.
    pub fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }

    /// SHA-256 of the DER certificate in upper-case hex: to compare with what somebody else was given.
    pub fn sha256(&self) -> String {
        hex::encode_upper(digest(&SHA256, &self.der))
    }

    /// The subject, as `CN=fabrikam.com`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Subject key identifier as lower-case hex, where there is one.
    pub fn subject_key_id(&self) -> Option<String> {
        let digit = |nibble: u8| char::from_digit(nibble.into(), 16);
        self.subject_key_id.as_ref()?.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    /// Valid from then on.
    pub fn not_before(&self) -> UnixMs {
        self.not_before
    }

    /// Not valid after then.
    pub fn not_after(&self) -> UnixMs {
        self.not_after
    }

    /// Bits of its RSA key; `None` for keys of another kind.
    pub fn rsa_bits(&self) -> Option<usize> {
        self.rsa_key.as_ref().map(|(_, bits)| *bits)
    }

    /// Whether this is the private half of its key.
    pub fn belongs_to(&self, key: &PrivateKey) -> bool {
        self.rsa_key.as_ref().is_some_and(|(public, _)| public == key.public_der())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({} {})", self.thumbprint, self.subject)
    }
}

fn none_in(pem: &str) -> Error {
    let bytes = pem.len();
    Error::Certificate(format!(
        "{bytes} bytes without a whole \"-----BEGIN CERTIFICATE-----\" to \"-----END CERTIFICATE-----\""
    ))
}

fn subject_key_id(parsed: &X509Certificate<'_>) -> Option<Vec<u8>> {
    parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

fn rsa_key(parsed: &X509Certificate<'_>) -> Option<(Vec<u8>, usize)> {
    let key = parsed.public_key();
    let PublicKey::RSA(rsa) = key.parsed().ok()? else { return None };
    let modulus: Vec<u8> = rsa.modulus.iter().copied().skip_while(|&byte| byte == 0).collect();
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    Some((key.subject_public_key.data.to_vec(), bits))
}

/// Dates before 1970 count as 1970: such a certificate has ended either way.
fn unix_ms(time: ASN1Time) -> UnixMs {
    UnixMs::from_seconds(u64::try_from(time.timestamp()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::issue::{FRIENDLY_NAME, VALIDITY, self_signed};
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use serde_json::Value;

    const NOW: UnixMs = UnixMs(1_767_268_500_000);

    /// V1 of protocol.md §7.
    #[test]
    fn a_thumbprint_and_its_x5t_are_the_same_bytes() {
        let thumbprint: Thumbprint = "7595DBDEA83DACB5757441D44899BCDB9911253C".parse().unwrap();
        assert_eq!(thumbprint.x5t(), "dZXb3qg9rLV1dEHUSJm825kRJTw");
        assert_eq!(thumbprint.to_string(), "7595DBDEA83DACB5757441D44899BCDB9911253C");
        assert_eq!("75:95 dbdea83dacb5757441d44899bcdb9911253c".parse::<Thumbprint>().unwrap(), thumbprint);
    }

    #[test]
    fn what_is_no_thumbprint_is_refused() {
        let nibble_more = "7595DBDEA83DACB5757441D44899BCDB9911253C0";
        for text in
            ["", "75", nibble_more, "7595DBDEA83DACB5757441D44899BCDB9911253", "zz", &"7".repeat(10_000)]
        {
            assert!(
                text.parse::<Thumbprint>().unwrap_err().to_string().ends_with("expected 40 hex digits"),
                "{text}"
            );
        }
    }

    #[test]
    fn certificates_made_elsewhere_are_named_as_their_makers_name_them() {
        let list = include_str!("../../../fixtures/certificates/certificates.json");
        let list: Value = serde_json::from_str(list).unwrap();
        let pems = [
            ("agent", include_str!("../../../fixtures/certificates/agent.cert.pem")),
            ("sts", include_str!("../../../fixtures/certificates/sts.cert.pem")),
            ("stranger", include_str!("../../../fixtures/certificates/stranger.cert.pem")),
            ("expired", include_str!("../../../fixtures/certificates/expired.cert.pem")),
            ("small1024", include_str!("../../../fixtures/certificates/small1024.cert.pem")),
        ];
        for (name, pem) in pems {
            let certificate = Certificate::from_pem(pem, "").unwrap();
            assert_eq!(list[name]["thumbprint"], certificate.thumbprint().to_string().as_str(), "{name}");
            assert_eq!(list[name]["x5t"], certificate.thumbprint().x5t().as_str(), "{name}");
            assert_eq!(certificate.rsa_bits(), Some(if name == "small1024" { 1024 } else { 2048 }), "{name}");
        }
    }

    #[test]
    fn a_key_belongs_to_its_certificate_alone() {
        let agent =
            Certificate::from_pem(include_str!("../../../fixtures/certificates/agent.cert.pem"), "").unwrap();
        let own = PrivateKey::from_pem(include_str!("../../../fixtures/certificates/agent.key.pem")).unwrap();
        let other =
            PrivateKey::from_pem(include_str!("../../../fixtures/certificates/stranger.key.pem")).unwrap();
        assert!(agent.belongs_to(&own));
        assert!(!agent.belongs_to(&other));
    }

    #[test]
    fn a_new_certificate_follows_the_recipe() {
        let (certificate, key) = self_signed("fabrikam.com", NOW).unwrap();
        assert_eq!(certificate.subject(), "CN=fabrikam.com");
        assert_eq!(certificate.friendly_name(), FRIENDLY_NAME);
        assert_eq!(certificate.rsa_bits(), Some(2048));
        assert!(certificate.belongs_to(&key));
        assert_eq!(certificate.subject_key_id().unwrap().len(), 32);
        assert_eq!(certificate.not_before(), UnixMs(NOW.0 - 300_000));
        assert_eq!(certificate.not_after(), NOW.after(VALIDITY));
        let (_, parsed) = X509Certificate::from_der(certificate.der()).unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_der());
        assert!(public.verify(parsed.tbs_certificate.as_ref(), &parsed.signature_value.data).is_ok());
        let (another, _) = self_signed("fabrikam.com", NOW).unwrap();
        assert_ne!(another.subject_key_id(), certificate.subject_key_id());
    }

    #[test]
    fn a_certificate_survives_every_form() {
        let (certificate, _) = self_signed("fabrikam.com", NOW).unwrap();
        assert_eq!(Certificate::from_pem(&certificate.pem(), FRIENDLY_NAME).unwrap(), certificate);
        assert_eq!(Certificate::from_der(certificate.der(), FRIENDLY_NAME).unwrap(), certificate);
        assert_eq!(STANDARD.decode(certificate.base64()).unwrap(), certificate.der());
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let (certificate, _) = self_signed("fabrikam.com", NOW).unwrap();
        let longer: Vec<u8> = certificate.der().iter().copied().chain([0]).collect();
        let shorter = &certificate.der()[..certificate.der().len() - 1];
        for der in [&[][..], b"certificate", &longer, shorter] {
            assert!(matches!(Certificate::from_der(der, ""), Err(Error::Certificate(_))));
        }
        assert!(self_signed(" ", NOW).is_err());
    }
}
