//! Many stories, on as many threads as are wanted.

use super::{Profile, Seed, StoryReport, play};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// Plays these stories on `threads` threads and hands each report to `tell` as it comes, in no order; ends early where
/// `tell` says false.
pub fn play_all(stories: &[(Seed, Profile)], threads: usize, mut tell: impl FnMut(StoryReport) -> bool) {
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    // As many may wait as threads play: the one that tells is never far behind.
    let (sender, reports) = mpsc::sync_channel(threads.max(1));
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (sender, next, is_over) = (sender.clone(), &next, &is_over);
            scope.spawn(move || {
                while let Some((seed, profile)) = stories.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if is_over.load(Ordering::Relaxed) || sender.send(play(*seed, *profile)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for report in reports {
            if !is_over.load(Ordering::Relaxed) && !tell(report) {
                is_over.store(true, Ordering::Relaxed);
            }
        }
    });
}

/// As many threads as there are cores.
pub fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
