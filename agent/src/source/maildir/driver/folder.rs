//! Folders: inotify's watches and events, and the count of a Maildir.

use crate::source::maildir::message::{Separator, is_message, is_unseen, unique};
use crate::source::maildir::watcher::{Input, WatchId};
use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fs;
use std::hash::BuildHasher;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Bytes of events read at once: some two hundred.
const EVENTS_BYTES: usize = 64 * 1024;

/// How often events are read before looks get their turn.
const BURSTS_MAX: usize = 16;

/// How often a Maildir is read again because it changed while it was read. After that the count stands, and the next
/// event corrects it.
const READS_MAX: usize = 3;

/// Where a Maildir that is not there is waited for.
pub(super) struct FolderWait {
    /// The folder's watch, and the entry that must appear in it.
    pub(super) at: Option<(WatchId, OsString)>,
    /// It appeared while this was found out: no event will come.
    pub(super) is_there: bool,
}

/// inotify with the watches that it has.
pub(super) struct Notifier {
    inotify: Inotify,
    descriptors: HashMap<WatchId, WatchDescriptor>,
    buffer: Vec<u8>,
}

impl Notifier {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { inotify: Inotify::init()?, descriptors: HashMap::new(), buffer: vec![0; EVENTS_BYTES] })
    }

    /// The events that wait, up to [`BURSTS_MAX`] times [`EVENTS_BYTES`].
    pub(super) fn events(&mut self, mut each: impl FnMut(Input)) {
        for _ in 0..BURSTS_MAX {
            match self.inotify.read_events(&mut self.buffer) {
                Ok(events) => {
                    for event in events {
                        let id = WatchId(event.wd.get_watch_descriptor_id());
                        if event.mask.contains(EventMask::IGNORED) {
                            self.descriptors.remove(&id);
                        }
                        each(input(id, event.mask, event.name.map(ToOwned::to_owned)));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    }

    /// Watches what comes and goes in `new/` or `cur/`.
    pub(super) fn watch_folder(&mut self, folder: &Path) -> io::Result<WatchId> {
        let stirs = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::MOVED_FROM | WatchMask::DELETE;
        self.watch(folder, stirs)
    }

    /// Watches the deepest folder above this Maildir's `new/` and `cur/` that there is. They may appear at any moment
    /// meanwhile: what came before the watch was there gives no event, and [`FolderWait`] says so.
    pub(super) fn await_folder(&mut self, maildir: &Path) -> FolderWait {
        let Some(missing) = ["new", "cur"].map(|name| maildir.join(name)).into_iter().find(|it| !it.is_dir())
        else {
            return FolderWait { at: None, is_there: true };
        };
        let mut steps = missing.ancestors().zip(missing.ancestors().skip(1));
        let at = steps.find(|(_, above)| above.is_dir()).and_then(|(entry, above)| {
            let watch = self.watch(above, WatchMask::CREATE | WatchMask::MOVED_TO);
            // Gone again, or no watch is to be had: the sweep finds it.
            Some((watch.ok()?, entry.file_name()?.to_owned(), entry))
        });
        let is_there = at.as_ref().is_some_and(|(.., entry)| entry.is_dir());
        FolderWait { at: at.map(|(watch, name, _)| (watch, name)), is_there }
    }

    fn watch(&mut self, folder: &Path, mask: WatchMask) -> io::Result<WatchId> {
        let ends = WatchMask::DELETE_SELF | WatchMask::MOVE_SELF | WatchMask::ONLYDIR;
        // Added to what the folder is watched for already: the kernel has one watch of it, whoever wants it.
        let descriptor = self.inotify.watches().add(folder, mask | ends | WatchMask::MASK_ADD)?;
        let id = WatchId(descriptor.get_watch_descriptor_id());
        self.descriptors.insert(id, descriptor);
        Ok(id)
    }

    /// Gives a watch back.
    pub(super) fn forget(&mut self, watch: WatchId) {
        if let Some(descriptor) = self.descriptors.remove(&watch) {
            // The kernel may have taken it back already, with its folder.
            let _ = self.inotify.watches().remove(descriptor);
        }
    }
}

/// Readable while events wait.
impl AsFd for Notifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

fn input(watch: WatchId, mask: EventMask, name: Option<OsString>) -> Input {
    let ends = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT | EventMask::IGNORED;
    if mask.contains(EventMask::Q_OVERFLOW) {
        Input::Overflow
    } else if mask.intersects(ends) {
        Input::Gone(watch)
    } else {
        Input::Stirred(watch, name.unwrap_or_default())
    }
}

/// Unseen messages of the Maildir at `path`, as they are while nothing changes.
///
/// # Errors
/// What the system says of the first folder that cannot be read.
pub(super) fn count(path: &Path, separator: Separator) -> io::Result<u32> {
    let folders = [path.join("new"), path.join("cur")];
    let mut reads = 0;
    loop {
        let before = folders.each_ref().map(|folder| modified(folder));
        let unseen = count_in(&folders, separator)?;
        reads += 1;
        let after = folders.each_ref().map(|folder| modified(folder));
        if before == after || reads == READS_MAX {
            return Ok(unseen);
        }
    }
}

fn modified(folder: &Path) -> Option<SystemTime> {
    fs::metadata(folder).and_then(|it| it.modified()).ok()
}

/// A message that is in both folders, since it is being moved, is the one in `cur/`. Of each in `new/` eight bytes are
/// kept meanwhile.
fn count_in([new, cur]: &[PathBuf; 2], separator: Separator) -> io::Result<u32> {
    let hasher = RandomState::default();
    let key = |name: &[u8]| hasher.hash_one(unique(name, separator));
    let mut arrived = HashMap::new();
    each_message(new, |name| {
        arrived.insert(key(name), is_unseen(name, separator));
    })?;
    let mut unseen = 0_u32;
    each_message(cur, |name| {
        if !arrived.is_empty() {
            arrived.remove(&key(name));
        }
        unseen = unseen.saturating_add(u32::from(is_unseen(name, separator)));
    })?;
    let of_new = arrived.into_values().filter(|is_unseen| *is_unseen).count();
    Ok(unseen.saturating_add(u32::try_from(of_new).unwrap_or(u32::MAX)))
}

fn each_message(folder: &Path, mut found: impl FnMut(&[u8])) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if is_message(name.as_bytes()) {
            found(name.as_bytes());
        }
    }
    Ok(())
}

/// The separator that most names with flags in `cur/` carry; `None` where there are no flags.
///
/// # Errors
/// What the system says where the folder cannot be read.
pub(super) fn separator_of(path: &Path) -> io::Result<Option<Separator>> {
    let mut found = Separator::ALL.map(|separator| (0_u32, separator));
    each_message(&path.join("cur"), |name| {
        for (count, separator) in &mut found {
            *count = count.saturating_add(u32::from(separator.is_in(name)));
        }
    })?;
    let most = found.into_iter().max_by_key(|(count, _)| *count);
    Ok(most.filter(|(count, _)| *count > 0).map(|(_, separator)| separator))
}

/// One of the kernel's limits of inotify, as it stands.
pub(super) fn inotify_limit(name: &str) -> String {
    fs::read_to_string(format!("/proc/sys/fs/inotify/{name}"))
        .map_or_else(|_| "unknown".to_owned(), |it| it.trim().to_owned())
}
