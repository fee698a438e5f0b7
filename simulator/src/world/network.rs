//! What a network does with what is sent through it: nothing, or one of a few named [`Rule`]s, drawn by the [`Weather`].
//!
//! It decides only; who sends carries the rule out. Latency is drawn apart from trouble, so that calm weather has it too.

use super::seed::Seed;
use std::time::Duration;

/// What becomes of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It arrives after the usual latency.
    Pass,
    /// It arrives after that long.
    DeliverAfter(Duration),
    /// It never arrives, and nobody is told.
    Drop,
    /// It arrives, and once more so much later.
    Duplicate(Duration),
    /// So many per mille of it arrive, then the connection ends.
    Cut(u16),
    /// It arrives at so many bytes a second.
    SlowBytes(u32),
}

/// How often, in percent of the messages, a rule other than [`Rule::Pass`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// [`Rule::DeliverAfter`].
    pub delay: u32,
    /// [`Rule::Drop`].
    pub loss: u32,
    /// [`Rule::Duplicate`].
    pub duplicate: u32,
    /// [`Rule::Cut`].
    pub cut: u32,
    /// [`Rule::SlowBytes`].
    pub slow: u32,
}

/// The usual latency of one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// The least.
    pub least: Duration,
    /// The most.
    pub most: Duration,
}

/// Longest delay and longest time after which a copy arrives.
const LATE: Duration = Duration::from_secs(5);
/// Bytes a second on a slow line: from, to.
const SLOW_RATE: (u32, u32) = (50, 5_000);

/// One way between two peers.
#[derive(Debug)]
pub struct Network {
    rng: fastrand::Rng,
    latency: Latency,
    weather: Weather,
}

impl Network {
    /// The way of this name in the story of this seed.
    pub fn new(seed: Seed, name: &str, latency: Latency, weather: Weather) -> Self {
        Self { rng: seed.stream(name), latency, weather }
    }

    /// What becomes of the next message.
    pub fn rule(&mut self) -> Rule {
        let Weather { delay, loss, duplicate, cut, slow } = self.weather;
        let mut drawn = self.rng.u32(0..100);
        for (share, kind) in [loss, duplicate, cut, slow, delay].into_iter().zip(0..) {
            if drawn < share {
                return self.trouble(kind);
            }
            drawn -= share;
        }
        Rule::Pass
    }

    fn trouble(&mut self, kind: u8) -> Rule {
        match kind {
            0 => Rule::Drop,
            1 => Rule::Duplicate(self.late()),
            2 => Rule::Cut(self.rng.u16(0..1000)),
            3 => Rule::SlowBytes(self.rng.u32(SLOW_RATE.0..=SLOW_RATE.1)),
            _ => Rule::DeliverAfter(self.late()),
        }
    }

    /// How long the next message takes where nothing is wrong.
    pub fn latency(&mut self) -> Duration {
        let micros = |duration: Duration| duration.as_micros() as u64;
        Duration::from_micros(self.rng.u64(micros(self.latency.least)..=micros(self.latency.most)))
    }

    /// From now on the weather is fine.
    pub fn calm(&mut self) {
        self.weather = Weather::default();
    }

    fn late(&mut self) -> Duration {
        Duration::from_micros(self.rng.u64(1..=LATE.as_micros() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Latency = Latency { least: Duration::from_micros(50), most: Duration::from_millis(20) };

    #[test]
    fn rules_come_as_often_as_the_weather_says_and_never_in_fine_weather() {
        let weather = Weather { delay: 10, loss: 20, duplicate: 5, cut: 5, slow: 5 };
        let mut network = Network::new(Seed(7), "relay", QUICK, weather);
        let rules: Vec<Rule> = (0..10_000).map(|_| network.rule()).collect();
        let share = |of: fn(&Rule) -> bool| rules.iter().filter(|rule| of(rule)).count() / 100;
        assert!((18..22).contains(&share(|rule| *rule == Rule::Drop)));
        assert!((8..12).contains(&share(|rule| matches!(rule, Rule::DeliverAfter(_)))));
        assert!((53..57).contains(&share(|rule| *rule == Rule::Pass)));
        network.calm();
        assert!((0..1000).all(|_| network.rule() == Rule::Pass));
        assert!((0..1000).all(|_| (QUICK.least..=QUICK.most).contains(&network.latency())));
    }
}
