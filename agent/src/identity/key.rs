//! A certificate's private key: read, written, used, never shown.
//!
//! The key lives in AWS-LC's memory, which is wiped when it is freed; its bytes leave it only as a secret.

use super::Error;
use super::pem;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Characters of base64 in a line of PEM (RFC 7468 §2).
const PEM_LINE_CHARS: usize = 64;

/// An RSA private key. Cloning shares it.
#[derive(Clone)]
pub struct PrivateKey(Arc<KeyPair>);

impl PrivateKey {
    /// A new key of 2048 bits, from the operating system's randomness.
    pub fn generate() -> Result<Self, Error> {
        let pair = KeyPair::generate(KeySize::Rsa2048);
        pair.map(|pair| Self(Arc::new(pair))).map_err(|_| Error::Key(String::from("none could be generated")))
    }

    /// Reads the first private key in `pem` that can be read: PKCS#8 or PKCS#1, not encrypted.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let mut found = Self::each_of_pem(pem);
        let missing = || Error::Key(String::from("there is no \"-----BEGIN PRIVATE KEY-----\""));
        let first = found.next().unwrap_or_else(|| Err(missing()));
        first.or_else(|error| found.find_map(Result::ok).ok_or(error))
    }

    /// Each private key in `pem`, in its order, or what keeps it from being read. Blocks of other kinds are passed over.
    pub fn each_of_pem(pem: &str) -> impl Iterator<Item = Result<Self, Error>> + '_ {
        pem::blocks(pem).filter(|block| block.label.ends_with("PRIVATE KEY")).map(|block| {
            if block.is_encrypted() {
                return Err(Error::Encrypted);
            }
            let der = block.der().map_err(Error::Key)?;
            let pair = match block.label {
                "PRIVATE KEY" => KeyPair::from_pkcs8(&der),
                "RSA PRIVATE KEY" => KeyPair::from_der(&der),
                _ => return Err(Error::Key(String::from("not RSA"))),
            };
            pair.map(|pair| Self(Arc::new(pair))).map_err(|error| Error::Key(error.to_string()))
        })
    }

    /// Reads an unencrypted PKCS#8 key.
    #[cfg(feature = "pkcs12")]
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        KeyPair::from_pkcs8(der)
            .map(|pair| Self(Arc::new(pair)))
            .map_err(|error| Error::Key(error.to_string()))
    }

    /// The key as unencrypted PKCS#8 PEM.
    pub fn to_pkcs8_pem(&self) -> Result<SecretString, Error> {
        let der: Pkcs8V1Der<'_> =
            self.0.as_der().map_err(|_| Error::Key(String::from("it cannot be written")))?;
        Ok(SecretString::from(pem_text("PRIVATE KEY", der.as_ref())))
    }

    /// The public half as RSAPublicKey DER (RFC 8017 §A.1.1), as it stands in a certificate.
    pub fn public_der(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    /// Bits of the modulus, in whole bytes.
    pub fn bits(&self) -> usize {
        self.0.public_modulus_len() * 8
    }

    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 §8.2), JWS's `RS256`; the same message gives the same
    /// signature.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        let signed = self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature);
        signed.map(|()| signature).map_err(|_| Error::Key(String::from("it does not sign")))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({} bits)", self.bits())
    }
}

/// `der` as PEM in a text of exactly its size, so that no copy of it is left behind when the text moves into
/// a secret.
pub(super) fn pem_text(label: &str, der: &[u8]) -> String {
    let mut encoded = Zeroizing::new(vec![0; der.len().div_ceil(3) * 4]);
    let written = STANDARD.encode_slice(der, &mut encoded).unwrap_or_default();
    let lines = encoded.get(..written).unwrap_or_default().chunks(PEM_LINE_CHARS);
    let frame = "-----BEGIN -----\n-----END -----\n".len() + 2 * label.len();
    let mut text = String::with_capacity(frame + written + lines.len());
    text.extend(["-----BEGIN ", label, "-----\n"]);
    for line in lines {
        text.extend(line.iter().map(|&byte| char::from(byte)));
        text.push('\n');
    }
    text.extend(["-----END ", label, "-----\n"]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_key_survives_being_written_and_read() {
        let key = PrivateKey::generate().unwrap();
        assert_eq!(key.bits(), 2048);
        let pem = key.to_pkcs8_pem().unwrap();
        assert!(pem.expose_secret().starts_with("-----BEGIN PRIVATE KEY-----\n"));
        let again = PrivateKey::from_pem(pem.expose_secret()).unwrap();
        assert_eq!(again.public_der(), key.public_der());
        assert_eq!(again.sign(b"message").unwrap(), key.sign(b"message").unwrap());
    }

    #[test]
    fn pem_is_written_into_exactly_the_memory_that_was_taken() {
        for length in [0, 1, 2, 3, 47, 48, 49, 1217, 1218] {
            let text = pem_text("PRIVATE KEY", &vec![7; length]);
            assert_eq!(text.capacity(), text.len(), "{length} bytes");
        }
    }

    #[test]
    fn what_is_no_rsa_key_is_refused() {
        let elliptic = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let small = include_str!("../../../fixtures/certificates/small1024.key.pem");
        for text in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", &elliptic, small] {
            let error = PrivateKey::from_pem(text).unwrap_err();
            assert!(error.to_string().contains("2048 bits at least"), "{error}");
        }
    }

    #[test]
    fn an_encrypted_key_is_called_so() {
        let new = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIF\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIF\n-----END RSA PRIVATE KEY-----\n";
        for pem in [new, old] {
            assert_eq!(PrivateKey::from_pem(pem).unwrap_err(), Error::Encrypted);
        }
    }

    #[test]
    fn debug_shows_no_bytes_of_the_key() {
        assert_eq!(format!("{:?}", PrivateKey::generate().unwrap()), "PrivateKey(2048 bits)");
    }
}
