//! The very first start: a new database is made whole beside its place and then linked into it, so that an empty or
//! half-made file at its place is always damage and never taken for a new one.

use super::connection::{connect, described};
use super::proxy;
use crate::store::{StoreError, keys, schema};
use crate::time::UnixMs;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Makes the database at `path`. Where two processes do so at once, the first one's stays.
pub(super) fn database(state_dir: &Path, path: &Path, now: UnixMs) -> Result<(), StoreError> {
    refuse_orphaned_log(path)?;
    let neighbor = path.with_extension(format!("db.new-{}-{:08x}", std::process::id(), fastrand::u32(..)));
    let made = fill(state_dir, &neighbor, now).and_then(|()| link(state_dir, &neighbor, path));
    // It was linked, or it is worth nothing; a failure to remove it harms nobody.
    fs::remove_file(&neighbor).ok();
    made
}

/// A log without its database would be played into the new one.
pub(super) fn refuse_orphaned_log(path: &Path) -> Result<(), StoreError> {
    let log = path.with_extension("db-wal");
    if !log.exists() {
        return Ok(());
    }
    let cause = format!("it is missing, but {} is there", log.display());
    Err(StoreError::Damaged { path: path.to_owned(), cause })
}

fn fill(state_dir: &Path, neighbor: &Path, now: UnixMs) -> Result<(), StoreError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(neighbor);
    made.and_then(|_| keys::belong_to_owner_of(state_dir, neighbor)).map_err(|cause| at(neighbor, cause))?;
    let mut db = connect(neighbor)?;
    let made = schema::migrate(&mut db, || Ok(()), |db| proxy::create(db, now));
    made.map_err(|fault| described(neighbor, fault))?;
    db.close().map_err(|(_, cause)| described(neighbor, cause.into()))
}

fn link(state_dir: &Path, neighbor: &Path, path: &Path) -> Result<(), StoreError> {
    match fs::hard_link(neighbor, path) {
        Err(cause) if cause.kind() != ErrorKind::AlreadyExists => Err(at(path, cause)),
        _ => File::open(state_dir).and_then(|dir| dir.sync_all()).map_err(|cause| at(state_dir, cause)),
    }
}

fn at(path: &Path, cause: io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), cause }
}
