//! What wakes the thread: somebody rings, events wait, or a time has come.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Rung by any thread, waited for by one.
#[derive(Debug)]
pub(super) struct Bell(OwnedFd);

impl Bell {
    /// A bell that nobody rang.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    /// Wakes the one who waits, or who will wait next.
    pub(super) fn ring(&self) {
        // It fails only where it was rung 2^64 times and not heard: then it rings already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Until it rings, `other` is readable, or `limit` is over. It may return early.
    pub(super) fn wait(&self, other: Option<BorrowedFd<'_>>, limit: Option<Duration>) {
        let mut ends = vec![PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
        ends.extend(other.map(|other| PollFd::from_borrowed_fd(other, PollFlags::IN)));
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        // An interrupted wait returns early; nothing else can go wrong with descriptors of our own.
        let _ = poll(&mut ends, limit.as_ref());
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}
