//! When the metadata documents of token services are read (protocol.md §5.4): first when a challenge cannot be met
//! without, then every 24 hours, and a few times a day more where one is in doubt. A machine without I/O.
//!
//! Fetching is the `driver`'s; keeping a document, and what follows from it, the daemon's.

use crate::time::{Moment, Now, UnixMs};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How long a document is believed.
pub const DOCUMENT_LIFE: Duration = Duration::from_hours(24);
/// How often a document in doubt is read before its time, in any [`DOCUMENT_LIFE`].
pub const DOUBTS_MAX: usize = 3;
/// The least time between two attempts at one document.
pub const GAP_MIN: Duration = Duration::from_secs(10);
/// The longest time between two attempts while they fail.
pub const GAP_MAX: Duration = Duration::from_mins(15);

/// The wall clock may jump: it is looked at this often.
const CLOCK_CHECK: Duration = Duration::from_hours(1);
/// A document from further ahead was read before the clock was set back.
const CLOCK_TOLERANCE: Duration = Duration::from_mins(5);

/// A token service, and how old what is known of it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name here.
    pub name: String,
    /// Where its document is.
    pub url: String,
    /// When a good one was last read there; `None`: never.
    pub fetched_at: Option<UnixMs>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time passed.
    Wake,
    /// These token services there are, and no others.
    Known(Vec<Known>),
    /// No token could be chosen: documents that were never read may help.
    Missed,
    /// A token of this one was refused in a way that another document may cure.
    Doubted(String),
    /// [`Fetch`] is done.
    Fetched {
        /// Of which.
        name: String,
        /// Whether a good document came.
        is_good: bool,
    },
}

/// A document to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// To be named in [`Input::Fetched`].
    pub name: String,
    /// Where it is.
    pub url: String,
}

/// Says when which document is read. At most one reading of each is under way.
#[derive(Debug)]
pub struct Refresh {
    servers: BTreeMap<String, Server>,
    rng: fastrand::Rng,
    latest: Now,
    outputs: VecDeque<Fetch>,
}

#[derive(Debug)]
struct Server {
    known: Known,
    /// It was never read, and somebody missed it.
    is_missed: bool,
    is_doubted: bool,
    /// When it was read out of doubt, within the last [`DOCUMENT_LIFE`].
    doubts: VecDeque<Moment>,
    is_under_way: bool,
    failures: u32,
    not_before: Moment,
}

impl Refresh {
    /// Knows of no token service. The seed spreads the attempts of many hosts.
    pub fn new(seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self { servers: BTreeMap::new(), rng, latest: Now::default(), outputs: VecDeque::new() }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.latest = now;
        match input {
            Input::Wake => {}
            Input::Known(all) => self.know(all),
            Input::Missed => self.servers.values_mut().for_each(|server| server.is_missed = true),
            Input::Doubted(name) => {
                if let Some(server) = self.servers.get_mut(&name) {
                    server.doubt(now.moment);
                }
            }
            Input::Fetched { name, is_good } => {
                let spread = self.rng.f64();
                if let Some(server) = self.servers.get_mut(&name) {
                    server.fetched(is_good, spread, now);
                }
            }
        }
        for server in self.servers.values_mut() {
            self.outputs.extend(server.begin_what_is_due(now));
        }
    }

    /// What is to be read next, if anything.
    pub fn poll_output(&mut self) -> Option<Fetch> {
        self.outputs.pop_front()
    }

    /// When [`Input::Wake`] is due.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.servers.values().filter_map(|server| server.due(self.latest)).min()
    }

    fn know(&mut self, all: Vec<Known>) {
        let mut former = std::mem::take(&mut self.servers);
        for known in all {
            let kept = former.remove(&known.name).filter(|server| server.known.url == known.url);
            let server = match kept {
                Some(server) => Server { known: known.clone(), ..server },
                None => Server::new(known.clone()),
            };
            self.servers.insert(known.name, server);
        }
    }
}

impl Server {
    fn new(known: Known) -> Self {
        Self {
            known,
            is_missed: false,
            is_doubted: false,
            doubts: VecDeque::new(),
            is_under_way: false,
            failures: 0,
            not_before: Moment::START,
        }
    }

    fn doubt(&mut self, now: Moment) {
        while self.doubts.front().is_some_and(|first| now.since(*first) >= DOCUMENT_LIFE) {
            self.doubts.pop_front();
        }
        if !self.is_under_way && !self.is_doubted && self.doubts.len() < DOUBTS_MAX {
            self.doubts.push_back(now);
            self.is_doubted = true;
        }
    }

    fn fetched(&mut self, is_good: bool, spread: f64, now: Now) {
        self.is_under_way = false;
        if is_good {
            self.known.fetched_at = Some(now.unix);
            self.failures = 0;
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let ceiling = GAP_MIN.saturating_mul(1 << self.failures.min(16)).min(GAP_MAX);
        let wait = GAP_MIN + ceiling.saturating_sub(GAP_MIN).mul_f64(spread);
        self.not_before = now.moment.after(wait);
    }

    /// How long until its document must be read; `None` while nobody needs one.
    fn wanted_in(&self, now: UnixMs) -> Option<Duration> {
        let is_believed = |at: &UnixMs| *at <= now.after(CLOCK_TOLERANCE);
        match self.known.fetched_at {
            None => self.is_missed.then_some(Duration::ZERO),
            Some(at) if is_believed(&at) && !self.is_doubted => {
                Some(Duration::from_millis(at.after(DOCUMENT_LIFE).0.saturating_sub(now.0)))
            }
            Some(_) => Some(Duration::ZERO),
        }
    }

    fn due(&self, now: Now) -> Option<Moment> {
        let wait = self.wanted_in(now.unix).filter(|_| !self.is_under_way)?;
        Some(now.moment.after(wait.min(CLOCK_CHECK)).max(self.not_before))
    }

    fn begin_what_is_due(&mut self, now: Now) -> Option<Fetch> {
        let is_due = self.wanted_in(now.unix).is_some_and(|wait| wait.is_zero());
        if self.is_under_way || !is_due || now.moment < self.not_before {
            return None;
        }
        self.is_under_way = true;
        self.is_doubted = false;
        self.not_before = now.moment.after(GAP_MIN);
        Some(Fetch { name: self.known.name.clone(), url: self.known.url.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Now = Now { moment: Moment::from_micros(5_000_000), unix: UnixMs(1_767_268_500_000) };

    struct Bench {
        refresh: Refresh,
        now: Now,
    }

    impl Bench {
        fn new(fetched_at: Option<UnixMs>) -> Self {
            let mut bench = Self { refresh: Refresh::new(7), now: START };
            bench.know("https://sts.example/a", fetched_at);
            bench
        }

        fn know(&mut self, url: &str, fetched_at: Option<UnixMs>) {
            let known = Known { name: String::from("sts"), url: url.to_owned(), fetched_at };
            self.give(Input::Known(vec![known]));
        }

        fn give(&mut self, input: Input) {
            self.refresh.handle(self.now, input);
        }

        fn doubt(&mut self) {
            self.give(Input::Doubted(String::from("sts")));
        }

        fn miss(&mut self) {
            self.give(Input::Missed);
        }

        fn fetched(&mut self, is_good: bool) {
            self.give(Input::Fetched { name: String::from("sts"), is_good });
        }

        fn is_wanted(&mut self) -> bool {
            self.refresh.poll_output().is_some()
        }

        /// How long until the document is wanted.
        fn wanted_in(&mut self) -> Duration {
            let begin = self.now.moment;
            while !self.is_wanted() {
                let due = self.refresh.poll_timeout().expect("something is due");
                self.now = self.now.after(due.since(self.now.moment));
                self.give(Input::Wake);
            }
            self.now.moment.since(begin)
        }
    }

    #[test]
    fn a_document_that_was_never_read_is_wanted_once_it_is_missed_and_then_every_day() {
        let mut bench = Bench::new(None);
        assert_eq!((bench.is_wanted(), bench.refresh.poll_timeout()), (false, None));
        bench.miss();
        assert!(bench.is_wanted() && !bench.is_wanted());
        assert_eq!(bench.refresh.poll_timeout(), None, "nothing to wait for but the answer");
        bench.fetched(true);
        for _ in 0..3 {
            assert_eq!(bench.wanted_in(), DOCUMENT_LIFE);
            bench.fetched(true);
        }
    }

    #[test]
    fn a_restart_does_not_read_what_was_read_today() {
        let read_at = UnixMs(START.unix.0 - 3_600_000);
        assert_eq!(Bench::new(Some(read_at)).wanted_in(), Duration::from_hours(23));
    }

    #[test]
    fn a_clock_that_was_set_back_has_it_read() {
        assert!(Bench::new(Some(START.unix.after(Duration::from_hours(1)))).is_wanted());
        assert!(!Bench::new(Some(START.unix.after(Duration::from_mins(1)))).is_wanted());
    }

    #[test]
    fn doubts_have_it_read_three_times_a_day_more() {
        let mut bench = Bench::new(Some(START.unix));
        let mut read = 0;
        for _ in 0..100 {
            bench.now = bench.now.after(Duration::from_mins(10));
            bench.doubt();
            if bench.is_wanted() {
                read += 1;
                bench.fetched(true);
            }
        }
        assert_eq!(read, DOUBTS_MAX);
        bench.now = bench.now.after(Duration::from_hours(8));
        bench.doubt();
        assert!(bench.is_wanted(), "the first doubt is a day old");
    }

    #[test]
    fn doubts_of_a_moment_are_one() {
        let mut bench = Bench::new(Some(START.unix));
        for _ in 0..100 {
            bench.doubt();
        }
        assert!(bench.is_wanted());
        bench.fetched(true);
        assert!(!bench.is_wanted());
    }

    #[test]
    fn gaps_grow_with_failures_and_stay_under_a_quarter_of_an_hour() {
        let mut bench = Bench::new(None);
        bench.miss();
        assert!(bench.is_wanted());
        let mut gaps = Vec::new();
        for _ in 0..30 {
            bench.fetched(false);
            gaps.push(bench.wanted_in());
        }
        assert!(gaps.iter().all(|gap| (GAP_MIN..=GAP_MAX).contains(gap)), "{gaps:?}");
        assert!(gaps.iter().max() > Some(&Duration::from_mins(5)), "{gaps:?}");
    }

    #[test]
    fn another_url_is_another_document_and_a_removed_one_not_any_more() {
        let mut bench = Bench::new(Some(START.unix));
        bench.know("https://sts.example/b", None);
        assert!(!bench.is_wanted(), "nobody missed it");
        bench.miss();
        assert_eq!(
            bench.refresh.poll_output().map(|fetch| fetch.url),
            Some(String::from("https://sts.example/b"))
        );
        bench.give(Input::Known(Vec::new()));
        bench.fetched(true);
        assert_eq!((bench.is_wanted(), bench.refresh.poll_timeout()), (false, None));
    }
}
