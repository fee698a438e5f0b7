//! Which certificate authorities a server's certificate may come from: the system's, those of a `ca-file`, or the latter
//! alone (`ca-only`).

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::{Error, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_platform_verifier::Verifier;
use std::sync::Arc;

/// The authorities that are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authorities {
    /// Their certificates, besides the system's.
    pub extra: Vec<CertificateDer<'static>>,
    /// The system's are not trusted.
    pub is_only: bool,
}

impl Authorities {
    /// Judges certificates by them.
    pub fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        if !self.is_only {
            let verifier = Verifier::new_with_extra_roots(self.extra.iter().cloned(), Arc::clone(provider))?;
            return Ok(Arc::new(verifier));
        }
        let mut roots = RootCertStore::empty();
        for authority in &self.extra {
            roots.add(authority.clone())?;
        }
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
        verifier
            .map(|verifier| verifier as Arc<dyn ServerCertVerifier>)
            .map_err(|error| Error::General(error.to_string()))
    }
}
