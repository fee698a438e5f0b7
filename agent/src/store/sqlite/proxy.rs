//! The proxy table's SQL: one row, there from the first start.

use super::subscription::{instant, milliseconds};
use crate::store::{DEFAULT_PROXY_URI, Proxy, ProxyChange};
use crate::time::UnixMs;
use rusqlite::{Connection, params};

pub(super) fn create(db: &Connection, now: UnixMs) -> rusqlite::Result<()> {
    let guid = uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid().to_string();
    db.execute(
        "INSERT INTO proxy VALUES (1, FALSE, NULL, ?1, ?2, ?3, ?3)",
        params![DEFAULT_PROXY_URI, guid, milliseconds(now)],
    )?;
    Ok(())
}

pub(super) fn read(db: &Connection) -> rusqlite::Result<Proxy> {
    let mut select = db.prepare_cached(
        "SELECT is_enabled, organization, uri, guid, created_at_ms, changed_at_ms FROM proxy WHERE only = 1",
    )?;
    select.query_row([], |row| {
        Ok(Proxy {
            is_enabled: row.get(0)?,
            organization: row.get(1)?,
            uri: row.get(2)?,
            guid: row.get(3)?,
            created_at: instant(row.get(4)?),
            changed_at: instant(row.get(5)?),
        })
    })
}

pub(super) fn change(db: &Connection, change: &ProxyChange, now: UnixMs) -> rusqlite::Result<Proxy> {
    let before = read(db)?;
    let after = change.applied_to(&before);
    if after == before {
        return Ok(before);
    }
    db.execute(
        "UPDATE proxy SET is_enabled = ?1, organization = ?2, uri = ?3, changed_at_ms = ?4 WHERE only = 1",
        params![after.is_enabled, after.organization, after.uri, milliseconds(now)],
    )?;
    Ok(Proxy { changed_at: now, ..after })
}
