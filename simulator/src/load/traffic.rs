//! Drives a plan in real time from a thread of its own: what is due is done, late or not, and lateness is measured.

use super::host::Host;
use super::notifier::Notifier;
use super::plan::Plan;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The longest lateness that is told apart.
const LATENESS_MAX: Duration = Duration::from_mins(10);
/// Steps between two looks of the progress bar.
const SHOWN_EVERY: u64 = 64;

/// Carries out the whole plan and gives how late its steps were, in microseconds: the generator's own fault.
///
/// Blocks; with a `notifier` the agent is told of each change as Dovecot or Cyrus would.
pub(super) fn run(
    host: &Arc<Host>,
    plan: Plan,
    mut notifier: Option<&mut Notifier>,
    seed: u64,
    progress: &ProgressBar,
) -> Histogram<u64> {
    let mut random = fastrand::Rng::with_seed(seed);
    let lateness = Histogram::new_with_bounds(1, LATENESS_MAX.as_micros() as u64, 3);
    let mut lateness = lateness.expect("1 µs to 10 min with three digits are bounds a histogram takes");
    let start = host.now();
    for (step, number) in plan.zip(1u64..) {
        let due = start + step.due;
        thread::sleep(due.saturating_sub(host.now()));
        lateness.saturating_record(host.now().saturating_sub(due).as_micros().max(1) as u64);
        let change = host.carry_out(&step, due, &mut random);
        if let (Some(notifier), Some(change)) = (notifier.as_deref_mut(), change) {
            notifier.tell_blocking(step.account, change);
        }
        if number.is_multiple_of(SHOWN_EVERY) {
            progress.set_position(number);
        }
    }
    lateness
}
