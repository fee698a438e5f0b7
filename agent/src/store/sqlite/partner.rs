//! The partner application table's SQL.

use crate::identity::partner::PartnerApplication;
use rusqlite::{Connection, params};

pub(super) fn list(db: &Connection) -> rusqlite::Result<Vec<PartnerApplication>> {
    let mut select = db.prepare_cached(
        "SELECT name, application_id, realm, metadata_url FROM partner_application ORDER BY name",
    )?;
    let rows = select.query_map([], |row| {
        Ok(PartnerApplication {
            name: row.get(0)?,
            application_id: row.get(1)?,
            realm: row.get(2)?,
            metadata_url: row.get(3)?,
        })
    })?;
    rows.collect()
}

pub(super) fn add(db: &Connection, partner: &PartnerApplication) -> rusqlite::Result<bool> {
    let added = db.execute(
        "INSERT INTO partner_application (name, application_id, realm, metadata_url) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO NOTHING",
        params![partner.name, partner.application_id, partner.realm, partner.metadata_url],
    )?;
    Ok(added == 1)
}

pub(super) fn remove(db: &Connection, name: &str) -> rusqlite::Result<bool> {
    Ok(db.execute("DELETE FROM partner_application WHERE name = ?1", [name])? == 1)
}
