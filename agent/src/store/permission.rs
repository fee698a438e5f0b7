//! Who else could read a file of ours: state, private keys and password files must be their owner's alone.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Permission bits that let anybody but the owner in.
const OTHERS: u32 = 0o077;

/// Why a file is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum PermissionError {
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
    /// It belongs to somebody else.
    #[error("{path}: belongs to user {owner}, not to user {us} who runs this; run as its owner or give it to {us}", path = .path.display())]
    Owner {
        /// The file or folder.
        path: PathBuf,
        /// Whom it belongs to.
        owner: u32,
        /// Who we are.
        us: u32,
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

impl PermissionError {
    /// Whether it is there, but not for us or not only for us.
    pub fn is_forbidden(&self) -> bool {
        match self {
            Self::Open { .. } | Self::Owner { .. } => true,
            Self::Io { cause, .. } => cause.kind() == io::ErrorKind::PermissionDenied,
        }
    }
}

/// Refuses a file or folder that others than its owner can read or change, or that belongs to another user.
///
/// Root may use everybody's, and everybody what root gave them.
pub fn owner_only(path: &Path) -> Result<(), PermissionError> {
    let metadata = path.metadata().map_err(|cause| PermissionError::Io { path: path.to_owned(), cause })?;
    is_owners_alone(path, &metadata, rustix::process::geteuid().as_raw())
}

fn is_owners_alone(path: &Path, metadata: &Metadata, us: u32) -> Result<(), PermissionError> {
    let path = path.to_owned();
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(PermissionError::Open {
            path,
            mode,
            wanted: if metadata.is_dir() { 0o700 } else { 0o600 },
        });
    }
    let owner = metadata.uid();
    if owner != us && owner != 0 && us != 0 {
        return Err(PermissionError::Owner { path, owner, us });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_the_owners_own_files_are_trusted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let owner = file.as_file().metadata().unwrap().uid();
        let stranger = owner + 1000;
        let rows = [
            (0o600, owner, true),
            (0o400, owner, true),
            (0o640, owner, false),
            (0o604, owner, false),
            (0o620, owner, false),
            (0o600, 0, true),
            (0o600, stranger, owner == 0),
        ];
        for (mode, us, is_trusted) in rows {
            set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            let metadata = File::open(file.path()).unwrap().metadata().unwrap();
            let verdict = is_owners_alone(file.path(), &metadata, us);
            assert_eq!(verdict.is_ok(), is_trusted, "mode {mode:o}, user {us}: {verdict:?}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = owner_only(Path::new("/nowhere/at/all")).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/at/all: No such file"), "{error}");
    }
}
