//! Signs claims as a JWS with the host's certificate (protocol.md §5.2, RFC 7515 §3.1).
//!
//! Pure arithmetic, under a millisecond; when something is signed is the `keeper`'s.

use crate::time::UnixMs;
use secrecy::SecretString;
use std::sync::Arc;

/// A token, ready to be sent. Its text is never printed.
#[derive(Clone, Debug)]
pub struct SignedToken {
    /// JWS compact serialization.
    pub token: Arc<SecretString>,
    /// The end of its life.
    pub expires: UnixMs,
}
