//! The auth config table's SQL: one row, there from the first start.

use super::certificate;
use super::subscription::{instant, milliseconds};
use crate::identity::auth_config::{AuthConfig, NextCertificate};
use crate::store::checksum::{AUTH_CONFIG, Fault};
use rusqlite::{Connection, params};

pub(super) fn read(db: &Connection) -> Result<AuthConfig, Fault> {
    AUTH_CONFIG.one(db, |row| {
        let next: Option<String> = row.get(5)?;
        let effective_at: Option<i64> = row.get(6)?;
        let next = next.zip(effective_at);
        Ok(AuthConfig {
            service_name: row.get(1)?,
            realm: row.get(2)?,
            current: row.get(3)?,
            previous: row.get(4)?,
            next: next.map(|(thumbprint, at)| NextCertificate { thumbprint, effective_at: instant(at) }),
        })
    })
}

/// One of the certificates it names that is not kept, if there is such.
pub(super) fn unknown_certificate(db: &Connection, config: &AuthConfig) -> Result<Option<String>, Fault> {
    let next = config.next.as_ref().map(|next| &next.thumbprint);
    for thumbprint in [config.current.as_ref(), config.previous.as_ref(), next].into_iter().flatten() {
        if !certificate::is_kept(db, thumbprint)? {
            return Ok(Some(thumbprint.clone()));
        }
    }
    Ok(None)
}

/// False: what stands there is not `before`, and nothing was changed.
pub(super) fn replace(db: &Connection, before: &AuthConfig, after: &AuthConfig) -> Result<bool, Fault> {
    if read(db)? != *before {
        return Ok(false);
    }
    if before == after {
        return Ok(true);
    }
    AUTH_CONFIG.change(db, |db| {
        db.execute(
            "UPDATE auth_config SET service_name = ?1, realm = ?2, current_certificate = ?3, previous_certificate = ?4,
                                    next_certificate = ?5, next_effective_at_ms = ?6
             WHERE only = 1",
            params![
                after.service_name,
                after.realm,
                after.current,
                after.previous,
                after.next.as_ref().map(|next| &next.thumbprint),
                after.next.as_ref().map(|next| milliseconds(next.effective_at)),
            ],
        )?;
        Ok(true)
    })
}
