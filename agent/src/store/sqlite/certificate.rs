//! The certificate table's SQL; private keys stand in files.

use crate::identity::certificate::StoredCertificate;
use rusqlite::{Connection, params};

pub(super) fn list(db: &Connection) -> rusqlite::Result<Vec<StoredCertificate>> {
    let mut select =
        db.prepare_cached("SELECT thumbprint, friendly_name, der FROM certificate ORDER BY number")?;
    let rows = select.query_map([], |row| {
        Ok(StoredCertificate { thumbprint: row.get(0)?, friendly_name: row.get(1)?, der: row.get(2)? })
    })?;
    rows.collect()
}

pub(super) fn add(db: &Connection, certificate: &StoredCertificate) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO certificate (thumbprint, friendly_name, der) VALUES (?1, ?2, ?3)
         ON CONFLICT (thumbprint) DO UPDATE SET friendly_name = excluded.friendly_name, der = excluded.der",
        params![certificate.thumbprint, certificate.friendly_name, certificate.der],
    )?;
    Ok(())
}

pub(super) fn is_kept(db: &Connection, thumbprint: &str) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM certificate WHERE thumbprint = ?1")?.exists([thumbprint])
}

pub(super) fn remove(db: &Connection, thumbprint: &str) -> rusqlite::Result<bool> {
    Ok(db.execute("DELETE FROM certificate WHERE thumbprint = ?1", [thumbprint])? == 1)
}
