//! Makes way for a socket file, binds, and removes what it bound.
//!
//! A file that nobody answers on is a killed agent's and is taken over; one that somebody answers on is refused;
//! anything that is no socket is never touched.

use super::Error;
use crate::source::examination::Finding;
use rustix::fs::{Access, access};
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A socket file that we made; removed when dropped, unless another has taken the path meanwhile.
#[derive(Debug)]
pub(in crate::source) struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.device_and_inode);
        if ours {
            // Nothing is left to do where it fails: the next agent takes a stale file over.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds a socket of `bind`'s kind at `path` with these permissions. `connect` tries to reach whoever may be there
/// already, with a socket of the same kind.
pub(in crate::source) fn bind<S, C>(
    path: &Path,
    mode: u32,
    bind: impl FnOnce(&Path) -> io::Result<S>,
    connect: impl FnOnce(&Path) -> io::Result<C>,
) -> Result<(S, SocketFile), Error> {
    make_way(path, connect)?;
    let bound = || {
        let socket = bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        let found = fs::symlink_metadata(path)?;
        Ok((socket, SocketFile { path: path.to_owned(), device_and_inode: (found.dev(), found.ino()) }))
    };
    bound().map_err(|reason| Error::Unix { path: path.to_owned(), reason })
}

/// Removes a stale socket; refuses everything else that stands in the way.
fn make_way<C>(path: &Path, connect: impl FnOnce(&Path) -> io::Result<C>) -> Result<(), Error> {
    let failed = |reason| Error::Unix { path: path.to_owned(), reason };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(Error::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(_) => Err(Error::InUse { path: path.to_owned() }),
    }
}

/// Examines the folder of a socket that the daemon makes: it must be there and let this user write.
pub(in crate::source) fn examine(source: &str, path: &Path) -> Finding {
    let check = format!("source {source}");
    let folder = path.parent().unwrap_or(Path::new("/"));
    let remedy = "make it and give it to the user that runs the daemon; under systemd the unit does";
    match access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        Err(cause) => Finding::ill(check, format!("{}: {cause}", folder.display()), remedy),
        Ok(()) if path.exists() => Finding::well(check, format!("{} is there", path.display())),
        Ok(()) => Finding::well(check, format!("{} can be made", path.display())),
    }
}
