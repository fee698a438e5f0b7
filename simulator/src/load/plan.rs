//! What happens when: an open model of users. Steps are due at times that do not depend on how fast anyone answers,
//! so that a slow system is charged for all who waited. Pure; chooses from one seed.

use crate::peers::mail_store::{AccountId, Flags, MailStore};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Messages in an INBOX at most: a new one beyond pushes the oldest out.
const MESSAGES_MAX: usize = 200;
/// A burst's steps fall into this part of its period …
const BURST_SHARE: f64 = 0.1;
/// … which is so long.
const BURST_PERIOD: f64 = 1.0;

/// How the rate develops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// Evenly spread at random (a Poisson stream).
    Constant,
    /// From nothing to twice the rate.
    Ramp,
    /// A second's steps within its first tenth.
    Burst,
}

/// Shares of arrivals, reads and expunges, such as `60:30:10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    arrivals: u32,
    reads: u32,
    expunges: u32,
}

impl Default for Mix {
    fn default() -> Self {
        Self { arrivals: 50, reads: 40, expunges: 10 }
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shares: Option<Vec<u32>> = text.split(':').map(|share| share.parse().ok()).collect();
        match shares.as_deref() {
            Some(&[arrivals, reads, expunges])
                if (1..=1_000_000)
                    .contains(&(u64::from(arrivals) + u64::from(reads) + u64::from(expunges))) =>
            {
                Ok(Self { arrivals, reads, expunges })
            }
            _ => Err("expected three shares, arrivals:reads:expunges, such as 50:40:10".to_owned()),
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.arrivals, self.reads, self.expunges)
    }
}

/// What a user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// A message comes.
    Arrival,
    /// The newest unseen message is read; now and then all are.
    Read,
    /// The oldest message goes.
    Expunge,
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// When, since the start.
    pub(super) due: Duration,
    /// Whose mailbox.
    pub(super) account: AccountId,
    /// What.
    pub(super) deed: Deed,
}

/// What to plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// How many accounts take part: ids from 0.
    pub(super) mailboxes: u32,
    /// Steps per second over all, on average.
    pub(super) rate: f64,
    /// How long.
    pub(super) duration: Duration,
    /// How the rate develops.
    pub(super) shape: Shape,
    /// What is done.
    pub(super) mix: Mix,
}

/// The steps in the order in which they are due.
#[derive(Debug)]
pub(super) struct Plan {
    settings: Settings,
    random: fastrand::Rng,
    /// Steps due so far, as a real number: the stream's own time at rate 1.
    progress: f64,
}

impl Plan {
    /// The plan of this seed.
    pub(super) fn new(settings: Settings, seed: u64) -> Self {
        Self { settings, random: fastrand::Rng::with_seed(seed), progress: 0.0 }
    }

    /// Steps that are to be expected in all.
    pub(super) fn expected(&self) -> u64 {
        (self.settings.rate * self.settings.duration.as_secs_f64()) as u64
    }

    /// When the stream has come this far: the inverse of the shape's integral.
    fn due(&self, progress: f64) -> f64 {
        let Settings { rate, duration, shape, .. } = self.settings;
        let even = progress / rate;
        match shape {
            Shape::Constant => even,
            Shape::Ramp => (even * duration.as_secs_f64()).sqrt(),
            Shape::Burst => {
                let period = (even / BURST_PERIOD).floor() * BURST_PERIOD;
                period + (even - period) * BURST_SHARE
            }
        }
    }

    fn deed(&mut self) -> Deed {
        let Mix { arrivals, reads, expunges } = self.settings.mix;
        let drawn = self.random.u32(0..arrivals + reads + expunges);
        if drawn < arrivals {
            Deed::Arrival
        } else if drawn < arrivals + reads {
            Deed::Read
        } else {
            Deed::Expunge
        }
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        // Exponential gaps; 1 - f64() is never 0.
        self.progress += -(1.0 - self.random.f64()).ln();
        let due = Duration::try_from_secs_f64(self.due(self.progress)).ok()?;
        if due >= self.settings.duration || self.settings.mailboxes == 0 {
            return None;
        }
        let account = AccountId(self.random.u32(0..self.settings.mailboxes));
        Some(Step { due, account, deed: self.deed() })
    }
}

/// Does it. Where there is nothing to read or to expunge a message comes instead, so that a step is nearly always a
/// change.
pub(super) fn carry_out(step: &Step, store: &mut MailStore, random: &mut fastrand::Rng) {
    let account = step.account;
    let messages = store.messages(account);
    let oldest = messages.first().map(|message| message.uid);
    let is_full = messages.len() >= MESSAGES_MAX;
    let unseen = messages.iter().rev().find(|message| !message.flags.contains(Flags::SEEN));
    let unseen = unseen.map(|message| message.uid);
    match (step.deed, unseen, oldest) {
        (Deed::Read, Some(_), _) if random.u8(0..16) == 0 => _ = store.all_seen(account),
        (Deed::Read, Some(uid), _) => _ = store.set_seen(account, uid, true),
        (Deed::Expunge, _, Some(uid)) => _ = store.expunge(account, uid),
        (_, _, Some(uid)) if is_full => _ = store.expunge(account, uid),
        _ => _ = store.deliver(account),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(shape: Shape) -> Vec<Step> {
        let mix = Mix::default();
        let settings = Settings { mailboxes: 7, rate: 1000.0, duration: Duration::from_secs(10), shape, mix };
        Plan::new(settings, 42).collect()
    }

    fn share_before(steps: &[Step], time: f64) -> f64 {
        steps.iter().filter(|step| step.due.as_secs_f64() < time).count() as f64 / steps.len() as f64
    }

    #[test]
    fn every_shape_keeps_order_and_average_rate() {
        for shape in [Shape::Constant, Shape::Ramp, Shape::Burst] {
            let steps = plan(shape);
            assert!((9_500..10_500).contains(&steps.len()), "{shape:?} {}", steps.len());
            assert!(steps.windows(2).all(|pair| pair[0].due <= pair[1].due), "{shape:?}");
            assert!(steps.iter().all(|step| step.account.0 < 7));
        }
        assert!((0.45..0.55).contains(&share_before(&plan(Shape::Constant), 5.0)));
        assert!((0.22..0.28).contains(&share_before(&plan(Shape::Ramp), 5.0)));
        let in_burst = plan(Shape::Burst).iter().filter(|step| step.due.subsec_millis() <= 100).count();
        assert_eq!(in_burst, plan(Shape::Burst).len());
    }

    #[test]
    fn a_seed_gives_the_same_plan_again_and_the_mix_is_kept() {
        assert_eq!(plan(Shape::Constant), plan(Shape::Constant));
        let reads = plan(Shape::Constant).iter().filter(|step| step.deed == Deed::Read).count();
        assert!((3_700..4_300).contains(&reads), "{reads}");
        assert_eq!("1:2:3".parse::<Mix>().unwrap().to_string(), "1:2:3");
        for bad in ["", "1:2", "0:0:0", "a:b:c", "1:2:3:4"] {
            assert!(bad.parse::<Mix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn inboxes_stay_bounded_and_reading_an_empty_one_delivers() {
        let mut store = MailStore::new(1, "");
        let mut random = fastrand::Rng::with_seed(1);
        let step = |deed| Step { due: Duration::ZERO, account: AccountId(0), deed };
        carry_out(&step(Deed::Expunge), &mut store, &mut random);
        assert_eq!(store.status(AccountId(0)).unwrap().unseen, 1);
        carry_out(&step(Deed::Read), &mut store, &mut random);
        assert_eq!(store.status(AccountId(0)).unwrap().unseen, 0);
        for _ in 0..1000 {
            carry_out(&step(Deed::Arrival), &mut store, &mut random);
        }
        assert!(store.messages(AccountId(0)).len() <= MESSAGES_MAX);
    }
}
