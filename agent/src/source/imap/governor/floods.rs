//! A server that floods connections: each flood costs as much as a thousand log-ins. One mailbox may be the reason, which
//! waits alone; where it happens to several, nobody logs in for a while.

use super::{FLOOD_WAIT, late_half};
use crate::event::MailboxId;
use crate::time::Moment;
use std::time::Duration;

/// A connection that lived this long after its log-in without a flood shows that the server is done with that.
const OVER: Duration = Duration::from_secs(15);

/// Nothing, or open since the last flood.
#[derive(Debug, Default)]
pub(super) struct Floods(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    culprit: MailboxId,
    is_several: bool,
    times: u32,
    /// Before when nobody may log in, where it happened to several.
    until: Moment,
    /// When it will be over, unless the mailbox that is in again is flooded before.
    over_at: Option<Moment>,
    text: String,
}

impl Floods {
    /// A connection of this mailbox was flooded.
    pub(super) fn flooded(&mut self, mailbox: MailboxId, text: String, now: Moment, rng: &mut fastrand::Rng) {
        let (is_several, times) = match &self.0 {
            Some(open) => (open.is_several || open.culprit != mailbox, open.times.saturating_add(1)),
            None => (false, 0),
        };
        let span = FLOOD_WAIT.0.saturating_mul(1 << times.min(20)).min(FLOOD_WAIT.1);
        let until = if is_several { now.after(late_half(span, rng)) } else { Moment::START };
        self.0 = Some(Box::new(Open { culprit: mailbox, is_several, times, until, over_at: None, text }));
    }

    /// A log-in worked: of the mailbox that was flooded, or of any where several were.
    pub(super) fn logged_in(&mut self, mailbox: MailboxId, now: Moment) {
        if let Some(open) = self.0.as_mut().filter(|open| open.is_several || open.culprit == mailbox) {
            open.over_at.get_or_insert(now.after(OVER));
        }
    }

    /// The mailbox is wanted no more.
    pub(super) fn forget(&mut self, mailbox: MailboxId) {
        self.0.take_if(|open| !open.is_several && open.culprit == mailbox);
    }

    /// Forgets what is over.
    pub(super) fn wake(&mut self, now: Moment) {
        self.0.take_if(|open| open.over_at.is_some_and(|at| at <= now));
    }

    /// When [`Floods::wake`] does something.
    pub(super) fn over_at(&self) -> Option<Moment> {
        self.0.as_ref()?.over_at
    }

    /// Before when nobody may go.
    pub(super) fn until(&self) -> Moment {
        self.0.as_ref().map_or(Moment::START, |open| open.until)
    }

    /// The mailbox that was flooded last.
    pub(super) fn culprit(&self) -> Option<MailboxId> {
        self.0.as_ref().map(|open| open.culprit)
    }

    /// For people, where it concerns more than one of many mailboxes.
    pub(super) fn failure(&self, is_anyone_in: bool) -> Option<String> {
        let open = self.0.as_ref().filter(|open| open.is_several || !is_anyone_in)?;
        Some(format!("{}; it is connected to less and less often", open.text))
    }
}
