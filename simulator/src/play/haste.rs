//! How soon a mailbox must be read again after the sweep found in it what no source had reported: there may be more.
//! Read from what the agent asks and what it makes of the answers, apart from the agent's own sweep.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Questions of the sweep, and mailboxes in which one found a change.
#[derive(Debug, Default)]
pub struct Haste {
    /// The sweep asked about these and has no answer yet.
    asked: BTreeSet<usize>,
    /// Others asked about these before: what the answer says that comes next is no correction, even where the sweep asks as
    /// well meanwhile.
    wondered: BTreeSet<usize>,
    /// Since when these wait to be read once more.
    corrected: BTreeMap<usize, Duration>,
}

impl Haste {
    /// The agent asks about a mailbox, or connects to read it.
    pub fn asked(&mut self, mailbox: usize, is_sweep: bool) {
        self.corrected.remove(&mailbox);
        if !is_sweep {
            self.wondered.insert(mailbox);
        } else if !self.wondered.contains(&mailbox) {
            self.asked.insert(mailbox);
        }
    }

    /// Another source has read the mailbox, which is as good as being asked.
    pub fn read_elsewhere(&mut self, mailbox: usize) {
        self.corrected.remove(&mailbox);
    }

    /// It has an answer, perhaps to a question that a connection asked by itself; `is_news`: the answer is not what the
    /// agent believed before.
    pub fn answered(&mut self, mailbox: usize, is_news: bool, now: Duration) {
        self.wondered.remove(&mailbox);
        if self.asked.remove(&mailbox) && is_news {
            self.corrected.insert(mailbox, now);
        } else {
            self.corrected.remove(&mailbox);
        }
    }

    /// A connection to the mailbox ended as it should: where it was a visit, the next one is planned from now on.
    pub fn visited(&mut self, mailbox: usize, now: Duration) {
        self.wondered.remove(&mailbox);
        self.asked.remove(&mailbox);
        if let Some(since) = self.corrected.get_mut(&mailbox) {
            *since = now;
        }
    }

    /// Nobody waits for this mailbox any more.
    pub fn forget(&mut self, mailbox: usize) {
        self.wondered.remove(&mailbox);
        self.asked.remove(&mailbox);
        self.corrected.remove(&mailbox);
    }

    /// Connections fail: when the agent may log in again is another matter.
    pub fn forget_all(&mut self) {
        self.wondered.clear();
        self.asked.clear();
        self.corrected.clear();
    }

    /// Since when the mailbox waits, where that is longer than `within`. Says so once.
    pub fn overdue(&mut self, mailbox: usize, within: Duration, now: Duration) -> Option<Duration> {
        let since = self.corrected.get(&mailbox).copied()?;
        (now.saturating_sub(since) > within).then(|| self.corrected.remove(&mailbox)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    /// Mailbox 3 was corrected in second 1.
    fn corrected() -> Haste {
        let mut haste = Haste::default();
        haste.asked(3, true);
        haste.answered(3, true, at(1));
        haste
    }

    #[test]
    fn a_corrected_mailbox_waits_until_it_is_asked_again() {
        let mut haste = corrected();
        assert_eq!(haste.overdue(3, WITHIN, at(11)), None);
        assert_eq!(haste.overdue(3, WITHIN, at(12)), Some(at(1)));
        assert_eq!(haste.overdue(3, WITHIN, at(13)), None, "once");
        let mut haste = corrected();
        haste.asked(3, false);
        assert_eq!(haste.overdue(3, WITHIN, at(99)), None);
        let mut haste = corrected();
        haste.answered(3, false, at(2));
        assert_eq!(haste.overdue(3, WITHIN, at(99)), None, "its connection asked by itself");
        let mut haste = corrected();
        haste.visited(3, at(5));
        assert_eq!(haste.overdue(3, WITHIN, at(15)), None);
        assert_eq!(haste.overdue(3, WITHIN, at(16)), Some(at(5)));
    }

    #[test]
    fn only_news_in_the_sweep_s_answer_are_a_correction() {
        let mut haste = Haste::default();
        haste.asked(3, false);
        haste.answered(3, true, at(1));
        haste.asked(3, false);
        haste.asked(3, true);
        haste.answered(3, true, at(1));
        assert_eq!(haste.overdue(3, WITHIN, at(99)), None, "others had asked before");
        haste.asked(3, true);
        haste.answered(3, false, at(2));
        haste.answered(3, true, at(3));
        haste.visited(3, at(4));
        haste.asked(3, true);
        haste.visited(3, at(5));
        haste.answered(3, true, at(6));
        assert_eq!(haste.overdue(3, WITHIN, at(99)), None, "the answer of another connection");
    }

    #[test]
    fn nobody_waits_for_what_was_given_up() {
        let mut haste = corrected();
        haste.forget(3);
        assert_eq!(haste.overdue(3, WITHIN, at(99)), None);
        let mut haste = corrected();
        haste.forget_all();
        assert_eq!(haste.overdue(3, WITHIN, at(99)), None);
    }
}
