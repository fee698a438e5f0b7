//! The process table's SQL: when the newest daemon started, as notification ids say it.

use super::subscription::{instant, milliseconds};
use crate::store::checksum::{Fault, PROCESS};
use crate::time::UnixMs;
use rusqlite::Connection;

pub(super) fn begin(db: &Connection, now: UnixMs) -> Result<UnixMs, Fault> {
    let earliest = last(db)?.seconds() + 1;
    let start = UnixMs::from_seconds(now.seconds().max(earliest));
    PROCESS.change(db, |db| {
        db.execute("UPDATE process SET started_at_ms = ?1 WHERE only = 1", [milliseconds(start)])?;
        Ok(start)
    })
}

fn last(db: &Connection) -> Result<UnixMs, Fault> {
    PROCESS.one(db, |row| row.get(1).map(instant))
}
