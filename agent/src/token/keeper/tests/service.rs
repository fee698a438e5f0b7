//! Tokens of a token service: challenge, assertion, exchange; what goes on while it is down.

use super::*;
use crate::https::url::Url;
use crate::identity::metadata::TokenService;
use crate::token::choice::AuthServer;
use crate::token::exchange::Cause;

const STS: &str = "00000001-0000-0000-c000-000000000000";
const TENANT: &str = "11111111-2222-3333-4444-555555555555";

fn service(endpoint: &str) -> Configured {
    let endpoint = Arc::new(Url::parse(endpoint).unwrap());
    let service = TokenService { principal: Principal::new(STS, TENANT), endpoint };
    let auth_servers = vec![AuthServer { name: String::from("MicrosoftSts"), service: Ok(service) }];
    Configured { auth_servers, ..settings().configured }
}

fn asked_of_service() -> Input {
    refusal(trusting(&format!("{STS}@*")))
}

fn answer(status: u16, content: &str) -> Input {
    let content = bytes::Bytes::copy_from_slice(content.as_bytes());
    Input::Exchanged(Ok(Response { status, content, ..Response::default() }))
}

fn issued() -> Input {
    answer(200, r#"{"access_token":"issued","token_type":"Bearer","expires_in":"86400"}"#)
}

impl Bench {
    /// Before anything; the challenge will name the token service.
    fn of_service() -> Self {
        let configured = service("https://sts.example:8443/T/tokens/OAuth/2");
        let settings = Settings { configured, ..settings() };
        let mut bench = Self { keeper: Keeper::new(settings, 7), now: START };
        bench.give(Input::Wake);
        bench.expect_question();
        bench
    }

    /// With a token of the token service at hand.
    fn served() -> Self {
        let mut bench = Self::of_service();
        bench.give(asked_of_service());
        bench.sign();
        bench.request();
        bench.give(issued());
        assert_eq!(bench.serial(), Some(1));
        bench
    }

    fn request(&mut self) -> TokenRequest {
        match self.keeper.poll_output() {
            Some(Output::Exchange(request)) => *request,
            other => panic!("{other:?} is no request"),
        }
    }

    /// Goes on for `span`: challenge and signature work, the token service answers with `answer`. How often it was
    /// asked, and how long no token was good.
    fn live(&mut self, span: Duration, answer: impl Fn() -> Input) -> (usize, Duration) {
        let end = self.now.moment.after(span);
        let (mut asked, mut without) = (0, Duration::ZERO);
        while self.now.moment < end {
            while let Some(output) = self.keeper.poll_output() {
                match output {
                    Output::AskChallenge => self.give(asked_of_service()),
                    Output::Sign(claims) => self.give(Input::Signed(Ok(token(&claims)))),
                    Output::Exchange(_) => {
                        asked += 1;
                        self.give(answer());
                    }
                }
            }
            let step = self.keeper.poll_timeout().expect("something is due").since(self.now.moment);
            let step = step.clamp(Duration::from_secs(1), Duration::from_mins(1));
            without += if self.serial().is_none() { step } else { Duration::ZERO };
            self.pass(step);
        }
        (asked, without)
    }
}

#[test]
fn a_listed_token_service_is_asked_with_an_assertion() {
    let mut bench = Bench::of_service();
    bench.give(asked_of_service());
    let claims = bench.sign();
    assert_eq!(claims.iss, format!("{ID}@{TENANT}"));
    assert_eq!(claims.aud, format!("{STS}/sts.example:8443@{TENANT}"));
    assert_eq!((claims.exp - claims.nbf, claims.nameid, claims.trustedfordelegation), (600, None, None));
    let request = bench.request();
    assert_eq!(request.resource.to_string(), format!("{ID}/relay.example@{TENANT}"));
    assert_eq!(request.endpoint.to_string(), "https://sts.example:8443/T/tokens/OAuth/2");
    assert_eq!(
        (bench.serial(), bench.keeper.poll_timeout()),
        (None, None),
        "nothing to wait for but the answer"
    );
    bench.give(issued());
    assert_eq!(bench.serial(), Some(1));
    assert_eq!(bench.keeper.service_of(1), Some("MicrosoftSts"));
}

#[test]
fn a_refusal_says_what_is_wrong_and_the_wait_it_asks_for_is_kept() {
    let mut bench = Bench::of_service();
    bench.give(asked_of_service());
    bench.sign();
    bench.request();
    let mut headers = hyper::HeaderMap::new();
    headers.insert("retry-after", "600".parse().unwrap());
    bench.give(Input::Exchanged(Ok(Response { status: 503, headers, ..Response::default() })));
    let Some(Error::ServiceRefused { service, refusal }) = bench.keeper.error() else { panic!("no refusal") };
    assert_eq!((service.as_str(), refusal.cause), ("MicrosoftSts", Cause::Unavailable));
    assert_eq!(bench.retry_in(), Duration::from_mins(10));
    let (_, output) = bench.pass_until_wanted();
    assert!(matches!(output, Output::Sign(_)), "the challenge is still good: {output:?}");
}

#[test]
fn refusals_that_differ_in_dates_alone_are_alike() {
    let refused = |status, content: &str| {
        let mut bench = Bench::of_service();
        bench.give(asked_of_service());
        bench.sign();
        bench.request();
        bench.give(answer(status, content));
        bench.keeper.error().cloned().unwrap()
    };
    let dated =
        |date| refused(401, &format!(r#"{{"error":"invalid_client","error_description":"at {date}"}}"#));
    assert!(dated("11:55").is_like(&dated("11:56")));
    assert!(!dated("11:55").is_like(&refused(503, "")) && !dated("11:55").is_like(&Error::NoChallenge));
}

#[test]
fn a_token_service_that_is_not_there_is_named() {
    let mut bench = Bench::of_service();
    bench.give(asked_of_service());
    bench.sign();
    bench.request();
    bench.give(Input::Exchanged(Err(Failure::Connect(String::from("refused")))));
    let error = bench.keeper.error().unwrap().to_string();
    assert_eq!(error, "token service MicrosoftSts (sts.example:8443): no connection: refused");
}

#[test]
fn an_hour_without_the_token_service_is_not_noticed_while_the_token_is_good() {
    let down = || Input::Exchanged(Err(Failure::Timeout(String::from("down"))));
    let mut bench = Bench::served();
    let (_, without) = bench.live(Duration::from_hours(16) + Duration::from_mins(5), issued);
    assert_eq!(without, Duration::ZERO);
    let mut bench = Bench::served();
    bench.live(Duration::from_hours(16).saturating_sub(Duration::from_mins(30)), issued);
    let (asked, without) = bench.live(Duration::from_hours(1), down);
    assert_eq!(without, Duration::ZERO);
    assert!((20..=180).contains(&asked), "asked {asked} times within half an hour");
    bench.live(Duration::from_mins(2), issued);
    assert_eq!((bench.serial(), bench.keeper.error()), (Some(2), None));
}

#[test]
fn with_an_expired_token_an_hour_without_the_token_service_is_told_and_passes() {
    let down = || answer(500, "");
    let mut bench = Bench::served();
    bench.live(Duration::from_hours(24), down);
    let (asked, without) = bench.live(Duration::from_hours(1), down);
    assert!(without > Duration::from_mins(58), "{without:?}");
    assert!((60..=360).contains(&asked), "asked {asked} times");
    let TokenState::Failed { error, .. } = bench.keeper.state(bench.now) else { panic!("not failed") };
    assert!(error.to_string().starts_with("token service MicrosoftSts answered 500"), "{error}");
    let (_, without) = bench.live(Duration::from_mins(2), issued);
    assert!(bench.serial().is_some() && without <= ATTEMPT_GAP_MAX, "{without:?}");
}

#[test]
fn another_endpoint_is_asked_for_another_token_while_the_former_one_is_used() {
    let mut bench = Bench::served();
    bench.pass(Duration::from_mins(1));
    bench.give(Input::Configured(Box::new(service("https://sts.example:8443/T/tokens/OAuth/2"))));
    assert!(bench.keeper.poll_output().is_none(), "the same as before");
    bench.give(Input::Configured(Box::new(service("https://other.example/T"))));
    bench.expect_question();
    bench.give(asked_of_service());
    assert_eq!(bench.serial(), Some(1));
    bench.sign();
    assert_eq!(bench.request().endpoint.to_string(), "https://other.example/T");
    bench.give(issued());
    assert_eq!(bench.serial(), Some(2));
}

#[test]
fn a_document_that_arrives_later_leads_to_a_token() {
    let mut bench = Bench::new();
    bench.expect_question();
    bench.give(asked_of_service());
    assert!(bench.keeper.error().is_some_and(Error::may_be_cured_by_documents));
    bench.give(Input::Configured(Box::new(service("https://sts.example/T"))));
    let (waited, _) = bench.pass_until_wanted();
    assert!(waited <= ATTEMPT_GAP_MIN, "{waited:?}");
    bench.give(asked_of_service());
    bench.sign();
    bench.request();
    bench.give(issued());
    assert_eq!(bench.serial(), Some(1));
}

#[test]
fn another_name_of_our_own_is_signed_for_at_once() {
    let mut bench = Bench::settled();
    bench.pass(Duration::from_mins(1));
    let own = Principal::new("another", "fabrikam.com");
    bench.give(Input::Configured(Box::new(Configured { own, ..settings().configured })));
    bench.expect_question();
    bench.give(refusal(trusting("another@fabrikam.com")));
    assert_eq!(bench.serial(), Some(1));
    assert_eq!(bench.sign().iss, "another@fabrikam.com");
    assert_eq!(bench.serial(), Some(2));
}

#[test]
fn debug_shows_nothing_of_assertion_and_token() {
    let mut bench = Bench::of_service();
    bench.give(asked_of_service());
    bench.sign();
    let output = bench.keeper.poll_output();
    let shown = format!("{output:?} {:?} {:?}", issued(), bench.keeper);
    assert!(!shown.contains("token from") && !shown.contains("issued"), "{shown}");
}

proptest! {
    /// Whatever a token service does in whatever order: one thing at a time, and in the end a token.
    #[test]
    fn it_gets_a_token_of_the_service_in_the_end(
        inputs in proptest::collection::vec((0..4000_u64, 0..8_u8), 0..60),
        seed: u64,
    ) {
        let configured = service("https://sts.example/T");
        let settings = Settings { configured, ..settings() };
        let mut bench = Bench { keeper: Keeper::new(settings, seed), now: START };
        for (seconds, kind) in inputs {
            bench.pass(Duration::from_secs(seconds));
            let under_way = bench.keeper.poll_output();
            prop_assert!(bench.keeper.poll_output().is_none(), "two at a time");
            match (under_way, kind) {
                (None, 7) => bench.give(Input::CertificateChanged),
                (Some(_), 0) => bench.give(Input::Configured(Box::new(service("https://b.example/T")))),
                (Some(Output::AskChallenge), 1) => bench.give(status(500)),
                (Some(Output::AskChallenge), _) => bench.give(asked_of_service()),
                (Some(Output::Sign(_)), 1) => bench.give(Input::Signed(Err(String::from("no")))),
                (Some(Output::Sign(claims)), _) => bench.give(Input::Signed(Ok(token(&claims)))),
                (Some(Output::Exchange(_)), 1..=3) => bench.give(answer(400, "{}")),
                (Some(Output::Exchange(_)) | None, _) => bench.give(issued()),
            }
        }
        // Whatever is under way is answered.
        bench.give(status(500));
        bench.give(Input::Signed(Err(String::new())));
        bench.give(answer(500, ""));
        bench.keeper.poll_output();
        bench.give(status(500));
        bench.give(Input::Signed(Err(String::new())));
        let (_, _) = bench.live(Duration::from_mins(5), issued);
        prop_assert!(bench.serial().is_some(), "{:?}", bench.keeper);
    }
}
