//! Watching by NOTIFY (RFC 5465) with nothing selected: the server pushes STATUS lines, some of them partial.

use super::Next;
use super::link::{Command, Link};
use super::timers::Timer;
use crate::source::imap::exchange::{Ending, Output};
use crate::source::imap::reply::{Condition, Kind, Reply, StatusItems};
use crate::source::imap::{ANSWER_WAIT, BUSY_REARM, UNTOLD_MAX};
use crate::time::{Moment, Now};

/// What goes before each further arming. Dovecot takes the same SET again on a live connection for "no pushes", and the next
/// one for "pushes" (sources.md §4.2).
const DISARM: &str = "NOTIFY NONE";
/// What we want to be told. Without FlagChange no `\Seen` is pushed (sources.md §4.2).
const ARM: &str = "NOTIFY SET STATUS (MAILBOXES INBOX (MessageNew MessageExpunge FlagChange))";
/// Overflows in a row after which NOTIFY is given up on this connection.
const OVERFLOWS_MAX: u8 = 3;

/// A connection that NOTIFY watches.
#[derive(Debug)]
pub(super) struct Notify {
    armed_at: Moment,
    wants_arming: bool,
    /// SET was sent at least once.
    is_armed: bool,
    /// Nothing is pushed until the SET in flight is read: its STATUS answers it.
    is_gap: bool,
    overflows: u8,
    /// What was read last.
    unseen: Option<u32>,
    /// Changes in a row that only a question found.
    untold: u8,
}

impl Notify {
    /// The first arming; its STATUS is the first reading.
    pub(super) fn begin(link: &mut Link, now: Now) -> Self {
        let mut notify = Self {
            armed_at: now.moment,
            wants_arming: true,
            is_armed: false,
            is_gap: true,
            overflows: 0,
            unseen: None,
            untold: 0,
        };
        notify.arm_or_disarm(link, now);
        notify
    }

    /// NOTIFY is to be armed again: cures a server's deafness and its inactivity timer (sources.md §4.2).
    pub(super) fn wants_arming(&mut self) {
        self.wants_arming = true;
        self.overflows = 0;
    }

    /// Arms or asks, where either is due and nothing is in flight.
    pub(super) fn proceed(&mut self, link: &mut Link, now: Now) -> Next {
        if link.in_flight().is_some() {
            return Next::Stay;
        }
        if self.overflows > OVERFLOWS_MAX || self.untold >= UNTOLD_MAX {
            return give_up(link);
        }
        if self.wants_arming {
            self.arm_or_disarm(link, now);
        } else if link.may_question(now) {
            link.ask_status(now);
        }
        Next::Stay
    }

    fn arm_or_disarm(&mut self, link: &mut Link, now: Now) {
        self.wants_arming = false;
        self.armed_at = now.moment;
        link.timers.set(Timer::Renew, now.moment.after(link.settings.rearm_interval));
        // The answer is awaited: what is pushed before it, and what answers SET, must not be mistaken for each other.
        if self.is_armed {
            link.command(now, Command::NotifyNone, DISARM);
        } else {
            self.arm(link, now, true);
        }
    }

    /// SET. In a gap its STATUS reports what changed since the last push, and answers every question so far.
    fn arm(&mut self, link: &mut Link, now: Now, is_gap: bool) {
        (self.is_armed, self.is_gap, self.wants_arming) = (true, is_gap, false);
        if is_gap {
            link.wants_reading = false;
            link.timers.stop(Timer::Question);
        }
        link.command(now, Command::Notify, ARM);
    }

    /// A line while NOTIFY watches.
    pub(super) fn handle(&mut self, link: &mut Link, now: Now, reply: &Reply<'_>) -> Next {
        match reply {
            Reply::Status(items) => self.status(link, now, items),
            Reply::Tagged(_, answer) => self.answer(link, now, answer),
            Reply::Untagged(remark) => self.remark(link, now, remark),
            _ => Next::Stay,
        }
    }

    fn status(&mut self, link: &mut Link, now: Now, items: &StatusItems) -> Next {
        let may_answer = matches!(link.in_flight(), Some(Command::Notify | Command::Status));
        let is_reading = link.status_line(items, may_answer);
        if !may_answer {
            self.told(link, items.unseen);
        }
        // Servers that push new and expunged messages without UNSEEN must be asked (sources.md §3, Cyrus 3.9).
        if !is_reading && (items.messages.is_some() || items.uid_next.is_some()) {
            link.tell(Output::Noticed);
            link.wants_reading = true;
            return self.proceed(link, now);
        }
        Next::Stay
    }

    /// News came: this server tells, this connection is a busy one, and a busy one goes deaf sooner.
    fn told(&mut self, link: &mut Link, unseen: Option<u32>) {
        (self.unseen, self.untold) = (unseen.or(self.unseen), 0);
        link.timers.advance(Timer::Renew, self.armed_at.after(BUSY_REARM));
    }

    fn answer(&mut self, link: &mut Link, now: Now, answer: &Condition<'_>) -> Next {
        match (link.answered(), answer.kind) {
            // A server that refuses NONE has pushed all the while, and goes on.
            (Some(Command::NotifyNone), kind) => {
                self.arm(link, now, kind == Kind::Ok);
                return Next::Stay;
            }
            (Some(Command::Notify), Kind::Ok) => {
                link.traits.learn_notify(true, now.moment);
                self.armed(link);
            }
            (Some(Command::Notify), _) => return self.refused(link, now, answer),
            (Some(Command::Status), Kind::Ok) => {
                self.found(link.held_count());
                if !link.release(Some(link.sent_at())) {
                    link.question_after(now, ANSWER_WAIT);
                }
            }
            (Some(Command::Status), _) => return Next::Close(Ending::NoMailbox(answer.for_people())),
            _ => {}
        }
        self.proceed(link, now)
    }

    /// What a question found and nobody had told counts against the server.
    fn found(&mut self, unseen: Option<u32>) {
        let is_untold = self.unseen.is_some() && unseen.is_some() && self.unseen != unseen;
        self.untold += u8::from(is_untold);
        self.unseen = unseen.or(self.unseen);
    }

    /// In a gap the STATUS answers our question, since nothing could be pushed before; one outside of a gap may have been
    /// pushed before the server read our line. A never-used account gets none: ask.
    fn armed(&mut self, link: &mut Link) {
        self.unseen = link.held_count().or(self.unseen);
        let is_read = link.release(self.is_gap.then_some(link.sent_at()));
        link.wants_reading |= self.is_gap && !is_read;
    }

    fn refused(&mut self, link: &mut Link, now: Now, answer: &Condition<'_>) -> Next {
        link.release(None);
        if answer.is_code("NOTIFICATIONOVERFLOW") {
            return self.overflowed(link, now);
        }
        link.traits.learn_notify(false, now.moment);
        give_up(link)
    }

    /// `* OK [NOTIFICATIONOVERFLOW]` (RFC 5465 §5.8), or Dovecot's `* NO NOTIFY error, some events may have got lost`.
    fn remark(&mut self, link: &mut Link, now: Now, remark: &Condition<'_>) -> Next {
        let is_lost = remark.kind == Kind::No && remark.text.starts_with(b"NOTIFY error");
        if remark.is_code("NOTIFICATIONOVERFLOW") || is_lost {
            return self.overflowed(link, now);
        }
        Next::Stay
    }

    fn overflowed(&mut self, link: &mut Link, now: Now) -> Next {
        self.wants_arming = true;
        self.overflows = self.overflows.saturating_add(1);
        link.tell(Output::Noticed);
        link.wants_reading = true;
        self.proceed(link, now)
    }
}

/// BADEVENT, overflows without end, or silence about what changes: the next lesser way.
fn give_up(link: &Link) -> Next {
    Next::Watch(link.idle_method())
}
