//! Opens files that people name, looks at who could have changed them, and reads them whole.

use super::{Attributes, FileError, changed_by_nobody_but, owned_by, owners_alone};
use rustix::fs::OFlags;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Links on the way to a file, at most: what Linux follows.
pub const LINKS_MAX: usize = 40;
/// Where systemd lays a service's credentials. It shows an access list for the service's user as rights of a group.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Whose a file must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Anybody's: what it says is checked, or concerns nobody else.
    Anybody,
    /// Root's or our own, with all that leads to it.
    Ours,
    /// The same, and nobody else may read it. Where root asks, its owner may be another: the user of the service.
    Secret,
}

/// The whole of a regular file of at most `size_max` bytes, in memory that is wiped.
pub fn read(path: &Path, size_max: u64, trust: Trust) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let failed = |cause| FileError::Io { path: path.to_owned(), cause };
    let file = open(path, trust)?;
    let size = file.metadata().map_err(failed)?.len();
    // Of its size from the start: growing would leave copies of a secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.min(size_max) as usize + 1));
    file.take(size_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    let size = size.max(bytes.len() as u64);
    if size > size_max {
        return Err(FileError::TooLarge { path: path.to_owned(), size, size_max });
    }
    Ok(bytes)
}

/// A regular file, opened to be read.
pub fn open(path: &Path, trust: Trust) -> Result<File, FileError> {
    let failed = |cause| FileError::Io { path: path.to_owned(), cause };
    // A pipe is not waited for, and no terminal becomes ours.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(FileError::NotRegular { path: path.to_owned() });
    }
    refuse_strangers(path, &metadata, trust)?;
    Ok(file)
}

/// Writes a whole file that a stranger has no part in, in place of one that may be there.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = |cause| FileError::Io { path: path.to_owned(), cause };
    let write = |neighbor: &Path| OpenOptions::new().write(true).open(neighbor)?.write_all(bytes);
    place(path, mode, true, us(), |neighbor| write(neighbor).map_err(failed))
}

/// Makes a whole file that a stranger has no part in: `fill` writes to an empty neighbor that did not exist, which then
/// takes the place. A link, a file of somebody else, or a folder in which others could exchange it, is refused; so is any
/// file that is there, unless `replaces`. `owner` is no stranger.
pub fn place<E: From<FileError>>(
    path: &Path,
    mode: u32,
    replaces: bool,
    owner: u32,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |cause| FileError::Io { path: path.to_owned(), cause };
    let whole = std::path::absolute(path).map_err(failed)?;
    let folder = whole.parent().unwrap_or(Path::new("/"));
    refuse_foreign(path, &whole, folder, owner)?;
    let mut name = whole.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}-{:08x}", std::process::id(), fastrand::u32(..)));
    let neighbor = whole.with_file_name(name);
    OpenOptions::new().write(true).create_new(true).mode(mode).open(&neighbor).map_err(failed)?;
    let placed = || {
        File::open(&neighbor)?.sync_all()?;
        if replaces {
            fs::rename(&neighbor, &whole)?;
        } else {
            fs::hard_link(&neighbor, &whole)?;
        }
        File::open(folder)?.sync_all()
    };
    let done = fill(&neighbor).and_then(|()| placed().map_err(|cause| E::from(failed(cause))));
    // It took the place, was linked to it, or is worth nothing.
    fs::remove_file(&neighbor).ok();
    done
}

fn refuse_foreign(path: &Path, whole: &Path, folder: &Path, owner: u32) -> Result<(), FileError> {
    let (us, trusted) = (us(), [super::ROOT, us(), owner]);
    walk(folder, &trusted, us, &mut 0)?;
    match fs::symlink_metadata(whole) {
        Ok(there) if !there.is_file() => Err(FileError::NotRegular { path: path.to_owned() }),
        Ok(there) => owned_by(path, attributes(&there), &trusted, us),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) => Err(FileError::Io { path: path.to_owned(), cause }),
    }
}

/// Whom a file or folder belongs to.
pub fn owner(path: &Path) -> Result<u32, FileError> {
    let metadata = path.metadata().map_err(|cause| FileError::Io { path: path.to_owned(), cause })?;
    Ok(metadata.uid())
}

/// Refuses a file or folder that others than its owner can read or change, or that belongs to another user.
pub fn owner_only(path: &Path) -> Result<(), FileError> {
    let metadata = path.metadata().map_err(|cause| FileError::Io { path: path.to_owned(), cause })?;
    owners_alone(path, attributes(&metadata), us())
}

/// Whether we are root, who must not take what lies about in the present folder.
pub fn is_root() -> bool {
    us() == super::ROOT
}

/// Judges the opened file and all that leads to it.
fn refuse_strangers(path: &Path, metadata: &Metadata, trust: Trust) -> Result<(), FileError> {
    let (us, of) = (us(), attributes(metadata));
    let trusted = match trust {
        Trust::Anybody => return Ok(()),
        Trust::Secret if us == super::ROOT => vec![us, of.owner],
        Trust::Ours | Trust::Secret => vec![super::ROOT, us],
    };
    if trust == Trust::Secret && !is_credential(path) {
        owners_alone(path, of, us)?;
    }
    changed_by_nobody_but(path, of, &trusted, us)?;
    let path = std::path::absolute(path).map_err(|cause| FileError::Io { path: path.to_owned(), cause })?;
    walk(&path, &trusted, us, &mut 0)
}

/// Judges every folder and every link from the root to `path`, which is absolute, but not what is there itself.
fn walk(path: &Path, trusted: &[u32], us: u32, links: &mut usize) -> Result<(), FileError> {
    let mut reached = PathBuf::new();
    for part in path.components() {
        reached.push(part);
        let failed = |cause| FileError::Io { path: reached.clone(), cause };
        let metadata = fs::symlink_metadata(&reached).map_err(failed)?;
        if metadata.is_symlink() {
            owned_by(&reached, attributes(&metadata), trusted, us)?;
            *links += 1;
            if *links > LINKS_MAX {
                return Err(FileError::Links { path: path.to_owned() });
            }
            let target = fs::read_link(&reached).map_err(failed)?;
            let target = reached.parent().unwrap_or(Path::new("/")).join(target);
            walk(&target, trusted, us, links)?;
        } else if metadata.is_dir() {
            changed_by_nobody_but(&reached, attributes(&metadata), trusted, us)?;
        }
    }
    Ok(())
}

/// Whether systemd laid the file there for this service.
fn is_credential(path: &Path) -> bool {
    let folder = std::env::var_os(CREDENTIALS_DIRECTORY).map(PathBuf::from);
    folder.is_some_and(|folder| folder.is_absolute() && path.starts_with(folder))
}

fn attributes(metadata: &Metadata) -> Attributes {
    Attributes {
        owner: metadata.uid(),
        group: metadata.gid(),
        mode: metadata.mode() & 0o7777,
        is_folder: metadata.is_dir(),
    }
}

fn us() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tempfile::TempDir;

    const MAX: u64 = 100;

    fn folder() -> (TempDir, PathBuf) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "secret").unwrap();
        mode(&path, 0o600);
        (folder, path)
    }

    fn mode(path: &Path, mode: u32) {
        set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_of_ours_is_read_whole_and_no_further_than_its_limit() {
        let (_folder, path) = folder();
        for trust in [Trust::Anybody, Trust::Ours, Trust::Secret] {
            assert_eq!(*read(&path, 6, trust).unwrap(), b"secret");
            assert!(matches!(read(&path, 5, trust), Err(FileError::TooLarge { size: 6, size_max: 5, .. })));
        }
        let error = read(Path::new("/nowhere/at/all"), MAX, Trust::Ours).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/at/all: No such file"), "{error}");
        assert!(
            owner_only(Path::new("/nowhere")).unwrap_err().to_string().starts_with("/nowhere: No such file")
        );
    }

    #[test]
    fn what_is_no_regular_file_is_refused_and_not_waited_for() {
        let (folder, _) = folder();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/null")] {
            assert!(matches!(read(path, MAX, Trust::Anybody), Err(FileError::NotRegular { .. })), "{path:?}");
        }
    }

    #[test]
    fn a_file_that_others_can_change_or_read_is_refused_by_what_it_is_for() {
        let (_folder, path) = folder();
        for (bits, is_ours, is_secret) in [(0o400, true, true), (0o644, true, false), (0o602, false, false)] {
            mode(&path, bits);
            assert!(read(&path, MAX, Trust::Anybody).is_ok());
            assert_eq!(read(&path, MAX, Trust::Ours).is_ok(), is_ours, "{bits:o}");
            assert_eq!(read(&path, MAX, Trust::Secret).is_ok(), is_secret, "{bits:o}");
        }
    }

    #[test]
    fn what_is_written_takes_the_place_of_our_own_file_alone() {
        let (folder, path) = folder();
        replace(&path, b"new", 0o644).unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), path.metadata().unwrap().mode() & 0o777),
            (b"new".to_vec(), 0o644)
        );
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(replace(&link, b"more", 0o644), Err(FileError::NotRegular { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"new", "nothing is written through a link");
        mode(folder.path(), 0o707);
        assert!(matches!(replace(&path, b"more", 0o644), Err(FileError::Writable { .. })));
        mode(folder.path(), 0o700);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no neighbor is left");
    }

    #[test]
    fn every_folder_and_link_that_leads_to_it_is_looked_at() {
        let (folder, path) = folder();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        let link = open.join("link");
        symlink(&path, &link).unwrap();
        assert!(read(&link, MAX, Trust::Ours).is_ok());
        mode(&open, 0o757);
        let refused = read(&link, MAX, Trust::Ours).unwrap_err();
        assert!(matches!(&refused, FileError::Writable { path, .. } if *path == open), "{refused}");
        let outer = folder.path().join("outer");
        symlink(&link, &outer).unwrap();
        assert!(read(&outer, MAX, Trust::Ours).is_err(), "a link through an open folder");
        mode(&open, 0o1757);
        assert!(read(&outer, MAX, Trust::Ours).is_ok(), "nobody removes another's files there");
        let circle = folder.path().join("circle");
        symlink(&circle, &circle).unwrap();
        assert!(matches!(
            walk(&circle, &[us()], us(), &mut 0),
            Err(FileError::Links { .. } | FileError::Owner { .. })
        ));
    }
}
