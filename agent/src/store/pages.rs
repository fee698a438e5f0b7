//! The files that notes of doubt are kept in. What is written when is [`doubt`](super::doubt)'s.
//!
//! A file is a number of whole blocks, and ends with zeros behind what was written: one that was cut off shows.

use super::StoreError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The marker's name in the folder.
const MARKER: &str = "doubt.whole";
/// Where Linux tells one boot from another.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// A page's file grows by so many bytes.
const BLOCK_BYTES: u64 = 4096;
/// So many zeros at least are behind what was written.
const END_BYTES: usize = 16;

/// Pages of notes, by number, and a marker beside them.
pub trait Pages: Send {
    /// The pages that there are, in any order.
    fn list(&self) -> Result<Vec<u64>, StoreError>;
    /// What is on a page; zeros may follow. [`StoreError::Damaged`] where it was cut off.
    fn read(&self, page: u64) -> Result<Vec<u8>, StoreError>;
    /// Begins a page, or goes on with one that there is: [`Pages::append`] writes there from now on.
    fn begin(&mut self, page: u64) -> Result<(), StoreError>;
    /// Writes to the present page, without waiting for the disk. After an error a part may have been written.
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError>;
    /// Throws a page away.
    fn remove(&mut self, page: u64) -> Result<(), StoreError>;
    /// What the marker holds; `None` where there is none.
    fn marker(&self) -> Result<Option<String>, StoreError>;
    /// Has the marker hold this, and waits for the disk: after a loss of power it is there.
    fn mark(&mut self, boot: &str) -> Result<(), StoreError>;
    /// Empties the marker that [`Pages::mark`] made. Needs no room on the disk.
    fn empty_marker(&mut self) -> Result<(), StoreError>;
    /// Takes the marker away.
    fn remove_marker(&mut self) -> Result<(), StoreError>;
}

/// `doubt-<n>` and `doubt.whole` in a folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    page: Option<Present>,
    /// Held open, so that it can be emptied whatever else fails.
    marker: Option<File>,
}

/// The page that is written to.
#[derive(Debug)]
struct Present {
    path: PathBuf,
    file: File,
    /// Where the next bytes go.
    end: u64,
    /// Its file's length.
    length: u64,
}

impl Present {
    fn open(path: PathBuf) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path)?;
        let end = file.metadata()?.len();
        let mut page = Self { path, file, end, length: end };
        page.make_room(0)?;
        Ok(page)
    }

    fn make_room(&mut self, bytes: usize) -> io::Result<()> {
        let needed = (self.end + (bytes + END_BYTES) as u64).next_multiple_of(BLOCK_BYTES);
        if needed > self.length {
            self.file.set_len(needed)?;
            self.length = needed;
        }
        Ok(())
    }

    /// What fails in the middle is written over the next time.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.make_room(bytes.len())?;
        self.file.write_all_at(bytes, self.end)?;
        self.end += bytes.len() as u64;
        Ok(())
    }
}

impl Folder {
    /// The pages in this folder, and the id of the machine's boot; empty where the system does not tell its boots apart.
    pub(super) fn open(path: &Path) -> (Self, String) {
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
        (Self { path: path.to_owned(), page: None, marker: None }, boot)
    }

    /// From now on nothing can be written to the present page.
    #[cfg(test)]
    pub(super) fn break_page(&mut self) {
        if let Some(page) = &mut self.page {
            page.file = File::open(&page.path).expect("the page is there");
        }
    }

    fn page(&self, page: u64) -> PathBuf {
        self.path.join(format!("doubt-{page}"))
    }
}

/// Throws all notes in `folder` away: of a store that knows of nobody what he shows.
pub(super) fn forget(folder: &Path) -> Result<(), StoreError> {
    let (mut pages, _) = Folder::open(folder);
    for page in pages.list()? {
        pages.remove(page)?;
    }
    if pages.marker()?.is_some() { pages.remove_marker() } else { Ok(()) }
}

impl Pages for Folder {
    fn list(&self) -> Result<Vec<u64>, StoreError> {
        let failed = |cause| StoreError::Io { path: self.path.clone(), cause };
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let page = name.to_str().and_then(|name| name.strip_prefix("doubt-"));
            found.extend(page.and_then(|page| page.parse::<u64>().ok()));
        }
        Ok(found)
    }

    fn read(&self, page: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.page(page);
        let bytes = fs::read(&path).map_err(io_at(path.clone()))?;
        let is_whole = (bytes.len() as u64).is_multiple_of(BLOCK_BYTES)
            && bytes.last_chunk::<END_BYTES>() == Some(&[0; END_BYTES]);
        if is_whole { Ok(bytes) } else { Err(StoreError::Damaged { path, cause: "cut off".to_owned() }) }
    }

    fn begin(&mut self, page: u64) -> Result<(), StoreError> {
        let path = self.page(page);
        self.page = Some(Present::open(path.clone()).map_err(io_at(path))?);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(page) = &mut self.page else { return Ok(()) };
        page.append(bytes).map_err(|cause| StoreError::Io { path: page.path.clone(), cause })
    }

    fn remove(&mut self, page: u64) -> Result<(), StoreError> {
        let path = self.page(page);
        fs::remove_file(&path).map_err(io_at(path))
    }

    fn marker(&self) -> Result<Option<String>, StoreError> {
        let path = self.path.join(MARKER);
        match fs::read(&path) {
            // What is no text names no boot.
            Ok(boot) => Ok(Some(String::from_utf8_lossy(&boot).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(StoreError::Io { path, cause }),
        }
    }

    fn mark(&mut self, boot: &str) -> Result<(), StoreError> {
        let path = self.path.join(MARKER);
        let mark = || {
            let mut options = OpenOptions::new();
            let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(boot.as_bytes())?;
            file.sync_all()?;
            File::open(&self.path)?.sync_all()?;
            Ok(file)
        };
        self.marker = Some(mark().map_err(io_at(path.clone()))?);
        Ok(())
    }

    fn empty_marker(&mut self) -> Result<(), StoreError> {
        if let Some(marker) = &self.marker {
            marker.set_len(0).map_err(io_at(self.path.join(MARKER)))?;
        }
        self.marker = None;
        Ok(())
    }

    fn remove_marker(&mut self) -> Result<(), StoreError> {
        self.marker = None;
        let path = self.path.join(MARKER);
        fs::remove_file(&path).map_err(io_at(path))
    }
}

fn io_at(path: PathBuf) -> impl FnOnce(io::Error) -> StoreError {
    |cause| StoreError::Io { path, cause }
}
