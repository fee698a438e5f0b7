//! How many connections the server lets in at once, as far as it was found out: a full server is not told by one word, so
//! what counts is that log-ins do not work while others are connected. The roster then closes a watching connection, and a
//! log-in that works proves the limit. A limit is tried upward after a while, since servers are reconfigured. Pure.

use crate::event::MailboxId;
use crate::time::Moment;
use std::time::Duration;

/// Log-ins turned away in a row, of different mailboxes, until the server is taken for full; one more of the same mailbox.
const TURNED_AWAY_MIN: u32 = 2;
/// How often more connections give way, twice as many each time, before no limit is supposed after all: sessions that the
/// server let in before it was limited count, and one mailbox that never works must not cost all others their connections.
const ROUNDS_MAX: u32 = 3;
/// For so long after a connection was lost nothing is concluded from log-ins that are turned away: a server that stops ends
/// its sessions within 8 s, not all at once, and lets nobody in any more (sources.md §4.4).
const STOPPING_MAX: Duration = Duration::from_secs(15);
/// A limit is tried upward after so long.
pub(super) const RAISED_AFTER: Duration = Duration::from_hours(1);
/// After a trial that met no limit the next one, twice as far, follows so soon.
const RAISED_AGAIN_AFTER: Duration = Duration::from_mins(2);
/// No limit is supposed for so long after one was that did not prove true: at first, and most.
const DOUBTED: (Duration, Duration) = (Duration::from_mins(10), Duration::from_hours(8));
/// What a visit may take, for how many connections are kept free for visits.
const VISIT: Duration = Duration::from_secs(2);

/// What is known of the server's limit.
#[derive(Debug, Default)]
pub(super) struct Limit {
    known: Option<Known>,
    /// Connections that the agent itself may hold at once, where it is limited.
    own: Option<usize>,
    /// Log-ins turned away since the last that worked.
    turned_away: u32,
    /// The mailbox of the last one, and whether there was another.
    last: Option<MailboxId>,
    is_several: bool,
    /// Until when no limit is supposed, and for how long after the next one that is wrong.
    doubted: Option<(Moment, Duration)>,
    /// The limit was reported, and not that it is gone.
    is_noted: bool,
    /// When connections gave way last.
    gave_way_at: Moment,
    /// When a connection was lost last that had been logged in.
    lost_at: Option<Moment>,
}

#[derive(Debug)]
struct Known {
    /// Connections at once.
    most: usize,
    /// The server's words for it.
    words: Box<str>,
    /// A log-in worked after a connection was closed for it.
    is_proven: bool,
    /// How often more connections gave way, none of which helped.
    rounds: u32,
    raise_at: Moment,
    /// How much further the next trial goes.
    step: usize,
}

/// What follows from a log-in that was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing yet, or what was taken for a limit was none.
    Nothing,
    /// The server is full: connections must give way.
    Full,
    /// The limit that was reported is none.
    Gone,
}

impl Limit {
    /// The agent itself may hold so many connections at once.
    pub(super) fn hold_at_most(&mut self, connections: usize) {
        self.own = Some(connections.max(1));
    }

    /// Why not all of so many mailboxes can be watched, where that is not the server's doing; with the remedy.
    pub(super) fn too_few(&self, mailboxes: usize) -> Option<String> {
        let own = self.own.filter(|own| *own < mailboxes)?;
        Some(format!(
            "descriptors are left for {own} connections; raise LimitNOFILE in the daemon's unit, or leave it: the other \
             mailboxes are polled"
        ))
    }

    /// A log-in that had begun at `begun_at` was turned away while `held` mailboxes were logged in.
    pub(super) fn turned_away(
        &mut self,
        mailbox: MailboxId,
        held: usize,
        words: &str,
        begun_at: Moment,
        now: Moment,
    ) -> Found {
        let is_stopping = self.lost_at.is_some_and(|at| now.since(at) <= STOPPING_MAX);
        if is_stopping || begun_at < self.gave_way_at {
            // It may be down in a moment; or it was on its way before connections gave way.
            return Found::Nothing;
        }
        self.turned_away += 1;
        self.is_several |= self.last.is_some_and(|last| last != mailbox);
        self.last = Some(mailbox);
        let is_unproven = self.known.as_ref().is_some_and(|known| !known.is_proven);
        let enough = if is_unproven { 1 } else { TURNED_AWAY_MIN + u32::from(!self.is_several) };
        if held == 0 || self.turned_away < enough {
            return Found::Nothing;
        }
        (self.turned_away, self.is_several) = (0, false);
        if self.doubted.is_some_and(|(until, _)| now < until) {
            return Found::Nothing;
        }
        if let Some(known) = self.known.as_mut().filter(|known| !known.is_proven) {
            if known.rounds < ROUNDS_MAX && held > 1 {
                known.rounds += 1;
                known.most = (held + 1).saturating_sub(1 << known.rounds).max(1);
                self.gave_way_at = now;
                return Found::Full;
            }
            self.known = None;
            let wait = self.doubted.map_or(DOUBTED.0, |(_, wait)| wait);
            self.doubted = Some((now.after(wait), (wait * 2).min(DOUBTED.1)));
            return if std::mem::take(&mut self.is_noted) { Found::Gone } else { Found::Nothing };
        }
        let (words, raise_at) = (words.into(), now.after(RAISED_AFTER));
        self.known = Some(Known { most: held, words, is_proven: false, rounds: 0, raise_at, step: 1 });
        self.gave_way_at = now;
        Found::Full
    }

    /// A connection was lost after its log-in.
    pub(super) fn lost(&mut self, now: Moment) {
        self.lost_at = Some(now);
    }

    /// The server cannot be reached: what looked like a limit was its end, unless that was proven.
    pub(super) fn unreachable(&mut self) {
        (self.turned_away, self.is_several, self.last) = (0, false, None);
        self.known.take_if(|known| !known.is_proven);
    }

    /// A log-in worked: `held` mailboxes are logged in now. Gives the report of a limit that this proves, once.
    pub(super) fn worked(&mut self, held: usize) -> Option<String> {
        (self.turned_away, self.is_several, self.last) = (0, false, None);
        let known = self.known.as_mut()?;
        known.most = known.most.max(held);
        known.is_proven = true;
        self.doubted = None;
        let is_new = !std::mem::replace(&mut self.is_noted, true);
        self.report().filter(|_| is_new)
    }

    /// How many connections there may be at once.
    pub(super) fn most(&self) -> usize {
        let server = self.known.as_ref().map_or(usize::MAX, |known| known.most);
        self.own.map_or(server, |own| own.min(server))
    }

    /// How many of them may watch, where `mailboxes` have to be read every `interval`: some are kept free for visits.
    pub(super) fn watchers(&self, mailboxes: usize, interval: Duration) -> usize {
        let most = self.most();
        if mailboxes <= most {
            // Visits need no room of their own where everybody may watch.
            return most;
        }
        let visited = mailboxes - most;
        let busy = VISIT.as_millis() as usize * visited / (interval.as_millis() as usize).max(1);
        let spare = (busy + 1).min(most.div_ceil(2));
        most - spare
    }

    /// When [`Limit::raise`] does something.
    pub(super) fn raise_at(&self) -> Option<Moment> {
        self.known.as_ref().map(|known| known.raise_at)
    }

    /// Tries more, where the time has come. `has_all_tried`: nobody is visited for the limit's sake; `is_used`: all the
    /// watching connections that there may be are there. True: the limit was reported and is gone.
    pub(super) fn raise(
        &mut self,
        mailboxes: usize,
        has_all_tried: bool,
        is_used: bool,
        now: Moment,
    ) -> bool {
        let Some(known) = self.known.as_mut().filter(|known| known.raise_at <= now) else { return false };
        if known.most >= mailboxes && has_all_tried {
            self.known = None;
            return std::mem::take(&mut self.is_noted);
        }
        if is_used || has_all_tried {
            known.most = known.most.saturating_add(known.step);
            known.step = known.step.saturating_mul(2);
        }
        known.raise_at = now.after(RAISED_AGAIN_AFTER);
        false
    }

    /// For people: the limit, the server's words for it, the remedy.
    pub(super) fn report(&self) -> Option<String> {
        let known = self.known.as_ref().filter(|known| known.is_proven)?;
        let Known { most, words, .. } = known;
        Some(format!(
            "server lets in {most} connections at once: {words}; raise mail_max_userip_connections or process_limit \
             there, or leave it: the other mailboxes are polled"
        ))
    }
}
