//! Watching by IDLE (RFC 2177) with INBOX examined: the server's lines are hints, the count comes from a search (`count`).

mod count;

use super::Next;
use super::gap::Gap;
use super::link::{Command, Link};
use super::timers::Timer;
use crate::event::UidValidity;
use crate::source::imap::Method;
use crate::source::imap::exchange::{Ending, Output};
use crate::source::imap::reply::{Condition, Kind, Reply, StatusItems};
use crate::time::{Moment, Now};
use count::{Found, Search};
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
    step: Step,
    wants_renewal: bool,
    /// A question from outside, or the sweep's, is not answered yet.
    is_asked: bool,
    /// How many messages there are, as far as EXISTS and EXPUNGE told.
    exists: u32,
    /// What the last search answered.
    unseen: u32,
    /// What was read last, by a count or in a STATUS line.
    read: Option<u32>,
    /// What the search in flight found.
    found: Found,
    /// The server told of a change since the count was asked for: two answers, or a count and EXISTS, tell nothing of
    /// each other.
    is_moving: bool,
    gap: Gap,
    ends: ShortEnds,
    round: Round,
    /// When the look was sent that the last count rests on.
    viewed_at: Moment,
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
enum Step {
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
    /// EXAMINE, never SELECT: that would clear `\Recent`.
    pub(super) fn begin(link: &mut Link, now: Now) -> Self {
        link.command(now, Command::Examine, "EXAMINE INBOX");
        Self {
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
        }
    }

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

    /// Ends the IDLE where there is a reason to; everything else goes on by the server's answers.
    pub(super) fn proceed(&mut self, link: &mut Link, now: Now) -> Next {
        if self.step != Step::Idling {
            return Next::Stay;
        }
        if link.may_question(now) || link.is_leaving {
            self.step = Step::Ending(false);
            link.send_done(now);
        } else if self.wants_renewal {
            self.gap.opened();
            // One segment: Dovecot's hibernation survives only that.
            self.start(link, now, "DONE\r\n", Step::Ending(true));
        }
        Next::Stay
    }

    /// A line while INBOX is examined.
    pub(super) fn handle(&mut self, link: &mut Link, now: Now, reply: &Reply<'_>) -> Next {
        match reply {
            // Some servers repeat what is known before each continuation: no news, and no reason to end the IDLE.
            Reply::Exists(count) if self.exists == *count => Next::Stay,
            Reply::Exists(count) => {
                self.exists = *count;
                self.round.has_exists = true;
                self.event(link, now)
            }
            Reply::Expunge => {
                self.exists = self.exists.saturating_sub(1);
                self.event(link, now)
            }
            Reply::Vanished => self.event(link, now),
            Reply::Status(items) => self.status(link, now, items),
            Reply::Flags => {
                // Between DONE and its answer a server may tell what it kept back during IDLE.
                self.round.has_flags |= self.step == Step::Idling;
                self.event(link, now)
            }
            Reply::Found(count) => self.find(|found| found.list(*count)),
            Reply::Count(count) => self.find(|found| found.count(*count)),
            Reply::Continue => self.started(link, now),
            Reply::Untagged(remark) => self.remark(link, now, remark),
            Reply::Tagged(_, answer) => self.answer(link, now, answer),
            _ => Next::Stay,
        }
    }

    /// Something changed: a search will tell what. Before the first search it is the server's answer to EXAMINE or STATUS.
    fn event(&mut self, link: &mut Link, now: Now) -> Next {
        if matches!(self.step, Step::Examining(_) | Step::Making) {
            return Next::Stay;
        }
        let is_first = !std::mem::replace(&mut self.is_moving, true);
        self.gap.told();
        match self.step {
            _ if !is_first => {}
            // Nothing but the server's own look at the mailbox can report this.
            Step::Searching(_) => link.traits.learn_shows_new(),
            Step::Starting => link.traits.learn_reports_gap(),
            // With the continuation itself: nothing changed since IDLE began, so it was before.
            Step::Idling if self.began_at == now.moment => link.traits.learn_reports_gap(),
            _ => {}
        }
        link.tell(Output::Noticed);
        link.wants_reading = true;
        self.proceed(link, now)
    }

    /// STATUS of the selected INBOX, which was not asked for: the count itself (Stalwart, sources.md §9.3), and a hint.
    fn status(&mut self, link: &mut Link, now: Now, items: &StatusItems) -> Next {
        if matches!(self.step, Step::Starting | Step::Idling | Step::Ending(_)) && items.unseen.is_some() {
            self.read = items.unseen;
            link.status_line(items, false);
            link.traits.learn_status_beside_exists();
            seek_better(link, now);
        }
        self.event(link, now)
    }

    fn find(&mut self, note: impl FnOnce(&mut Found)) -> Next {
        if matches!(self.step, Step::Searching(_)) {
            note(&mut self.found);
        }
        Next::Stay
    }

    fn started(&mut self, link: &mut Link, now: Now) -> Next {
        if self.step != Step::Starting {
            self.skipped();
            link.skip();
            return Next::Stay;
        }
        self.step = Step::Idling;
        self.began_at = now.moment;
        link.timers.stop(Timer::Deadline);
        expect_rhythm(link, now);
        self.proceed(link, now)
    }

    fn remark(&mut self, link: &mut Link, now: Now, remark: &Condition<'_>) -> Next {
        if remark.is_code("UIDVALIDITY") {
            let value = std::str::from_utf8(remark.argument).ok().and_then(|digits| digits.parse().ok());
            link.uid_validity = value.and_then(NonZeroU32::new).map(UidValidity).or(link.uid_validity);
        }
        if self.step == Step::Idling && remark.code.is_empty() {
            if let Some(last) = self.heard_at.replace(now.moment) {
                link.traits.learn_rhythm(now.moment.since(last).max(RHYTHM_MIN));
            }
            expect_rhythm(link, now);
        }
        Next::Stay
    }

    fn answer(&mut self, link: &mut Link, now: Now, answer: &Condition<'_>) -> Next {
        let is_ok = answer.kind == Kind::Ok;
        match self.step {
            Step::Examining(_) if is_ok => self.search_unseen(link, now),
            Step::Examining(false) => {
                self.step = Step::Making;
                link.ask_status(now);
            }
            Step::Making if is_ok => {
                self.step = Step::Examining(true);
                link.command(now, Command::Examine, "EXAMINE INBOX");
            }
            Step::Making => return Next::Close(Ending::NoMailbox(answer.for_people())),
            // It may be looked at and not opened.
            Step::Examining(true) => return Next::Watch(Method::IdleUnselected),
            // Asked meanwhile, perhaps after a change that this NOOP did not see.
            Step::Refreshing if self.is_asked => self.count_unseen(link, now),
            Step::Refreshing => self.search_unseen(link, now),
            Step::Searching(search) => self.searched(link, now, search, is_ok),
            Step::Ending(_) | Step::Starting if !is_ok => return Next::Watch(Method::Poll),
            Step::Ending(is_reissue) => return self.ended(link, now, is_reissue),
            Step::Starting | Step::Idling => return self.ended_unasked(link, now),
        }
        Next::Stay
    }

    /// The server ended the IDLE by itself. One that does so again and again is better polled.
    fn ended_unasked(&mut self, link: &mut Link, now: Now) -> Next {
        if self.ends.ended(now.moment.since(link.sent_at())) {
            return Next::Watch(Method::Poll);
        }
        self.ended(link, now, false)
    }

    fn ended(&mut self, link: &mut Link, now: Now, is_reissue: bool) -> Next {
        self.learn_from_round(link);
        link.idled();
        link.timers.stop(Timer::Silence);
        if is_reissue {
            self.step = Step::Starting;
            return Next::Stay;
        }
        link.answered();
        if link.is_leaving {
            return Next::Leave;
        }
        if link.wants_reading {
            self.count_unseen(link, now);
        } else {
            self.start(link, now, "", Step::Starting);
        }
        Next::Stay
    }

    /// Flags that came with new mail prove nothing (sources.md §4.3).
    fn learn_from_round(&mut self, link: &Link) {
        let round = std::mem::take(&mut self.round);
        self.heard_at = None;
        if round.has_flags && !round.has_exists {
            link.traits.learn_flags_in_idle();
        }
    }

    /// IDLE, behind `before` in the same segment.
    fn start(&mut self, link: &mut Link, now: Now, before: &str, step: Step) {
        self.step = step;
        self.wants_renewal = false;
        link.command_after(now, Command::Idle, before, "IDLE");
        link.timers.set(Timer::Renew, now.moment.after(link.settings.idle_interval));
        seek_better(link, now);
        if !link.traits.reports_gap() {
            self.gap.look_into(link, now);
        }
        if self.unseen > 0 && !link.traits.sends_flags_in_idle() {
            link.question_within(now, CONFIRM_MS);
        }
    }
}

/// Another connection, with nothing selected, if that was found to be better. Not all of them at once.
fn seek_better(link: &mut Link, now: Now) {
    if link.best_method() == Method::IdleUnselected && link.timers.get(Timer::Upgrade).is_none() {
        let wait = Duration::from_millis(link.rng.u64(BETTER_WAIT_MS));
        link.timers.set(Timer::Upgrade, now.moment.after(wait));
    }
}

/// A silence longer than the server's rhythm allows is looked into (sources.md §4.3).
fn expect_rhythm(link: &mut Link, now: Now) {
    match link.traits.rhythm() {
        // 2.5 times itself.
        Some(rhythm) => link.timers.set(Timer::Silence, now.moment.after(rhythm * 5 / 2)),
        None => link.timers.stop(Timer::Silence),
    }
}
