//! Watching by IDLE (RFC 2177) with INBOX examined: the server's lines are hints, the count comes from a search.

use super::capability::Capabilities;
use super::exchange::{Ending, Output};
use super::reply::{Condition, Kind, Reply};
use super::session::{Command, Phase, Session};
use super::timers::Timer;
use super::{ANSWER_WAIT, Method};
use crate::event::{Reading, UidValidity};
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

/// A connection that IDLE watches.
#[derive(Debug)]
pub(super) struct Idle {
    step: Step,
    wants_renewal: bool,
    /// How many messages there are, as far as EXISTS and EXPUNGE told.
    exists: u32,
    unseen: u32,
    /// What the search in flight found.
    found: Option<u32>,
    search: Search,
    /// The server told of a change since the count was asked for: two answers, or a count and EXISTS, tell nothing of
    /// each other.
    is_moving: bool,
    ends: ShortEnds,
    round: Round,
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
enum Step {
    /// EXAMINE in flight; the flag: INBOX was asked into being before.
    Examining(bool),
    /// STATUS in flight, which makes an INBOX that was never used.
    Making,
    Searching,
    /// IDLE sent, `+` awaited.
    Starting,
    Idling,
    /// DONE sent, the tagged answer awaited; the flag: the next IDLE went out with it.
    Ending(bool),
}

/// How the search in flight asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Search {
    /// For the messages themselves.
    Plain,
    /// For their number (RFC 4731).
    Counted,
    /// For the messages themselves, to check a number (sources.md §1).
    Check,
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
            exists: 0,
            unseen: 0,
            found: None,
            search: Search::Plain,
            is_moving: false,
            ends: ShortEnds::default(),
            round: Round::default(),
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
            Reply::Vanished | Reply::Status(_) => self.idle_event(now, |_| ()),
            Reply::Flags => self.idle_event(now, |idle| {
                // Between DONE and its answer a server may tell what it kept back during IDLE.
                idle.round.has_flags |= idle.step == Step::Idling;
            }),
            Reply::Found(count) | Reply::Count(count) => self.idle_found(count),
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
        idle.is_moving = true;
        self.tell(Output::Noticed);
        self.wants_reading = true;
        self.idle_proceed(now);
    }

    fn idle_found(&mut self, count: u32) {
        if let Phase::Idle(idle) = &mut self.phase
            && idle.step == Step::Searching
        {
            idle.found = Some(count);
        }
    }

    fn idle_started(&mut self, now: Now) {
        let Phase::Idle(idle) = &mut self.phase else { return };
        if idle.step != Step::Starting {
            return self.skip();
        }
        idle.step = Step::Idling;
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
            Step::Searching => self.searched(now, is_ok),
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
        self.timers.stop(Timer::Silence);
        if is_reissue {
            return self.set_step(Step::Starting);
        }
        self.answered();
        if self.is_leaving {
            return self.leave(now);
        }
        if self.wants_reading { self.search_unseen(now) } else { self.start_idle(now, "", Step::Starting) }
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

    /// Counts the unseen as this server can.
    fn search_unseen(&mut self, now: Now) {
        let has_esearch = self.capabilities.has(Capabilities::ESEARCH);
        let is_counting = has_esearch && !self.traits.is_count_total();
        self.search(now, if is_counting { Search::Counted } else { Search::Plain });
    }

    fn search(&mut self, now: Now, search: Search) {
        let Phase::Idle(idle) = &mut self.phase else { return };
        idle.step = Step::Searching;
        idle.found = None;
        idle.search = search;
        idle.is_moving &= search == Search::Check;
        self.questioning(now);
        let text = match search {
            Search::Plain => "SEARCH UNSEEN",
            Search::Counted => "UID SEARCH RETURN (COUNT) UNSEEN",
            Search::Check => "UID SEARCH NOT SEEN",
        };
        self.command(now, Command::Search, text);
    }

    fn searched(&mut self, now: Now, is_ok: bool) {
        self.answered();
        let Phase::Idle(idle) = &mut self.phase else { return };
        let (search, before, exists, is_moving) = (idle.search, idle.unseen, idle.exists, idle.is_moving);
        let Some(unseen) = idle.found.filter(|_| is_ok) else { return self.unanswered(now, search) };
        idle.unseen = unseen;
        match search {
            // Learned by another connection while this answer was on its way.
            Search::Counted if self.traits.is_count_total() => return self.search_unseen(now),
            Search::Counted if self.traits.is_count_proven() => {}
            Search::Counted if unseen < exists && !is_moving => self.traits.learn_count(true),
            // As many unseen as there are messages, or were a moment ago: perhaps so, perhaps a server that counts them all.
            Search::Counted if unseen > 0 => return self.search(now, Search::Check),
            Search::Check if unseen != before && !is_moving => self.traits.learn_count(false),
            _ => {}
        }
        let asked_at = Some(self.sent_at);
        self.news(Reading { unseen, uid_validity: self.uid_validity, modseq: None, asked_at });
        self.start_idle(now, "", Step::Starting);
    }

    /// The search brought no number. `RETURN (COUNT)` was promised and not kept: without it, at once. Else the question
    /// stays open, and must not become a storm.
    fn unanswered(&mut self, now: Now, search: Search) {
        if search == Search::Counted {
            self.traits.learn_count(false);
            return self.search_unseen(now);
        }
        self.question_after(now, ANSWER_WAIT);
        self.start_idle(now, "", Step::Starting);
    }

    fn start_idle(&mut self, now: Now, before: &str, step: Step) {
        let Phase::Idle(idle) = &mut self.phase else { return };
        idle.step = step;
        idle.wants_renewal = false;
        let needs_confirmation = idle.unseen > 0 && !self.traits.sends_flags_in_idle();
        self.command_after(now, Command::Idle, before, "IDLE");
        self.timers.set(Timer::Renew, now.moment.after(self.settings.idle_interval));
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
