//! Who was accepted in a crowd and is not served yet: whoever has said whole lines is served before those who are silent,
//! however many of those there are.

use crate::time::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// Between two who are silent that are served. The thread that serves must have time left, or it is not there when somebody
/// speaks: a system that is short of time lets those wait who took most of it.
pub(super) const PACE: Duration = Duration::from_millis(1);

/// Two queues of callers `C`.
#[derive(Debug)]
pub(super) struct Arrivals<C> {
    speaking: VecDeque<C>,
    silent: VecDeque<C>,
    speaking_max: usize,
    silent_max: usize,
    /// When the next silent one may be served.
    next_silent_at: Moment,
}

impl<C> Arrivals<C> {
    /// Of so many callers in the queues. Whoever is silent must have time to speak before others take his place: a mail process
    /// that was interrupted behind its connect waits a second where it is sent away.
    pub(super) fn new(speaking_max: usize, silent_max: usize) -> Self {
        Self {
            speaking: VecDeque::new(),
            silent: VecDeque::new(),
            speaking_max,
            silent_max,
            next_silent_at: Moment::START,
        }
    }

    /// Whether further callers are to wait where they are.
    pub(super) fn is_full(&self) -> bool {
        self.speaking.len() >= self.speaking_max
    }

    /// Nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.speaking.is_empty() && self.silent.is_empty()
    }

    /// Somebody who has said whole lines.
    pub(super) fn speaks(&mut self, caller: C) {
        self.speaking.push_back(caller);
    }

    /// Somebody who has not. Returns the one who has been silent for longest where there are too many.
    pub(super) fn is_silent(&mut self, caller: C) -> Option<C> {
        self.silent.push_back(caller);
        if self.silent.len() > self.silent_max { self.silent.pop_front() } else { None }
    }

    /// Who is served now.
    pub(super) fn next(&mut self, now: Moment) -> Option<C> {
        if let Some(caller) = self.speaking.pop_front() {
            return Some(caller);
        }
        if now < self.next_silent_at {
            return None;
        }
        let caller = self.silent.pop_front()?;
        self.next_silent_at = now.after(PACE);
        Some(caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_speaks_is_served_first_and_who_is_silent_for_longest_goes() {
        let mut arrivals = Arrivals::new(2, 2);
        assert_eq!(["a", "b", "c"].map(|caller| arrivals.is_silent(caller)), [None, None, Some("a")]);
        arrivals.speaks("D");
        assert!(!arrivals.is_full());
        arrivals.speaks("E");
        assert!(arrivals.is_full());
        let now = Moment::START;
        assert_eq!([(); 4].map(|()| arrivals.next(now)), [Some("D"), Some("E"), Some("b"), None]);
        assert!(!arrivals.is_empty());
        assert_eq!(arrivals.next(now.after(PACE)), Some("c"));
        assert!(arrivals.is_empty());
    }
}
