//! A visit: STATUS INBOX, LOGOUT (sources.md §1). What polling and sweeping do.

use super::Next;
use super::link::{Command, Link};
use crate::source::imap::exchange::Ending;
use crate::source::imap::reply::{Condition, Kind, Reply};
use crate::time::Now;

/// A connection that reads once and leaves.
#[derive(Debug)]
pub(super) struct Visit;

impl Visit {
    /// Asks at once.
    pub(super) fn begin(link: &mut Link, now: Now) -> Self {
        link.ask_status(now);
        Self
    }

    /// Says goodbye without a question, to come back by a better way.
    pub(super) fn leave(link: &mut Link, now: Now) -> Self {
        link.command(now, Command::Logout, "LOGOUT");
        Self
    }

    /// A line during a visit; what the server says unasked is of no use to one that leaves.
    pub(super) fn handle(&mut self, link: &mut Link, now: Now, reply: &Reply<'_>) -> Next {
        match (link.in_flight(), reply) {
            (Some(Command::Status), Reply::Status(items)) => {
                link.status_line(items, true);
                Next::Stay
            }
            (Some(Command::Status), Reply::Tagged(_, answer)) => self.answered(link, now, answer),
            (Some(Command::Logout), Reply::Tagged(..)) => Next::Close(Ending::Done),
            _ => Next::Stay,
        }
    }

    fn answered(&mut self, link: &mut Link, now: Now, answer: &Condition<'_>) -> Next {
        link.answered();
        let is_read = link.release(Some(link.sent_at()));
        match (answer.kind, is_read) {
            (Kind::Ok, true) => {
                *self = Self::leave(link, now);
                Next::Stay
            }
            (Kind::Ok, false) => Next::Close(Ending::Violation("no answer to STATUS")),
            _ => Next::Close(Ending::NoMailbox(answer.for_people())),
        }
    }
}
