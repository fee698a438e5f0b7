//! The process table's SQL: when the newest daemon started, as notification ids say it.

use super::subscription::{instant, milliseconds};
use crate::time::UnixMs;
use rusqlite::Connection;

pub(super) fn begin(db: &Connection, now: UnixMs) -> rusqlite::Result<UnixMs> {
    let last = db
        .query_row("SELECT started_at_ms FROM process WHERE only = 1", [], |row| row.get(0))
        .map(instant)?;
    let earliest = last.seconds() + 1;
    let start = UnixMs::from_seconds(now.seconds().max(earliest));
    db.execute("UPDATE process SET started_at_ms = ?1 WHERE only = 1", [milliseconds(start)])?;
    Ok(start)
}
