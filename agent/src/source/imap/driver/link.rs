//! How the hall reaches a running connection: flags and a waker, nothing that waits.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Waker};

/// Someone wants a fresh reading.
pub(super) const ASK: u8 = 1;
/// What the asked reading finds changed only the sweep found.
pub(super) const SWEEP: u8 = 2;
/// A timer may be due.
pub(super) const ALARM: u8 = 4;
/// Close.
pub(super) const STOP: u8 = 8;

/// The hall's end of one connection.
#[derive(Debug)]
pub(super) struct Link {
    /// The connection's number in the roster.
    pub(super) number: u32,
    flags: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

impl Link {
    pub(super) fn new(number: u32) -> Self {
        Self { number, flags: AtomicU8::new(0), waker: Mutex::new(None) }
    }

    /// Raises flags and wakes the connection.
    pub(super) fn raise(&self, flags: u8) {
        self.flags.fetch_or(flags, Ordering::AcqRel);
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The raised flags, once; from now on `context` is woken.
    pub(super) fn take(&self, context: &Context<'_>) -> u8 {
        let mut waker = self.waker.lock();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        drop(waker);
        self.flags.swap(0, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn flags_raised_before_or_after_looking_are_seen_once() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let context = Context::from_waker(&waker);
        let link = Link::new(1);
        link.raise(ASK);
        assert_eq!(link.take(&context), ASK);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        link.raise(ALARM);
        link.raise(STOP);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(link.take(&context), ALARM | STOP);
        assert_eq!(link.take(&context), 0);
    }
}
