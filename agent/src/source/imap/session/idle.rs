//! Watching by IDLE (RFC 2177) with INBOX examined: the server's lines are hints, the count comes from a search (`count`).

use super::count::{Found, Search};
use super::gap::Gap;
use super::timers::Timer;
use super::{Command, Phase, Session};
use crate::event::UidValidity;
use crate::source::imap::exchange::{Ending, Output};
use crate::source::imap::reply::{Condition, Kind, Reply, StatusItems};
use crate::source::imap::{ANSWER_WAIT, Method};
use crate::time::{Moment, Now};
use std::num::NonZeroU32;
use std::time::Duration;

/// While unseen messages lie there and the server was never seen to send flag changes, read after 30 to 60 s.
pub(super) const CONFIRM_MS: std::ops::RangeInclusive<u64> = 30_000..=60_000;
/// A keep-alive rhythm faster than this is taken for this: bursts are no rhythm.
const RHYTHM_MIN: Duration = Duration::from_secs(30);
/// An IDLE that the server ends before this counts as short.
const SHORT_IDLE: Duration = Duration::from_secs(30);
/// After so many short ones in a row the mailbox is polled.
const UNASKED_ENDS_MAX: u8 = 5;

/// A server that pushes STATUS in IDLE is left within this, to be watched with nothing selected.
const BETTER_WAIT_MS: std::ops::RangeInclusive<u64> = 1_000..=60_000;

/// A connection that IDLE watches.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) step: Step,
    wants_renewal: bool,
    /// A question from outside, or the sweep's, is not answered yet.
    pub(super) is_asked: bool,
    /// How many messages there are, as far as EXISTS and EXPUNGE told.
    pub(super) exists: u32,
    /// What the last search answered.
    pub(super) unseen: u32,
    /// What was read last, by a count or in a STATUS line.
    pub(super) read: Option<u32>,
    /// What the search in flight found.
    pub(super) found: Found,
    /// The server told of a change since the count was asked for: two answers, or a count and EXISTS, tell nothing of
    /// each other.
    pub(super) is_moving: bool,
    pub(super) gap: Gap,
    ends: ShortEnds,
    round: Round,
    /// When the look was sent that the last count rests on.
    pub(super) viewed_at: Moment,
    /// When this IDLE began.
    began_at: Moment,
    /// When the server last said `* OK Still here` in this IDLE.
    heard_at: Option<Moment>,
}

/// How many IDLEs in a row the server ended by itself, soon after they began.
#[derive(Debug, Default)]
pub(super) struct ShortEnds(u8);

impl ShortEnds {
    /// One was ended that lasted so long. True: this server is better polled.
    pub(super) fn ended(&mut self, lasted: Duration) -> bool {
        self.0 = if lasted < SHORT_IDLE { self.0 + 1 } else { 0 };
        self.0 >= UNASKED_ENDS_MAX
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// EXAMINE in flight; the flag: INBOX was asked into being before.
    Examining(bool),
    /// STATUS in flight, which makes an INBOX that was never used.
    Making,
    /// NOOP in flight, so that the count is not one of an old view.
    Refreshing,
    /// A search in flight, and how it asks.
    Searching(Search),
    /// IDLE sent, `+` awaited.
    Starting,
    Idling,
    /// DONE sent, the tagged answer awaited; the flag: the next IDLE went out with it.
    Ending(bool),
}

/// What one IDLE brought.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    has_exists: bool,
    has_flags: bool,
}

impl Idle {
    /// IDLE is to be issued again.
    pub(super) fn wants_renewal(&mut self) {
        self.wants_renewal = true;
    }

    /// Somebody wants a reading of what is there now.
    pub(super) fn asked(&mut self) {
        self.is_asked = true;
    }

    /// A line was not understood.
    pub(super) fn skipped(&mut self) {
        self.found.garble();
    }

    /// Whether two IDLE commands are in flight, one ending and one beginning.
    pub(super) fn is_reissuing(&self) -> bool {
        self.step == Step::Ending(true)
    }
}

impl Session {
    /// EXAMINE, never SELECT: that would clear `\Recent`.
    pub(super) fn idle_begin(&mut self, now: Now) {
        self.phase = Phase::Idle(Idle {
            step: Step::Examining(false),
            wants_renewal: false,
            is_asked: false,
            exists: 0,
            unseen: 0,
            read: None,
            found: Found::default(),
            is_moving: false,
            gap: Gap::default(),
            ends: ShortEnds::default(),
            round: Round::default(),
            viewed_at: now.moment,
            began_at: now.moment,
            heard_at: None,
        });
        self.command(now, Command::Examine, "EXAMINE INBOX");
    }

    /// Ends the IDLE where there is a reason to; everything else goes on by the server's answers.
    pub(super) fn idle_proceed(&mut self, now: Now) {
        let Phase::Idle(Idle { step: Step::Idling, wants_renewal, .. }) = self.phase else { return };
        if self.may_question(now) || self.is_leaving {
            self.set_step(Step::Ending(false));
            self.timers.set(Timer::Deadline, now.moment.after(ANSWER_WAIT));
            self.send(b"DONE\r\n".to_vec());
        } else if wants_renewal {
            if let Phase::Idle(idle) = &mut self.phase {
                idle.gap.opened();
            }
            // One segment: Dovecot's hibernation survives only that.
            self.start_idle(now, "DONE\r\n", Step::Ending(true));
        }
    }

    /// A line while INBOX is examined.
    pub(super) fn idle(&mut self, now: Now, reply: Reply<'_>) {
        match reply {
            // Some servers repeat what is known before each continuation: no news, and no reason to end the IDLE.
            Reply::Exists(count) if self.is_known(count) => {}
            Reply::Exists(count) => self.idle_event(now, |idle| {
                idle.exists = count;
                idle.round.has_exists = true;
            }),
            Reply::Expunge => self.idle_event(now, |idle| idle.exists = idle.exists.saturating_sub(1)),
            Reply::Vanished => self.idle_event(now, |_| ()),
            Reply::Status(items) => self.idle_status(now, &items),
            Reply::Flags => self.idle_event(now, |idle| {
                // Between DONE and its answer a server may tell what it kept back during IDLE.
                idle.round.has_flags |= idle.step == Step::Idling;
            }),
            Reply::Found(count) => self.idle_found(|found| found.list(count)),
            Reply::Count(count) => self.idle_found(|found| found.count(count)),
            Reply::Continue => self.idle_started(now),
            Reply::Untagged(remark) => self.idle_remark(now, &remark),
            Reply::Tagged(_, answer) => self.idle_answer(now, &answer),
            _ => {}
        }
    }

    fn is_known(&self, count: u32) -> bool {
        matches!(&self.phase, Phase::Idle(idle) if idle.exists == count)
    }

    /// Something changed: a search will tell what. Before the first search it is the server's answer to EXAMINE or STATUS.
    fn idle_event(&mut self, now: Now, note: impl FnOnce(&mut Idle)) {
        let Phase::Idle(idle) = &mut self.phase else { return };
        note(idle);
        if matches!(idle.step, Step::Examining(_) | Step::Making) {
            return;
        }
        let is_first = !std::mem::replace(&mut idle.is_moving, true);
        idle.gap.told();
        match idle.step {
            _ if !is_first => {}
            // Nothing but the server's own look at the mailbox can report this.
            Step::Searching(_) => self.traits.learn_shows_new(),
            Step::Starting => self.traits.learn_reports_gap(),
            // With the continuation itself: nothing changed since IDLE began, so it was before.
            Step::Idling if idle.began_at == now.moment => self.traits.learn_reports_gap(),
            _ => {}
        }
        self.tell(Output::Noticed);
        self.wants_reading = true;
        self.idle_proceed(now);
    }

    /// STATUS of the selected INBOX, which was not asked for: the count itself (Stalwart, sources.md §9.3), and a hint.
    fn idle_status(&mut self, now: Now, items: &StatusItems) {
        let Phase::Idle(idle) = &mut self.phase else { return };
        if matches!(idle.step, Step::Starting | Step::Idling | Step::Ending(_)) && items.unseen.is_some() {
            idle.read = items.unseen;
            self.status_line(items, false);
            self.traits.learn_status_beside_exists();
            self.seek_better(now);
        }
        self.idle_event(now, |_| ());
    }

    /// Another connection, with nothing selected, if that was found to be better. Not all of them at once.
    fn seek_better(&mut self, now: Now) {
        if self.best_method() == Method::IdleUnselected && self.timers.get(Timer::Upgrade).is_none() {
            let wait = Duration::from_millis(self.rng.u64(BETTER_WAIT_MS));
            self.timers.set(Timer::Upgrade, now.moment.after(wait));
        }
    }

    fn idle_found(&mut self, note: impl FnOnce(&mut Found)) {
        if let Phase::Idle(idle) = &mut self.phase
            && matches!(idle.step, Step::Searching(_))
        {
            note(&mut idle.found);
        }
    }

    fn idle_started(&mut self, now: Now) {
        let Phase::Idle(idle) = &mut self.phase else { return };
        if idle.step != Step::Starting {
            return self.skip();
        }
        idle.step = Step::Idling;
        idle.began_at = now.moment;
        self.timers.stop(Timer::Deadline);
        self.expect_rhythm(now);
        self.idle_proceed(now);
    }

    fn idle_remark(&mut self, now: Now, remark: &Condition<'_>) {
        if remark.is_code("UIDVALIDITY") {
            let value = std::str::from_utf8(remark.argument).ok().and_then(|digits| digits.parse().ok());
            self.uid_validity = value.and_then(NonZeroU32::new).map(UidValidity).or(self.uid_validity);
        }
        if let Phase::Idle(idle) = &mut self.phase
            && idle.step == Step::Idling
            && remark.code.is_empty()
        {
            if let Some(last) = idle.heard_at.replace(now.moment) {
                self.traits.learn_rhythm(now.moment.since(last).max(RHYTHM_MIN));
            }
            self.expect_rhythm(now);
        }
    }

    /// A silence longer than the server's rhythm allows is looked into (sources.md §4.3).
    fn expect_rhythm(&mut self, now: Now) {
        match self.traits.rhythm() {
            // 2.5 times itself.
            Some(rhythm) => self.timers.set(Timer::Silence, now.moment.after(rhythm * 5 / 2)),
            None => self.timers.stop(Timer::Silence),
        }
    }

    fn idle_answer(&mut self, now: Now, answer: &Condition<'_>) {
        let Phase::Idle(idle) = &self.phase else { return };
        let is_ok = answer.kind == Kind::Ok;
        match idle.step {
            Step::Examining(_) if is_ok => self.search_unseen(now),
            Step::Examining(false) => {
                self.set_step(Step::Making);
                self.ask_status(now);
            }
            Step::Making if is_ok => {
                self.set_step(Step::Examining(true));
                self.command(now, Command::Examine, "EXAMINE INBOX");
            }
            Step::Making => self.close(Ending::NoMailbox(answer.for_people())),
            // It may be looked at and not opened.
            Step::Examining(true) => self.watch_by(now, Method::IdleUnselected),
            // Asked meanwhile, perhaps after a change that this NOOP did not see.
            Step::Refreshing if idle.is_asked => self.count_unseen(now),
            Step::Refreshing => self.search_unseen(now),
            Step::Searching(search) => self.searched(now, search, is_ok),
            Step::Ending(_) | Step::Starting if !is_ok => self.watch_by(now, Method::Poll),
            Step::Ending(is_reissue) => self.idle_ended(now, is_reissue),
            Step::Starting | Step::Idling => self.idle_ended_unasked(now),
        }
    }

    /// The server ended the IDLE by itself. One that does so again and again is better polled.
    fn idle_ended_unasked(&mut self, now: Now) {
        let lasted = now.moment.since(self.sent_at);
        let Phase::Idle(idle) = &mut self.phase else { return };
        if idle.ends.ended(lasted) {
            return self.watch_by(now, Method::Poll);
        }
        self.idle_ended(now, false);
    }

    fn idle_ended(&mut self, now: Now, is_reissue: bool) {
        self.learn_from_round();
        self.idled();
        self.timers.stop(Timer::Silence);
        if is_reissue {
            return self.set_step(Step::Starting);
        }
        self.answered();
        if self.is_leaving {
            return self.leave(now);
        }
        if self.wants_reading { self.count_unseen(now) } else { self.start_idle(now, "", Step::Starting) }
    }

    /// Flags that came with new mail prove nothing (sources.md §4.3).
    fn learn_from_round(&mut self) {
        let Phase::Idle(idle) = &mut self.phase else { return };
        let round = std::mem::take(&mut idle.round);
        idle.heard_at = None;
        if round.has_flags && !round.has_exists {
            self.traits.learn_flags_in_idle();
        }
    }

    pub(super) fn start_idle(&mut self, now: Now, before: &str, step: Step) {
        let Phase::Idle(idle) = &mut self.phase else { return };
        idle.step = step;
        idle.wants_renewal = false;
        let needs_confirmation = idle.unseen > 0 && !self.traits.sends_flags_in_idle();
        self.command_after(now, Command::Idle, before, "IDLE");
        self.timers.set(Timer::Renew, now.moment.after(self.settings.idle_interval));
        self.seek_better(now);
        self.look_into_gap(now);
        if needs_confirmation {
            let wait = Duration::from_millis(self.rng.u64(CONFIRM_MS));
            self.question_after(now, wait);
        }
    }

    fn set_step(&mut self, step: Step) {
        if let Phase::Idle(idle) = &mut self.phase {
            idle.step = step;
        }
    }
}
