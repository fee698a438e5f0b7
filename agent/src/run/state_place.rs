//! Whether the state is still where the daemon opened it. Who moves the folder away under a running daemon, or puts
//! another database in its place, has commands and daemon work on different ones, and nobody would notice.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Files and folders by what they were when the daemon opened them.
#[derive(Debug)]
pub(super) struct StatePlace(Vec<(PathBuf, Identity)>);

/// Device and inode.
type Identity = (u64, u64);

impl StatePlace {
    /// These, as they are now.
    pub(super) fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> io::Result<Self> {
        let known = |path: &Path| Ok((path.to_owned(), identity(path)?));
        paths.into_iter().map(known).collect::<io::Result<_>>().map(Self)
    }

    /// What is not there any more, or is another one, in a sentence with the remedy.
    pub(super) fn lost(&self) -> Option<String> {
        let is_lost = |(path, known): &&(PathBuf, Identity)| identity(path).ok() != Some(*known);
        let (path, _) = self.0.iter().find(is_lost)?;
        Some(format!(
            "{}: moved away or exchanged while mailbadge runs; put it back, or stop mailbadge before you restore a backup",
            path.display()
        ))
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_moved_or_exchanged_is_named_until_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let [file, away] = ["file", "away"].map(|name| folder.path().join(name));
        fs::write(&file, "").unwrap();
        let place = StatePlace::of([folder.path(), file.as_path()]).unwrap();
        assert_eq!(place.lost(), None);
        fs::rename(&file, &away).unwrap();
        assert!(place.lost().unwrap().starts_with(file.to_str().unwrap()), "moved");
        fs::write(&file, "").unwrap();
        assert!(place.lost().is_some(), "another one");
        fs::rename(&away, &file).unwrap();
        assert_eq!(place.lost(), None);
    }
}
