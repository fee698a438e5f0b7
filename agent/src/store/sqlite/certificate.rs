//! The certificate table's SQL; private keys stand in files.

use crate::identity::certificate::StoredCertificate;
use crate::store::checksum::{CERTIFICATE, Fault, SEQUENCE};
use rusqlite::{Connection, params};

pub(super) fn list(db: &Connection) -> Result<Vec<StoredCertificate>, Fault> {
    CERTIFICATE.all(db, "number", |row| {
        Ok(StoredCertificate { thumbprint: row.get(1)?, friendly_name: row.get(2)?, der: row.get(3)? })
    })
}

pub(super) fn add(db: &Connection, certificate: &StoredCertificate) -> Result<(), Fault> {
    SEQUENCE.change(db, |db| {
        CERTIFICATE.change(db, |db| {
            db.execute(
                "INSERT INTO certificate (thumbprint, friendly_name, der) VALUES (?1, ?2, ?3)
                 ON CONFLICT (thumbprint) DO UPDATE SET friendly_name = excluded.friendly_name, der = excluded.der",
                params![certificate.thumbprint, certificate.friendly_name, certificate.der],
            )?;
            Ok(())
        })
    })
}

pub(super) fn is_kept(db: &Connection, thumbprint: &str) -> Result<bool, Fault> {
    Ok(list(db)?.iter().any(|kept| kept.thumbprint == thumbprint))
}

pub(super) fn remove(db: &Connection, thumbprint: &str) -> Result<bool, Fault> {
    CERTIFICATE
        .change(db, |db| Ok(db.execute("DELETE FROM certificate WHERE thumbprint = ?1", [thumbprint])? == 1))
}
