//! Faults that are switched on at run time: which there are, and what each makes a server do.
//!
//! Pure: [`Faults::plan`] decides, `serve` carries it out on real sockets and the simulation's network in virtual time.

use super::http::Response;
use super::jwt::CLOCK_SKEW;
use super::unix_time::UnixMicros;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;

/// Faults that may be on at once.
pub const FAULTS_MAX: usize = 64;

/// A page for people, where a program expects JSON or nothing.
pub const HTML: &str = "<!doctype html><title>Sign in</title><p>Welcome to our network.";

/// What goes wrong. In JSON: `{"kind":"delay","ms":200}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Kind {
    /// Nobody listens: connections are refused. The rate does not matter.
    Refuse,
    /// The connection is reset instead of an answer; the request was not acted on.
    Reset,
    /// The request is read, and nothing ever comes.
    BlackHole,
    /// The answer comes late.
    Delay {
        /// By so much.
        ms: u64,
    },
    /// The answer comes slowly.
    SlowBytes {
        /// Bytes per second.
        rate_bytes: u32,
    },
    /// The request is acted on, the connection ends in mid-answer.
    Cut {
        /// After so many bytes of the answer.
        after_bytes: u32,
    },
    /// 401 `invalid_token`, as after a change of certificates that the relay has not heard of.
    Unauthorized,
    /// 403 with a fault that says how long to wait.
    BackOff {
        /// `BackOffTimeInMilliseconds`.
        ms: u64,
    },
    /// 403 with a fault whose `CanRetry` is true: the queue is full.
    CanRetry,
    /// 413.
    TooLarge,
    /// 429 with `Retry-After`.
    TooManyRequests {
        /// In seconds.
        retry_after_s: u32,
    },
    /// 503 with `Retry-After`.
    Unavailable {
        /// In seconds.
        retry_after_s: u32,
    },
    /// 503 with this `Retry-After` as it stands: seconds with a fraction, a date, nonsense.
    RetryAfter {
        /// The header's value.
        value: String,
    },
    /// 500 with a fault.
    Internal,
    /// 400.
    BadRequest,
    /// A page for people instead of JSON. With a 2xx the request was acted on, else a gateway answered.
    Html {
        /// The status.
        #[serde(default = "bad_gateway")]
        status: u16,
    },
    /// A redirect that must not be followed.
    Redirect {
        /// Where to.
        location: String,
    },
    /// The request is acted on, and the connection ends without an answer.
    AnswerLost,
    /// The request is acted on twice.
    Duplicate,
    /// The relay's clock is wrong.
    ClockOffset {
        /// By so much; positive is ahead.
        ms: i64,
    },
    /// The lifetime of a token is checked to the second, without tolerance for clocks that differ.
    NoTolerance,
    /// Every device answers that it is gone.
    DeviceGone,
    /// The tenant has no budget left.
    OverBudget,
}

/// A fault as someone orders it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// What.
    #[serde(flatten)]
    pub kind: Kind,
    /// How many of the requests, 0 to 1.
    #[serde(default = "always")]
    pub rate: f64,
    /// How long; without it until it is switched off.
    #[serde(default)]
    pub duration_ms: Option<u64>,
    /// For how many requests; without it any number.
    #[serde(default)]
    pub count: Option<u32>,
}

impl Order {
    /// Always and until switched off.
    pub const fn always(kind: Kind) -> Self {
        Self { kind, rate: 1.0, duration_ms: None, count: None }
    }

    /// For the next `count` requests.
    pub const fn times(kind: Kind, count: u32) -> Self {
        Self { kind, rate: 1.0, duration_ms: None, count: Some(count) }
    }

    /// For this share of the requests, 0 to 1.
    #[must_use]
    pub const fn at_rate(mut self, rate: f64) -> Self {
        self.rate = rate;
        self
    }
}

const fn always() -> f64 {
    1.0
}

const fn bad_gateway() -> u16 {
    502
}

/// A fault that is on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// Whose it is.
    pub peer: Peer,
    /// Its number among the peer's, to switch it off.
    pub id: u64,
    /// As ordered; `count` is what is left of it.
    #[serde(flatten)]
    pub order: Order,
    /// Until when, milliseconds since the epoch.
    pub until_ms: Option<u64>,
    /// How many requests it hit.
    pub hits: u64,
}

/// How the answer travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// As it should.
    #[default]
    Whole,
    /// Never.
    BlackHole,
    /// A reset instead of it.
    Reset,
    /// So many bytes of it, then the connection ends.
    Cut {
        /// Zero: not one byte.
        after_bytes: u32,
    },
    /// So slowly.
    Slow {
        /// Bytes per second, one at least.
        rate_bytes: u32,
    },
}

/// What a server does with one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The clock is wrong by so much.
    pub clock_offset_ms: i64,
    /// Lifetimes of tokens are checked without tolerance.
    pub has_no_tolerance: bool,
    /// Answered so without acting on it.
    pub instead: Option<Instead>,
    /// Acted on twice.
    pub is_duplicated: bool,
    /// Every device is gone.
    pub are_devices_gone: bool,
    /// The body of the answer is a page for people.
    pub is_body_html: bool,
    /// The answer waits so long.
    pub delay: Duration,
    /// How the answer travels.
    pub wire: Wire,
}

/// What is answered instead of acting on the request.
#[derive(Clone, Debug, PartialEq)]
pub enum Instead {
    /// This.
    Answer(Response),
    /// A challenge that refuses the token.
    Unauthorized,
}

/// What a plan asks a server to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Act on the request and answer it.
    Handle,
    /// Refuse who sent it, as [`Kind::Unauthorized`] says.
    Refuse,
}

impl Plan {
    /// How far clocks may differ.
    pub const fn tolerance(&self) -> Duration {
        if self.has_no_tolerance { Duration::ZERO } else { CLOCK_SKEW }
    }

    /// The answer, of which the server does its part.
    pub fn answer(&self, mut server: impl FnMut(Act) -> Response) -> Response {
        let mut response = match &self.instead {
            Some(Instead::Answer(answer)) => answer.clone(),
            Some(Instead::Unauthorized) => server(Act::Refuse),
            None if matches!(self.wire, Wire::Reset | Wire::BlackHole) => Response::empty(503),
            None => {
                if self.is_duplicated {
                    server(Act::Handle);
                }
                server(Act::Handle)
            }
        };
        if self.is_body_html {
            response.body = HTML.into();
            response = response.and("content-type", "text/html");
        }
        response
    }
}

/// Whose faults they are: what a server says by itself differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// The relay.
    #[default]
    Relay,
    /// The token service.
    TokenService,
}

impl Peer {
    /// Whether this fault can be one of its.
    pub const fn has(self, kind: &Kind) -> bool {
        use Kind::{BackOff, CanRetry, DeviceGone, OverBudget};
        let is_relays = matches!(kind, BackOff { .. } | CanRetry | DeviceGone | OverBudget);
        matches!(self, Self::Relay) || !is_relays
    }
}

/// The faults of one peer.
#[derive(Debug, Default)]
pub struct Faults {
    peer: Peer,
    on: Vec<Fault>,
    next_id: u64,
}

impl Faults {
    /// None yet, of this peer.
    pub fn of(peer: Peer) -> Self {
        Self { peer, ..Self::default() }
    }

    /// Switches one on. `None` where [`FAULTS_MAX`] are on already.
    pub fn add(&mut self, order: Order, now: UnixMicros) -> Option<u64> {
        self.expire(now);
        if self.on.len() >= FAULTS_MAX {
            return None;
        }
        self.next_id += 1;
        let until_ms = order.duration_ms.map(|ms| now.ms().saturating_add(ms));
        self.on.push(Fault { peer: self.peer, id: self.next_id, order, until_ms, hits: 0 });
        Some(self.next_id)
    }

    /// Switches one off. Tells whether it was on.
    pub fn remove(&mut self, id: u64) -> bool {
        let before = self.on.len();
        self.on.retain(|fault| fault.id != id);
        self.on.len() < before
    }

    /// Switches all off.
    pub fn clear(&mut self) {
        self.on.clear();
    }

    /// Those that are on.
    pub fn list(&mut self, now: UnixMicros) -> &[Fault] {
        self.expire(now);
        &self.on
    }

    /// Whether nobody listens.
    pub fn is_refusing(&mut self, now: UnixMicros) -> bool {
        self.expire(now);
        self.on.iter().any(|fault| fault.order.kind == Kind::Refuse)
    }

    /// What is done with a request that has just arrived. Several faults add up; of two answers the first ordered wins.
    pub fn plan(&mut self, now: UnixMicros, rng: &mut fastrand::Rng) -> Plan {
        let mut plan = Plan::default();
        if self.on.is_empty() {
            return plan;
        }
        self.expire(now);
        for fault in &mut self.on {
            if fault.order.kind == Kind::Refuse || rng.f64() >= fault.order.rate {
                continue;
            }
            fault.hits += 1;
            fault.order.count = fault.order.count.map(|left| left.saturating_sub(1));
            apply(self.peer, &fault.order.kind, &mut plan);
        }
        plan
    }

    fn expire(&mut self, now: UnixMicros) {
        self.on.retain(|fault| {
            fault.until_ms.is_none_or(|until| now.ms() < until) && fault.order.count != Some(0)
        });
    }
}

fn apply(peer: Peer, kind: &Kind, plan: &mut Plan) {
    match kind {
        Kind::Refuse => {}
        Kind::Reset => plan.wire = Wire::Reset,
        Kind::BlackHole => plan.wire = Wire::BlackHole,
        Kind::Delay { ms } => plan.delay += Duration::from_millis(*ms),
        Kind::SlowBytes { rate_bytes } => plan.wire = Wire::Slow { rate_bytes: (*rate_bytes).max(1) },
        Kind::Cut { after_bytes } => plan.wire = Wire::Cut { after_bytes: *after_bytes },
        Kind::AnswerLost => plan.wire = Wire::Cut { after_bytes: 0 },
        Kind::Duplicate => plan.is_duplicated = true,
        Kind::ClockOffset { ms } => plan.clock_offset_ms += ms,
        Kind::NoTolerance => plan.has_no_tolerance = true,
        Kind::Html { status: 200..=299 } => plan.is_body_html = true,
        Kind::DeviceGone => plan.are_devices_gone = true,
        Kind::Unauthorized => {
            plan.instead.get_or_insert(Instead::Unauthorized);
        }
        other => {
            if let Some(response) = answer_of(peer, other) {
                plan.instead.get_or_insert(Instead::Answer(response));
            }
        }
    }
}

/// The answer that a fault gives by itself (protocol.md §1.5; of a token service RFC 6749 §5.2).
fn answer_of(peer: Peer, kind: &Kind) -> Option<Response> {
    let refused = |status, error: &str| {
        Response::with_body(status, "application/json", json!({ "error": error }).to_string())
    };
    Some(match kind {
        Kind::Internal if peer == Peer::TokenService => refused(500, "server_error"),
        Kind::BadRequest if peer == Peer::TokenService => refused(400, "invalid_request"),
        Kind::BackOff { ms } => fault_answer(403, "throttled", false, Some(*ms)),
        Kind::OverBudget => fault_answer(403, "tenant over budget", false, Some(60_000)),
        Kind::CanRetry => fault_answer(403, "queue full", true, None),
        Kind::Internal => fault_answer(500, "internal error", true, None),
        Kind::BadRequest => Response::with_body(400, "text/plain", "the batch could not be read"),
        Kind::TooLarge => Response::with_body(413, "text/plain", "body too large"),
        Kind::TooManyRequests { retry_after_s } => later(429, *retry_after_s),
        Kind::Unavailable { retry_after_s } => later(503, *retry_after_s),
        Kind::RetryAfter { value } => {
            Response::with_body(503, "text/plain", "try again later").and("retry-after", value)
        }
        Kind::Html { status } => Response::with_body(*status, "text/html", HTML),
        Kind::Redirect { location } => Response::empty(307).and("location", location),
        _ => return None,
    })
}

fn later(status: u16, retry_after_s: u32) -> Response {
    Response::with_body(status, "text/plain", "try again later").and("retry-after", retry_after_s.to_string())
}

/// A fault as the relay writes it (protocol.md §1.5).
pub fn fault_answer(status: u16, message: &str, can_retry: bool, back_off_ms: Option<u64>) -> Response {
    let mut fault = json!({ "CanRetry": can_retry, "Message": message, "OriginatingServer": "RELAY01" });
    if let (Some(ms), Some(members)) = (back_off_ms, fault.as_object_mut()) {
        members.insert("BackOffTimeInMilliseconds".to_owned(), json!(ms));
    }
    Response::with_body(status, "application/json", fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros::from_seconds(1_795_420_800);

    fn plan_of(faults: &mut Faults, seconds_later: u64) -> Plan {
        faults.plan(NOW.after(Duration::from_secs(seconds_later)), &mut fastrand::Rng::with_seed(1))
    }

    #[test]
    fn a_fault_ends_by_time_by_count_and_by_hand() {
        let mut faults = Faults::default();
        let mut order = Order::always(Kind::Reset);
        order.duration_ms = Some(10_000);
        faults.add(order, NOW);
        assert_eq!(plan_of(&mut faults, 9).wire, Wire::Reset);
        assert_eq!(plan_of(&mut faults, 10).wire, Wire::Whole);

        faults.add(Order::times(Kind::Duplicate, 2), NOW);
        let duplicated: Vec<bool> = (0..3).map(|_| plan_of(&mut faults, 0).is_duplicated).collect();
        assert_eq!(duplicated, [true, true, false]);

        let id = faults.add(Order::always(Kind::BlackHole), NOW).expect("room");
        assert_eq!(plan_of(&mut faults, 0).wire, Wire::BlackHole);
        assert!(faults.remove(id) && !faults.remove(id));
        assert_eq!(plan_of(&mut faults, 0), Plan::default());
    }

    #[test]
    fn the_rate_is_a_share_of_the_requests_and_the_same_seed_hits_the_same_ones() {
        let hits = |seed| {
            let mut faults = Faults::default();
            faults.add(Order::always(Kind::Reset).at_rate(0.3), NOW);
            let mut rng = fastrand::Rng::with_seed(seed);
            (0..1000).map(|_| faults.plan(NOW, &mut rng).wire == Wire::Reset).collect::<Vec<bool>>()
        };
        let share = hits(7).iter().filter(|hit| **hit).count();
        assert!((250..350).contains(&share), "{share} of 1000");
        assert_eq!(hits(7), hits(7));
    }

    #[test]
    fn faults_add_up_and_the_first_answer_wins() {
        let mut faults = Faults::default();
        for kind in [
            Kind::Delay { ms: 20 },
            Kind::Delay { ms: 30 },
            Kind::TooLarge,
            Kind::Internal,
            Kind::ClockOffset { ms: -600_000 },
        ] {
            faults.add(Order::always(kind), NOW);
        }
        let plan = plan_of(&mut faults, 0);
        assert_eq!((plan.delay.as_millis(), plan.clock_offset_ms), (50, -600_000));
        let Some(Instead::Answer(answer)) = plan.instead else { panic!("an answer") };
        assert_eq!(answer.status, 413);
    }

    #[test]
    fn orders_are_read_from_json() {
        let cases = [
            (r#"{"kind":"delay","ms":20,"rate":0.5}"#, Order::always(Kind::Delay { ms: 20 }).at_rate(0.5)),
            (r#"{"kind":"html"}"#, Order::always(Kind::Html { status: 502 })),
            (
                r#"{"kind":"too-many-requests","retryAfterS":3,"count":1}"#,
                Order::times(Kind::TooManyRequests { retry_after_s: 3 }, 1),
            ),
        ];
        for (text, order) in cases {
            assert_eq!(serde_json::from_str::<Order>(text).expect(text), order);
        }
        assert!(serde_json::from_str::<Order>(r#"{"kind":"sabotage"}"#).is_err());
    }

    #[test]
    fn there_is_a_limit_to_what_goes_wrong_at_once() {
        let mut faults = Faults::default();
        let taken =
            (0..=FAULTS_MAX).filter(|_| faults.add(Order::always(Kind::Reset), NOW).is_some()).count();
        assert_eq!(taken, FAULTS_MAX);
    }
}
