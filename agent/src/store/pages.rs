//! The files that notes of doubt are kept in. What is written when is [`doubt`](super::doubt)'s.

use super::StoreError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The marker's name in the folder.
const MARKER: &str = "doubt.whole";
/// Where Linux tells one boot from another.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Pages of notes, by number, and a marker beside them.
pub trait Pages: Send {
    /// The pages that there are, in any order.
    fn list(&self) -> Result<Vec<u64>, StoreError>;
    /// What is on a page.
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
    page: Option<(PathBuf, File)>,
    /// Held open, so that it can be emptied whatever else fails.
    marker: Option<File>,
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
        if let Some((path, file)) = &mut self.page {
            *file = File::open(path).expect("the page is there");
        }
    }

    fn page(&self, page: u64) -> PathBuf {
        self.path.join(format!("doubt-{page}"))
    }
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
        fs::read(&path).map_err(io_at(path))
    }

    fn begin(&mut self, page: u64) -> Result<(), StoreError> {
        let path = self.page(page);
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(0o600).open(&path);
        self.page = Some((path.clone(), file.map_err(io_at(path))?));
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let Some((path, file)) = &mut self.page else { return Ok(()) };
        file.write_all(bytes).map_err(|cause| StoreError::Io { path: path.clone(), cause })
    }

    fn remove(&mut self, page: u64) -> Result<(), StoreError> {
        let path = self.page(page);
        fs::remove_file(&path).map_err(io_at(path))
    }

    fn marker(&self) -> Result<Option<String>, StoreError> {
        let path = self.path.join(MARKER);
        match fs::read_to_string(&path) {
            Ok(boot) => Ok(Some(boot)),
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
