//! How long an agent must leave the relay alone after an answer: protocol.md §1.6 read once more, apart from the agent's
//! own reading of it. And how often it may log in at a mail host (sources.md §4.1).

use crate::peers::http::Response;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// After trouble that passes, at least.
const BACK_OFF_MIN: Duration = Duration::from_secs(1);
/// After what a person must look at.
const HALT: Duration = Duration::from_mins(1);
/// The longest wait that a relay can ask for.
const ASKED_MAX: Duration = Duration::from_hours(1);
/// How deep faults within faults are looked into.
const FAULT_DEPTH_MAX: usize = 4;

/// The least time after this answer to a batch of so many notifications until the next batch leaves; `None` for the
/// answer: there was none.
pub fn least_wait(answer: Option<&Response>, notifications: usize) -> Duration {
    let Some(answer) = answer else { return BACK_OFF_MIN };
    let fault = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    match answer.status {
        200 | 401 => Duration::ZERO,
        _ if asked(answer, &fault).is_some() => asked(answer, &fault).unwrap_or_default().min(ASKED_MAX),
        _ if member(&fault, "CanRetry").and_then(Value::as_bool) == Some(true) => BACK_OFF_MIN,
        408 | 429 | 500 | 502 | 503 | 504 => BACK_OFF_MIN,
        413 if notifications > 1 => Duration::ZERO,
        400 => Duration::ZERO,
        _ => HALT,
    }
}

fn asked(answer: &Response, fault: &Value) -> Option<Duration> {
    let of_fault = member(fault, "BackOffTimeInMilliseconds").and_then(Value::as_u64);
    let of_header = || {
        let seconds: u64 = answer.header("retry-after")?.parse().ok()?;
        matches!(answer.status, 429 | 503).then_some(seconds * 1000)
    };
    of_fault.or_else(of_header).filter(|ms| *ms > 0).map(Duration::from_millis)
}

fn member<'a>(fault: &'a Value, name: &str) -> Option<&'a Value> {
    let levels = std::iter::successors(Some(fault), |fault| fault.get("InnerFault"));
    levels.take(FAULT_DEPTH_MAX).find_map(|fault| fault.get(name))
}

/// Answers of 401 within [`REFUSED_WITHIN`], at most: two batches in flight and their repeats, with room for a token
/// that is refused once more.
pub const REFUSED_MAX: usize = 6;
/// See [`REFUSED_MAX`].
pub const REFUSED_WITHIN: Duration = Duration::from_secs(30);

/// Log-ins in a row that did not survive, within [`LOGINS_WITHIN`], at most. Exponential back-off with full jitter, from
/// 1 s to 2 min, lets so many through less than once in 10^13; one that starts anew with each log-in does it in 15 s.
pub const LOGINS_MAX: usize = 20;
/// See [`LOGINS_MAX`].
pub const LOGINS_WITHIN: Duration = Duration::from_mins(1);
/// A connection that lived so long survived.
const SURVIVED: Duration = Duration::from_secs(30);

/// Things that happened, to be counted within a span.
#[derive(Debug, Default)]
pub struct Recent(VecDeque<Duration>);

impl Recent {
    /// Once more, now; how often within the span.
    pub fn count(&mut self, now: Duration, within: Duration) -> usize {
        self.0.push_back(now);
        while self.0.front().is_some_and(|at| now.saturating_sub(*at) > within) {
            self.0.pop_front();
        }
        self.0.len()
    }

    fn forget(&mut self) {
        self.0.clear();
    }
}

/// Log-ins of each mailbox that did not survive.
#[derive(Debug, Default)]
pub struct Logins {
    since: BTreeMap<usize, Duration>,
    failed: BTreeMap<usize, Recent>,
}

impl Logins {
    /// A log-in of this mailbox worked.
    pub fn begun(&mut self, mailbox: usize, now: Duration) {
        self.since.insert(mailbox, now);
    }

    /// Its connection ended by itself; how many in a row did so too early.
    pub fn ended(&mut self, mailbox: usize, now: Duration) -> usize {
        let Some(since) = self.since.remove(&mailbox) else { return 0 };
        let failed = self.failed.entry(mailbox).or_default();
        if now.saturating_sub(since) >= SURVIVED {
            failed.forget();
            return 0;
        }
        failed.count(now, LOGINS_WITHIN)
    }

    /// Another process counts anew.
    pub fn forget(&mut self) {
        (self.since, self.failed) = Default::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::fault::fault_answer;

    #[test]
    fn each_answer_has_its_least_wait() {
        let later = |status| Response::empty(status).and("retry-after", "7");
        let inner = r#"{"InnerFault":{"BackOffTimeInMilliseconds":1500}}"#;
        let cases = [
            (None, 2, 1000),
            (Some(Response::empty(200)), 2, 0),
            (Some(Response::empty(401)), 2, 0),
            (Some(Response::empty(400)), 2, 0),
            (Some(Response::empty(413)), 2, 0),
            (Some(Response::empty(413)), 1, 60_000),
            (Some(Response::empty(500)), 2, 1000),
            (Some(Response::empty(307)), 2, 60_000),
            (Some(Response::empty(403)), 2, 60_000),
            (Some(later(429)), 2, 7000),
            (Some(later(500)), 2, 1000),
            (Some(fault_answer(403, "", false, Some(2500))), 2, 2500),
            (Some(fault_answer(403, "", true, None)), 2, 1000),
            (Some(fault_answer(403, "", false, Some(86_400_000))), 2, 3_600_000),
            (Some(Response::with_body(403, "application/json", inner)), 2, 1500),
        ];
        for (answer, notifications, ms) in cases {
            let wait = least_wait(answer.as_ref(), notifications);
            assert_eq!(wait.as_millis(), ms, "{answer:?}");
        }
    }

    #[test]
    fn a_connection_that_survived_forgives_those_before() {
        let mut logins = Logins::default();
        let second = Duration::from_secs;
        let mut fail = |from: u64, to: u64| {
            logins.begun(0, second(from));
            logins.ended(0, second(to))
        };
        assert_eq!([fail(0, 1), fail(2, 3), fail(4, 40), fail(41, 42)], [1, 2, 0, 1]);
    }
}
