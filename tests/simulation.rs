//! The deterministic simulation in a run of the tests: seeds that once found something, plans that once failed, a range of
//! stories of each kind. `cargo sim` tells others, and one of them line by line.

use std::fs;
use std::path::{Path, PathBuf};
use support::simulation::{Plan, Profile, Seed, StoryReport, many, play, play_plan};

/// Stories of each kind in a run of the tests.
const SEEDS: u64 = 100;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn fail_where_broken(reports: &[StoryReport]) {
    let broken: Vec<String> =
        reports.iter().filter(|report| !report.is_clean()).map(ToString::to_string).collect();
    assert!(broken.is_empty(), "{} stories broke\n{}", broken.len(), broken.join("\n\n"));
}

fn play_all(stories: &[(Seed, Profile)]) -> Vec<StoryReport> {
    let mut reports = Vec::new();
    many::play_all(stories, many::threads(), |report| {
        reports.push(report);
        true
    });
    assert_eq!(reports.len(), stories.len(), "a story was not told");
    reports.sort_by_key(|report| (report.seed, report.profile));
    reports
}

/// The lines of `seeds.txt`: a seed, its profile, and what it found.
fn seeds() -> Vec<(Seed, Profile)> {
    let text = fs::read_to_string(fixtures().join("seeds.txt")).expect("fixtures/seeds.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let read = |line: &str| {
        let mut words = line.split_whitespace();
        let seed = words.next().and_then(|word| word.parse().ok());
        let profile = words.next().and_then(|word| word.parse().ok());
        let told = words.next().and(seed.zip(profile));
        told.unwrap_or_else(|| {
            panic!("fixtures/seeds.txt: {line:?}; expected a seed, a profile, what it found")
        })
    };
    lines.map(read).map(|(seed, profile)| (Seed(seed), profile)).collect()
}

#[test]
fn seeds_that_once_found_something_are_clean() {
    fail_where_broken(&play_all(&seeds()));
}

#[test]
fn plans_that_once_failed_are_clean() {
    let folder = fixtures().join("plans");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(&folder).expect("fixtures/plans").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    for path in paths {
        let text = fs::read_to_string(&path).expect("a plan");
        let plan: Plan = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let report = play_plan(&plan, false);
        assert!(report.is_clean(), "{}\n{report}", path.display());
    }
}

#[test]
fn every_badge_is_true_after_every_story() {
    for profile in Profile::ALL {
        let stories: Vec<(Seed, Profile)> = (0..SEEDS).map(|seed| (Seed(seed), profile)).collect();
        let reports = play_all(&stories);
        fail_where_broken(&reports);
        let sum = |of: fn(&StoryReport) -> u64| reports.iter().map(of).sum::<u64>();
        assert!(sum(|it| it.batches) > SEEDS, "{profile}: stories in which nothing is sent prove nothing");
        let is_faulty = profile == Profile::Calm || sum(|it| it.faults) > SEEDS;
        assert!(is_faulty, "{profile}: stories in which nothing fails prove nothing");
    }
}

#[test]
fn one_seed_tells_one_story() {
    for profile in Profile::ALL {
        assert_eq!(play(Seed(7), profile), play(Seed(7), profile), "{profile}");
    }
    assert_ne!(play(Seed(7), Profile::Hostile).fingerprint, play(Seed(8), Profile::Hostile).fingerprint);
}
