//! Who is due for a reconciling read: every mailbox within the interval, none at the same moment as all others; more often
//! after the server was found not to have told of something, until a whole round finds nothing again. Shared by the
//! sources that can be asked. Knows no connection; whoever reads a mailbox says so here.

use crate::event::MailboxId;
use crate::time::Moment;
use std::collections::BTreeSet;
use std::time::Duration;

/// What the interval is divided by after a correction.
const HASTE_MAX: u32 = 4;

/// An interval above this leaves a lost change unseen for long.
const INTERVAL_WISE: Duration = Duration::from_hours(1);

/// Advice on `sweep-interval` where it is legal but unwise: the key, then why.
pub fn advice(interval: Duration) -> Option<(&'static str, &'static str)> {
    let advice = "a change that was not reported stays unseen as long; the default is 15m";
    (interval > INTERVAL_WISE).then_some(("sweep-interval", advice))
}

/// When each mailbox must be read next.
#[derive(Debug)]
pub struct Sweep {
    interval: Duration,
    /// What the interval is divided by now: 1 while nothing is ever corrected.
    haste: u32,
    /// Reads since the last correction, or since the haste abated.
    quiet: usize,
    rng: fastrand::Rng,
    /// By mailbox id: ids are given out without gaps.
    due: Vec<Option<Moment>>,
    order: BTreeSet<(Moment, MailboxId)>,
    /// Taken, and not read yet.
    away: BTreeSet<MailboxId>,
}

impl Sweep {
    /// Nobody is due yet. `interval`: longest time between two reads of a mailbox.
    pub fn new(interval: Duration, seed: u64) -> Self {
        Self {
            interval,
            haste: 1,
            quiet: 0,
            rng: fastrand::Rng::with_seed(seed),
            due: Vec::new(),
            order: BTreeSet::new(),
            away: BTreeSet::new(),
        }
    }

    /// The mailbox was read just now, or is on its way to be: due again after 80 to 99 % of the interval.
    pub fn read(&mut self, mailbox: MailboxId, now: Moment) {
        let share = self.rng.u32(800..=990);
        self.set(mailbox, now.after(self.interval / 1000 * share / self.haste));
        self.quiet += 1;
        if self.haste > 1 && self.quiet >= self.order.len() + self.away.len() {
            (self.haste, self.quiet) = (self.haste / 2, 0);
        }
    }

    /// Another source read the mailbox just now: due again at the end of the interval, when that source should have read it
    /// once more. So the cheaper one reads, and this one steps in where it stops.
    pub fn read_elsewhere(&mut self, mailbox: MailboxId, now: Moment) {
        if self.due.get(mailbox.0 as usize).copied().flatten().is_some() {
            self.set(mailbox, now.after(self.interval / self.haste));
        }
    }

    /// A read found what the server had not told of: there may be more.
    pub fn corrected(&mut self) {
        (self.haste, self.quiet) = (HASTE_MAX, 0);
    }

    /// The mailbox is new and will be read by itself: its turn falls anywhere within the interval, so that many that came
    /// together part.
    pub fn add(&mut self, mailbox: MailboxId, now: Moment) {
        let share = self.rng.u32(1..=1000);
        self.set(mailbox, now.after(self.interval / 1000 * share));
    }

    /// Nobody wants the mailbox any more.
    pub fn remove(&mut self, mailbox: MailboxId) {
        self.away.remove(&mailbox);
        if let Some(at) = self.due.get_mut(mailbox.0 as usize).and_then(Option::take) {
            self.order.remove(&(at, mailbox));
        }
    }

    /// The next mailbox that is due; it leaves the table until it was [`Sweep::read`].
    pub fn take(&mut self, now: Moment) -> Option<MailboxId> {
        let (_, mailbox) = self.order.first().copied().filter(|(at, _)| *at <= now)?;
        self.remove(mailbox);
        self.away.insert(mailbox);
        Some(mailbox)
    }

    /// When [`Sweep::take`] will have one.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.order.first().map(|(at, _)| *at)
    }

    fn set(&mut self, mailbox: MailboxId, at: Moment) {
        self.remove(mailbox);
        let index = mailbox.0 as usize;
        if index >= self.due.len() {
            self.due.resize(index + 1, None);
        }
        if let Some(due) = self.due.get_mut(index) {
            *due = Some(at);
        }
        self.order.insert((at, mailbox));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_mins(15);

    #[test]
    fn every_mailbox_is_due_within_the_interval_and_they_part() {
        let mut sweep = Sweep::new(INTERVAL, 7);
        for id in 0..1000 {
            sweep.add(MailboxId(id), Moment::START);
        }
        let half = Moment::START.after(INTERVAL / 2);
        let early = std::iter::from_fn(|| sweep.take(half)).count();
        assert!((300..700).contains(&early), "{early} due at half time");
        let late = std::iter::from_fn(|| sweep.take(Moment::START.after(INTERVAL))).count();
        assert_eq!(early + late, 1000);
    }

    #[test]
    fn a_correction_makes_rounds_shorter_until_they_find_nothing() {
        let mut sweep = Sweep::new(INTERVAL, 7);
        (0..100).for_each(|id| sweep.read(MailboxId(id), Moment::START));
        // A round: all are read when they are due; the longest wait that it set.
        let mut now = Moment::START;
        let mut round = |sweep: &mut Sweep| {
            for _ in 0..100 {
                now = now.max(sweep.poll_timeout().unwrap());
                let mailbox = sweep.take(now).unwrap();
                sweep.read(mailbox, now);
            }
            (0..100)
                .filter_map(|id| sweep.due.get(id).copied().flatten())
                .map(|at| at.since(now))
                .max()
                .unwrap()
        };
        assert!(round(&mut sweep) > INTERVAL / 2);
        sweep.corrected();
        let hasty = round(&mut sweep);
        assert!(hasty <= INTERVAL / 4, "{hasty:?}");
        let waits: Vec<Duration> = (0..4).map(|_| round(&mut sweep)).collect();
        assert!(waits[0] <= INTERVAL / 2 && waits[3] > INTERVAL / 2, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= INTERVAL), "{waits:?}");
    }

    #[test]
    fn haste_lasts_for_a_round_of_all_also_of_those_that_are_being_read() {
        let mut sweep = Sweep::new(INTERVAL, 7);
        for id in 0..3 {
            sweep.add(MailboxId(id), Moment::START);
        }
        let now = Moment::START.after(INTERVAL);
        assert_eq!(std::iter::from_fn(|| sweep.take(now)).count(), 3);
        sweep.corrected();
        for id in [1, 2, 0] {
            sweep.read(MailboxId(id), now);
        }
        assert_eq!(std::iter::from_fn(|| sweep.take(now.after(INTERVAL / 4))).count(), 3);
    }

    #[test]
    fn who_is_read_elsewhere_is_never_due_until_that_ends() {
        let mut sweep = Sweep::new(INTERVAL, 7);
        sweep.read(MailboxId(1), Moment::START);
        let mut other = Sweep::new(INTERVAL, 8);
        other.read(MailboxId(1), Moment::START);
        let mut now = Moment::START;
        for _ in 0..100 {
            sweep.read_elsewhere(MailboxId(1), now);
            now = other.poll_timeout().unwrap();
            assert_eq!(sweep.take(now), None);
            assert_eq!(other.take(now), Some(MailboxId(1)));
            other.read(MailboxId(1), now);
        }
        sweep.read_elsewhere(MailboxId(1), now);
        assert_eq!(sweep.poll_timeout(), Some(now.after(INTERVAL)));
        assert_eq!(sweep.take(now.after(INTERVAL)), Some(MailboxId(1)));
        // On its way to be read by this one.
        sweep.read_elsewhere(MailboxId(1), now);
        assert_eq!(sweep.poll_timeout(), None);
    }

    #[test]
    fn a_read_mailbox_waits_again_and_a_removed_one_is_never_due() {
        let mut sweep = Sweep::new(INTERVAL, 7);
        sweep.add(MailboxId(1), Moment::START);
        sweep.add(MailboxId(2), Moment::START);
        sweep.remove(MailboxId(2));
        let read_at = Moment::START.after(INTERVAL);
        sweep.read(MailboxId(1), read_at);
        let due = sweep.poll_timeout().unwrap();
        assert!(due >= read_at.after(INTERVAL * 8 / 10) && due <= read_at.after(INTERVAL));
        assert_eq!(sweep.take(read_at), None);
        assert_eq!(sweep.take(due), Some(MailboxId(1)));
        assert_eq!(sweep.take(due), None);
        assert_eq!(sweep.poll_timeout(), None);
    }
}
