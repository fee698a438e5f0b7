//! Certificates with their keys, out of the store and into it.

use crate::commands::{Exit, Failure};
use crate::identity::certificate::Certificate;
use crate::identity::certificate::StoredCertificate;
use crate::identity::fitness;
use crate::identity::key::PrivateKey;
use crate::store::{Store, StoreError};
use crate::time::UnixMs;
use secrecy::ExposeSecret;

/// Certificates kept, at most: years of rotation, and every command reads all of them.
const CERTIFICATES_MAX: usize = 100;

/// A certificate with its key.
#[derive(Debug)]
pub struct Signing {
    /// The certificate.
    pub certificate: Certificate,
    /// Its private key.
    pub key: PrivateKey,
}

impl Signing {
    /// Whether `setup` may take it.
    pub fn is_reusable(&self, now: UnixMs) -> bool {
        fitness::is_reusable(&self.certificate, &self.key, now)
    }

    /// Both, as the rules of `identity` want them.
    pub fn pair(&self) -> (&Certificate, &PrivateKey) {
        (&self.certificate, &self.key)
    }
}

/// The kept certificates whose keys can be read, the newest last.
pub fn kept(store: &dyn Store) -> Result<Vec<Signing>, Failure> {
    let mut found = Vec::new();
    for stored in store.certificates()? {
        match signing(store, &stored.thumbprint) {
            Ok(signing) => found.push(signing),
            // A key that was taken away makes its certificate useless, not the others.
            Err(Failure { exit: Exit::Io, error }) => {
                tracing::error!("{}", error.map(|error| error.to_string()).unwrap_or_default());
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(found)
}

/// The certificate that tokens are signed with, with its key, if it may sign now.
pub fn current(store: &dyn Store, now: UnixMs) -> Result<Signing, Failure> {
    let none =
        || Failure::new(Exit::Config, "there is no certificate to sign with; `mailbadge setup` makes one");
    let thumbprint = store.auth_config()?.current.ok_or_else(none)?;
    let signing = signing(store, &thumbprint)?;
    let unfit = |error: fitness::Unfit| Failure { exit: Exit::Config, error: Some(error.into()) };
    fitness::check(&signing.certificate, &signing.key, now).map_err(unfit)?;
    Ok(signing)
}

/// A kept certificate with its key.
pub fn signing(store: &dyn Store, thumbprint: &str) -> Result<Signing, Failure> {
    let certificate = certificate(store, thumbprint)?;
    let key = PrivateKey::from_pem(store.private_key(thumbprint)?.expose_secret())?;
    Ok(Signing { certificate, key })
}

/// A kept certificate.
pub fn certificate(store: &dyn Store, thumbprint: &str) -> Result<Certificate, Failure> {
    let found = store.certificates()?.into_iter().find(|one| one.thumbprint == thumbprint);
    let stored = found.ok_or_else(|| StoreError::NoCertificate { thumbprint: thumbprint.to_owned() })?;
    Ok(Certificate::from_der(&stored.der, &stored.friendly_name)?)
}

/// Keeps both.
pub fn keep(store: &dyn Store, signing: &Signing) -> Result<(), Failure> {
    let certificate = &signing.certificate;
    let stored = StoredCertificate {
        thumbprint: certificate.thumbprint().to_string(),
        friendly_name: certificate.friendly_name().to_owned(),
        der: certificate.der().to_vec(),
    };
    let kept = store.certificates()?;
    let is_new = kept.iter().all(|one| one.thumbprint != stored.thumbprint);
    if is_new && kept.len() >= CERTIFICATES_MAX {
        let text = format!(
            "{CERTIFICATES_MAX} certificates are kept, and that is the most; remove old ones with `mailbadge certificate remove`"
        );
        return Err(Failure::new(Exit::Usage, text));
    }
    Ok(store.add_certificate(&stored, &signing.key.to_pkcs8_pem()?)?)
}
