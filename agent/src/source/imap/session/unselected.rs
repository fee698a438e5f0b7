//! Watching by IDLE with nothing selected: some servers push STATUS in it (Stalwart, sources.md §4.3), which is the count
//! itself. No capability says whether one does. Until it was seen the mailbox is asked besides, and a server that never
//! tells what the questions find is polled.

use super::Next;
use super::gap::Gap;
use super::idle::{CONFIRM_MS, ShortEnds};
use super::link::{Command, Link};
use super::timers::Timer;
use crate::source::imap::exchange::{Ending, Output};
use crate::source::imap::reply::{Condition, Kind, Reply, StatusItems};
use crate::source::imap::{ANSWER_WAIT, Method, UNTOLD_MAX, Watch};
use crate::time::Now;

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
    gap: Gap,
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
    /// The count is asked for first.
    pub(super) fn begin(link: &mut Link, now: Now) -> Self {
        let mut gap = Gap::default();
        gap.asking();
        link.ask_status(now);
        Self {
            step: Step::Asking,
            wants_renewal: false,
            unseen: None,
            untold: 0,
            ends: ShortEnds::default(),
            gap,
        }
    }

    /// IDLE is to be issued again.
    pub(super) fn wants_renewal(&mut self) {
        self.wants_renewal = true;
    }

    /// Ends the IDLE where there is a reason to; everything else goes on by the server's answers.
    pub(super) fn proceed(&mut self, link: &mut Link, now: Now) {
        let may_question = link.may_question(now);
        if self.step == Step::Idling && (may_question || self.wants_renewal || link.is_leaving) {
            self.step = Step::Ending;
            link.send_done(now);
        }
    }

    /// A line while nothing is selected.
    pub(super) fn handle(&mut self, link: &mut Link, now: Now, reply: &Reply<'_>) -> Next {
        match (self.step, reply) {
            (Step::Asking, Reply::Status(items)) => {
                link.status_line(items, true);
            }
            (_, Reply::Status(items)) => self.status(link, now, items),
            (Step::Starting, Reply::Continue) => {
                self.step = Step::Idling;
                link.timers.stop(Timer::Deadline);
                self.proceed(link, now);
            }
            (_, Reply::Continue) => link.skip(),
            (_, Reply::Tagged(_, answer)) => return self.answer(link, now, answer),
            _ => {}
        }
        Next::Stay
    }

    /// Pushed: a reading where it says UNSEEN, else a reason to ask.
    fn status(&mut self, link: &mut Link, now: Now, items: &StatusItems) {
        link.traits.learn_status_in_idle();
        let is_reading = link.status_line(items, false);
        self.unseen = items.unseen.or(self.unseen);
        if self.step != Step::Idling {
            self.gap.told();
        }
        if !is_reading {
            link.tell(Output::Noticed);
            link.wants_reading = true;
            self.proceed(link, now);
        }
    }

    fn answer(&mut self, link: &mut Link, now: Now, answer: &Condition<'_>) -> Next {
        let is_ok = answer.kind == Kind::Ok;
        match self.step {
            Step::Asking if !is_ok => Next::Close(Ending::NoMailbox(answer.for_people())),
            Step::Asking => self.asked(link, now),
            Step::Starting | Step::Ending if !is_ok => Next::Watch(Method::Poll),
            Step::Ending => self.ended(link, now),
            Step::Starting | Step::Idling => {
                if self.ends.ended(now.moment.since(link.sent_at())) {
                    return Next::Watch(Method::Poll);
                }
                self.ended(link, now)
            }
        }
    }

    /// The question is answered. What it found and nobody told counts against the server.
    fn asked(&mut self, link: &mut Link, now: Now) -> Next {
        link.answered();
        let found = link.held_count();
        let is_proven = link.traits.sends_status_in_idle();
        if !link.release(Some(link.sent_at())) {
            link.question_after(now, ANSWER_WAIT);
        }
        let before = self.unseen;
        self.unseen = found.or(before);
        self.gap.counted(found != before);
        if !is_proven && before.is_some() && found.is_some() && before != found {
            self.untold += 1;
            if self.untold >= UNTOLD_MAX {
                return give_up(link);
            }
        }
        self.idle(link, now);
        Next::Stay
    }

    fn ended(&mut self, link: &mut Link, now: Now) -> Next {
        link.answered();
        link.idled();
        if link.is_leaving {
            return Next::Leave;
        }
        if link.may_question(now) {
            self.step = Step::Asking;
            self.gap.asking();
            link.ask_status(now);
        } else {
            self.gap.opened();
            self.idle(link, now);
        }
        Next::Stay
    }

    fn idle(&mut self, link: &mut Link, now: Now) {
        self.step = Step::Starting;
        self.wants_renewal = false;
        link.command(now, Command::Idle, "IDLE");
        link.timers.set(Timer::Renew, now.moment.after(link.settings.idle_interval));
        self.gap.look_into(link, now);
        if !link.traits.sends_status_in_idle() {
            link.question_within(now, CONFIRM_MS);
        }
    }
}

/// Nothing is pushed here. `auto` came because something was pushed with INBOX examined, and goes back.
fn give_up(link: &Link) -> Next {
    link.traits.learn_unselected_silent();
    let is_auto = link.settings.watch == Watch::Auto;
    Next::Watch(if is_auto { link.idle_method() } else { Method::Poll })
}
