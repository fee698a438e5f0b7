//! The flow against a relay of a few lines, in virtual time; its long stories are told by the simulation.

mod sleep;
mod token_service;

use super::*;
use crate::event::{ModSeq, News, Reading, Recipient, SourceId, UidValidity};
use crate::identity::principal::Principal;
use crate::time::UnixMs;
use crate::token::choice::Configured;
use std::num::{NonZeroU32, NonZeroU64};

const CHALLENGE: &str =
    r#"Bearer client_id="00000002-0000-0ff1-ce00-000000000000", trusted_issuers="own@fabrikam.com""#;

/// A flow with one mailbox and one device that shows 0.
struct Bench {
    flow: Flow,
    tracker: Arc<Tracker>,
    now: Now,
    modseq: u64,
}

impl Bench {
    fn new() -> Self {
        let tracker = Arc::new(Tracker::default());
        let now = Now { moment: Moment::START, unix: UnixMs(1_795_420_800_000) };
        let mailbox = tracker.enroll("u1").unwrap();
        let recipient = Recipient {
            key: SubscriptionKey(1),
            app_id: "com.microsoft.exchange.mowa".to_owned().into(),
            device_id: "reg-1".into(),
            installation_id: None,
            last_update: UnixMs(0),
            expires_at: UnixMs(u64::MAX),
            background_sync: false,
        };
        tracker.subscribe(mailbox, recipient, Some(0), now);
        let counters = Arc::new(FlowCounters::default());
        let stamp = Stamp::new(now.unix);
        let mut flow = Flow::new(Settings::default(), Arc::clone(&tracker), counters, stamp, 7);
        let configured = Configured {
            own: Principal::new("own", "fabrikam.com"),
            organization: "fabrikam.com".to_owned(),
            relay_authority: "relay.example".to_owned(),
            auth_servers: Vec::new(),
            partners: Vec::new(),
        };
        let settings =
            keeper::Settings { configured, may_delegate: false, lifetime: Duration::from_hours(24) };
        flow.handle(Input::Relay(Some(settings)), now);
        Self { flow, tracker, now, modseq: 0 }
    }

    fn later(&mut self, wait: Duration) {
        self.now = self.now.after(wait);
    }

    fn count(&mut self, unseen: u32) {
        self.modseq += 1;
        let reading = Reading {
            unseen,
            uid_validity: NonZeroU32::new(1).map(UidValidity),
            modseq: NonZeroU64::new(self.modseq).map(ModSeq),
            asked_at: None,
        };
        self.tracker.observe(MailboxId(0), SourceId(0), News::Reading(reading), self.now);
    }

    /// Answers challenge and signature until a batch leaves, or nothing does.
    fn post(&mut self) -> Option<Post> {
        while let Some(output) = self.flow.poll_output(self.now) {
            match output {
                Output::AskChallenge => {
                    let answer = answer(401);
                    self.flow.handle(Input::Challenged(Ok(answer)), self.now);
                }
                Output::Sign(claims) => {
                    let token = Arc::new(SecretString::from(format!("token until {}", claims.exp)));
                    let signed = SignedToken { token, expires: claims.expires() };
                    self.flow.handle(Input::Signed(Ok(signed)), self.now);
                }
                Output::Post(post) => return Some(post),
                Output::Exchange(_) | Output::Fetch(_) | Output::Forget { .. } => {}
            }
        }
        None
    }

    fn answer(&mut self, post: &Post, outcome: Result<Answer, Failure>) {
        self.flow.handle(Input::Answered { attempt: post.attempt, outcome }, self.now);
    }
}

fn answer(status: u16) -> Answer {
    let www_authenticate = if status == 401 { vec![CHALLENGE.to_owned()] } else { Vec::new() };
    Answer { status, www_authenticate, ..Answer::default() }
}

fn carries(post: &Post, unseen: u32) -> bool {
    String::from_utf8_lossy(&post.body).contains(&format!("\"unseenEmailCount\":{unseen}}}"))
}

#[test]
fn a_count_leaves_at_once_and_is_acknowledged() {
    let mut bench = Bench::new();
    bench.count(3);
    let post = bench.post().unwrap();
    assert!(carries(&post, 3) && post.token.is_some() && post.devices == [SubscriptionKey(1)]);
    bench.answer(&post, Ok(answer(200)));
    assert!(bench.post().is_none() && bench.flow.is_idle());
    assert_eq!(bench.flow.counters.acknowledged.get(), 1);
}

#[test]
fn changes_within_a_second_share_a_batch_with_the_newest_count() {
    let mut bench = Bench::new();
    bench.count(1);
    let post = bench.post().unwrap();
    bench.answer(&post, Ok(answer(200)));
    bench.count(2);
    bench.count(5);
    assert!(bench.post().is_none());
    let wait = bench.flow.poll_timeout(bench.now).unwrap().since(bench.now.moment);
    assert_eq!(wait, Duration::from_secs(1));
    bench.later(wait);
    assert!(carries(&bench.post().unwrap(), 5));
}

#[test]
fn a_rejected_token_is_replaced_once_then_the_relay_is_halted_for_a_minute() {
    let mut bench = Bench::new();
    bench.count(3);
    let first = bench.post().unwrap();
    bench.answer(&first, Ok(answer(401)));
    bench.later(Duration::from_secs(10));
    let again = bench.post().unwrap();
    assert_eq!(again.request_id, first.request_id);
    bench.answer(&again, Ok(answer(401)));
    assert!(bench.flow.trouble().is_some_and(|(_, is_halted)| is_halted));
    bench.later(Duration::from_secs(59));
    assert!(bench.post().is_none());
    bench.later(Duration::from_secs(1));
    let post = bench.post().unwrap();
    bench.answer(&post, Ok(answer(200)));
    assert_eq!(bench.flow.trouble(), None);
}

#[test]
fn a_relay_that_returns_no_answer_while_counts_wait_is_reported_until_any_answer() {
    let mut bench = Bench::new();
    bench.count(3);
    let timeout = || Err(Failure::Timeout("no answer".to_owned()));
    let first = bench.post().unwrap();
    bench.later(SILENCE_MAX);
    assert_eq!(bench.flow.silence(bench.now), None);
    bench.later(Duration::from_secs(1));
    assert_eq!(bench.flow.silence(bench.now), Some(SILENCE_MAX + Duration::from_secs(1)), "in flight");
    bench.answer(&first, timeout());
    assert!(bench.flow.silence(bench.now).is_some(), "due again");
    bench.later(Duration::from_mins(1));
    let again = bench.post().unwrap();
    bench.answer(&again, Ok(answer(503)));
    bench.later(SILENCE_MAX * 2);
    assert_eq!(bench.flow.silence(bench.now), None, "it answered");
    let last = bench.post().unwrap();
    bench.answer(&last, Ok(answer(200)));
    bench.later(SILENCE_MAX * 2);
    assert_eq!(bench.flow.silence(bench.now), None, "nothing waits");
}

#[test]
fn only_what_cannot_have_arrived_is_taken_for_not_shown() {
    let cases = [
        (Err(Failure::Connect(String::new())), false),
        (Err(Failure::Timeout(String::new())), true),
        (Err(Failure::Closed(String::new())), true),
        (Ok(answer(429)), false),
        (Ok(answer(502)), true),
        (Ok(answer(302)), true),
    ];
    for (outcome, may_have_arrived) in cases {
        let mut bench = Bench::new();
        bench.count(3);
        let post = bench.post().unwrap();
        bench.count(0);
        let told = format!("{outcome:?}");
        bench.answer(&post, outcome);
        bench.later(Duration::from_mins(2));
        assert_eq!(bench.post().is_some(), may_have_arrived, "{told}");
    }
}

#[test]
fn a_disabled_proxy_sends_nothing_and_forgets_nothing() {
    let mut bench = Bench::new();
    bench.flow.handle(Input::Relay(None), bench.now);
    bench.count(3);
    assert!(bench.post().is_none() && bench.flow.poll_timeout(bench.now).is_none());
    assert_eq!(bench.tracker.ready(), 1);
}
