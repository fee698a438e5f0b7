//! A certificate as it is printed, never its key.

use crate::identity::auth_config::AuthConfig;
use crate::identity::auth_config::Role;
use crate::identity::certificate::Certificate;
use crate::identity::fitness;
use crate::identity::key::PrivateKey;
use crate::store::{Store, StoreError};
use crate::time::UnixMs;
use secrecy::ExposeSecret;
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CertificateOutput {
    thumbprint: String,
    x5t: String,
    role: Option<&'static str>,
    friendly_name: String,
    subject: String,
    subject_key_identifier: Option<String>,
    not_before: UnixMs,
    not_after: UnixMs,
    days_left: u64,
    key_bits: Option<usize>,
    has_private_key: bool,
    /// `Valid`, or why it cannot sign now.
    status: String,
}

impl CertificateOutput {
    pub(super) const HEADS: [&'static str; 6] =
        ["THUMBPRINT", "ROLE", "DAYS LEFT", "NOT AFTER", "SUBJECT", "FRIENDLY NAME"];

    /// A key that cannot be had is told in it; one that is damaged is an error.
    pub(super) fn of(
        certificate: &Certificate,
        config: &AuthConfig,
        store: &dyn Store,
        now: UnixMs,
    ) -> Result<Self, StoreError> {
        let thumbprint = certificate.thumbprint().to_string();
        let key = key(store, &thumbprint)?;
        let fitness = key
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|key| fitness::check(certificate, key, now).map_err(|unfit| unfit.to_string()));
        Ok(Self {
            role: Role::of(&thumbprint, config).map(Role::name),
            thumbprint,
            x5t: certificate.thumbprint().x5t(),
            friendly_name: certificate.friendly_name().to_owned(),
            subject: certificate.subject().to_owned(),
            subject_key_identifier: certificate.subject_key_id(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            days_left: fitness::days_left(certificate, now),
            key_bits: certificate.rsa_bits(),
            has_private_key: key.is_ok(),
            status: fitness.err().unwrap_or_else(|| "Valid".to_owned()),
        })
    }

    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("Thumbprint", self.thumbprint.clone()),
            ("X5t", self.x5t.clone()),
            ("Role", self.role.unwrap_or("none").to_owned()),
            ("FriendlyName", self.friendly_name.clone()),
            ("Subject", self.subject.clone()),
            ("SubjectKeyIdentifier", self.subject_key_identifier.clone().unwrap_or_default()),
            ("NotBefore", self.not_before.to_string()),
            ("NotAfter", self.not_after.to_string()),
            ("DaysLeft", self.days_left.to_string()),
            ("KeyBits", self.key_bits.map(|bits| bits.to_string()).unwrap_or_default()),
            ("HasPrivateKey", if self.has_private_key { "True" } else { "False" }.to_owned()),
            ("Status", self.status.clone()),
        ]
    }

    pub(super) fn row(&self) -> Vec<String> {
        let role = self.role.unwrap_or_default();
        let (days_left, not_after) = (self.days_left.to_string(), self.not_after.to_string());
        [&self.thumbprint, role, &days_left, &not_after, &self.subject, &self.friendly_name]
            .map(str::to_owned)
            .to_vec()
    }
}

/// The private key, or why it cannot be had.
fn key(store: &dyn Store, thumbprint: &str) -> Result<Result<PrivateKey, String>, StoreError> {
    match store.private_key(thumbprint) {
        Ok(pem) => Ok(PrivateKey::from_pem(pem.expose_secret()).map_err(|error| error.to_string())),
        Err(error) if error.is_damage() => Err(error),
        Err(error) => Ok(Err(error.to_string())),
    }
}
