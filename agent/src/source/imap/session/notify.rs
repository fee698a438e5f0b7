//! Watching by NOTIFY (RFC 5465) with nothing selected: the server pushes STATUS lines, some of them partial.

use super::timers::Timer;
use super::{Command, Phase, Session};
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
    /// NOTIFY is to be armed again: cures a server's deafness and its inactivity timer (sources.md §4.2).
    pub(super) fn wants_arming(&mut self) {
        self.wants_arming = true;
        self.overflows = 0;
    }
}

impl Session {
    /// The first arming; its STATUS is the first reading.
    pub(super) fn notify_begin(&mut self, now: Now) {
        self.phase = Phase::Notify(Notify {
            armed_at: now.moment,
            wants_arming: true,
            is_armed: false,
            is_gap: true,
            overflows: 0,
            unseen: None,
            untold: 0,
        });
        self.notify_proceed(now);
    }

    /// Arms or asks, where either is due and nothing is in flight.
    pub(super) fn notify_proceed(&mut self, now: Now) {
        let Phase::Notify(notify) = &mut self.phase else { return };
        if self.in_flight.is_some() {
            return;
        }
        if notify.overflows > OVERFLOWS_MAX || notify.untold >= UNTOLD_MAX {
            return self.give_up_notify(now);
        }
        if notify.wants_arming {
            notify.wants_arming = false;
            notify.armed_at = now.moment;
            self.timers.set(Timer::Renew, now.moment.after(self.settings.rearm_interval));
            // The answer is awaited: what is pushed before it, and what answers SET, must not be mistaken for each other.
            if notify.is_armed {
                return self.command(now, Command::NotifyNone, DISARM);
            }
            return self.arm(now, true);
        }
        if self.may_question(now) {
            self.ask_status(now);
        }
    }

    /// SET. In a gap its STATUS reports what changed since the last push, and answers every question so far.
    fn arm(&mut self, now: Now, is_gap: bool) {
        let Phase::Notify(notify) = &mut self.phase else { return };
        (notify.is_armed, notify.is_gap, notify.wants_arming) = (true, is_gap, false);
        if is_gap {
            self.wants_reading = false;
            self.timers.stop(Timer::Question);
        }
        self.command(now, Command::Notify, ARM);
    }

    /// A line while NOTIFY watches.
    pub(super) fn notify(&mut self, now: Now, reply: Reply<'_>) {
        match reply {
            Reply::Status(items) => self.notify_status(now, &items),
            Reply::Tagged(_, answer) => self.notify_answer(now, &answer),
            Reply::Untagged(remark) => self.notify_remark(now, &remark),
            _ => {}
        }
    }

    fn notify_status(&mut self, now: Now, items: &StatusItems) {
        let may_answer = matches!(self.in_flight, Some(Command::Notify | Command::Status));
        let is_reading = self.status_line(items, may_answer);
        if !may_answer {
            self.told(items.unseen);
        }
        // Servers that push new and expunged messages without UNSEEN must be asked (sources.md §3, Cyrus 3.9).
        if !is_reading && (items.messages.is_some() || items.uid_next.is_some()) {
            self.tell(Output::Noticed);
            self.wants_reading = true;
            self.notify_proceed(now);
        }
    }

    /// News came: this server tells, this connection is a busy one, and a busy one goes deaf sooner.
    fn told(&mut self, unseen: Option<u32>) {
        let Phase::Notify(notify) = &mut self.phase else { return };
        (notify.unseen, notify.untold) = (unseen.or(notify.unseen), 0);
        let at = notify.armed_at.after(BUSY_REARM);
        self.timers.advance(Timer::Renew, at);
    }

    fn notify_answer(&mut self, now: Now, answer: &Condition<'_>) {
        let command = self.in_flight;
        self.answered();
        match (command, answer.kind) {
            // A server that refuses NONE has pushed all the while, and goes on.
            (Some(Command::NotifyNone), kind) => return self.arm(now, kind == Kind::Ok),
            (Some(Command::Notify), Kind::Ok) => {
                self.traits.learn_notify(true, now.moment);
                self.armed();
            }
            (Some(Command::Notify), _) => return self.notify_refused(now, answer),
            (Some(Command::Status), Kind::Ok) => {
                self.found(self.held_count());
                let is_read = self.release(Some(self.sent_at));
                if !is_read {
                    self.question_after(now, ANSWER_WAIT);
                }
            }
            (Some(Command::Status), _) => return self.close(Ending::NoMailbox(answer.for_people())),
            _ => {}
        }
        self.notify_proceed(now);
    }

    /// What a question found and nobody had told counts against the server.
    fn found(&mut self, unseen: Option<u32>) {
        let Phase::Notify(notify) = &mut self.phase else { return };
        let is_untold = notify.unseen.is_some() && unseen.is_some() && notify.unseen != unseen;
        notify.untold += u8::from(is_untold);
        notify.unseen = unseen.or(notify.unseen);
    }

    /// In a gap the STATUS answers our question, since nothing could be pushed before; one outside of a gap may have been
    /// pushed before the server read our line. A never-used account gets none: ask.
    fn armed(&mut self) {
        let Phase::Notify(notify) = &mut self.phase else { return };
        let is_gap = notify.is_gap;
        notify.unseen = self.held.as_ref().map(|held| held.unseen).or(notify.unseen);
        let is_read = self.release(is_gap.then_some(self.sent_at));
        self.wants_reading |= is_gap && !is_read;
    }

    fn notify_refused(&mut self, now: Now, answer: &Condition<'_>) {
        self.release(None);
        if answer.is_code("NOTIFICATIONOVERFLOW") {
            return self.overflowed(now);
        }
        self.traits.learn_notify(false, now.moment);
        self.give_up_notify(now);
    }

    /// BADEVENT, overflows without end, or silence about what changes: the next lesser way.
    fn give_up_notify(&mut self, now: Now) {
        self.watch_by(now, self.idle_method());
    }

    /// `* OK [NOTIFICATIONOVERFLOW]` (RFC 5465 §5.8), or Dovecot's `* NO NOTIFY error, some events may have got lost`.
    fn notify_remark(&mut self, now: Now, remark: &Condition<'_>) {
        let is_lost = remark.kind == Kind::No && remark.text.starts_with(b"NOTIFY error");
        if remark.is_code("NOTIFICATIONOVERFLOW") || is_lost {
            self.overflowed(now);
        }
    }

    fn overflowed(&mut self, now: Now) {
        let Phase::Notify(notify) = &mut self.phase else { return };
        notify.wants_arming = true;
        notify.overflows = notify.overflows.saturating_add(1);
        self.tell(Output::Noticed);
        self.wants_reading = true;
        self.notify_proceed(now);
    }
}
