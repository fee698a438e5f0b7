//! How the database is opened: what is no database of ours, damaged or newer is refused and left as it is.

use super::{LOCK_TIMEOUT, log};
use crate::store::checksum::{self, Fault};
use crate::store::{DAEMON_LOCK, StoreError, schema};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags};
use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::Path;

/// Statements kept prepared.
const STATEMENTS_MAX: usize = 64;
/// Where a database's header says by which version of SQLite's file format it may be written.
const WRITE_VERSION: usize = 18;

/// Connects, and does no more.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connect = || {
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(LOCK_TIMEOUT)?;
        checksum::register(&db)?;
        Ok(db)
    };
    connect().map_err(|cause: Error| described(path, cause.into()))
}

/// Looks whether it is ours and whole as far as that shows at once, and brings it up to date.
pub(super) fn open(path: &Path, db: &mut Connection) -> Result<(), Fault> {
    // Until it is known to be whole.
    leave_log(db)?;
    refuse_header(path)?;
    match schema::look(db)? {
        schema::Found::Version(found) if found < schema::VERSION => refuse_beside_daemon(path)?,
        schema::Found::Version(_) => {}
        schema::Found::Foreign => return Err(Fault::Damage("the database of another program".to_owned())),
    }
    configure(db)?;
    schema::migrate(db, || log::refuse_torn(path), |_| Ok(()))?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(())
}

/// A daemon of an older version, from before an update of its package, would go on writing rows without checksums.
fn refuse_beside_daemon(path: &Path) -> Result<(), Fault> {
    // Where it cannot be opened nobody holds it, or nobody but root could tell.
    let Ok(lock) = File::open(path.with_file_name(DAEMON_LOCK)) else { return Ok(()) };
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Fault::OlderDaemon),
        _ => Ok(()),
    }
}

/// Leaves the log as it is when the database is closed: the last one who closes would fold it in and remove it.
pub(super) fn leave_log(db: &Connection) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)
}

/// Refuses what SQLite would take for a file that nobody may write.
pub(super) fn refuse_header(path: &Path) -> Result<(), Fault> {
    let mut header = Vec::new();
    let read = File::open(path).and_then(|file| file.take(WRITE_VERSION as u64 + 1).read_to_end(&mut header));
    // What cannot be read SQLite reports.
    match header.get(WRITE_VERSION) {
        _ if read.is_err() => Ok(()),
        None => Err(Fault::Damage("the file is empty".to_owned())),
        Some(1 | 2) => Ok(()),
        Some(_) => Err(Fault::Damage("the header is not what was stored".to_owned())),
    }
}

fn configure(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", true)?;
    db.pragma_update(None, "cell_size_check", true)?;
    db.pragma_update(None, "trusted_schema", false)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(())
}

pub(super) fn data_version(db: &Connection) -> rusqlite::Result<i64> {
    db.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

pub(super) fn described(path: &Path, fault: Fault) -> StoreError {
    let path = path.to_owned();
    match fault {
        Fault::Damage(cause) => StoreError::Damaged { path, cause },
        Fault::OlderDaemon => StoreError::OlderDaemon { path },
        Fault::Newer(found) => StoreError::Newer { path, found, known: schema::VERSION },
        Fault::Sql(cause) => match cause.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked { path },
            _ => StoreError::Database { path, cause },
        },
    }
}
