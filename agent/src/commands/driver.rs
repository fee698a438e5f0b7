//! What commands do on this host: the files that a person names, and whether the terminal may have colors.

use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::path::Path;

/// Opens a file to read it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Writes a whole file; one that is there is replaced.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)
}

/// Makes a folder, with those above it, where it is not there.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Whether a stream is a terminal, and `NO_COLOR` is not set.
pub(super) fn has_color(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}
