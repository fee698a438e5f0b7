//! Which devices were being told something when the process ended: one small write before each batch leaves.
//!
//! What devices show is written behind. Were the process killed between a batch's departure and that write, a count
//! that went up and back down again meanwhile would look as if nothing had to be sent, and the badge would stay wrong.
//! So each batch first notes its devices here, without waiting for the disk: a killed process leaves the note behind,
//! and at the next start those devices show nobody knows what. Layout: `doubt-<n>` files of 8-byte little-endian
//! subscription keys. Not a log of events: it is thrown away whenever what devices show has been stored.
//!
//! Notes that do not wait for the disk are lost where the machine loses power, and cannot be made at all on a full disk.
//! Hence the file `doubt.whole`: it holds the id of the boot in which the notes are whole, a clean end takes it away, and a
//! note that fails empties it, which no full disk prevents. A start that finds anything else in it doubts everyone.

use super::StoreError;
use crate::event::SubscriptionKey;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes of a key in the file.
const KEY_BYTES: usize = 8;
/// Says that the notes are whole, and since which boot.
const WHOLE: &str = "doubt.whole";
/// Where Linux tells one boot from another.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Of whom nobody knows what they show, after a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InDoubt {
    /// Of these.
    These(Vec<SubscriptionKey>),
    /// Of everyone: the notes are not whole.
    Everyone,
}

/// The notes of this process.
#[derive(Debug)]
pub struct Doubt {
    folder: PathBuf,
    turn: u64,
    file: File,
    /// A note failed since the page was turned.
    is_missing: bool,
    /// What `doubt.whole` is held open by, while it says that the notes are whole.
    whole: Option<File>,
    boot: String,
}

impl Doubt {
    /// Opens the notes in `folder` (the state directory) and tells which devices the last process left in doubt.
    /// Store those as showing nothing known, then call [`Doubt::settle`].
    pub fn open(folder: &Path) -> Result<(Self, InDoubt), StoreError> {
        // Where the system does not tell its boots apart, each counts as another.
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
        Self::open_in(folder, boot.trim())
    }

    fn open_in(folder: &Path, boot: &str) -> Result<(Self, InDoubt), StoreError> {
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
        let in_doubt = if is_whole(folder, boot)? { InDoubt::These(keys) } else { InDoubt::Everyone };
        let (folder, boot) = (folder.to_owned(), boot.to_owned());
        Ok((Self { folder, turn, file, is_missing: false, whole: None, boot }, in_doubt))
    }

    /// Notes that these devices are about to be told something.
    pub fn note(&mut self, keys: &[SubscriptionKey]) -> Result<(), StoreError> {
        let bytes: Vec<u8> = keys.iter().flat_map(|key| key.0.to_le_bytes()).collect();
        let noted = self.file.write_all(&bytes);
        if noted.is_err() {
            self.is_missing = true;
            if let Some(whole) = self.whole.take() {
                whole.set_len(0).map_err(io_at(self.folder.join(WHOLE)))?;
            }
        }
        noted.map_err(io_at(path(&self.folder, self.turn)))
    }

    /// Begins a new page: call before what devices show is collected for storing.
    pub fn turn(&mut self) -> Result<(), StoreError> {
        self.file = create(&self.folder, self.turn + 1)?;
        self.turn += 1;
        self.is_missing = false;
        Ok(())
    }

    /// Throws all pages but the present one away: what devices show was stored since the last [`Doubt::turn`].
    pub fn settle(&mut self) -> Result<(), StoreError> {
        if self.whole.is_none() && !self.is_missing {
            self.whole = Some(say_whole(&self.folder, &self.boot)?);
        }
        for (turn, path) in notes(&self.folder)? {
            if turn < self.turn {
                fs::remove_file(&path).map_err(|cause| StoreError::Io { path, cause })?;
            }
        }
        Ok(())
    }

    /// A clean end: nothing is in flight, and what devices show was stored. Whoever starts next, after whatever boot,
    /// doubts only what is noted.
    pub fn close(&mut self) -> Result<(), StoreError> {
        if self.whole.take().is_none() {
            return Ok(());
        }
        let path = self.folder.join(WHOLE);
        fs::remove_file(&path).map_err(io_at(path))
    }
}

fn io_at(path: PathBuf) -> impl FnOnce(io::Error) -> StoreError {
    |cause| StoreError::Io { path, cause }
}

/// Whether the notes tell of everyone who is in doubt: the last process ended cleanly, or in this very boot.
fn is_whole(folder: &Path, boot: &str) -> Result<bool, StoreError> {
    let path = folder.join(WHOLE);
    match fs::read_to_string(&path) {
        Ok(said) => Ok(said == boot && !boot.is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(cause) => Err(StoreError::Io { path, cause }),
    }
}

/// Before the first note, and waiting for the disk: after a loss of power it must be there.
fn say_whole(folder: &Path, boot: &str) -> Result<File, StoreError> {
    let path = folder.join(WHOLE);
    let say = || {
        let mut options = OpenOptions::new();
        let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(boot.as_bytes())?;
        file.sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok(file)
    };
    say().map_err(io_at(path.clone()))
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

    fn these(numbers: &[i64]) -> InDoubt {
        InDoubt::These(keys(numbers))
    }

    /// Opened and settled, as a daemon does when it starts; with whom it found in doubt.
    fn start(folder: &Path, boot: &str) -> (Doubt, InDoubt) {
        let (mut doubt, before) = Doubt::open_in(folder, boot).unwrap();
        doubt.settle().unwrap();
        (doubt, before)
    }

    #[test]
    fn what_was_noted_and_not_settled_is_in_doubt_after_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let (mut doubt, before) = start(folder.path(), "boot 1");
        assert_eq!(before, these(&[]));
        doubt.note(&keys(&[7, 3])).unwrap();
        doubt.turn().unwrap();
        doubt.note(&keys(&[3, 9])).unwrap();
        drop(doubt);
        assert_eq!(start(folder.path(), "boot 1").1, these(&[3, 7, 9]));
        assert_eq!(start(folder.path(), "boot 1").1, these(&[]));
    }

    #[test]
    fn settling_keeps_what_was_noted_since_the_page_was_turned() {
        let folder = tempfile::tempdir().unwrap();
        let (mut doubt, _) = start(folder.path(), "boot 1");
        doubt.note(&keys(&[1])).unwrap();
        doubt.turn().unwrap();
        doubt.note(&keys(&[2])).unwrap();
        doubt.settle().unwrap();
        drop(doubt);
        assert_eq!(start(folder.path(), "boot 1").1, these(&[2]));
    }

    #[test]
    fn a_torn_last_key_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(path(folder.path(), 4), [1, 0, 0, 0, 0, 0, 0, 0, 9, 9]).unwrap();
        assert_eq!(Doubt::open(folder.path()).unwrap().1, these(&[1]));
    }

    /// Seeds 199 flaky and its like: a count that went up and down again around a loss of power.
    #[test]
    fn after_a_loss_of_power_everyone_is_in_doubt_unless_the_end_was_clean() {
        let folder = tempfile::tempdir().unwrap();
        let (mut doubt, _) = start(folder.path(), "boot 1");
        doubt.note(&keys(&[1])).unwrap();
        drop(doubt);
        let (mut doubt, before) = Doubt::open_in(folder.path(), "boot 2").unwrap();
        assert_eq!(before, InDoubt::Everyone);
        assert_eq!(
            Doubt::open_in(folder.path(), "boot 2").unwrap().1,
            InDoubt::Everyone,
            "until it is settled"
        );
        doubt.settle().unwrap();
        doubt.close().unwrap();
        assert_eq!(start(folder.path(), "boot 3").1, these(&[]));
        assert_eq!(start(folder.path(), "").1, InDoubt::Everyone, "boots that cannot be told apart");
    }

    /// Seed 15 outage: a full disk, then a kill.
    #[test]
    fn a_note_that_failed_puts_everyone_in_doubt_until_all_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let (mut doubt, _) = start(folder.path(), "boot 1");
        doubt.file = File::open(path(folder.path(), 1)).unwrap();
        doubt.note(&keys(&[1])).unwrap_err();
        assert_eq!(Doubt::open_in(folder.path(), "boot 1").unwrap().1, InDoubt::Everyone);
        doubt.settle().unwrap();
        assert_eq!(Doubt::open_in(folder.path(), "boot 1").unwrap().1, InDoubt::Everyone, "not stored since");
        doubt.turn().unwrap();
        doubt.settle().unwrap();
        assert_eq!(Doubt::open_in(folder.path(), "boot 1").unwrap().1, these(&[]));
    }
}
