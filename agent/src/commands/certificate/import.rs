//! `mailbadge certificate import`: a certificate with its key from PEM files.

use super::Signing;
use crate::commands::{Exit, Failure};
use crate::identity::certificate::Certificate;
use crate::identity::fitness::{self, Unfit};
use crate::identity::key::PrivateKey;
use crate::store::owner_only;
use crate::time::UnixMs;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use zeroize::Zeroizing;

/// A PEM file is read up to this size: a chain and a key of 8192 bits take a third of it.
const FILE_SIZE_MAX: u64 = 64 * 1024;

/// Reads the first certificate in `file` and its key, which stands in `key_file` or in the same one.
///
/// One that may not sign yet is taken: it can be announced as the next one.
pub(super) fn read(
    file: &Path,
    key_file: Option<&Path>,
    friendly_name: &str,
    now: UnixMs,
) -> Result<Signing, Failure> {
    let (certificate_text, key_text) = match key_file {
        None => (None, secret(file)?),
        Some(key_file) => (Some(text(file)?), secret(key_file)?),
    };
    let certificate_text = certificate_text.as_ref().unwrap_or(&key_text);
    let certificate =
        Certificate::from_pem(certificate_text, friendly_name).map_err(|error| of(file, &error))?;
    let key_file = key_file.unwrap_or(file);
    let key = PrivateKey::from_pem(&key_text).map_err(|error| of(key_file, &error))?;
    match fitness::check(&certificate, &key, now) {
        Ok(()) | Err(Unfit::TooEarly(..)) => Ok(Signing { certificate, key }),
        Err(Unfit::WrongKey(thumbprint)) => {
            let text = format!(
                "{}: not the key of certificate {thumbprint}; give the one it was made with by --key",
                key_file.display()
            );
            Err(Failure::new(Exit::Usage, text))
        }
        Err(unfit) => Err(Failure { exit: Exit::Usage, error: Some(unfit.into()) }),
    }
}

/// A file that nobody else may read.
fn secret(path: &Path) -> Result<Zeroizing<String>, Failure> {
    owner_only(path)?;
    text(path)
}

fn text(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let failed = |cause: std::io::Error| Failure::new(Exit::Io, format!("{}: {cause}", path.display()));
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let not_pem = || {
        let text = format!(
            "{}: not PEM; expected text with \"-----BEGIN CERTIFICATE-----\", {FILE_SIZE_MAX} bytes at most; \
             `openssl pkcs12 -in F -nodes` makes it from PKCS#12",
            path.display()
        );
        Failure::new(Exit::Usage, text)
    };
    if size > FILE_SIZE_MAX {
        return Err(not_pem());
    }
    // Of its size from the start: growing would leave copies of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size as usize + 1));
    file.take(FILE_SIZE_MAX).read_to_end(&mut bytes).map_err(failed)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| not_pem())?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn of(path: &Path, error: &crate::identity::Error) -> Failure {
    Failure::new(Exit::Usage, format!("{}: {error}", path.display()))
}
