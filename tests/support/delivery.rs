//! What a listening agent adds to a delivery: the same messages to a server that tells it and to one that tells nobody,
//! turn by turn, so that whatever else runs on the machine falls on both.

use crate::lmtp::LmtpClient;
use std::time::Duration;

/// Deliveries per server and round: enough that two lie above the 99th percentile.
const DELIVERIES: usize = 200;

/// Rounds at most. What else runs can only add to a round's difference: one clean round shows the cost.
const ROUNDS: usize = 12;

/// More than this no listener may cost, at the median and at the 99th percentile.
const COST_MAX: Duration = Duration::from_millis(1);

/// The times of a round's deliveries to one server.
#[derive(Clone, Copy, Debug)]
struct Times {
    p50: Duration,
    p99: Duration,
}

impl Times {
    fn of(mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        let at = |percent: usize| *took.get(took.len() * percent / 100).expect("a part of all");
        Self { p50: at(50), p99: at(99) }
    }
}

/// Delivers to the first server, whose agent listens, and to the second, which has none, in turn to each of `users`.
/// Panics where no round shows that the first costs no more than a millisecond more; prints every round.
#[expect(clippy::print_stdout, reason = "figures for docs/performance.md")]
pub fn costs_next_to_nothing(mut clients: [LmtpClient; 2], users: &[&str]) {
    let mut costs = Vec::new();
    for _ in 0..ROUNDS {
        let [with, without] = round(&mut clients, users);
        let ratio = with.p50.as_secs_f64() / without.p50.as_secs_f64();
        println!(
            "{DELIVERIES} deliveries: p50 {:?}, p99 {:?} with the agent, p50 {:?}, p99 {:?} with none, ratio {ratio:.3}",
            with.p50, with.p99, without.p50, without.p99
        );
        let cost = with.p50.saturating_sub(without.p50).max(with.p99.saturating_sub(without.p99));
        if cost <= COST_MAX {
            return;
        }
        costs.push(cost);
    }
    panic!("at the median or the 99th percentile a delivery took {costs:?} more");
}

fn round(clients: &mut [LmtpClient; 2], users: &[&str]) -> [Times; 2] {
    let mut took = [Vec::new(), Vec::new()];
    for user in users.iter().cycle().take(DELIVERIES) {
        for (client, took) in clients.iter_mut().zip(&mut took) {
            took.push(client.deliver(user).expect("delivery").took);
        }
    }
    took.map(Times::of)
}
