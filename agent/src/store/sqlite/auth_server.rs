//! The auth server table's SQL.

use crate::store::{AuthServer, Kept};
use rusqlite::{Connection, OptionalExtension, params};

pub(super) fn list(db: &Connection) -> rusqlite::Result<Vec<AuthServer>> {
    let mut select = db.prepare_cached("SELECT name, metadata_url FROM auth_server ORDER BY name")?;
    let rows = select.query_map([], |row| Ok(AuthServer { name: row.get(0)?, metadata_url: row.get(1)? }))?;
    rows.collect()
}

pub(super) fn keep(db: &Connection, server: &AuthServer) -> rusqlite::Result<Kept> {
    let mut select = db.prepare_cached("SELECT metadata_url FROM auth_server WHERE name = ?1")?;
    let before: Option<String> = select.query_row([&server.name], |row| row.get(0)).optional()?;
    if before.as_ref() == Some(&server.metadata_url) {
        return Ok(Kept::Unchanged);
    }
    db.execute(
        "INSERT INTO auth_server VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET metadata_url = excluded.metadata_url",
        params![server.name, server.metadata_url],
    )?;
    Ok(if before.is_some() { Kept::Corrected } else { Kept::Created })
}
