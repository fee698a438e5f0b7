//! The auth server table's SQL.

use super::subscription::{instant, milliseconds};
use crate::identity::partner::AuthServer;
use crate::store::UpsertOutcome;
use crate::store::checksum::{AUTH_SERVER, Fault};
use crate::time::UnixMs;
use rusqlite::{Connection, Row, params};

pub(super) fn list(db: &Connection) -> Result<Vec<AuthServer>, Fault> {
    AUTH_SERVER.all(db, "name COLLATE NOCASE", server)
}

pub(super) fn keep(db: &Connection, server: &AuthServer) -> Result<UpsertOutcome, Fault> {
    let known = list(db)?.into_iter().find(|known| known.name.eq_ignore_ascii_case(&server.name));
    let Some(before) = known else {
        return AUTH_SERVER.change(db, |db| {
            db.execute(
                "INSERT INTO auth_server (name, metadata_url, document, fetched_at_ms) VALUES (?1, ?2, ?3, ?4)",
                params![server.name, server.metadata_url, server.document, server.fetched_at.map(milliseconds)],
            )?;
            Ok(UpsertOutcome::Created)
        });
    };
    let is_url_same = before.metadata_url == server.metadata_url;
    let (document, fetched_at) = match &server.document {
        None if is_url_same => (before.document, before.fetched_at),
        given => (given.clone(), server.fetched_at),
    };
    AUTH_SERVER.change(db, |db| {
        db.execute(
            "UPDATE auth_server SET metadata_url = ?2, document = ?3, fetched_at_ms = ?4 WHERE name = ?1",
            params![before.name, server.metadata_url, document, fetched_at.map(milliseconds)],
        )?;
        Ok(if is_url_same { UpsertOutcome::Unchanged } else { UpsertOutcome::Corrected })
    })
}

pub(super) fn keep_document(
    db: &Connection,
    of: &AuthServer,
    document: &[u8],
    at: UnixMs,
) -> Result<bool, Fault> {
    AUTH_SERVER.change(db, |db| {
        let changed = db.execute(
            "UPDATE auth_server SET document = ?3, fetched_at_ms = ?4
             WHERE name = ?1 COLLATE NOCASE AND metadata_url = ?2",
            params![of.name, of.metadata_url, document, milliseconds(at)],
        )?;
        Ok(changed == 1)
    })
}

pub(super) fn remove(db: &Connection, name: &str) -> Result<bool, Fault> {
    AUTH_SERVER.change(db, |db| {
        Ok(db.execute("DELETE FROM auth_server WHERE name = ?1 COLLATE NOCASE", [name])? == 1)
    })
}

fn server(row: &Row) -> rusqlite::Result<AuthServer> {
    let fetched_at: Option<i64> = row.get(3)?;
    Ok(AuthServer {
        name: row.get(0)?,
        metadata_url: row.get(1)?,
        document: row.get(2)?,
        fetched_at: fetched_at.map(instant),
    })
}
