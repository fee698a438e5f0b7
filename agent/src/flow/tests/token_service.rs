//! The flow with a token service between: one request for all, documents read when they are missed, and an hour's
//! outage.

use super::*;
use crate::https::url::Url;
use crate::identity::metadata::TokenService;
use crate::token::choice::AuthServer;

const ASKS_SERVICE: &str =
    r#"Bearer client_id="00000002-0000-0ff1-ce00-000000000000", trusted_issuers="sts@*""#;

/// What was asked for, and how often.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    challenges: usize,
    signatures: usize,
    tokens: usize,
    documents: usize,
    posts: usize,
}

fn service() -> Configured {
    let endpoint = Arc::new(Url::parse("https://sts.example/T").unwrap());
    let service = TokenService { principal: Principal::new("sts", "tenant"), endpoint };
    configured(Ok(service))
}

fn configured(service: Result<TokenService, String>) -> Configured {
    Configured {
        own: Principal::new("own", "fabrikam.com"),
        organization: "fabrikam.com".to_owned(),
        relay_authority: "relay.example".to_owned(),
        auth_servers: vec![AuthServer { name: "sts".to_owned(), service }],
        partners: Vec::new(),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "stands beside failures")]
fn issued() -> Result<Response, Failure> {
    let content = r#"{"access_token":"issued","expires_in":"86400"}"#;
    Ok(Response { status: 200, content: content.into(), ..Response::default() })
}

impl Bench {
    fn of_service(configured: Configured, fetched_at: Option<UnixMs>) -> Self {
        let mut bench = Self::new();
        let settings =
            keeper::Settings { configured, may_delegate: false, lifetime: Duration::from_hours(24) };
        let known = Known { name: "sts".to_owned(), url: "https://sts.example/m".to_owned(), fetched_at };
        bench.flow.handle(Input::TokenServices(vec![known]), bench.now);
        bench.flow.handle(Input::Relay(Some(settings)), bench.now);
        bench
    }

    /// Does all there is to do now. The relay asks for a token of the service, and takes it; documents cannot be
    /// read.
    fn run(&mut self, asked: &mut Asked, exchange: impl Fn() -> Result<Response, Failure>) {
        while let Some(output) = self.flow.poll_output(self.now) {
            let input = match output {
                Output::AskChallenge => {
                    asked.challenges += 1;
                    let www_authenticate = vec![ASKS_SERVICE.to_owned()];
                    Input::Challenged(Ok(Answer { status: 401, www_authenticate, ..Answer::default() }))
                }
                Output::Sign(claims) => {
                    asked.signatures += 1;
                    let token = Arc::new(SecretString::from("assertion"));
                    Input::Signed(Ok(SignedToken { token, expires: claims.expires() }))
                }
                Output::Exchange(_) => {
                    asked.tokens += 1;
                    Input::Exchanged(exchange())
                }
                Output::Fetch(Fetch { name, .. }) => {
                    asked.documents += 1;
                    Input::Fetched { name, is_good: false }
                }
                Output::Post(post) => {
                    asked.posts += 1;
                    Input::Answered { attempt: post.attempt, outcome: Ok(answer(200)) }
                }
                Output::Forget { .. } => continue,
            };
            self.flow.handle(input, self.now);
        }
    }

    /// Goes on for `span`, from timer to timer.
    fn live(&mut self, span: Duration, asked: &mut Asked, exchange: impl Fn() -> Result<Response, Failure>) {
        let end = self.now.moment.after(span);
        while self.now.moment < end {
            self.run(asked, &exchange);
            let due = self.flow.poll_timeout(self.now).unwrap_or(end).min(end);
            self.later(due.since(self.now.moment).max(Duration::from_millis(1)));
        }
    }
}

#[test]
fn a_thousand_first_requests_cause_one_token_request() {
    let mut bench = Bench::of_service(service(), Some(UnixMs(1_795_420_800_000)));
    for number in 2..=1000_u32 {
        let mailbox = bench.tracker.enroll(&format!("u{number}")).unwrap();
        let recipient = Recipient {
            key: SubscriptionKey(i64::from(number) + 1),
            app_id: "com.microsoft.exchange.mowa".to_owned().into(),
            device_id: format!("reg-{number}").into(),
            installation_id: None,
            last_update: UnixMs(0),
            expires_at: UnixMs(u64::MAX),
            background_sync: false,
        };
        bench.tracker.subscribe(mailbox, recipient, Some(0), bench.now);
        let reading = Reading { unseen: 3, uid_validity: None, modseq: None, asked_at: None };
        bench.tracker.observe(mailbox, SourceId(0), News::Reading(reading), bench.now);
    }
    bench.count(3);
    assert_eq!(bench.tracker.ready(), 1000);
    let mut asked = Asked::default();
    bench.live(Duration::from_secs(30), &mut asked, issued);
    assert_eq!(asked, Asked { challenges: 1, signatures: 1, tokens: 1, documents: 0, posts: 4 });
    assert!(bench.flow.is_idle());
}

#[test]
fn counts_wait_for_a_token_service_that_is_down_and_converge_afterwards() {
    let mut bench = Bench::of_service(service(), Some(UnixMs(1_795_420_800_000)));
    let mut asked = Asked::default();
    for unseen in 1..=60 {
        bench.count(unseen);
        bench.live(Duration::from_mins(1), &mut asked, || Err(Failure::Timeout("down".to_owned())));
    }
    assert_eq!((asked.posts, bench.tracker.ready()), (0, 1));
    assert!((60..=360).contains(&asked.tokens), "{asked:?}");
    let Some(TokenState::Failed { error, .. }) = bench.flow.token(bench.now) else { panic!("not failed") };
    assert_eq!(error.to_string(), "token service sts (sts.example): timed out: down");
    bench.live(Duration::from_mins(1), &mut asked, issued);
    assert_eq!((asked.posts, bench.flow.counters.acknowledged.get()), (1, 1));
    assert!(bench.flow.is_idle());
}

#[test]
fn an_outage_is_not_noticed_while_the_token_is_good() {
    let mut bench = Bench::of_service(service(), Some(UnixMs(1_795_420_800_000)));
    let mut asked = Asked::default();
    bench.live(Duration::from_hours(15), &mut asked, issued);
    assert_eq!(asked.tokens, 1);
    let before = asked.posts;
    for unseen in 1..=120 {
        bench.count(unseen);
        bench.live(Duration::from_mins(1), &mut asked, || Err(Failure::Connect("down".to_owned())));
    }
    assert_eq!(asked.posts - before, 120, "each count left");
    assert!(asked.tokens > 30, "renewal was tried: {asked:?}");
    assert!(matches!(bench.flow.token(bench.now), Some(TokenState::Valid { .. })));
}

#[test]
fn a_document_is_read_when_a_challenge_cannot_be_met_without() {
    let mut bench = Bench::of_service(configured(Err("never read".to_owned())), None);
    let mut asked = Asked::default();
    bench.count(3);
    bench.run(&mut asked, issued);
    assert_eq!((asked.documents, asked.posts), (1, 0));
    bench.flow.handle(Input::Fetched { name: "sts".to_owned(), is_good: true }, bench.now);
    bench.flow.handle(Input::Configured(Box::new(service())), bench.now);
    bench.live(Duration::from_secs(11), &mut asked, issued);
    assert_eq!((asked.documents, asked.tokens, asked.posts), (1, 1, 1));
}

#[test]
fn with_direct_trust_no_token_service_is_spoken_to() {
    let mut bench = Bench::of_service(configured(Err("never read".to_owned())), None);
    bench.count(3);
    let post = bench.post().unwrap();
    bench.answer(&post, Ok(answer(200)));
    bench.later(Duration::from_hours(15));
    assert!(bench.post().is_none());
    let mut asked = Asked::default();
    bench.run(&mut asked, issued);
    assert_eq!(asked.documents, 0);
}

#[test]
fn a_bad_signature_has_the_document_read_again_but_nothing_else_does() {
    let refusals = [
        (Some("2000000;reason=\"x\""), 1),
        (None, 1),
        (Some("2000002;reason=\"x\""), 0),
        (Some("2000001;reason=\"x\""), 0),
    ];
    for (diagnostics, expected) in refusals {
        let mut bench = Bench::of_service(service(), Some(UnixMs(1_795_420_800_000)));
        let mut asked = Asked::default();
        bench.run(&mut asked, issued);
        bench.count(3);
        let Some(Output::Post(post)) = bench.flow.poll_output(bench.now) else { panic!("no batch") };
        let refused = Answer {
            status: 401,
            www_authenticate: vec![ASKS_SERVICE.to_owned()],
            diagnostics: diagnostics.map(str::to_owned),
            ..Answer::default()
        };
        bench.answer(&post, Ok(refused));
        bench.live(Duration::from_secs(11), &mut asked, issued);
        assert_eq!((asked.documents, asked.tokens, asked.posts), (expected, 2, 1), "{diagnostics:?}");
    }
}
