//! A file system of a few MiB, to be filled: a disk that is full.

use crate::requirement::required_if;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes written at a time to fill it.
const PIECE: usize = 4096;

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub struct Tmpfs {
    folder: PathBuf,
}

impl Tmpfs {
    /// Mounts it over a new folder. `None` where that is not permitted, said by name, or a failure where
    /// `MAILBADGE_REQUIRE` lists `mount`.
    pub fn mount(folder: &Path, mib: u32) -> Option<Self> {
        fs::create_dir_all(folder).expect("a folder of ours");
        let size = format!("size={mib}m,mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).output();
        let is_mounted = mounted.is_ok_and(|output| output.status.success());
        required_if("mount", "a mount of tmpfs", is_mounted).then(|| Self { folder: folder.to_owned() })
    }

    /// Writes until nothing more can be written.
    pub fn fill(&self) {
        self.fill_but(0);
    }

    /// The same, but leaves room for so many bytes, give or take a piece.
    pub fn fill_but(&self, left: usize) {
        let mut file = File::create(self.filler()).expect("it is not full yet");
        let full = loop {
            if let Err(error) = file.write_all(&[0; PIECE]) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        let length = file.metadata().expect("it is open").len();
        file.set_len(length.saturating_sub(left as u64)).expect("it can become shorter");
    }

    /// Room again.
    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily, since a process that is being ended may have a file open; what fails here is cleaned up with the machine.
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).status();
    }
}
