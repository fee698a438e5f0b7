//! The certificate and auth config tables' SQL; private keys stand in files.

use crate::store::StoredCertificate;
use rusqlite::{Connection, OptionalExtension, params};

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

pub(super) fn current(db: &Connection) -> rusqlite::Result<Option<String>> {
    let mut select = db.prepare_cached("SELECT current_certificate FROM auth_config WHERE only = 1")?;
    Ok(select.query_row([], |row| row.get(0)).optional()?.flatten())
}

/// False: there is no such certificate, and nothing was changed. Making the current one current changes nothing.
pub(super) fn make_current(db: &Connection, thumbprint: &str) -> rusqlite::Result<bool> {
    if !is_kept(db, thumbprint)? {
        return Ok(false);
    }
    db.execute(
        "UPDATE auth_config SET previous_certificate = current_certificate, current_certificate = ?1
         WHERE only = 1 AND current_certificate IS NOT ?1",
        [thumbprint],
    )?;
    Ok(true)
}
