//! What commands do on this host: the files that a person names, and whether the terminal may have colors.

use aws_lc_rs::digest::{Context, SHA256};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::path::Path;

/// Opens a file to read it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Makes a folder, with those above it, where it is not there.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// A file's size, and its SHA-256 as `sha256sum` prints it.
pub(super) fn fingerprint(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let (mut size, mut bytes) = (0, vec![0; 64 * 1024]);
    loop {
        let read = file.read(&mut bytes)?;
        if read == 0 {
            return Ok((size, hexadecimal(context.finish().as_ref())));
        }
        context.update(bytes.get(..read).unwrap_or_default());
        size += read as u64;
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // A text takes everything.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// From now on nothing of this process is written to disk when it crashes, and no other process of its user looks
/// inside: its memory holds keys and tokens.
pub(super) fn forbid_core_dumps() -> io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Whether a stream is a terminal, and `NO_COLOR` is not set.
pub(super) fn has_color(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}
