//! An eventfd(2): signalled by any thread, waited for by one together with other descriptors.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Readable once it was signalled, until it is cleared.
#[derive(Debug)]
pub(in crate::source) struct EventFd(OwnedFd);

impl EventFd {
    /// One that nobody signalled.
    pub(in crate::source) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    /// Wakes the one who waits, or who will wait next.
    pub(in crate::source) fn signal(&self) {
        // It fails only where it was signalled 2^64 times and never cleared: then it is readable already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// The signal was seen.
    pub(in crate::source) fn clear(&self) {
        // It fails only where nobody signalled.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }

    /// Until it is signalled, `other` is readable, or `limit` is over. It may return early.
    pub(in crate::source) fn wait(&self, other: Option<BorrowedFd<'_>>, limit: Option<Duration>) {
        let mut ends = vec![PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
        ends.extend(other.map(|other| PollFd::from_borrowed_fd(other, PollFlags::IN)));
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        // An interrupted wait returns early; nothing else can go wrong with descriptors of our own.
        let _ = poll(&mut ends, limit.as_ref());
        self.clear();
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
