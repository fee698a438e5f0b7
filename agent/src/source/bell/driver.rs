//! A bell that is a descriptor: rung by any thread, waited for by one together with other descriptors.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Readable once it was rung, until it is hushed.
#[derive(Debug)]
pub(in crate::source) struct Bell(OwnedFd);

impl Bell {
    /// A bell that nobody rang.
    pub(in crate::source) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    /// Wakes the one who waits, or who will wait next.
    pub(in crate::source) fn ring(&self) {
        // It fails only where it was rung 2^64 times and not heard: then it rings already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// It was heard.
    pub(in crate::source) fn hush(&self) {
        // It fails only where nobody rang.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }

    /// Until it rings, `other` is readable, or `limit` is over. It may return early.
    pub(in crate::source) fn wait(&self, other: Option<BorrowedFd<'_>>, limit: Option<Duration>) {
        let mut ends = vec![PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
        ends.extend(other.map(|other| PollFd::from_borrowed_fd(other, PollFlags::IN)));
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        // An interrupted wait returns early; nothing else can go wrong with descriptors of our own.
        let _ = poll(&mut ends, limit.as_ref());
        self.hush();
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
