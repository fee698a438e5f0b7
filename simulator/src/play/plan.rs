//! A whole story before it is told, as data: who there is, how the mail host tells, what happens when. It is printed as
//! lines of text, read from them, and so kept, passed on and cut down by hand.

use super::deed::Deed;
use super::draw;
use crate::world::{Knobs, Profile, Seed, Weather};
use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

/// First line of every plan.
const TITLE: &str = "mailbadge story 1";
/// A plan with more is not read.
pub const DEEDS_MAX: usize = 10_000;

/// How counts come from the mail host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// By NOTIFY, over a connection for each mailbox.
    Notify,
    /// By IDLE, likewise.
    Idle,
    /// They are asked for, now and then.
    Poll,
    /// By events with a MODSEQ, late, out of order and lossy; beside them all is asked for now and then.
    Events,
}

impl Telling {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Notify, Self::Idle, Self::Poll, Self::Events];

    const fn name(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Idle => "idle",
            Self::Poll => "poll",
            Self::Events => "events",
        }
    }
}

/// Whose tokens the relay takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// The mail host's own.
    Own,
    /// Those of a token service alone.
    Service,
}

impl Tokens {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Own, Self::Service];

    const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Service => "service",
        }
    }
}

/// A story before it is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// All randomness that is not in the plan comes from here.
    pub seed: Seed,
    /// From which kind of story it was drawn.
    pub profile: Profile,
    /// How many mailboxes there are.
    pub mailboxes: usize,
    /// How many devices; device `i` belongs to mailbox `i % mailboxes`.
    pub devices: usize,
    /// How counts come.
    pub telling: Telling,
    /// Whether the mail host numbers its changes (CONDSTORE).
    pub has_modseq: bool,
    /// Whether the mail host counts for its clients (ESEARCH).
    pub has_esearch: bool,
    /// Whether the relay reports device by device.
    pub is_reporting: bool,
    /// Whose tokens the relay takes.
    pub tokens: Tokens,
    /// How long tokens live.
    pub token_life: Duration,
    /// On the way to the relay and back.
    pub weather: Weather,
    /// Events that are lost, and that are late, in percent.
    pub events: (u32, u32),
    /// When all faults end.
    pub trouble: Duration,
    /// What happens when, in order.
    pub deeds: Vec<(Duration, Deed)>,
}

impl Plan {
    /// Draws the story of this seed.
    pub fn new(seed: Seed, profile: Profile) -> Self {
        draw::plan(seed, profile, &Knobs::new(profile, seed))
    }

    /// To whom a device belongs.
    pub const fn mailbox_of(&self, device: usize) -> usize {
        device % self.mailboxes
    }

    /// How many of its deeds are faults.
    pub fn faults(&self) -> usize {
        self.deeds.iter().filter(|(_, deed)| deed.is_fault()).count()
    }
}

fn yes_no(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Weather { delay, loss, duplicate, cut, slow } = self.weather;
        writeln!(f, "{TITLE}")?;
        writeln!(f, "seed {}", self.seed)?;
        writeln!(f, "profile {}", self.profile)?;
        writeln!(f, "mailboxes {}", self.mailboxes)?;
        writeln!(f, "devices {}", self.devices)?;
        writeln!(f, "telling {}", self.telling.name())?;
        writeln!(f, "modseq {}", yes_no(self.has_modseq))?;
        writeln!(f, "esearch {}", yes_no(self.has_esearch))?;
        writeln!(f, "reporting {}", yes_no(self.is_reporting))?;
        writeln!(f, "tokens {}", self.tokens.name())?;
        writeln!(f, "token-life {}ms", self.token_life.as_millis())?;
        writeln!(f, "weather {delay} {loss} {duplicate} {cut} {slow}")?;
        writeln!(f, "events {} {}", self.events.0, self.events.1)?;
        writeln!(f, "trouble {}ms", self.trouble.as_millis())?;
        for (at, deed) in &self.deeds {
            writeln!(f, "{}.{:06} {deed}", at.as_secs(), at.subsec_micros())?;
        }
        Ok(())
    }
}

/// Why a text is no plan.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NoPlan {
    /// A line that is not what stands there in a plan.
    #[error("line {line}: {text:?}; expected {expected}")]
    Line {
        /// From 1.
        line: usize,
        /// As it stands.
        text: String,
        /// What stands there.
        expected: &'static str,
    },
    /// A deed about someone who is not in the story.
    #[error("line {line}: {text:?} is about a mailbox or device that is not in the story")]
    Nobody {
        /// From 1.
        line: usize,
        /// As it stands.
        text: String,
    },
    /// Too long.
    #[error("more than {DEEDS_MAX} deeds")]
    TooLong,
}

/// Reads the lines of a plan; `#` begins a remark.
struct Lines<'a> {
    lines: Vec<(usize, &'a str)>,
    next: usize,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let bare = |line: &'a str| line.split('#').next().unwrap_or_default().trim();
        let lines = (1..).zip(text.lines().map(bare)).filter(|(_, line)| !line.is_empty()).collect();
        Self { lines, next: 0 }
    }

    fn next(&mut self) -> Option<(usize, &'a str)> {
        let line = self.lines.get(self.next).copied();
        self.next += 1;
        line
    }

    /// What stands behind the word in the next line, as `read` reads it.
    fn value<T>(
        &mut self,
        expected: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, NoPlan> {
        let (line, text) = self.next().unwrap_or((self.next, ""));
        let word = expected.split(' ').next().unwrap_or_default();
        let value = text.strip_prefix(word).and_then(|rest| read(rest.trim()));
        value.ok_or_else(|| NoPlan::Line { line, text: text.to_owned(), expected })
    }
}

fn read_yes_no(text: &str) -> Option<bool> {
    [("yes", true), ("no", false)].into_iter().find(|(word, _)| *word == text).map(|(_, is)| is)
}

fn numbers<const N: usize>(text: &str) -> Option<[u32; N]> {
    let all: Option<Vec<u32>> = text.split_whitespace().map(|number| number.parse().ok()).collect();
    all?.try_into().ok().filter(|all: &[u32; N]| all.iter().sum::<u32>() <= 200)
}

fn ms(text: &str) -> Option<Duration> {
    Some(Duration::from_millis(text.strip_suffix("ms")?.parse().ok()?))
}

fn count(text: &str) -> Option<usize> {
    text.parse().ok().filter(|count| (1..=100).contains(count))
}

impl FromStr for Plan {
    type Err = NoPlan;

    fn from_str(text: &str) -> Result<Self, NoPlan> {
        let mut lines = Lines::new(text);
        lines.value(TITLE, |rest| (format!("mailbadge {rest}") == TITLE).then_some(()))?;
        let mut plan = Self {
            seed: Seed(lines.value("seed and a number", |text| text.parse().ok())?),
            profile: lines.value("profile and its name", |text| text.parse().ok())?,
            mailboxes: lines.value("mailboxes and how many", count)?,
            devices: lines.value("devices and how many", count)?,
            telling: lines.value("telling and how", |text| {
                Telling::ALL.into_iter().find(|telling| telling.name() == text)
            })?,
            has_modseq: lines.value("modseq yes or no", read_yes_no)?,
            has_esearch: lines.value("esearch yes or no", read_yes_no)?,
            is_reporting: lines.value("reporting yes or no", read_yes_no)?,
            tokens: lines.value("tokens and whose", |text| {
                Tokens::ALL.into_iter().find(|tokens| tokens.name() == text)
            })?,
            token_life: lines.value("token-life and its length in ms", ms)?,
            weather: lines.value("weather and five shares in percent", |text| {
                let [delay, loss, duplicate, cut, slow] = numbers(text)?;
                Some(Weather { delay, loss, duplicate, cut, slow })
            })?,
            events: lines.value("events and two shares in percent", |text| {
                numbers(text).map(|[lost, late]| (lost, late))
            })?,
            trouble: lines.value("trouble and its length in ms", ms)?,
            deeds: Vec::new(),
        };
        while let Some((line, text)) = lines.next() {
            let deed = plan.read_deed(line, text)?;
            plan.deeds.push(deed);
            if plan.deeds.len() > DEEDS_MAX {
                return Err(NoPlan::TooLong);
            }
        }
        plan.deeds.sort_by_key(|(at, _)| *at);
        Ok(plan)
    }
}

impl Plan {
    fn read_deed(&self, line: usize, text: &str) -> Result<(Duration, Deed), NoPlan> {
        let expected = "seconds since the start and a deed, like `12.345678 deliver 0`";
        let read = || {
            let (at, deed) = text.split_once(' ')?;
            let (seconds, micros) = at.split_once('.')?;
            let micros = (micros.len() == 6).then(|| micros.parse::<u64>().ok()).flatten()?;
            let at = Duration::from_secs(seconds.parse().ok()?) + Duration::from_micros(micros);
            Some((at, deed.parse::<Deed>().ok()?))
        };
        let (at, deed) = read().ok_or_else(|| NoPlan::Line { line, text: text.to_owned(), expected })?;
        if !self.has_room_for(&deed) {
            return Err(NoPlan::Nobody { line, text: text.to_owned() });
        }
        Ok((at, deed))
    }

    fn has_room_for(&self, deed: &Deed) -> bool {
        match deed {
            Deed::Deliver(mailbox)
            | Deed::Read(mailbox)
            | Deed::ReadAll(mailbox)
            | Deed::Unread(mailbox)
            | Deed::Expunge(mailbox)
            | Deed::MoveOut(mailbox)
            | Deed::MoveIn(mailbox)
            | Deed::Hang(mailbox)
            | Deed::BumpUidValidity(mailbox)
            | Deed::OrderGoesBack(mailbox, _) => *mailbox < self.mailboxes,
            Deed::Subscribe(device, _) | Deed::Unsubscribe(device) | Deed::DeviceGone(device) => {
                *device < self.devices
            }
            _ => true,
        }
    }

    /// The plan as a test keeps it: with what it once broke above it.
    pub fn regression(&self, what: &str) -> String {
        let mut text = String::new();
        for line in what.lines() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# {line}");
        }
        text + &self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_is_read_as_it_was_printed() {
        for seed in 0..200 {
            for profile in Profile::ALL {
                let plan = Plan::new(Seed(seed), profile);
                assert_eq!(plan.to_string().parse(), Ok(plan));
            }
        }
    }

    #[test]
    fn a_plan_that_cannot_be_read_says_which_line_and_what_was_expected() {
        let good = Plan::new(Seed(7), Profile::Calm).to_string();
        let cases = [
            ("", "line 1: \"\"; expected mailbadge story 1"),
            (&good.replace("telling ", "telling by "), "expected telling and how"),
            (&good.replace("deliver 0", "deliver 99"), "is about a mailbox or device"),
            (&format!("{good}12.5 deliver 0"), "expected seconds since the start and a deed"),
            (&format!("{good}12.500000 sabotage"), "expected seconds since the start and a deed"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Plan>().expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn remarks_are_passed_over() {
        let plan = Plan::new(Seed(7), Profile::Hostile);
        assert_eq!(plan.regression("broke\ntwice").parse(), Ok(plan));
    }
}
