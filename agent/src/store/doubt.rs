//! Which devices were being told something when the process ended: one small write before each batch leaves.
//!
//! What devices show is written behind. Were the process killed between a batch's departure and that write, a count
//! that went up and back down again meanwhile would look as if nothing had to be sent, and the badge would stay wrong.
//! So each batch first notes its devices here, without waiting for the disk: a killed process leaves the note behind,
//! and at the next start those devices show nobody knows what. Layout: `doubt-<n>` files of 8-byte little-endian
//! subscription keys. Not a log of events: it is thrown away whenever what devices show has been stored.

use super::StoreError;
use crate::event::SubscriptionKey;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes of a key in the file.
const KEY_BYTES: usize = 8;

/// The notes of this process.
#[derive(Debug)]
pub struct Doubt {
    folder: PathBuf,
    turn: u64,
    file: File,
}

impl Doubt {
    /// Opens the notes in `folder` (the state directory) and tells which devices the last process left in doubt.
    /// Store those as showing nothing known, then call [`Doubt::settle`].
    pub fn open(folder: &Path) -> Result<(Self, Vec<SubscriptionKey>), StoreError> {
        let mut keys = Vec::new();
        let mut last = 0;
        for (turn, path) in notes(folder)? {
            let bytes = fs::read(&path).map_err(|cause| StoreError::Io { path, cause })?;
            keys.extend(bytes.chunks_exact(KEY_BYTES).filter_map(key));
            last = last.max(turn);
        }
        keys.sort_unstable();
        keys.dedup();
        let turn = last + 1;
        let file = create(folder, turn)?;
        Ok((Self { folder: folder.to_owned(), turn, file }, keys))
    }

    /// Notes that these devices are about to be told something.
    pub fn note(&mut self, keys: &[SubscriptionKey]) -> Result<(), StoreError> {
        let bytes: Vec<u8> = keys.iter().flat_map(|key| key.0.to_le_bytes()).collect();
        let path = || path(&self.folder, self.turn);
        self.file.write_all(&bytes).map_err(|cause| StoreError::Io { path: path(), cause })
    }

    /// Begins a new page: call before what devices show is collected for storing.
    pub fn turn(&mut self) -> Result<(), StoreError> {
        self.file = create(&self.folder, self.turn + 1)?;
        self.turn += 1;
        Ok(())
    }

    /// Throws all pages but the present one away: what devices show was stored since the last [`Doubt::turn`].
    pub fn settle(&mut self) -> Result<(), StoreError> {
        for (turn, path) in notes(&self.folder)? {
            if turn < self.turn {
                fs::remove_file(&path).map_err(|cause| StoreError::Io { path, cause })?;
            }
        }
        Ok(())
    }
}

fn key(bytes: &[u8]) -> Option<SubscriptionKey> {
    Some(SubscriptionKey(i64::from_le_bytes(bytes.try_into().ok()?)))
}

fn path(folder: &Path, turn: u64) -> PathBuf {
    folder.join(format!("doubt-{turn}"))
}

fn create(folder: &Path, turn: u64) -> Result<File, StoreError> {
    let path = path(folder, turn);
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    options.open(&path).map_err(|cause| StoreError::Io { path, cause })
}

/// The pages in the folder, with their turns.
fn notes(folder: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let failed = |cause| StoreError::Io { path: folder.to_owned(), cause };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(turn) = name.strip_prefix("doubt-").and_then(|turn| turn.parse().ok()) {
            found.push((turn, path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(numbers: &[i64]) -> Vec<SubscriptionKey> {
        numbers.iter().copied().map(SubscriptionKey).collect()
    }

    #[test]
    fn what_was_noted_and_not_settled_is_in_doubt_after_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let (mut doubt, before) = Doubt::open(folder.path()).unwrap();
        assert_eq!(before, []);
        doubt.note(&keys(&[7, 3])).unwrap();
        doubt.turn().unwrap();
        doubt.note(&keys(&[3, 9])).unwrap();
        drop(doubt);
        let (mut doubt, before) = Doubt::open(folder.path()).unwrap();
        assert_eq!(before, keys(&[3, 7, 9]));
        doubt.settle().unwrap();
        drop(doubt);
        assert_eq!(Doubt::open(folder.path()).unwrap().1, []);
    }

    #[test]
    fn settling_keeps_what_was_noted_since_the_page_was_turned() {
        let folder = tempfile::tempdir().unwrap();
        let (mut doubt, _) = Doubt::open(folder.path()).unwrap();
        doubt.note(&keys(&[1])).unwrap();
        doubt.turn().unwrap();
        doubt.note(&keys(&[2])).unwrap();
        doubt.settle().unwrap();
        drop(doubt);
        assert_eq!(Doubt::open(folder.path()).unwrap().1, keys(&[2]));
    }

    #[test]
    fn a_torn_last_key_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(path(folder.path(), 4), [1, 0, 0, 0, 0, 0, 0, 0, 9, 9]).unwrap();
        assert_eq!(Doubt::open(folder.path()).unwrap().1, keys(&[1]));
    }
}
