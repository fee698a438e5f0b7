//! The keeper in virtual time: what it asks for, when, and what it lets go with a batch meanwhile.

mod service;

use super::*;
use crate::identity::principal::Principal;
use crate::token::claims::BACK_DATED;
use proptest::prelude::*;

/// Requests hold secrets and are never the same.
impl PartialEq for Output {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::AskChallenge, Self::AskChallenge) => true,
            (Self::Sign(claims), Self::Sign(other)) => claims == other,
            _ => false,
        }
    }
}

const ID: &str = "00000002-0000-0ff1-ce00-000000000000";
const START: Now = Now { moment: Moment::from_micros(5_000_000), unix: UnixMs(1_767_268_500_000) };

fn settings() -> Settings {
    Settings {
        configured: Configured {
            own: Principal::new(ID, "fabrikam.com"),
            organization: String::from("fabrikam.com"),
            relay_authority: String::from("relay.example"),
            auth_servers: Vec::new(),
            partners: Vec::new(),
        },
        may_delegate: false,
        lifetime: Duration::from_hours(24),
    }
}

fn trusting(issuer: &str) -> Vec<String> {
    vec![format!("Bearer client_id=\"{ID}\", trusted_issuers=\"{issuer}\"")]
}

fn challenge() -> Vec<String> {
    trusting(&format!("{ID}@fabrikam.com"))
}

fn refusal(www_authenticate: Vec<String>) -> Input {
    Input::Challenged(Ok(ChallengeAnswer { status: 401, www_authenticate, asked_wait: None }))
}

fn status(status: u16) -> Input {
    Input::Challenged(Ok(ChallengeAnswer { status, ..ChallengeAnswer::default() }))
}

fn token(claims: &Claims) -> SignedToken {
    let text = format!("token from {} for {}", claims.nbf, claims.aud);
    SignedToken { token: Arc::new(SecretString::from(text)), expires: claims.expires() }
}

/// A keeper, its clock, and a relay that does as it is told.
struct Bench {
    keeper: Keeper,
    now: Now,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self { keeper: Keeper::new(settings(), 7), now: START };
        bench.give(Input::Wake);
        bench
    }

    /// With a token at hand.
    fn settled() -> Self {
        let mut bench = Self::new();
        bench.expect_question();
        bench.give(refusal(challenge()));
        bench.sign();
        bench
    }

    fn give(&mut self, input: Input) {
        self.keeper.handle(self.now, input);
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now.after(span);
        self.give(Input::Wake);
    }

    /// Lets time pass until the keeper wants something, and returns how long that took.
    fn pass_until_wanted(&mut self) -> (Duration, Output) {
        let begin = self.now.moment;
        for _ in 0..10_000 {
            if let Some(output) = self.keeper.poll_output() {
                return (self.now.moment.since(begin), output);
            }
            let due = self.keeper.poll_timeout().expect("something is due");
            self.pass(due.since(self.now.moment));
        }
        panic!("nothing is ever wanted");
    }

    fn expect_question(&mut self) {
        assert_eq!(self.keeper.poll_output(), Some(Output::AskChallenge));
        assert_eq!(self.keeper.poll_output(), None);
    }

    fn sign(&mut self) -> Claims {
        let Some(Output::Sign(claims)) = self.keeper.poll_output() else { panic!("nothing to sign") };
        self.give(Input::Signed(Ok(token(&claims))));
        claims
    }

    fn serial(&self) -> Option<u64> {
        match self.keeper.state(self.now) {
            TokenState::Valid { serial, .. } => Some(serial),
            _ => None,
        }
    }

    fn retry_in(&self) -> Duration {
        match self.keeper.state(self.now) {
            TokenState::Failed { retry_at, .. } => retry_at.since(self.now.moment),
            state => panic!("{state:?} is no failure"),
        }
    }
}

#[test]
fn a_challenge_and_a_signature_make_a_token() {
    let mut bench = Bench::new();
    assert!(matches!(bench.keeper.state(bench.now), TokenState::Waiting));
    bench.expect_question();
    assert_eq!(bench.keeper.poll_timeout(), None, "nothing to wait for but the answer");
    bench.give(refusal(challenge()));
    let claims = bench.sign();
    assert_eq!(claims.aud, format!("{ID}/relay.example@fabrikam.com"));
    assert_eq!((Some(&claims.iss), claims.nbf), (claims.nameid.as_ref(), START.unix.seconds() - 60));
    assert_eq!(claims.exp - claims.nbf, 86_400);
    let TokenState::Valid { serial: 1, expires, .. } = bench.keeper.state(bench.now) else {
        panic!("no token")
    };
    assert_eq!(expires, claims.expires());
    assert_eq!(bench.keeper.poll_output(), None);
}

#[test]
fn a_relay_that_asks_for_no_token_gets_none() {
    let mut bench = Bench::new();
    bench.expect_question();
    bench.give(status(200));
    assert!(matches!(bench.keeper.state(bench.now), TokenState::Open));
    let (waited, output) = bench.pass_until_wanted();
    assert_eq!((waited, output), (CHALLENGE_LIFE, Output::AskChallenge));
    assert!(matches!(bench.keeper.state(bench.now), TokenState::Open), "still open while it is asked again");
}

#[test]
fn an_open_relay_that_changes_its_mind_gets_a_token() {
    let mut bench = Bench::new();
    bench.expect_question();
    bench.give(status(204));
    bench.pass(Duration::from_mins(1));
    bench.give(Input::Rejected { serial: None, www_authenticate: challenge() });
    bench.sign();
    assert_eq!(bench.serial(), Some(1));
}

#[test]
fn the_challenge_is_asked_again_after_an_hour_while_the_token_is_used() {
    let mut bench = Bench::settled();
    let (waited, output) = bench.pass_until_wanted();
    assert_eq!((waited, output), (CHALLENGE_LIFE, Output::AskChallenge));
    assert_eq!(bench.serial(), Some(1));
    bench.give(refusal(challenge()));
    assert_eq!(bench.keeper.poll_output(), None, "the same audience needs no other token");
    let (waited, _) = bench.pass_until_wanted();
    assert_eq!(waited, CHALLENGE_LIFE);
}

#[test]
fn a_challenge_with_another_realm_leads_to_another_token() {
    let mut bench = Bench::settled();
    bench.pass_until_wanted();
    let moved = vec![format!("Bearer client_id={ID}, realm=tenant, trusted_issuers=\"{ID}@fabrikam.com\"")];
    bench.give(refusal(moved));
    assert_eq!(bench.serial(), Some(1), "the old token is used until the new one is there");
    assert_eq!(bench.sign().aud, format!("{ID}/relay.example@tenant"));
    assert_eq!(bench.serial(), Some(2));
}

#[test]
fn a_token_is_renewed_when_a_third_of_its_life_is_left() {
    let mut bench = Bench::settled();
    let begin = bench.now.moment;
    let claims = loop {
        match bench.pass_until_wanted().1 {
            Output::AskChallenge => bench.give(refusal(challenge())),
            Output::Sign(claims) => break claims,
            Output::Exchange(request) => panic!("{request:?} of a token that is self-issued"),
        }
        assert_eq!(bench.serial(), Some(1));
    };
    // A minute of its life was over when it was signed.
    let waited = bench.now.moment.since(begin) + Duration::from_secs(40);
    assert!(
        waited >= Duration::from_hours(16) && waited < Duration::from_hours(16) + CLOCK_CHECK,
        "{waited:?}"
    );
    assert_eq!(bench.serial(), Some(1), "used while it is renewed");
    bench.give(Input::Signed(Ok(token(&claims))));
    assert_eq!(bench.serial(), Some(2));
}

#[test]
fn a_token_that_cannot_be_renewed_is_used_until_five_minutes_before_its_end() {
    let mut bench = Bench::settled();
    bench.pass(Duration::from_hours(24).saturating_sub(BACK_DATED + UNUSED_END + Duration::from_millis(1)));
    assert_eq!(bench.serial(), Some(1));
    bench.expect_question();
    bench.give(Input::Challenged(Err(String::from("no connection"))));
    assert_eq!(bench.serial(), Some(1));
    assert_eq!(bench.keeper.error(), Some(&Error::Unreachable(String::from("no connection"))));
    bench.pass(Duration::from_millis(1));
    assert!(matches!(bench.keeper.state(bench.now), TokenState::Failed { .. }));
}

#[test]
fn a_clock_that_jumps_ahead_past_the_end_is_noticed_within_a_minute() {
    let mut bench = Bench::settled();
    bench.now.unix = bench.now.unix.after(Duration::from_hours(30));
    assert!(matches!(bench.keeper.state(bench.now), TokenState::Waiting));
    let (waited, output) = bench.pass_until_wanted();
    assert!(waited <= CLOCK_CHECK && matches!(output, Output::Sign(_)), "{waited:?} {output:?}");
}

#[test]
fn a_clock_that_jumps_back_leads_to_a_token_of_now() {
    let mut bench = Bench::settled();
    bench.now.unix = UnixMs(bench.now.unix.0 - 3_600_000);
    let (waited, output) = bench.pass_until_wanted();
    let Output::Sign(claims) = output else { panic!("{output:?}") };
    assert!(waited <= CLOCK_CHECK && claims.signed_at().seconds() == bench.now.unix.seconds());
}

#[test]
fn a_rejected_token_is_replaced_by_one_for_the_challenge_it_was_rejected_with() {
    let mut bench = Bench::settled();
    bench.pass(Duration::from_mins(3));
    bench.give(Input::Rejected { serial: Some(1), www_authenticate: challenge() });
    assert!(matches!(bench.keeper.state(bench.now), TokenState::Waiting));
    assert_eq!(bench.sign().signed_at().seconds(), bench.now.unix.seconds());
    assert_eq!(bench.serial(), Some(2));
}

#[test]
fn a_rejection_without_a_usable_challenge_makes_it_ask() {
    for lines in [Vec::new(), vec![String::from("Basic realm=x")], vec![String::from("Bearer")]] {
        let mut bench = Bench::settled();
        bench.pass(Duration::from_mins(3));
        bench.give(Input::Rejected { serial: Some(1), www_authenticate: lines });
        bench.expect_question();
    }
}

#[test]
fn a_rejection_of_a_token_that_is_gone_already_changes_nothing() {
    let mut bench = Bench::settled();
    bench.pass(Duration::from_mins(3));
    for serial in [Some(0), Some(2), None] {
        bench.give(Input::Rejected { serial, www_authenticate: challenge() });
        assert_eq!((bench.serial(), bench.keeper.poll_output()), (Some(1), None), "{serial:?}");
    }
}

#[test]
fn between_two_attempts_lie_ten_seconds_even_where_each_token_is_rejected() {
    let mut bench = Bench::settled();
    let mut begun_at = Vec::new();
    for round in 1..=5 {
        bench.give(Input::Rejected { serial: Some(round), www_authenticate: challenge() });
        let (_, output) = bench.pass_until_wanted();
        begun_at.push(bench.now.moment);
        let Output::Sign(claims) = output else { panic!("{output:?}") };
        bench.give(Input::Signed(Ok(token(&claims))));
    }
    assert!(begun_at.windows(2).all(|pair| pair[1].since(pair[0]) >= ATTEMPT_GAP_MIN), "{begun_at:?}");
    assert!(begun_at[0].since(START.moment) >= ATTEMPT_GAP_MIN);
}

#[test]
fn failures_say_what_is_wrong_and_when_it_is_tried_again() {
    let cases = [
        (Input::Challenged(Err(String::from("timed out"))), "no challenge from the relay: timed out"),
        (status(403), "it answered 403 instead of 401"),
        (status(301), "it answered 301 instead of 401"),
        (status(401), "offers no Bearer challenge"),
        (refusal(trusting("00000001-0000-0000-c000-000000000000@*")), "the relay trusts 00000001-"),
        (refusal(vec![String::from("Bearer realm=x")]), "names no client_id"),
    ];
    for (input, expected) in cases {
        let mut bench = Bench::new();
        bench.expect_question();
        bench.give(input);
        let TokenState::Failed { error, .. } = bench.keeper.state(bench.now) else {
            panic!("no failure: {expected}")
        };
        assert!(error.to_string().contains(expected), "{error}");
        assert!(bench.retry_in() >= ATTEMPT_GAP_MIN && bench.retry_in() <= ATTEMPT_GAP_MAX);
        bench.pass_until_wanted();
        bench.give(refusal(challenge()));
        bench.sign();
        assert_eq!((bench.serial(), bench.keeper.error()), (Some(1), None), "{expected}");
    }
}

#[test]
fn a_key_that_does_not_sign_is_a_failure_that_passes() {
    let mut bench = Bench::new();
    bench.expect_question();
    bench.give(refusal(challenge()));
    assert!(matches!(bench.keeper.poll_output(), Some(Output::Sign(_))));
    bench.give(Input::Signed(Err(String::from("expired"))));
    assert_eq!(bench.keeper.error(), Some(&Error::Signing(String::from("expired"))));
    let (_, output) = bench.pass_until_wanted();
    assert!(matches!(output, Output::Sign(_)), "the challenge is still good: {output:?}");
}

#[test]
fn gaps_grow_with_failures_and_stay_under_a_minute() {
    let mut bench = Bench::new();
    let mut gaps = Vec::new();
    bench.expect_question();
    for _ in 0..20 {
        bench.give(Input::Challenged(Err(String::from("down"))));
        gaps.push(bench.retry_in());
        let (waited, output) = bench.pass_until_wanted();
        assert_eq!((Some(&waited), output), (gaps.last(), Output::AskChallenge));
    }
    assert!(gaps.iter().all(|gap| (ATTEMPT_GAP_MIN..=ATTEMPT_GAP_MAX).contains(gap)), "{gaps:?}");
    assert!(gaps[0] <= 2 * ATTEMPT_GAP_MIN, "{gaps:?}");
    assert!(gaps.iter().max() > Some(&(3 * ATTEMPT_GAP_MIN)), "{gaps:?}");
}

#[test]
fn a_wait_that_the_relay_asks_for_is_kept() {
    let mut bench = Bench::new();
    bench.expect_question();
    let asked_wait = Some(Duration::from_mins(20));
    bench.give(Input::Challenged(Ok(ChallengeAnswer {
        status: 503,
        asked_wait,
        ..ChallengeAnswer::default()
    })));
    assert_eq!(bench.retry_in(), Duration::from_mins(20));
}

#[test]
fn another_certificate_signs_anew_while_the_former_token_is_used() {
    let mut bench = Bench::settled();
    bench.pass(Duration::from_mins(3));
    bench.give(Input::CertificateChanged);
    assert_eq!(bench.serial(), Some(1));
    bench.sign();
    assert_eq!(bench.serial(), Some(2));
}

#[test]
fn a_certificate_that_changes_during_a_signature_leads_to_another_one() {
    let mut bench = Bench::new();
    bench.expect_question();
    bench.give(refusal(challenge()));
    bench.give(Input::CertificateChanged);
    bench.sign();
    assert_eq!(bench.serial(), Some(1), "better than none");
    let (waited, output) = bench.pass_until_wanted();
    assert!(waited <= ATTEMPT_GAP_MIN && matches!(output, Output::Sign(_)), "{waited:?} {output:?}");
}

#[test]
fn reports_of_what_was_not_asked_for_change_nothing() {
    let mut bench = Bench::settled();
    let audience = Audience::parse("a/b@c").unwrap();
    let own = settings().configured.own;
    let claims = Claims::self_issued(&own, &audience, false, Duration::from_hours(1), START.unix);
    bench.give(Input::Signed(Ok(token(&claims))));
    bench.give(status(200));
    bench.give(Input::Challenged(Err(String::from("late"))));
    assert_eq!((bench.serial(), bench.keeper.error()), (Some(1), None));
}

#[test]
fn debug_shows_nothing_of_the_token() {
    let bench = Bench::settled();
    let shown = format!("{:?} {:?}", bench.keeper, bench.keeper.state(bench.now));
    assert!(shown.contains("serial: 1") && !shown.contains("token from"), "{shown}");
}

fn any_input() -> impl Strategy<Value = (u64, u8, u64)> {
    (0..4_000_u64, 0..9_u8, 0..4_u64)
}

proptest! {
    /// Whatever comes in whatever order: one thing at a time, ten seconds between attempts, and in the end a
    /// token.
    #[test]
    fn it_gets_a_token_in_the_end(inputs in proptest::collection::vec(any_input(), 0..60), seed: u64) {
        let mut bench = Bench { keeper: Keeper::new(settings(), seed), now: START };
        let mut under_way = false;
        for (seconds, kind, serial) in inputs {
            bench.now = bench.now.after(Duration::from_secs(seconds));
            bench.give(match kind {
                0 => refusal(challenge()),
                1 => status(500),
                2 => Input::Challenged(Err(String::from("down"))),
                3 => Input::Signed(Err(String::from("no"))),
                4 => Input::Rejected { serial: Some(serial), www_authenticate: challenge() },
                5 => Input::Rejected { serial: None, www_authenticate: Vec::new() },
                6 => Input::CertificateChanged,
                7 => status(200),
                _ => Input::Wake,
            });
            under_way &= !matches!(kind, 0..=3 | 7);
            while bench.keeper.poll_output().is_some() {
                prop_assert!(!under_way, "two at a time");
                under_way = true;
            }
        }
        bench.give(refusal(challenge()));
        if let Some(Output::Sign(claims)) = bench.keeper.poll_output() {
            bench.give(Input::Signed(Ok(token(&claims))));
        }
        bench.give(Input::Signed(Err(String::from("whatever was under way is done"))));
        bench.give(status(500));
        for _ in 0..50 {
            if bench.serial().is_some() {
                return Ok(());
            }
            match bench.pass_until_wanted().1 {
                Output::AskChallenge => bench.give(refusal(challenge())),
                Output::Sign(claims) => bench.give(Input::Signed(Ok(token(&claims)))),
                Output::Exchange(request) => panic!("{request:?} of a token that is self-issued"),
            }
        }
        prop_assert!(bench.serial().is_some(), "no token after 50 attempts");
    }
}
