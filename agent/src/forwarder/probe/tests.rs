//! Every outcome of a probe with the component it is put down to and what it tells a person to do.

use super::*;
use crate::https::NO_AUTHORITY;
use crate::identity::certificate::Certificate;
use crate::identity::key::PrivateKey;
use crate::identity::principal::Principal;
use crate::time::Moment;
use crate::token::choice::Configured;
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use std::time::Duration;

const ID: &str = "00000002-0000-0ff1-ce00-000000000000";
const NOW: Now = Now { moment: Moment::START, unix: UnixMs(1_767_268_800_000) };

fn probe() -> Probe {
    let certificate =
        Certificate::from_pem(include_str!("../../../../fixtures/certificates/agent.cert.pem"), "").unwrap();
    let key = PrivateKey::from_pem(include_str!("../../../../fixtures/certificates/agent.key.pem")).unwrap();
    let url = RelayUrl::parse("https://relay.example:8443/PushNotifications").unwrap();
    let configured = Configured {
        own: Principal::new(ID, "fabrikam.com"),
        organization: String::from("fabrikam.com"),
        relay_authority: url.authority(),
        auth_servers: Vec::new(),
        partners: Vec::new(),
    };
    Probe {
        url: Arc::new(url),
        request_id: Uuid::from_u128(7),
        token: keeper::Settings { configured, may_delegate: false, lifetime: Duration::from_hours(24) },
        signer: Signer::new(certificate, key),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "stands among failures in tables")]
fn status(status: u16) -> Result<Answer, Failure> {
    Ok(Answer { status, ..Answer::default() })
}

#[expect(clippy::unnecessary_wraps, reason = "stands among failures in tables")]
fn challenge() -> Result<Answer, Failure> {
    let line = format!("Bearer client_id={ID}, trusted_issuers=\"{ID}@fabrikam.com\"");
    Ok(Answer { status: 401, www_authenticate: vec![line], ..Answer::default() })
}

fn refusal(diagnostics: &str) -> Result<Answer, Failure> {
    let diagnostics = Some(format!("{diagnostics};reason=\"why\";error_category=\"x\""));
    challenge().map(|answer| Answer { diagnostics, ..answer })
}

/// Runs `probe` against a relay that gives these answers one after the other; the posts that it got.
fn run(probe: &Probe, answers: Vec<Result<Answer, Failure>>) -> (ProbeReport, Vec<Post>) {
    let left = Mutex::new(answers.into_iter());
    let posts = Mutex::new(Vec::new());
    let post = async |post: Post| {
        posts.lock().push(post);
        left.lock().next().expect("no more posts than answers")
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let exchange = async |_| unreachable!("no token service is configured");
    let report = runtime.block_on(probe.run(post, exchange, || NOW));
    (report, posts.into_inner())
}

#[test]
fn a_probe_asks_signs_and_posts_what_the_protocol_says() {
    let (report, posts) = run(&probe(), vec![challenge(), status(200)]);
    assert_eq!((report.result_type(), report.error().as_str(), report.exception()), ("Succeeded", "", ""));
    let [asked, posted] = &posts[..] else { panic!("{posts:?}") };
    assert!(matches!(asked.bearer, Bearer::Empty) && asked.body == EMPTY_BATCH && asked.is_probe);
    let Bearer::Token(token) = &posted.bearer else { panic!("no token") };
    assert_eq!(token.expose_secret().split('.').count(), 3);
    assert!(posted.is_probe && posted.body == wire::probe(&Stamp::new(NOW.unix), NOW.unix));
}

#[test]
fn an_open_relay_gets_a_probe_without_a_token() {
    let (report, posts) = run(&probe(), vec![status(200), status(204)]);
    assert_eq!(report.result_type(), "Succeeded");
    assert!(posts.iter().all(|post| matches!(post.bearer, Bearer::Empty)));
}

#[test]
fn every_failure_names_its_component_and_what_to_do() {
    use Component::{Authentication, Networking, Relay, Trust};
    let text = |text: &str| String::from(text);
    let tls =
        |words: &str| vec![Err(Failure::Tls(format!("192.0.2.1:8443: invalid peer certificate: {words}")))];
    let stranger = "Bearer client_id=x, trusted_issuers=\"00000001-0000-0000-c000-000000000000@*\"";
    let stranger = Answer { status: 401, www_authenticate: vec![text(stranger)], ..Answer::default() };
    let cases = [
        (
            vec![Err(Failure::Dns(text("x")))],
            Networking,
            "the relay, relay.example, in `mailbadge proxy show`",
        ),
        (vec![Err(Failure::Connect(text("x")))], Networking, "relay.example port 8443: firewall"),
        (vec![Err(Failure::Timeout(text("x")))], Networking, "does not answer in time"),
        (vec![challenge(), Err(Failure::Timeout(text("x")))], Networking, "does not answer in time"),
        (tls("UnknownIssuer"), Trust, "into relay.ca-file"),
        (tls("BadSignature"), Trust, "into relay.ca-file"),
        (tls("certificate not valid for name \"x\""), Trust, "is for another name"),
        (tls("certificate expired: verification time"), Trust, "this machine's clock"),
        (vec![Err(Failure::Tls(format!("{NO_AUTHORITY}: none")))], Trust, "the system's CA certificates"),
        (tls("BadEncoding"), Trust, "intercepts TLS"),
        (vec![Err(Failure::Closed(text("x")))], Relay, "the log of the relay"),
        (vec![Err(Failure::Read(text("x")))], Relay, "the log of the relay"),
        (vec![status(404)], Relay, "check the Uri"),
        (vec![status(403)], Authentication, "before it even asks"),
        (vec![status(401)], Authentication, "do not agree on whose tokens"),
        (vec![Ok(stranger)], Authentication, "do not agree on whose tokens"),
        (vec![challenge(), refusal("2000000")], Authentication, "mailbadge certificate export"),
        (vec![challenge(), refusal("2000001")], Authentication, "auth.realm"),
        (vec![challenge(), refusal("2000002")], Authentication, "clocks"),
        (vec![challenge(), refusal("2000003")], Authentication, "relay.example:8443"),
        (vec![challenge(), refusal("2000004")], Authentication, "organization fabrikam.com"),
        (vec![challenge(), challenge()], Authentication, "auth.realm"),
        (vec![challenge(), status(403)], Authentication, "forbids"),
        (vec![challenge(), status(302)], Relay, "redirects"),
        (vec![challenge(), status(404)], Relay, "There is no relay at https://relay.example:8443/"),
        (vec![challenge(), status(503)], Relay, "try again later"),
        (vec![challenge(), status(500)], Relay, "its log"),
    ];
    for (answers, component, advice) in cases {
        let shown = format!("{answers:?}");
        let (report, _) = run(&probe(), answers);
        let trouble = report.trouble.as_ref().unwrap_or_else(|| panic!("{shown} succeeded"));
        assert_eq!(trouble.component, component, "{shown}");
        assert!(trouble.advice.contains(advice), "{shown}: {}", trouble.advice);
        assert!(report.error().starts_with(&format!("{component}: ")) && !report.exception().is_empty());
        assert_eq!(report.result_type(), "Failed");
    }
}

#[test]
fn what_the_relay_offers_and_what_is_configured_are_both_named() {
    let line = String::from("Bearer client_id=x, trusted_issuers=\"00000001-0000-0000-c000-000000000000@*\"");
    let (report, _) =
        run(&probe(), vec![Ok(Answer { status: 401, www_authenticate: vec![line], ..Answer::default() })]);
    let named = report.exception();
    assert!(
        named.contains("00000001-0000-0000-c000-000000000000@*") && named.contains("@fabrikam.com"),
        "{named}"
    );
}

#[test]
fn clocks_that_differ_by_more_than_two_minutes_are_named() {
    for (seconds, expected) in [
        (0, None),
        (120, None),
        (-120, None),
        (121, Some("2 min ahead of")),
        (600, Some("10 min ahead of")),
        (-601, Some("10 min behind")),
    ] {
        let date = UnixMs(NOW.unix.0.saturating_add_signed(seconds * 1000));
        let dated =
            |answer: Result<Answer, Failure>| answer.map(|answer| Answer { date: Some(date), ..answer });
        let (failed, _) = run(&probe(), vec![dated(challenge()), dated(refusal("2000002"))]);
        let (succeeded, _) = run(&probe(), vec![dated(challenge()), dated(status(200))]);
        for report in [failed, succeeded] {
            assert_eq!(report.clock_offset_ms, Some(seconds * 1000));
            let advice = report.clock_advice();
            assert_eq!(advice.is_some(), expected.is_some(), "{seconds}: {advice:?}");
            assert!(report.error().contains(expected.unwrap_or_default()), "{}", report.error());
        }
    }
}

#[test]
fn an_expired_certificate_is_a_matter_of_configuration() {
    let mut probe = probe();
    let expired =
        Certificate::from_pem(include_str!("../../../../fixtures/certificates/expired.cert.pem"), "")
            .unwrap();
    let key =
        PrivateKey::from_pem(include_str!("../../../../fixtures/certificates/expired.key.pem")).unwrap();
    probe.signer = Signer::new(expired, key);
    let (report, posts) = run(&probe, vec![challenge()]);
    assert_eq!(report.trouble.as_ref().unwrap().component, Component::Configuration);
    assert!(report.exception().contains("has expired on"), "{}", report.exception());
    assert_eq!(posts.len(), 1);
}

#[test]
fn what_cannot_be_tried_is_a_matter_of_configuration() {
    let report = ProbeReport::configuration(&RelayUrl::parse("ftp://x").unwrap_err());
    assert!(report.error().starts_with("Configuration: "));
    assert!(report.exception().contains("proxy enable --uri"));
}
