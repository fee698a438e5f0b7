//! Files that people name: who could have written one, who else could read it, and what is read at all. Whoever can
//! change a configuration, a secret or a key can have the agent do as he likes, so each must be root's or our own, and so
//! must every folder and every link that leads to it.
//!
//! The rules are here; [`driver`] opens files and looks at them.

pub mod driver;

use std::io;
use std::path::{Path, PathBuf};

/// Permission bits that let anybody but the owner in.
const OTHERS: u32 = 0o077;
/// Permission bits that let anybody but the owner change a file, or what a folder holds.
const OTHERS_WRITE: u32 = 0o022;
/// The part of [`OTHERS_WRITE`] that is the group's.
const GROUP_WRITES: u32 = 0o020;
/// In a folder with this bit only a file's owner renames or removes it: `/tmp`.
const STICKY: u32 = 0o1000;
const ROOT: u32 = 0;

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Others than the owner could read or change it.
    #[error("{path}: mode {mode:04o} lets others than its owner in; run: chmod {wanted:o} {path}", path = .path.display())]
    Open {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they should be.
        wanted: u32,
    },
    /// Others than the owner could change it, or put another file in its place.
    #[error("{path}: mode {mode:04o} lets others than its owner change it; run: chmod go-w {path}", path = .path.display())]
    Writable {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("{path}: belongs to user {owner}, not to user {us} who runs this; run as its owner or give it to {us}", path = .path.display())]
    Owner {
        /// The file, folder or link.
        path: PathBuf,
        /// Whom it belongs to.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// A folder, a device, or a pipe, which would be waited for.
    #[error("{path}: is no regular file", path = .path.display())]
    NotRegular {
        /// What is there instead.
        path: PathBuf,
    },
    /// More than such a file can hold.
    #[error("{path}: has {size} bytes; expected {size_max} at most", path = .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// The limit.
        size_max: u64,
    },
    /// Links that lead to links without end.
    #[error("{path}: leads through more than {max} links", path = .path.display(), max = driver::LINKS_MAX)]
    Links {
        /// Where they begin.
        path: PathBuf,
    },
    /// It could not be looked at.
    #[error("{path}: {cause}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
}

impl FileError {
    /// Whether it is there, but not for us or not only for us: exit code 77.
    pub fn is_forbidden(&self) -> bool {
        match self {
            Self::Open { .. } | Self::Writable { .. } | Self::Owner { .. } => true,
            Self::Io { cause, .. } => cause.kind() == io::ErrorKind::PermissionDenied,
            Self::NotRegular { .. } | Self::TooLarge { .. } | Self::Links { .. } => false,
        }
    }
}

/// What counts of a file, folder or link when it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// User id.
    pub owner: u32,
    /// Group id.
    pub group: u32,
    /// Permission bits.
    pub mode: u32,
    /// Whether it is a folder.
    pub is_folder: bool,
}

/// Refuses a file or folder that others than its owner can read or change, or that belongs to another user. Root may use
/// everybody's, and everybody what root gave them.
fn owners_alone(path: &Path, of: Attributes, us: u32) -> Result<(), FileError> {
    if of.mode & OTHERS != 0 {
        let wanted = if of.is_folder { 0o700 } else { 0o600 };
        return Err(FileError::Open { path: path.to_owned(), mode: of.mode, wanted });
    }
    if us == ROOT { Ok(()) } else { owned_by(path, of, &[ROOT, us], us) }
}

/// Refuses what anybody but these users can change. A folder like `/tmp`, where each removes his own files alone, lets
/// nobody change what others have there. The group whose number is the owner's is taken for his own: many systems give
/// each user one, and let it write.
fn changed_by_nobody_but(path: &Path, of: Attributes, trusted: &[u32], us: u32) -> Result<(), FileError> {
    owned_by(path, of, trusted, us)?;
    let is_shared = of.is_folder && of.mode & STICKY != 0;
    let others = if of.group == of.owner { OTHERS_WRITE & !GROUP_WRITES } else { OTHERS_WRITE };
    if of.mode & others != 0 && !is_shared {
        return Err(FileError::Writable { path: path.to_owned(), mode: of.mode });
    }
    Ok(())
}

fn owned_by(path: &Path, of: Attributes, trusted: &[u32], us: u32) -> Result<(), FileError> {
    if trusted.contains(&of.owner) {
        return Ok(());
    }
    Err(FileError::Owner { path: path.to_owned(), owner: of.owner, us })
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u32 = 1000;
    const STRANGER: u32 = 1001;

    fn file(mode: u32, owner: u32) -> Attributes {
        Attributes { owner, group: 50, mode, is_folder: false }
    }

    #[test]
    fn only_the_owners_own_files_are_private() {
        let rows = [
            (0o600, US, US, true),
            (0o400, US, US, true),
            (0o640, US, US, false),
            (0o604, US, US, false),
            (0o620, US, US, false),
            (0o600, ROOT, US, true),
            (0o600, STRANGER, US, false),
            (0o600, STRANGER, ROOT, true),
        ];
        for (mode, owner, us, is_trusted) in rows {
            let verdict = owners_alone(Path::new("f"), file(mode, owner), us);
            assert_eq!(verdict.is_ok(), is_trusted, "mode {mode:o} of {owner}, user {us}: {verdict:?}");
        }
    }

    #[test]
    fn what_a_stranger_owns_or_can_write_is_refused() {
        let rows = [
            (file(0o644, US), true),
            (file(0o644, ROOT), true),
            (file(0o444, STRANGER), false),
            (file(0o664, US), false),
            (file(0o646, US), false),
            (Attributes { group: US, ..file(0o664, US) }, true),
            (Attributes { group: US, ..file(0o666, US) }, false),
            (Attributes { is_folder: true, ..file(0o1777, ROOT) }, true),
            (Attributes { is_folder: true, ..file(0o777, ROOT) }, false),
            (file(0o1777, ROOT), false),
        ];
        for (of, is_trusted) in rows {
            let verdict = changed_by_nobody_but(Path::new("f"), of, &[ROOT, US], US);
            assert_eq!(verdict.is_ok(), is_trusted, "{of:?}: {verdict:?}");
        }
    }
}
