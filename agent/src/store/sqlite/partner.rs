//! The partner application table's SQL.

use crate::identity::partner::PartnerApplication;
use crate::store::checksum::{Fault, PARTNER};
use rusqlite::{Connection, params};

pub(super) fn list(db: &Connection) -> Result<Vec<PartnerApplication>, Fault> {
    PARTNER.all(db, "name COLLATE NOCASE", |row| {
        Ok(PartnerApplication {
            name: row.get(0)?,
            application_id: row.get(1)?,
            realm: row.get(2)?,
            metadata_url: row.get(3)?,
        })
    })
}

pub(super) fn add(db: &Connection, partner: &PartnerApplication) -> Result<bool, Fault> {
    PARTNER.change(db, |db| {
        let added = db.execute(
            "INSERT INTO partner_application (name, application_id, realm, metadata_url) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
            params![partner.name, partner.application_id, partner.realm, partner.metadata_url],
        )?;
        Ok(added == 1)
    })
}

pub(super) fn remove(db: &Connection, name: &str) -> Result<bool, Fault> {
    PARTNER.change(db, |db| Ok(db.execute("DELETE FROM partner_application WHERE name = ?1", [name])? == 1))
}
