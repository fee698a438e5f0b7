//! Private keys: a file each under `certificates/`, 0600, written whole or not at all.

use super::StoreError;
use crate::files::driver::{Trust, owner_only, read as read_file};
use crate::identity::certificate::{Certificate, StoredCertificate};
use crate::identity::key::PrivateKey;
use secrecy::{ExposeSecret, SecretString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A PKCS#8 PEM of RSA 8192 takes 6.5 KiB.
const KEY_SIZE_MAX: u64 = 16 * 1024;

/// Makes a folder 0700 where there is none, and refuses one that others can enter.
pub(super) fn private_dir(path: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|cause| StoreError::Io { path: path.to_owned(), cause })?;
    Ok(owner_only(path)?)
}

/// Writes the key of `thumbprint`: into a neighbor first, so that a crash leaves the old key or the new one.
pub(super) fn write(dir: &Path, thumbprint: &str, key: &SecretString) -> Result<(), StoreError> {
    let path = file_of(dir, thumbprint);
    private_dir(dir)?;
    if let Some(state_dir) = dir.parent() {
        belong_to_owner_of(state_dir, dir).map_err(|cause| StoreError::Io { path: dir.to_owned(), cause })?;
    }
    let neighbor = path.with_extension("key.new");
    let written = write_durably(&neighbor, key.expose_secret().as_bytes())
        .and_then(|()| belong_to_owner_of(dir, &neighbor))
        .and_then(|()| fs::rename(&neighbor, &path))
        .and_then(|()| File::open(dir)?.sync_all());
    written.map_err(|cause| StoreError::Io { path, cause })
}

/// Reads the key of `certificate`; refuses a file that others can read, and one that is not what was written.
pub(super) fn read(dir: &Path, certificate: &StoredCertificate) -> Result<SecretString, StoreError> {
    let path = file_of(dir, &certificate.thumbprint);
    let bytes = read_file(&path, KEY_SIZE_MAX, Trust::Secret)?;
    let damaged = |cause: String| StoreError::DamagedKey { path: path.clone(), cause };
    let text = std::str::from_utf8(&bytes).map_err(|cause| damaged(cause.to_string()))?;
    refuse_other(certificate, text).map_err(damaged)?;
    Ok(SecretString::from(text))
}

/// Refuses a key that is not the one of the certificate. What does not fit in itself AWS-LC refuses when it reads a key.
pub(super) fn refuse_other(certificate: &StoredCertificate, pem: &str) -> Result<(), String> {
    let key = PrivateKey::from_pem(pem).map_err(|error| error.to_string())?;
    let certificate = Certificate::from_der(&certificate.der, "").map_err(|error| error.to_string())?;
    if certificate.belongs_to(&key) { Ok(()) } else { Err("the key of another certificate".to_owned()) }
}

/// Removes the key of `thumbprint`; one that is gone already is as good.
pub(super) fn remove(dir: &Path, thumbprint: &str) -> Result<(), StoreError> {
    let path = file_of(dir, thumbprint);
    match fs::remove_file(&path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(StoreError::Io { path, cause }),
        _ => Ok(()),
    }
}

fn file_of(dir: &Path, thumbprint: &str) -> PathBuf {
    dir.join(format!("{thumbprint}.key"))
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Left over from a crash: its content is worth nothing.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// What root writes for the daemon must stay readable to the daemon.
pub(super) fn belong_to_owner_of(dir: &Path, file: &Path) -> io::Result<()> {
    let owner = fs::metadata(dir)?;
    let present = fs::metadata(file)?;
    if (owner.uid(), owner.gid()) == (present.uid(), present.gid()) || present.uid() != 0 {
        return Ok(());
    }
    std::os::unix::fs::chown(file, Some(owner.uid()), Some(owner.gid()))
}
