//! SQLite's write-ahead log (<https://sqlite.org/walformat.html>): folded into the database after each transaction, and
//! refused where it is damaged.
//!
//! SQLite takes the first frame whose checksum is wrong for the end of what was written. It is that where power was lost in
//! the middle of the last transaction. Where a further transaction follows, the frame was changed after it was written: then
//! SQLite would drop acknowledged transactions silently.

use crate::store::checksum::Fault;
use rusqlite::Connection;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// What a log begins with, the last bit aside, which names the byte order of its checksums.
const MAGIC: u32 = 0x377f_0682;
const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The size of pages that SQLite gives a new database.
const PAGE_BYTES: usize = 4096;
/// Logs are folded in all the time; one that is larger was left behind by a flood, and a part of it must do.
const LOG_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Moves what the log holds into the database, so that damage finds little in it. What a reader still needs stays for the
/// next time; so does all where that fails.
pub(super) fn fold_in(db: &Connection, lock_timeout: Duration) {
    let folded = || {
        db.busy_timeout(Duration::ZERO)?;
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    };
    if let Err(error) = folded() {
        tracing::debug!(%error, "the log stays for the next time");
    }
    if let Err(error) = db.busy_timeout(lock_timeout) {
        tracing::debug!(%error, "no time to wait for a lock");
    }
}

/// Refuses a log in which a whole transaction follows a damaged one. Nobody else may write meanwhile.
pub(super) fn refuse_torn(database: &Path) -> Result<(), Fault> {
    // Where it cannot be read, SQLite says so.
    let log = fs::read(database.with_extension("db-wal")).unwrap_or_default();
    if is_torn(log.get(..LOG_BYTES_MAX).unwrap_or(&log)) {
        return Err(Fault::Damage("its log is not what was written".to_owned()));
    }
    Ok(())
}

fn is_torn(log: &[u8]) -> bool {
    let Some((header, frames)) = log.split_at_checked(HEADER_BYTES) else { return false };
    let magic = number(header, 0);
    let is_big_endian = if magic & !1 == MAGIC { magic & 1 == 1 } else { cfg!(target_endian = "big") };
    let summed = |(s0, s1): (u32, u32), bytes: &[u8]| {
        bytes.chunks_exact(8).fold((s0, s1), |(s0, s1), eight| {
            let word = |place| {
                let word = number(eight, place);
                if is_big_endian { word } else { word.swap_bytes() }
            };
            let s0 = s0.wrapping_add(word(0)).wrapping_add(s1);
            (s0, s1.wrapping_add(word(4)).wrapping_add(s0))
        })
    };
    let stored = |bytes: &[u8], place| (number(bytes, place), number(bytes, place + 4));
    let is_header_whole =
        magic & !1 == MAGIC && summed((0, 0), header.get(..24).unwrap_or_default()) == stored(header, 24);
    let page = if is_header_whole { number(header, 8) as usize } else { PAGE_BYTES };
    let salts = stored(header, 16);
    // Whether all frames so far follow, each from the one before it as that one is stored; and the commits since the first
    // that does not. A commit waited for the disk, and so did the header.
    let (mut before, mut is_whole, mut commits) = (stored(header, 24), is_header_whole, 0);
    if !is_header_whole {
        commits = 1;
    }
    for frame in frames.chunks_exact(page.saturating_add(FRAME_HEADER_BYTES)) {
        let sum = frame.get(..8).map(|head| summed(before, head));
        let sum = sum.zip(frame.get(FRAME_HEADER_BYTES..)).map(|(sum, page)| summed(sum, page));
        let is_ours = !is_header_whole || stored(frame, 8) == salts;
        let follows = is_ours && sum == Some(stored(frame, 16));
        let is_first_damage = is_whole && !follows;
        is_whole &= follows;
        let is_commit = is_ours && number(frame, 4) != 0;
        if !is_whole && is_commit && (follows || is_first_damage) {
            commits += 1;
        }
        before = stored(frame, 16);
    }
    commits > 1
}

/// A number of 4 bytes, the highest first.
fn number(bytes: &[u8], place: usize) -> u32 {
    let four = bytes.get(place..).and_then(|rest| rest.first_chunk());
    four.map_or(0, |four| u32::from_be_bytes(*four))
}
