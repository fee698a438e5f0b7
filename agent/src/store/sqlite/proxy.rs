//! The proxy table's SQL: one row, there from the first start.

use super::subscription::{instant, milliseconds};
use crate::store::checksum::{Fault, PROXY};
use crate::store::{DEFAULT_PROXY_URI, Proxy, ProxyChange};
use crate::time::UnixMs;
use rusqlite::{Connection, params};

/// Before the first totals are taken.
pub(super) fn create(db: &Connection, now: UnixMs) -> Result<(), Fault> {
    let guid = uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid().to_string();
    db.execute(
        "INSERT INTO proxy (only, is_enabled, uri, guid, created_at_ms, changed_at_ms) VALUES (1, FALSE, ?1, ?2, ?3, ?3)",
        params![DEFAULT_PROXY_URI, guid, milliseconds(now)],
    )?;
    Ok(())
}

pub(super) fn read(db: &Connection) -> Result<Proxy, Fault> {
    PROXY.one(db, |row| {
        Ok(Proxy {
            is_enabled: row.get(1)?,
            organization: row.get(2)?,
            uri: row.get(3)?,
            guid: row.get(4)?,
            created_at: instant(row.get(5)?),
            changed_at: instant(row.get(6)?),
        })
    })
}

pub(super) fn change(db: &Connection, change: &ProxyChange, now: UnixMs) -> Result<Proxy, Fault> {
    let before = read(db)?;
    let after = change.applied_to(&before);
    if after == before {
        return Ok(before);
    }
    PROXY.change(db, |db| {
        db.execute(
            "UPDATE proxy SET is_enabled = ?1, organization = ?2, uri = ?3, changed_at_ms = ?4 WHERE only = 1",
            params![after.is_enabled, after.organization, after.uri, milliseconds(now)],
        )?;
        Ok(())
    })?;
    Ok(Proxy { changed_at: now, ..after })
}
