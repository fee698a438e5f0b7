//! Whoever drives the flow sleeps until [`Flow::poll_timeout`], and time passes between his last [`Flow::poll_output`] and
//! that: whatever becomes due in between must wake him, and nothing may wake him in vain.

use super::*;

const SEEDS: u64 = 400;
const STEPS: usize = 120;

/// One more change now and then, answers of every kind, and pauses of every length.
struct Story {
    bench: Bench,
    posts: Vec<Post>,
    rng: fastrand::Rng,
    unseen: u32,
}

impl Story {
    fn pause(&mut self) -> Duration {
        let longest = self.rng.choice([10, 1_000, 50_000, 1_500_000, 90_000_000]).unwrap_or(10);
        Duration::from_micros(self.rng.u64(0..longest))
    }

    fn happen(&mut self) {
        match self.rng.u8(0..6) {
            0..=2 => {
                self.unseen += 1;
                self.bench.count(self.unseen);
            }
            _ if self.posts.is_empty() => {}
            _ => {
                let post = self.posts.swap_remove(self.rng.usize(0..self.posts.len()));
                let outcome = match self.rng.u8(0..8) {
                    0 => Err(Failure::Timeout("the answer".to_owned())),
                    1 => Ok(Answer { retry_after: Some("2".to_owned()), ..answer(503) }),
                    2 => Ok(answer(500)),
                    3 => Ok(answer(401)),
                    4 => Ok(answer(413)),
                    5 => Ok(answer(403)),
                    _ => Ok(answer(200)),
                };
                self.bench.answer(&post, outcome);
            }
        }
    }

    /// All that is to be done now. True where there was something.
    fn work(&mut self) -> bool {
        let before = self.posts.len();
        while let Some(post) = self.bench.post() {
            self.posts.push(post);
        }
        self.posts.len() > before
    }
}

#[test]
fn what_becomes_due_while_its_driver_is_held_up_wakes_him() {
    let mut woken = 0;
    for seed in 0..SEEDS {
        let rng = fastrand::Rng::with_seed(seed);
        let mut story = Story { bench: Bench::new(), posts: Vec::new(), rng, unseen: 0 };
        for step in 0..STEPS {
            story.happen();
            story.work();
            // Held up between the two calls.
            let pause = story.pause();
            story.bench.later(pause);
            let now = story.bench.now;
            let is_woken = story.bench.flow.poll_timeout(now).is_some_and(|at| at <= now.moment);
            let is_due = story.work();
            woken += u32::from(is_woken && is_due);
            assert!(is_woken || !is_due, "seed {seed}, step {step}: asleep, and a batch is due");
            let next = story.bench.flow.poll_timeout(now);
            assert!(next.is_none_or(|at| at > now.moment), "seed {seed}, step {step}: woken in vain");
        }
    }
    assert!(woken > 1000, "{woken}");
}
