//! What the token service signs with, and how one key follows another.
//!
//! Keys are made elsewhere, where randomness may be drawn; a signature with RSA PKCS#1 is the same each time.

use crate::peers::tenant::credential::{CredentialError, KeyCredential};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};
use thiserror::Error;

/// A step of a roll-over that cannot be taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RollOverError {
    /// There is a next key already.
    #[error("a next key is published already: use it first")]
    Published,
    /// There is no next key.
    #[error("no next key is published")]
    NothingPublished,
    /// There is no previous key.
    #[error("no previous key is published")]
    NothingPrevious,
}

/// A private key with its certificate.
pub struct SigningKey {
    key: KeyPair,
    certificate: Vec<u8>,
    credential: KeyCredential,
}

impl SigningKey {
    /// An RSA key and its certificate in DER.
    pub fn new(key: KeyPair, certificate: Vec<u8>) -> Result<Self, CredentialError> {
        let credential = KeyCredential::from_der(&certificate)?;
        Ok(Self { key, certificate, credential })
    }

    /// The certificate in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// What of the certificate is shown.
    pub const fn credential(&self) -> &KeyCredential {
        &self.credential
    }

    /// The header of what it signs (protocol.md §5.5).
    pub(super) fn header(&self) -> Value {
        let x5t = self.credential.x5t();
        json!({ "typ": "JWT", "alg": "RS256", "x5t": x5t, "kid": x5t })
    }

    /// A token in JWS compact form; `None` where the key cannot sign.
    pub(super) fn sign(&self, header: &Value, claims: &Value) -> Option<String> {
        let parts = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let message = parts.join(".");
        let signature = self.key.sign(message.as_bytes()).ok()?;
        Some(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// Never the key itself.
impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("x5t", &self.credential.x5t()).finish_non_exhaustive()
    }
}

/// The key of the moment, the one before, and the one to come. All of them are published, one signs.
#[derive(Debug)]
pub struct Keys {
    current: SigningKey,
    next: Option<SigningKey>,
    previous: Option<SigningKey>,
}

impl Keys {
    /// This key alone.
    pub const fn new(current: SigningKey) -> Self {
        Self { current, next: None, previous: None }
    }

    /// The one that signs.
    pub const fn current(&self) -> &SigningKey {
        &self.current
    }

    /// The one that will.
    pub const fn next(&self) -> Option<&SigningKey> {
        self.next.as_ref()
    }

    /// The one that did.
    pub const fn previous(&self) -> Option<&SigningKey> {
        self.previous.as_ref()
    }

    /// Those that a metadata document lists.
    pub fn published(&self) -> impl Iterator<Item = &SigningKey> {
        std::iter::once(&self.current).chain(&self.next).chain(&self.previous)
    }

    /// First step: the document lists a key that does not sign yet.
    pub fn publish(&mut self, next: SigningKey) -> Result<(), RollOverError> {
        if self.next.is_some() {
            return Err(RollOverError::Published);
        }
        self.next = Some(next);
        Ok(())
    }

    /// Second step: the next key signs; what the one before signed still counts.
    pub fn use_next(&mut self) -> Result<(), RollOverError> {
        let next = self.next.take().ok_or(RollOverError::NothingPublished)?;
        self.previous = Some(std::mem::replace(&mut self.current, next));
        Ok(())
    }

    /// Last step: what the previous key signed counts no more.
    pub fn forget_previous(&mut self) -> Result<(), RollOverError> {
        self.previous.take().map(drop).ok_or(RollOverError::NothingPrevious)
    }
}
