//! How bad things get in a story: profiles by name, and the knobs that each turns. What is done at which time the plan
//! draws from them.

use super::network::Weather;
use super::seed::Seed;
use std::time::Duration;
use std::{fmt, str::FromStr};
use thiserror::Error;

/// A kind of story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// Only users do something; nothing fails.
    Calm,
    /// Much fails, each for a short while; packets get lost.
    Flaky,
    /// Little fails, each for minutes.
    Outage,
    /// Everything fails, mail servers are odd, clocks jump, disks are full.
    Hostile,
    /// The knobs themselves are drawn, each from nothing to the most.
    Swarm,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Calm, Self::Flaky, Self::Outage, Self::Hostile, Self::Swarm];

    /// Its name on the command line and in plans.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Flaky => "flaky",
            Self::Outage => "outage",
            Self::Hostile => "hostile",
            Self::Swarm => "swarm",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is none of [`Profile::ALL`].
#[derive(Debug, Error, PartialEq, Eq)]
#[error("unknown profile {0:?}; known are {known}", known = Profile::ALL.map(Profile::name).join(", "))]
pub struct UnknownProfile(pub String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.name() == name)
            .ok_or_else(|| UnknownProfile(name.to_owned()))
    }
}

/// What a story is drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knobs {
    /// Mailboxes, at most.
    pub mailboxes_max: usize,
    /// Devices of each mailbox, at most.
    pub devices_max: usize,
    /// Deeds, from and to.
    pub deeds: (usize, usize),
    /// Deeds are done, and faults last, until then.
    pub trouble: Duration,
    /// The longest that one fault lasts.
    pub fault_max: Duration,
    /// On the way to the relay and back: the most.
    pub weather: Weather,
    /// Events of an event source that get lost, and that come late, in percent.
    pub events: (u32, u32),
    /// How many deeds of each kind of trouble there are for 100 of users.
    pub troubles: Troubles,
}

/// Shares of trouble, for 100 deeds of users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    /// The relay's faults.
    pub relay: u32,
    /// The mail host: connections end or hang, it goes away, UIDVALIDITY changes.
    pub mail_host: u32,
    /// Oddities of mail servers are switched.
    pub quirks: u32,
    /// Devices are gone.
    pub devices: u32,
    /// The agent is killed, restarted, its machine loses power.
    pub agent: u32,
    /// Its machine: clock jumps, disk full, certificate rotated.
    pub machine: u32,
}

const MINUTE: Duration = Duration::from_mins(1);

impl Knobs {
    /// The knobs of a profile; those of [`Profile::Swarm`] come from the seed.
    pub fn new(profile: Profile, seed: Seed) -> Self {
        match profile {
            Profile::Calm => Self::calm(),
            Profile::Flaky => Self::flaky(),
            Profile::Outage => Self::outage(),
            Profile::Hostile => Self::hostile(),
            Profile::Swarm => Self::hostile().swarm(&mut seed.stream("knobs")),
        }
    }

    fn calm() -> Self {
        Self {
            mailboxes_max: 5,
            devices_max: 2,
            deeds: (20, 120),
            trouble: 3 * MINUTE,
            fault_max: Duration::ZERO,
            weather: Weather::default(),
            events: (0, 0),
            troubles: Troubles::default(),
        }
    }

    fn flaky() -> Self {
        let troubles = Troubles { relay: 15, mail_host: 8, quirks: 0, devices: 1, agent: 4, machine: 2 };
        let weather = Weather { delay: 10, loss: 20, duplicate: 5, cut: 5, slow: 3 };
        let (trouble, fault_max) = (8 * MINUTE, Duration::from_secs(40));
        Self { trouble, fault_max, weather, events: (10, 25), troubles, ..Self::calm() }
    }

    fn outage() -> Self {
        let troubles = Troubles { relay: 6, mail_host: 6, quirks: 0, devices: 1, agent: 4, machine: 4 };
        let (trouble, fault_max) = (15 * MINUTE, 5 * MINUTE);
        Self { trouble, fault_max, events: (10, 25), troubles, ..Self::calm() }
    }

    fn hostile() -> Self {
        let troubles = Troubles { relay: 30, mail_host: 20, quirks: 15, devices: 6, agent: 12, machine: 12 };
        let weather = Weather { delay: 20, loss: 30, duplicate: 20, cut: 10, slow: 10 };
        let (trouble, fault_max) = (8 * MINUTE, Duration::from_secs(90));
        Self { trouble, fault_max, weather, events: (30, 40), troubles, ..Self::calm() }
    }

    /// Each knob anywhere up to where it stands now, half of the troubles at nothing.
    fn swarm(self, rng: &mut fastrand::Rng) -> Self {
        let mut up_to = |most: u32| if rng.bool() { rng.u32(0..=most) } else { 0 };
        let Troubles { relay, mail_host, quirks, devices, agent, machine } = self.troubles;
        let troubles = Troubles {
            relay: up_to(relay),
            mail_host: up_to(mail_host),
            quirks: up_to(quirks),
            devices: up_to(devices),
            agent: up_to(agent),
            machine: up_to(machine),
        };
        let Weather { delay, loss, duplicate, cut, slow } = self.weather;
        let weather = Weather {
            delay: up_to(delay),
            loss: up_to(loss),
            duplicate: up_to(duplicate),
            cut: up_to(cut),
            slow: up_to(slow),
        };
        let events = (up_to(self.events.0), up_to(self.events.1));
        let deeds = (10, rng.usize(20..=200));
        let mailboxes_max = rng.usize(1..=8);
        let trouble = MINUTE * rng.u32(1..=12);
        let fault_max = trouble / rng.u32(2..=12);
        Self { mailboxes_max, deeds, trouble, fault_max, weather, events, troubles, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_found_by_its_name() {
        for profile in Profile::ALL {
            assert_eq!(profile.name().parse(), Ok(profile));
        }
        let unknown = "stormy".parse::<Profile>().unwrap_err().to_string();
        assert_eq!(unknown, "unknown profile \"stormy\"; known are calm, flaky, outage, hostile, swarm");
    }

    #[test]
    fn a_swarm_draws_its_knobs_and_calm_has_no_trouble() {
        let swarm = |seed| Knobs::new(Profile::Swarm, Seed(seed));
        assert_eq!(swarm(7), swarm(7));
        assert_ne!(swarm(7), swarm(8));
        assert_eq!(Knobs::new(Profile::Calm, Seed(7)).troubles, Troubles::default());
    }
}
