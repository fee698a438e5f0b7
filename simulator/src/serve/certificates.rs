//! The listener's certificate and, where none is given, an authority of our own that signs it.
//!
//! In the state directory: `ca.pem`, what a client must trust; `ca.key.pem`, 0600, reused so that a client's trust
//! outlives a restart. These keys protect a simulator and nothing else.

use super::ServeError;
use crate::peers::token_service::keys::SigningKey;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

/// Names that a certificate of ours is for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// How long a certificate of ours is valid.
const DAYS: i64 = 397;

/// A certificate chain and its key, in PEM.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The chain, the listener's own certificate first.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// Where the listener's certificate comes from, and which it is now.
pub struct Certificates {
    current: Arc<Current>,
    own: Option<Authority>,
    provider: Arc<rustls::crypto::CryptoProvider>,
    /// What a client must trust: our own authority's certificate, or the chain that was given.
    pub ca_pem_path: PathBuf,
}

impl Certificates {
    /// Reads the files given, or makes what is missing in the state directory.
    pub fn open(state_dir: &Path, given: Option<&CertificateFiles>) -> Result<Self, ServeError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (own, ca_pem_path, first) = if let Some(files) = given {
            (None, files.certificate.clone(), read_key(files, &provider)?)
        } else {
            let own = Authority::open(state_dir)?;
            let first = own.issue(&provider)?;
            (Some(own), state_dir.join(CA_FILE), first)
        };
        let current = Arc::new(Current(parking_lot::RwLock::new(Arc::new(first))));
        Ok(Self { current, own, provider, ca_pem_path })
    }

    /// Another certificate from now on, for new connections: the given one, or a fresh one of our own authority.
    pub fn renew(&self, given: Option<&CertificateFiles>) -> Result<(), ServeError> {
        let fresh = match (given, &self.own) {
            (Some(files), _) => read_key(files, &self.provider)?,
            (None, Some(own)) => own.issue(&self.provider)?,
            (None, None) => return Err(ServeError::NoAuthority),
        };
        *self.current.0.write() = Arc::new(fresh);
        Ok(())
    }

    /// A client that trusts what signed the listeners' certificates, and these authorities (PEM).
    pub(super) fn client_config(
        &self,
        ca_files: &[PathBuf],
    ) -> Result<Arc<rustls::ClientConfig>, ServeError> {
        let mut roots = rustls::RootCertStore::empty();
        for path in std::iter::once(&self.ca_pem_path).chain(ca_files) {
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| ServeError::file(path, e))? {
                roots.add(certificate.map_err(|e| ServeError::file(path, e))?)?;
            }
        }
        let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    /// TLS 1.2 and 1.3 with the certificate of the moment, speaking these protocols (RFC 7301).
    pub fn server_config(&self, protocols: &[&str]) -> Result<Arc<rustls::ServerConfig>, ServeError> {
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }
}

/// A fresh key for the token service to sign with, and a certificate of its own. Takes a while: it is RSA.
pub(super) fn signing_key() -> Result<SigningKey, ServeError> {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "mailbadge simulator's token service");
    (params.not_before, params.not_after) = validity();
    let der = params.self_signed(&key)?.der().to_vec();
    Ok(SigningKey::new(key, der)?)
}

fn validity() -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now - Duration::DAY, now + Duration::days(DAYS))
}

/// The certificate of the moment.
#[derive(Debug)]
struct Current(parking_lot::RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

const CA_FILE: &str = "ca.pem";
const CA_KEY_FILE: &str = "ca.key.pem";

/// Signs certificates for [`NAMES`].
struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn open(state_dir: &Path) -> Result<Self, ServeError> {
        let (ca_path, key_path) = (state_dir.join(CA_FILE), state_dir.join(CA_KEY_FILE));
        if !key_path.exists() || !ca_path.exists() {
            let key = KeyPair::generate()?;
            write(&key_path, 0o600, &key.serialize_pem())?;
            write(&ca_path, 0o644, &authority_params().self_signed(&key)?.pem())?;
        }
        let key = fs::read_to_string(&key_path).map_err(|e| ServeError::file(&key_path, e))?;
        let key = KeyPair::from_pem(&key).map_err(|e| ServeError::file(&key_path, e))?;
        Ok(Self { issuer: Issuer::new(authority_params(), key) })
    }

    fn issue(&self, provider: &rustls::crypto::CryptoProvider) -> Result<CertifiedKey, ServeError> {
        let mut params = CertificateParams::new(NAMES.map(str::to_owned).to_vec())?;
        params.distinguished_name.push(DnType::CommonName, "mailbadge simulator");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = validity();
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(ServeError::Key)?;
        Ok(CertifiedKey::from_der(vec![certificate.der().clone()], key, provider)?)
    }
}

/// Always the same but for the key, so that the key alone need be kept.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "mailbadge simulator's authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn read_key(
    files: &CertificateFiles,
    provider: &rustls::crypto::CryptoProvider,
) -> Result<CertifiedKey, ServeError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|e| ServeError::file(&files.certificate, e))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| ServeError::file(&files.key, e))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|e| ServeError::file(&files.certificate, e))
}

fn write(path: &Path, mode: u32, text: &str) -> Result<(), ServeError> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| ServeError::file(path, e))
}
