//! What a daemon takes over at its start: the store, the notes of doubt, and the state directory for itself alone.

use super::state_place::StatePlace;
use super::{RunError, ledger};
use crate::config::Config;
use crate::ledger::start;
use crate::store::doubt::Doubt;
use crate::store::notes::Notes;
use crate::store::{DAEMON_LOCK, SqliteStore, StoreError};
use crate::time::UnixMs;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Written to find out whether there is room: more than a start takes.
const PROBE_BYTES: usize = 256 * 1024;

/// The state of a daemon that has begun.
pub(super) struct State {
    pub(super) store: Arc<SqliteStore>,
    pub(super) notes: Arc<dyn Notes>,
    /// The process's start as notification ids name it.
    pub(super) started_at: UnixMs,
    pub(super) place: StatePlace,
    /// The state directory is this daemon's alone while this is open.
    pub(super) lock: File,
}

impl State {
    /// Opens it and begins a process in it.
    pub(super) fn open(config: &Config, now: UnixMs) -> Result<Self, RunError> {
        let folder = &*config.state_dir;
        let store = Arc::new(SqliteStore::open(folder)?);
        let lock = lock(folder)?;
        ledger::verify(&store)?;
        let place = StatePlace::of([folder, store.path(), &*lock_path(folder)]);
        let place = place.map_err(|cause| RunError::Io { what: "looking at the state".to_owned(), cause })?;
        let notes: Arc<dyn Notes> = Arc::new(Doubt::open(folder)?);
        let started_at = start(&*store, &*notes, now)?;
        Ok(Self { store, notes, started_at, place, lock })
    }
}

/// Whether it may be usable later without anybody's help but room on the disk: a full or failing disk, or a lock that
/// another process holds for long.
pub(super) fn is_passing(error: &RunError) -> bool {
    match error {
        RunError::Store(StoreError::Io { cause, .. }) | RunError::Io { cause, .. } => {
            !matches!(cause.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound)
        }
        RunError::Store(StoreError::Database { .. } | StoreError::Locked { .. }) => true,
        _ => false,
    }
}

/// Whether the disk takes what a start writes. Asked before a start is tried again, since each that fails half-way leaves
/// an empty page of notes; and the system's word for a full disk is clearer than the database's.
pub(super) fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join("room.probe");
    let probed = File::create(&path).and_then(|mut file| {
        file.write_all(&vec![0; PROBE_BYTES])?;
        file.sync_all()
    });
    // Where it was not made there is nothing to remove.
    std::fs::remove_file(&path).ok();
    probed
}

/// Holds the state directory for this daemon alone, as long as the file is open.
pub fn lock(state_dir: &Path) -> Result<File, RunError> {
    let path = lock_path(state_dir);
    let io = |cause| RunError::Io { what: path.display().to_string(), cause };
    let file = File::options().create(true).append(true).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(RunError::AlreadyRunning { path }),
        Err(std::fs::TryLockError::Error(cause)) => Err(io(cause)),
    }
}

/// Where it is held.
pub fn lock_path(state_dir: &Path) -> PathBuf {
    state_dir.join(DAEMON_LOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_passes_and_a_missing_database_does_not() {
        let full =
            |cause: ErrorKind| RunError::Store(StoreError::Io { path: "d".into(), cause: cause.into() });
        assert!(
            is_passing(&full(ErrorKind::StorageFull)) && is_passing(&full(ErrorKind::ReadOnlyFilesystem))
        );
        assert!(is_passing(&RunError::Store(StoreError::Locked { path: "d".into() })));
        assert!(!is_passing(&full(ErrorKind::PermissionDenied)));
        assert!(!is_passing(&RunError::Store(StoreError::Missing { path: "d".into() })));
        assert!(!is_passing(&RunError::AlreadyRunning { path: "d".into() }));
        let damaged = StoreError::Damaged { path: "d".into(), cause: "torn".to_owned() };
        assert!(!is_passing(&RunError::Store(damaged)));
    }

    #[test]
    fn a_probe_for_room_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        probe(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        probe(&folder.path().join("missing")).unwrap_err();
    }
}
