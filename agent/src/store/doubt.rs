//! Notes of doubt in files: one small write before each batch leaves.
//!
//! What devices show is written behind. If the process is killed between a batch's departure and that write, a count
//! that went up and back down again meanwhile looks as if nothing had to be sent, and the badge stays wrong. So each
//! batch first notes its devices here, without waiting for the disk: a killed process leaves the note behind, and at the
//! next start nobody knows what those devices show. A page of notes is a row of 8-byte little-endian subscription keys,
//! each with a checksum of 4 bytes, and zeros behind them. Not a log of events: pages are thrown away whenever what devices
//! show has been stored. A page that holds anything else, or was cut off, puts everyone in doubt.
//!
//! Notes that do not wait for the disk are lost where the machine loses power, and cannot be made at all on a full disk.
//! Hence the marker: it holds the id of the boot in which the notes are whole, a clean end takes it away, and a note that
//! fails empties it, which no full disk prevents. A start that finds anything else in it doubts everyone.
//!
//! The order of these steps lives here; the files themselves are [`Pages`], `doubt-<n>` and `doubt.whole` in the state
//! directory ([`Folder`](super::pages::Folder)), or the memory of a test.

use super::StoreError;
use super::notes::{InDoubt, Notes};
use super::pages::{Folder, Pages};
use crate::event::SubscriptionKey;
use parking_lot::Mutex;
use std::path::Path;

/// Bytes of a key on a page.
const KEY_BYTES: usize = 8;
/// Bytes of a key with its checksum.
const RECORD_BYTES: usize = KEY_BYTES + 4;

/// The notes of this process.
#[derive(Debug)]
pub struct Doubt<P = Folder>(Mutex<Inner<P>>);

#[derive(Debug)]
struct Inner<P> {
    pages: P,
    /// The present page.
    turn: u64,
    /// A note failed since the page was turned.
    is_missing: bool,
    /// The marker says that the notes are whole.
    is_marked: bool,
    boot: String,
}

impl Doubt {
    /// Opens the notes in `folder` (the state directory).
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let (folder, boot) = Folder::open(folder);
        Self::on(folder, &boot)
    }
}

impl<P: Pages> Doubt<P> {
    /// Begins a page after those that there are. `boot` names the machine's present boot; empty: each boot counts as
    /// another.
    pub fn on(mut pages: P, boot: &str) -> Result<Self, StoreError> {
        let turn = pages.list()?.into_iter().max().unwrap_or(0) + 1;
        pages.begin(turn)?;
        let inner = Inner { pages, turn, is_missing: false, is_marked: false, boot: boot.to_owned() };
        Ok(Self(Mutex::new(inner)))
    }
}

impl<P: Pages> Notes for Doubt<P> {
    fn in_doubt(&self) -> Result<InDoubt, StoreError> {
        self.0.lock().in_doubt()
    }

    fn note(&self, devices: &[SubscriptionKey]) -> Result<(), StoreError> {
        self.0.lock().note(devices)
    }

    fn turn(&self) -> Result<(), StoreError> {
        self.0.lock().turn()
    }

    fn settle(&self) -> Result<(), StoreError> {
        self.0.lock().settle()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.0.lock().close()
    }
}

impl<P: Pages> Inner<P> {
    fn in_doubt(&self) -> Result<InDoubt, StoreError> {
        if !self.is_whole()? {
            return Ok(InDoubt::Everyone);
        }
        let mut keys = Vec::new();
        for turn in self.pages.list()? {
            let page = match self.pages.read(turn) {
                Err(StoreError::Damaged { path, cause }) => Err(format!("{}: {cause}", path.display())),
                page => Ok(page?),
            };
            match page
                .and_then(|page| keys_on(&page).ok_or_else(|| format!("doubt-{turn}: not what was noted")))
            {
                Ok(noted) => keys.extend(noted),
                Err(damage) => {
                    tracing::warn!("{damage}; all devices are in doubt, and their counts are sent anew");
                    return Ok(InDoubt::Everyone);
                }
            }
        }
        keys.sort_unstable();
        keys.dedup();
        Ok(InDoubt::These(keys))
    }

    /// Whether the notes name everyone who is in doubt: the last process ended cleanly, or in this very boot.
    fn is_whole(&self) -> Result<bool, StoreError> {
        Ok(self.pages.marker()?.is_none_or(|boot| boot == self.boot && !boot.is_empty()))
    }

    fn note(&mut self, devices: &[SubscriptionKey]) -> Result<(), StoreError> {
        let bytes: Vec<u8> = devices.iter().copied().flat_map(record).collect();
        let noted = self.pages.append(&bytes);
        if noted.is_err() {
            self.is_missing = true;
            if self.is_marked {
                self.pages.empty_marker()?;
                self.is_marked = false;
            }
        }
        noted
    }

    fn turn(&mut self) -> Result<(), StoreError> {
        self.pages.begin(self.turn + 1)?;
        self.turn += 1;
        self.is_missing = false;
        Ok(())
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        if !self.is_marked && !self.is_missing {
            self.pages.mark(&self.boot)?;
            self.is_marked = true;
        }
        for turn in self.pages.list()? {
            if turn < self.turn {
                self.pages.remove(turn)?;
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), StoreError> {
        if std::mem::take(&mut self.is_marked) { self.pages.remove_marker() } else { Ok(()) }
    }
}

/// A key as it is noted.
fn record(key: SubscriptionKey) -> impl Iterator<Item = u8> {
    key.0.to_le_bytes().into_iter().chain(checksum(key).to_le_bytes())
}

/// The last step of SplitMix64 (Steele, Lea, Flood 2014), in half: a changed bit changes each of its bits with a chance of a
/// half, and the checksum of 0 is not 0. A batch of hundreds of keys is noted before it leaves, so that it must be quick.
fn checksum(key: SubscriptionKey) -> u32 {
    let mixed = key.0.cast_unsigned().wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 32) as u32
}

/// The keys that a page begins with, where nothing else is on it.
fn keys_on(page: &[u8]) -> Option<Vec<SubscriptionKey>> {
    let is_noted = |record: &&[u8]| record.iter().any(|byte| *byte != 0);
    let noted: Vec<&[u8]> = page.chunks_exact(RECORD_BYTES).take_while(is_noted).collect();
    let rest = page.get(noted.len() * RECORD_BYTES..)?;
    if rest.iter().any(|byte| *byte != 0) {
        return None;
    }
    let key = |bytes: &[u8]| {
        let (key, sum) = bytes.split_first_chunk::<KEY_BYTES>()?;
        let key = SubscriptionKey(i64::from_le_bytes(*key));
        (sum == checksum(key).to_le_bytes()).then_some(key)
    };
    noted.into_iter().map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn keys(numbers: &[i64]) -> Vec<SubscriptionKey> {
        numbers.iter().copied().map(SubscriptionKey).collect()
    }

    fn these(numbers: &[i64]) -> InDoubt {
        InDoubt::These(keys(numbers))
    }

    /// Opened and settled, as a daemon does when it starts; with whom it found in doubt.
    fn start(folder: &Path, boot: &str) -> (Doubt, InDoubt) {
        let (doubt, before) = open(folder, boot);
        doubt.settle().unwrap();
        (doubt, before)
    }

    fn open(folder: &Path, boot: &str) -> (Doubt, InDoubt) {
        let doubt = Doubt::on(Folder::open(folder).0, boot).unwrap();
        let before = doubt.in_doubt().unwrap();
        (doubt, before)
    }

    #[test]
    fn what_was_noted_and_not_settled_is_in_doubt_after_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let (doubt, before) = start(folder.path(), "boot 1");
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
        let (doubt, _) = start(folder.path(), "boot 1");
        doubt.note(&keys(&[1])).unwrap();
        doubt.turn().unwrap();
        doubt.note(&keys(&[2])).unwrap();
        doubt.settle().unwrap();
        drop(doubt);
        assert_eq!(start(folder.path(), "boot 1").1, these(&[2]));
    }

    /// Whom the next start doubts after `damage` was done to the one page, on which keys 1 and 2 are noted.
    fn after(damage: impl FnOnce(&mut Vec<u8>)) -> InDoubt {
        let folder = tempfile::tempdir().unwrap();
        let (doubt, _) = start(folder.path(), "boot 1");
        doubt.note(&keys(&[1, 2])).unwrap();
        drop(doubt);
        let page = folder.path().join("doubt-1");
        let mut bytes = fs::read(&page).unwrap();
        damage(&mut bytes);
        fs::write(&page, bytes).unwrap();
        open(folder.path(), "boot 1").1
    }

    #[test]
    fn a_page_that_is_not_what_was_noted_puts_everyone_in_doubt() {
        assert_eq!(after(|_| ()), these(&[1, 2]));
        for place in 0..=2 * RECORD_BYTES {
            assert_eq!(after(|page| page[place] ^= 64), InDoubt::Everyone, "byte {place}");
        }
        for kept in [0, RECORD_BYTES, 2 * RECORD_BYTES, 2 * RECORD_BYTES + 5, 4095] {
            assert_eq!(after(|page| page.truncate(kept)), InDoubt::Everyone, "{kept} bytes kept");
        }
    }

    #[test]
    fn a_page_goes_on_behind_what_fills_its_first_block() {
        let folder = tempfile::tempdir().unwrap();
        let (doubt, _) = start(folder.path(), "boot 1");
        let many: Vec<i64> = (1..=1000).collect();
        for some in many.chunks(300) {
            doubt.note(&keys(some)).unwrap();
        }
        drop(doubt);
        assert_eq!(open(folder.path(), "boot 1").1, these(&many));
    }

    #[test]
    fn a_marker_that_is_no_text_is_of_no_boot() {
        let folder = tempfile::tempdir().unwrap();
        drop(start(folder.path(), "boot 1"));
        fs::write(folder.path().join("doubt.whole"), [0xff, 0xfe]).unwrap();
        assert_eq!(open(folder.path(), "boot 1").1, InDoubt::Everyone);
    }

    /// Seeds 199 flaky and its like: a count that went up and down again around a loss of power.
    #[test]
    fn after_a_loss_of_power_everyone_is_in_doubt_unless_the_end_was_clean() {
        let folder = tempfile::tempdir().unwrap();
        let (doubt, _) = start(folder.path(), "boot 1");
        doubt.note(&keys(&[1])).unwrap();
        drop(doubt);
        let (doubt, before) = open(folder.path(), "boot 2");
        assert_eq!(before, InDoubt::Everyone);
        assert_eq!(open(folder.path(), "boot 2").1, InDoubt::Everyone, "until it is settled");
        doubt.settle().unwrap();
        doubt.close().unwrap();
        assert_eq!(start(folder.path(), "boot 3").1, these(&[]));
        assert_eq!(start(folder.path(), "").1, InDoubt::Everyone, "boots that cannot be told apart");
    }

    /// Seed 15 outage: a full disk, then a kill.
    #[test]
    fn a_note_that_failed_puts_everyone_in_doubt_until_all_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let (doubt, _) = start(folder.path(), "boot 1");
        doubt.0.lock().pages.break_page();
        doubt.note(&keys(&[1])).unwrap_err();
        assert_eq!(open(folder.path(), "boot 1").1, InDoubt::Everyone);
        doubt.settle().unwrap();
        assert_eq!(open(folder.path(), "boot 1").1, InDoubt::Everyone, "not stored since");
        doubt.turn().unwrap();
        doubt.settle().unwrap();
        assert_eq!(open(folder.path(), "boot 1").1, these(&[]));
    }
}
