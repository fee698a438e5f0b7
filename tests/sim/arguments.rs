//! What `cargo sim` is asked for.

use anyhow::{Context, bail};
use clap::Parser;
use mailbadge::time::driver::Clock;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;
use support::simulation::{Plan, Profile, Seed, many};

/// How long fresh stories are told where nothing else is asked for.
const FRESH: Duration = Duration::from_secs(10);
/// Fresh seeds begin at the number of seconds since the epoch, times this: no two runs share one.
const FRESH_STRIDE: u64 = 1_000_000;

/// Tells stories of the simulation: the agent's own rooms against the simulated relay, mail server and devices, in virtual
/// time. Without a selection: fresh ones for ten seconds.
#[derive(Debug, Parser)]
#[command(name = "cargo sim --", bin_name = "cargo sim --", version)]
pub(super) struct Arguments {
    /// The story of this seed
    #[arg(long, group = "selection")]
    seed: Option<u64>,
    /// The stories of these seeds: from, and up to without
    #[arg(long, value_name = "A..B", value_parser = range, group = "selection")]
    seeds: Option<Range<u64>>,
    /// Fresh stories for so long, like 2m; their seeds are told
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, group = "selection")]
    fresh: Option<Duration>,
    /// The story of this plan, as a failing one is printed
    #[arg(long, value_name = "FILE", group = "selection")]
    plan: Option<PathBuf>,
    /// calm, flaky, outage, hostile or swarm; without it all, and with --seed swarm
    #[arg(long)]
    profile: Option<Profile>,
    /// Tell each story twice and compare the reports byte by byte
    #[arg(long)]
    pub(super) doublecheck: bool,
    /// Stop at the first story that breaks an expectation
    #[arg(long)]
    pub(super) until_broken: bool,
    /// Stories told at the same time [default: one for each core]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// How often to try to make a failing plan smaller; 0: not at all
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub(super) shrink_tries: usize,
    /// For programs
    #[arg(long)]
    pub(super) json: bool,
    /// Tell everything that happens in the one story, and all that the agent logs, by virtual time
    #[arg(short, long)]
    pub(super) verbose: bool,
}

/// Which stories.
pub(super) enum Selection {
    /// Of this plan.
    Plan(Box<Plan>),
    /// Of this seed.
    Seed(Seed, Profile),
    /// Many.
    Many(Course),
}

/// Many stories.
pub(super) struct Course {
    /// Of these seeds.
    pub(super) seeds: Range<u64>,
    /// Of each of these kinds.
    pub(super) profiles: Vec<Profile>,
    /// No further one after that long.
    pub(super) limit: Option<Duration>,
}

impl Arguments {
    /// Which stories to tell.
    pub(super) fn selection(&self) -> anyhow::Result<Selection> {
        if let Some(path) = &self.plan {
            let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
            let plan = text.parse::<Plan>().with_context(|| format!("{}", path.display()))?;
            return Ok(Selection::Plan(Box::new(plan)));
        }
        if let Some(seed) = self.seed {
            return Ok(Selection::Seed(Seed(seed), self.profile.unwrap_or(Profile::Swarm)));
        }
        if self.verbose {
            bail!("-v is for one story: --seed or --plan");
        }
        let profiles = self.profile.map_or_else(|| Profile::ALL.to_vec(), |profile| vec![profile]);
        if let Some(seeds) = self.seeds.clone() {
            return Ok(Selection::Many(Course { seeds, profiles, limit: None }));
        }
        let first = Clock::start().now().unix.seconds() * FRESH_STRIDE;
        let limit = Some(self.fresh.unwrap_or(FRESH));
        Ok(Selection::Many(Course { seeds: first..first + FRESH_STRIDE, profiles, limit }))
    }

    /// Stories told at the same time.
    pub(super) fn jobs(&self) -> usize {
        self.jobs.unwrap_or_else(many::threads).max(1)
    }
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let read = || {
        let (from, to) = text.split_once("..")?;
        Some(from.parse::<u64>().ok()?..to.parse::<u64>().ok()?)
    };
    read().filter(|range| range.start < range.end).ok_or_else(|| "expected from..to, like 0..1000".to_owned())
}
