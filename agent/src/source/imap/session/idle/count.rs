//! Counting the unseen in an examined INBOX: a look at what is new first, where the server's view may be an old one, then a
//! search as this server can.

use super::{Idle, Step};
use crate::event::Reading;
use crate::source::imap::ANSWER_WAIT;
use crate::source::imap::capability::Capabilities;
use crate::source::imap::session::link::{Command, Link};
use crate::time::Now;

/// How a search asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// For the messages themselves.
    Plain,
    /// For their number (RFC 4731).
    Counted,
    /// For the messages themselves, to check a number (sources.md §1).
    Check,
}

/// What the search in flight found so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// The sum of all lines: some servers send several.
    listed: Option<u32>,
    counted: Option<u32>,
    /// A line was not understood: it may have been the answer.
    is_garbled: bool,
}

impl Found {
    pub(super) fn list(&mut self, numbers: u32) {
        self.listed = Some(self.listed.unwrap_or(0).saturating_add(numbers));
    }

    pub(super) fn count(&mut self, number: u32) {
        self.counted = Some(number);
    }

    pub(super) fn garble(&mut self) {
        self.is_garbled = true;
    }

    /// The number, once the search was answered by OK. A search for the messages that has no line at all found none
    /// (sources.md §9.4, iCloud), unless a line came that was not understood: it may have been the answer. A search for
    /// their number that brings none was not understood.
    fn number(self, search: Search) -> Option<u32> {
        let is_silent = search != Search::Counted && !self.is_garbled;
        self.counted.or(self.listed).or(is_silent.then_some(0))
    }
}

impl Idle {
    /// Begins a count. A question from outside and the sweep begin with another EXAMINE: a new view is the one thing that no
    /// server can answer from an old one. Else NOOP, its answer awaited, unless the server was seen to do without.
    pub(super) fn count_unseen(&mut self, link: &mut Link, now: Now) {
        self.viewed_at = now.moment;
        if std::mem::take(&mut self.is_asked) {
            self.step = Step::Examining(false);
            return link.command(now, Command::Examine, "EXAMINE INBOX");
        }
        if link.traits.shows_new() || link.traits.reports_gap() {
            return self.search_unseen(link, now);
        }
        self.step = Step::Refreshing;
        link.command(now, Command::Noop, "NOOP");
    }

    /// Counts the unseen as this server can.
    pub(super) fn search_unseen(&mut self, link: &mut Link, now: Now) {
        let has_esearch = link.capabilities.has(Capabilities::ESEARCH);
        let is_counting = has_esearch && !link.traits.is_count_total();
        self.search(link, now, if is_counting { Search::Counted } else { Search::Plain });
    }

    fn search(&mut self, link: &mut Link, now: Now, search: Search) {
        self.step = Step::Searching(search);
        self.found = Found::default();
        self.is_moving &= search == Search::Check;
        self.gap.asking();
        link.questioning(now);
        let text = match search {
            Search::Plain => "SEARCH UNSEEN",
            Search::Counted => "UID SEARCH RETURN (COUNT) UNSEEN",
            Search::Check => "UID SEARCH NOT SEEN",
        };
        link.command(now, Command::Search, text);
    }

    pub(super) fn searched(&mut self, link: &mut Link, now: Now, search: Search, is_ok: bool) {
        link.answered();
        let Some(unseen) = self.found.number(search).filter(|_| is_ok) else {
            return self.unanswered(link, now, search);
        };
        let before = std::mem::replace(&mut self.unseen, unseen);
        match search {
            // Learned by another connection while this answer was on its way.
            Search::Counted if link.traits.is_count_total() => return self.search_unseen(link, now),
            Search::Counted if link.traits.is_count_proven() => {}
            Search::Counted if unseen < self.exists && !self.is_moving => link.traits.learn_count(true),
            // As many unseen as there are messages, or were a moment ago: perhaps so, perhaps a server that counts them all.
            Search::Counted if unseen > 0 => return self.search(link, now, Search::Check),
            Search::Check if unseen != before && !self.is_moving => link.traits.learn_count(false),
            _ => {}
        }
        self.counted(link, now, unseen);
    }

    /// The count is known. What it found and nobody reported was hidden in a gap.
    fn counted(&mut self, link: &mut Link, now: Now, unseen: u32) {
        let is_other = self.read.replace(unseen) != Some(unseen);
        if self.gap.counted(is_other) {
            link.traits.learn_hidden();
        }
        // As of the look, not of the search: the view may be frozen between the two.
        let asked_at = Some(self.viewed_at);
        link.news(Reading { unseen, uid_validity: link.uid_validity, modseq: None, asked_at });
        self.start(link, now, "", Step::Starting);
    }

    /// The search brought no number. `RETURN (COUNT)` was promised and not kept: without it, at once. Else the question
    /// stays open, and must not become a storm.
    fn unanswered(&mut self, link: &mut Link, now: Now, search: Search) {
        if search == Search::Counted {
            link.traits.learn_count(false);
            return self.search_unseen(link, now);
        }
        link.question_after(now, ANSWER_WAIT);
        self.start(link, now, "", Step::Starting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_finds_what_all_its_lines_say() {
        let found = |lists: &[u32], counts: &[u32], is_garbled| {
            let mut found = Found { is_garbled, ..Found::default() };
            for numbers in lists {
                found.list(*numbers);
            }
            for number in counts {
                found.count(*number);
            }
            [Search::Plain, Search::Counted, Search::Check].map(|search| found.number(search))
        };
        let cases = [
            // The tagged answer alone.
            (found(&[], &[], false), [Some(0), None, Some(0)]),
            (found(&[], &[], true), [None; 3]),
            (found(&[0], &[], false), [Some(0); 3]),
            (found(&[100, 100, 50], &[], false), [Some(250); 3]),
            (found(&[100, 100], &[], true), [Some(200); 3]),
            (found(&[u32::MAX, 1], &[], false), [Some(u32::MAX); 3]),
            // A count is the whole number, however often it is said and whatever stands beside it.
            (found(&[], &[7, 7], false), [Some(7); 3]),
            (found(&[3], &[7], true), [Some(7); 3]),
        ];
        for (at, (numbers, expected)) in cases.into_iter().enumerate() {
            assert_eq!(numbers, expected, "case {at}");
        }
    }
}
