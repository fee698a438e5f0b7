//! Who the agent is and whom it knows: principals (protocol.md §5.1), certificates and what they are used for (§5.7).
//!
//! A [`Certificate`](certificate::Certificate) with its [`PrivateKey`](key::PrivateKey) is what tokens are
//! signed with; [`issue`] makes one, [`fitness`] says whether one will do and for how long, [`auth_config`] which one
//! signs when. Where they are kept is the `store`'s, signing tokens with them is `token`'s.

pub mod auth_config;
pub mod in_use;
pub mod fitness;
pub mod issue;
pub mod metadata;
pub mod certificate;
pub mod key;
mod pem;
pub mod principal;
pub mod partner;

use thiserror::Error;

/// Why a certificate or key cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Neither DER nor PEM of a certificate.
    #[error("not a certificate: {0}")]
    Certificate(String),
    /// Neither PKCS#8 nor PKCS#1 PEM of an RSA key of 2048 to 8192 bits.
    #[error("not a usable private key: {0}; give an unencrypted RSA key in PEM, 2048 bits at least")]
    Key(String),
    /// A key that needs a passphrase.
    #[error(
        "the private key is encrypted, and nobody is there to type its passphrase when the daemon starts; decrypt it with `openssl pkey -in KEY -out PLAIN` and `chmod 600 PLAIN`"
    )]
    Encrypted,
    /// Not 40 hex digits.
    #[error("not a certificate's thumbprint: {0:?}; expected 40 hex digits")]
    Thumbprint(String),
    /// A certificate could not be made.
    #[error("no certificate could be made for {domain:?}: {reason}")]
    Issue {
        /// The domain it was for.
        domain: String,
        /// What stood in the way.
        reason: String,
    },
}
