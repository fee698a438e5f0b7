//! The deterministic simulation, a thousand stories. `MAILBADGE_SEED=n cargo test --test simulation one_seed` tells one
//! again; `MAILBADGE_SEEDS=a..b` takes others.

use std::ops::Range;
use support::simulation::{Story, play};

/// Stories in a run of the tests.
const SEEDS: Range<u64> = 0..1000;

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("MAILBADGE_SEEDS") else { return SEEDS };
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.unwrap_or_else(|| panic!("MAILBADGE_SEEDS={text}: expected a..b"))
}

fn told(story: &Story) -> String {
    let replay = format!("MAILBADGE_SEED={} cargo test --test simulation one_seed", story.seed);
    format!("seed {}: replay by `{replay}`\n  {}", story.seed, story.broken.join("\n  "))
}

/// Plays all of them on as many threads as there are cores; the stories in the order of their seeds.
fn play_all(seeds: Range<u64>) -> Vec<Story> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let mut stories: Vec<Story> = std::thread::scope(|scope| {
        let share = |thread: u64| seeds.clone().filter(move |seed| seed % threads == thread);
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let mine = share(thread);
                scope.spawn(move || mine.map(play).collect::<Vec<_>>())
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a story panicked")).collect()
    });
    stories.sort_by_key(|story| story.seed);
    stories
}

#[test]
fn every_badge_is_true_after_every_story() {
    let stories = play_all(seeds());
    let sum = |of: fn(&Story) -> u64| stories.iter().map(of).sum::<u64>();
    println!(
        "{} stories: {} steps, {} changes, {} batches, {} faults",
        stories.len(),
        sum(|s| s.steps),
        sum(|s| s.changes),
        sum(|s| s.batches),
        sum(|s| s.faults)
    );
    let broken: Vec<String> = stories.iter().filter(|story| !story.broken.is_empty()).map(told).collect();
    assert!(broken.is_empty(), "{} stories broke\n{}", broken.len(), broken.join("\n"));
    assert!(sum(|s| s.batches) > stories.len() as u64, "stories in which nothing is sent prove nothing");
}

#[test]
fn one_seed_tells_one_story() {
    let seed = std::env::var("MAILBADGE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(7);
    let (first, second) = (play(seed), play(seed));
    assert_eq!(format!("{first:?}"), format!("{second:?}"), "the same seed must tell the same story");
    assert!(first.broken.is_empty(), "{}", told(&first));
}
