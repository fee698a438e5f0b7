//! Watching by IDLE with nothing selected: some servers push STATUS in it (Stalwart, sources.md §4.3), which is the count
//! itself. No capability says whether one does. Until it was seen the mailbox is asked besides, and a server that never
//! tells what the questions find is polled.

use super::gap::Gap;
use super::idle::{CONFIRM_MS, ShortEnds};
use super::timers::Timer;
use super::{Command, Phase, Session};
use crate::source::imap::exchange::{Ending, Output};
use crate::source::imap::reply::{Condition, Kind, Reply, StatusItems};
use crate::source::imap::{ANSWER_WAIT, Method, UNTOLD_MAX, Watch};
use crate::time::Now;
use std::time::Duration;

/// A connection that an IDLE with nothing selected watches.
#[derive(Debug)]
pub(super) struct Unselected {
    step: Step,
    wants_renewal: bool,
    /// What was read last.
    unseen: Option<u32>,
    /// Changes that only a question found.
    untold: u8,
    ends: ShortEnds,
    pub(super) gap: Gap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// STATUS in flight.
    Asking,
    /// IDLE sent, `+` awaited.
    Starting,
    Idling,
    /// DONE sent, the tagged answer awaited.
    Ending,
}

impl Unselected {
    /// IDLE is to be issued again.
    pub(super) fn wants_renewal(&mut self) {
        self.wants_renewal = true;
    }
}

impl Session {
    /// The count is asked for first.
    pub(super) fn unselected_begin(&mut self, now: Now) {
        let mut gap = Gap::default();
        gap.asking();
        self.phase = Phase::Unselected(Unselected {
            step: Step::Asking,
            wants_renewal: false,
            unseen: None,
            untold: 0,
            ends: ShortEnds::default(),
            gap,
        });
        self.ask_status(now);
    }

    /// Ends the IDLE where there is a reason to; everything else goes on by the server's answers.
    pub(super) fn unselected_proceed(&mut self, now: Now) {
        let is_leaving = self.is_leaving;
        let may_question = self.may_question(now);
        let Phase::Unselected(Unselected { step, wants_renewal, .. }) = &mut self.phase else { return };
        if *step == Step::Idling && (may_question || *wants_renewal || is_leaving) {
            *step = Step::Ending;
            self.timers.set(Timer::Deadline, now.moment.after(ANSWER_WAIT));
            self.send(b"DONE\r\n".to_vec());
        }
    }

    /// A line while nothing is selected.
    pub(super) fn unselected(&mut self, now: Now, reply: Reply<'_>) {
        let Phase::Unselected(Unselected { step, .. }) = &mut self.phase else { return };
        match (*step, reply) {
            (Step::Asking, Reply::Status(items)) => {
                self.status_line(&items, true);
            }
            (_, Reply::Status(items)) => self.unselected_status(now, &items),
            (Step::Starting, Reply::Continue) => {
                *step = Step::Idling;
                self.timers.stop(Timer::Deadline);
                self.unselected_proceed(now);
            }
            (_, Reply::Continue) => self.skip(),
            (_, Reply::Tagged(_, answer)) => self.unselected_answer(now, &answer),
            _ => {}
        }
    }

    /// Pushed: a reading where it says UNSEEN, else a reason to ask.
    fn unselected_status(&mut self, now: Now, items: &StatusItems) {
        self.traits.learn_status_in_idle();
        let is_reading = self.status_line(items, false);
        let Phase::Unselected(unselected) = &mut self.phase else { return };
        unselected.unseen = items.unseen.or(unselected.unseen);
        if unselected.step != Step::Idling {
            unselected.gap.told();
        }
        if !is_reading {
            self.tell(Output::Noticed);
            self.wants_reading = true;
            self.unselected_proceed(now);
        }
    }

    fn unselected_answer(&mut self, now: Now, answer: &Condition<'_>) {
        let Phase::Unselected(unselected) = &mut self.phase else { return };
        let (step, is_ok) = (unselected.step, answer.kind == Kind::Ok);
        match step {
            Step::Asking if !is_ok => self.close(Ending::NoMailbox(answer.for_people())),
            Step::Asking => self.unselected_asked(now),
            Step::Starting | Step::Ending if !is_ok => self.watch_by(now, Method::Poll),
            Step::Ending => self.unselected_ended(now),
            Step::Starting | Step::Idling => {
                if unselected.ends.ended(now.moment.since(self.sent_at)) {
                    return self.watch_by(now, Method::Poll);
                }
                self.unselected_ended(now);
            }
        }
    }

    /// The question is answered. What it found and nobody told counts against the server.
    fn unselected_asked(&mut self, now: Now) {
        self.answered();
        let found = self.held_count();
        let is_proven = self.traits.sends_status_in_idle();
        if !self.release(Some(self.sent_at)) {
            self.question_after(now, ANSWER_WAIT);
        }
        let Phase::Unselected(unselected) = &mut self.phase else { return };
        let before = unselected.unseen;
        unselected.unseen = found.or(before);
        unselected.gap.counted(found != before);
        if !is_proven && before.is_some() && found.is_some() && before != found {
            unselected.untold += 1;
            if unselected.untold >= UNTOLD_MAX {
                return self.give_up_unselected(now);
            }
        }
        self.unselected_idle(now);
    }

    /// Nothing is pushed here. `auto` came because something was pushed with INBOX examined, and goes back.
    fn give_up_unselected(&mut self, now: Now) {
        self.traits.learn_unselected_silent();
        let is_auto = self.settings.watch == Watch::Auto;
        self.watch_by(now, if is_auto { self.idle_method() } else { Method::Poll });
    }

    fn unselected_ended(&mut self, now: Now) {
        self.answered();
        self.idled();
        if self.is_leaving {
            self.leave(now);
        } else if self.may_question(now) {
            if let Phase::Unselected(unselected) = &mut self.phase {
                unselected.step = Step::Asking;
                unselected.gap.asking();
            }
            self.ask_status(now);
        } else {
            if let Phase::Unselected(unselected) = &mut self.phase {
                unselected.gap.opened();
            }
            self.unselected_idle(now);
        }
    }

    fn unselected_idle(&mut self, now: Now) {
        let Phase::Unselected(unselected) = &mut self.phase else { return };
        unselected.step = Step::Starting;
        unselected.wants_renewal = false;
        self.command(now, Command::Idle, "IDLE");
        self.timers.set(Timer::Renew, now.moment.after(self.settings.idle_interval));
        self.look_into_gap(now);
        if !self.traits.sends_status_in_idle() {
            let wait = Duration::from_millis(self.rng.u64(CONFIRM_MS));
            self.question_after(now, wait);
        }
    }
}
