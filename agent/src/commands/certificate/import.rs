//! `mailbadge certificate import`: a certificate with its key from PEM files, or, with the feature `pkcs12`, from PKCS#12.

use super::Signing;
use crate::commands::{Exit, Failure};
use crate::files::FileError;
use crate::files::driver::{Trust, read};
#[cfg(feature = "pkcs12")]
use crate::https::json::without_mark;
use crate::identity::certificate::Certificate;
use crate::identity::fitness::{self, Unfit};
use crate::identity::issue::FRIENDLY_NAME;
use crate::identity::key::PrivateKey;
use crate::time::UnixMs;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A file is read up to this size: a chain and a key of 8192 bits take a third of it.
const FILE_SIZE_MAX: u64 = 64 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// The certificate, or certificate and key in one file (mode 0600).
    file: PathBuf,
    /// Its unencrypted private key (mode 0600), where that stands in a file of its own.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The password of a PKCS#12 file, in the first line of this one (mode 0600).
    #[cfg(feature = "pkcs12")]
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    password_file: Option<PathBuf>,
    /// What it is called in lists; what a PKCS#12 file calls it, else "Exchange S2S OAuth", by default.
    #[arg(long, value_name = "NAME")]
    pub(super) friendly_name: Option<String>,
}

impl Import {
    /// Reads the certificate whose key is there, and that key.
    ///
    /// One that may not sign yet is taken: it can be announced as the next one.
    pub(super) fn read(&self, now: UnixMs) -> Result<Signing, Failure> {
        let (certificate, key) = self.parts()?;
        match fitness::check(&certificate, &key, now) {
            Ok(()) | Err(Unfit::TooEarly(..)) => Ok(Signing { certificate, key }),
            Err(Unfit::WrongKey(thumbprint)) => {
                let text = format!(
                    "{}: not the key of certificate {thumbprint}; give the one it was made with by --key",
                    self.key.as_ref().unwrap_or(&self.file).display()
                );
                Err(Failure::new(Exit::Usage, text))
            }
            Err(unfit) => Err(Failure { exit: Exit::Usage, error: Some(unfit.into()) }),
        }
    }

    fn parts(&self) -> Result<(Certificate, PrivateKey), Failure> {
        #[cfg(feature = "pkcs12")]
        if self.key.is_none() && bytes(&self.file, Trust::Secret)?.first() == Some(&DER_SEQUENCE) {
            return self.pkcs12_parts();
        }
        let (certificate_text, key_text) = match &self.key {
            None => (None, secret(&self.file)?),
            Some(key_file) => (Some(text(&self.file, Trust::Anybody)?), secret(key_file)?),
        };
        let certificate_text = certificate_text.as_ref().unwrap_or(&key_text);
        let name = self.friendly_name.as_deref().unwrap_or(FRIENDLY_NAME);
        let key_file = self.key.as_ref().unwrap_or(&self.file);
        // Chains and bundles stand in any order: the certificate is the one whose key is there.
        let keys = || PrivateKey::each_of_pem(&key_text).filter_map(Result::ok);
        let pairs = Certificate::each_of_pem(certificate_text, name)
            .filter_map(Result::ok)
            .find_map(|certificate| Some((keys().find(|key| certificate.belongs_to(key))?, certificate)));
        if let Some((key, certificate)) = pairs {
            return Ok((certificate, key));
        }
        let certificate =
            Certificate::from_pem(certificate_text, name).map_err(|error| of(&self.file, &error))?;
        let key = PrivateKey::from_pem(&key_text).map_err(|error| of(key_file, &error))?;
        Ok((certificate, key))
    }

    #[cfg(feature = "pkcs12")]
    fn pkcs12_parts(&self) -> Result<(Certificate, PrivateKey), Failure> {
        use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
        let store = bytes(&self.file, Trust::Secret)?;
        let password = match &self.password_file {
            None => Zeroizing::default(),
            Some(path) => bytes(path, Trust::Secret)?,
        };
        let password = without_mark(&password).split(|byte| matches!(byte, b'\r' | b'\n')).next();
        let password = std::str::from_utf8(password.unwrap_or_default()).unwrap_or_default();
        let wrong = |what: &str| {
            let text = format!(
                "{}: {what}; expected a PKCS#12 file with a key and its certificate, its password in --password-file",
                self.file.display()
            );
            Failure::new(Exit::Usage, text)
        };
        let found = KeyStore::from_pkcs12(&store, password, Pkcs12ImportPolicy::Strict)
            .map_err(|error| wrong(&error.to_string()))?;
        let (alias, chain) = found.private_key_chain().ok_or_else(|| wrong("it holds no key"))?;
        let leaf = chain.certs().first().ok_or_else(|| wrong("it holds no certificate"))?;
        let name = self.friendly_name.as_deref().unwrap_or(alias);
        let certificate =
            Certificate::from_der(leaf.as_der(), name).map_err(|error| of(&self.file, &error))?;
        let key = PrivateKey::from_pkcs8(chain.key().as_der()).map_err(|error| of(&self.file, &error))?;
        Ok((certificate, key))
    }
}

/// The first byte of every DER file that could be meant (X.690 §8.9).
#[cfg(feature = "pkcs12")]
const DER_SEQUENCE: u8 = 0x30;

/// A file that nobody else may read.
fn secret(path: &Path) -> Result<Zeroizing<String>, Failure> {
    text(path, Trust::Secret)
}

fn text(path: &Path, trust: Trust) -> Result<Zeroizing<String>, Failure> {
    let not_pem = || {
        let text = format!(
            "{}: not PEM; expected text with \"-----BEGIN CERTIFICATE-----\"; \
             `openssl pkcs12 -in F -nodes` makes it from PKCS#12",
            path.display()
        );
        Failure::new(Exit::Usage, text)
    };
    let bytes = bytes(path, trust)?;
    // Text beside the blocks may be of any encoding.
    if memchr::memmem::find(&bytes, b"-----BEGIN ").is_none() {
        return Err(not_pem());
    }
    let ascii = bytes.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' });
    let mut text = Zeroizing::new(String::with_capacity(bytes.len()));
    text.extend(ascii);
    Ok(text)
}

fn bytes(path: &Path, trust: Trust) -> Result<Zeroizing<Vec<u8>>, Failure> {
    read(path, FILE_SIZE_MAX, trust).map_err(|error| match error {
        FileError::TooLarge { .. } | FileError::NotRegular { .. } => {
            Failure::new(Exit::Usage, error.to_string())
        }
        error => error.into(),
    })
}

fn of(path: &Path, error: &crate::identity::Error) -> Failure {
    Failure::new(Exit::Usage, format!("{}: {error}", path.display()))
}

#[cfg(feature = "pkcs12")]
#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    /// What `openssl pkcs12 -export` made of the agent's certificate and key, password `vectors`.
    const MODERN: &[u8] = include_bytes!("../../../../fixtures/certificates/agent.pfx");
    /// The same with `-legacy`, as Windows writes it.
    const LEGACY: &[u8] = include_bytes!("../../../../fixtures/certificates/agent-legacy.pfx");
    const NOW: UnixMs = UnixMs(1_767_268_500_000);

    fn import(file: &[u8], password: &str, friendly_name: Option<&str>) -> Result<Signing, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            path
        };
        let import = Import {
            file: place("agent.pfx", file),
            key: None,
            password_file: Some(place("password", password.as_bytes())),
            friendly_name: friendly_name.map(str::to_owned),
        };
        import.read(NOW)
    }

    #[test]
    fn a_pkcs12_file_gives_certificate_key_and_name() {
        let pem = include_str!("../../../../fixtures/certificates/agent.cert.pem");
        let expected = Certificate::from_pem(pem, "").unwrap().thumbprint();
        for (file, name) in [(MODERN, None), (LEGACY, None), (MODERN, Some("Mine"))] {
            let Signing { certificate, key } = import(file, "vectors\n", name).unwrap();
            assert_eq!(certificate.thumbprint(), expected);
            assert_eq!(certificate.friendly_name(), name.unwrap_or("Agent of fabrikam"));
            assert!(certificate.belongs_to(&key));
        }
    }

    #[test]
    fn another_password_or_another_file_is_refused() {
        let cer = include_bytes!("../../../../fixtures/certificates/agent.cer");
        let half = MODERN.get(..MODERN.len() / 2).unwrap();
        for (file, password) in
            [(MODERN, "wrong"), (MODERN, ""), (cer.as_slice(), "vectors"), (half, "vectors")]
        {
            let failure = import(file, password, None).unwrap_err();
            let text = failure.error.unwrap().to_string();
            assert!(failure.exit == Exit::Usage && text.contains("agent.pfx: "), "{text}");
            assert!(text.contains("--password-file"), "{text}");
        }
    }
}
