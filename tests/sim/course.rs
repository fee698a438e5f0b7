//! Many stories: progress while they are told, those that failed, what they add up to.

use super::arguments::{Arguments, Course};
use super::{is_told_the_same_twice, tell};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mailbadge::time::driver::Clock;
use mailbadge_sim::play::report::Totals;
use mailbadge_sim::play::shrink::shrink;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Duration;
use support::simulation::{Plan, Profile, Seed, StoryReport, many, play_plan};

/// Failing stories that are told in full, at most.
const TOLD_MAX: usize = 10;

/// Tells them all; true where all were clean.
pub(super) fn play(course: &Course, arguments: &Arguments) -> bool {
    let clock = Clock::start();
    let elapsed = || Duration::from_micros(clock.now().moment.micros());
    let stories: Vec<(Seed, Profile)> = course
        .seeds
        .clone()
        .flat_map(|seed| course.profiles.iter().map(move |profile| (Seed(seed), *profile)))
        .collect();
    let progress = progress(if course.limit.is_some() { 0 } else { stories.len() as u64 });
    let mut totals: BTreeMap<Profile, Totals> = BTreeMap::new();
    let mut failed: Vec<StoryReport> = Vec::new();
    many::play_all(&stories, arguments.jobs(), |report| {
        progress.inc(1);
        let profile: Profile = report.profile.parse().expect("a report names its profile");
        totals.entry(profile).or_default().add(&report);
        let plan = || Plan::new(Seed(report.seed), profile);
        let is_same = !arguments.doublecheck || is_told_the_same_twice(&plan(), &report);
        let is_clean = report.is_clean() && is_same;
        if !is_clean {
            progress.set_message(format!("{} broken", failed.len() + 1));
            failed.push(report);
        }
        (is_clean || !arguments.until_broken) && course.limit.is_none_or(|limit| elapsed() < limit)
    });
    progress.finish_and_clear();
    failed.sort_by_key(|report| report.seed);
    conclude(&totals, &failed, elapsed(), arguments);
    failed.is_empty()
}

/// A bar on a terminal, a line now and then elsewhere.
fn progress(length: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden());
    }
    let bar = if length > 0 { ProgressBar::new(length) } else { ProgressBar::new_spinner() };
    let template = "{elapsed_precise} {wide_bar} {pos}/{len} {per_sec} {msg}";
    let style = ProgressStyle::with_template(template).expect("the template is a good one");
    bar.with_style(style)
}

fn conclude(
    totals: &BTreeMap<Profile, Totals>,
    failed: &[StoryReport],
    took: Duration,
    arguments: &Arguments,
) {
    let out = &mut io::stdout();
    if arguments.json {
        let totals: BTreeMap<&str, &Totals> =
            totals.iter().map(|(profile, it)| (profile.name(), it)).collect();
        let all = json!({ "tookMs": took.as_millis() as u64, "profiles": totals, "broken": failed });
        return tell(out, &all.to_string());
    }
    for report in failed.iter().take(TOLD_MAX) {
        tell(out, &format!("{report}\n"));
    }
    if let Some(report) = failed.first().filter(|report| !report.is_clean() && arguments.shrink_tries > 0) {
        let profile = report.profile.parse().expect("a report names its profile");
        tell(out, &shrunk(&Plan::new(Seed(report.seed), profile), report, arguments.shrink_tries));
    }
    for (profile, totals) in totals {
        tell(out, &format!("{profile:<8}{totals}"));
    }
    tell(out, &format!("{:.1} s", took.as_secs_f64()));
}

/// The smallest plan found that breaks the same expectation as this one did first, ready to be kept.
pub(super) fn shrunk(plan: &Plan, report: &StoryReport, tries: usize) -> String {
    let Some(first) = report.broken.first() else { return String::new() };
    let is_failing = |plan: &Plan| play_plan(plan, false).broken.iter().any(|it| it.check == first.check);
    let least = shrink(plan, tries, is_failing);
    let broken: Vec<String> = play_plan(&least, false).broken.iter().map(ToString::to_string).collect();
    let what = format!("shrunk from seed {}, profile {}\n{}", plan.seed, plan.profile, broken.join("\n"));
    format!(
        "a smaller plan that fails; replay by `cargo sim -- --plan FILE -v`:\n\n{}",
        least.regression(&what)
    )
}
