//! A visit: STATUS INBOX, LOGOUT (sources.md §1). What polling and sweeping do.

use super::{Command, Phase, Session};
use crate::source::imap::exchange::Ending;
use crate::source::imap::reply::{Kind, Reply};
use crate::time::Now;

/// A connection that reads once and leaves.
#[derive(Debug)]
pub(super) struct Visit;

impl Session {
    /// Asks at once.
    pub(super) fn visit_begin(&mut self, now: Now) {
        self.phase = Phase::Visit(Visit);
        self.ask_status(now);
    }

    /// A line during a visit; what the server says unasked is of no use to one that leaves.
    pub(super) fn visit(&mut self, now: Now, reply: Reply<'_>) {
        match (self.in_flight, reply) {
            (Some(Command::Status), Reply::Status(items)) => {
                self.status_line(&items, true);
            }
            (Some(Command::Status), Reply::Tagged(_, answer)) => {
                self.answered();
                let is_read = self.release(Some(self.sent_at));
                match (answer.kind, is_read) {
                    (Kind::Ok, true) => self.command(now, Command::Logout, "LOGOUT"),
                    (Kind::Ok, false) => self.close(Ending::Violation("no answer to STATUS")),
                    _ => self.close(Ending::NoMailbox(answer.for_people())),
                }
            }
            (Some(Command::Logout), Reply::Tagged(..)) => self.close(Ending::Done),
            _ => {}
        }
    }
}
