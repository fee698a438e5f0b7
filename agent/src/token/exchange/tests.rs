//! The request as bytes, and every kind of answer with what it means.

use super::*;
use crate::identity::certificate::Certificate;
use crate::identity::key::PrivateKey;
use crate::identity::principal::Principal;
use crate::token::claims::{BACK_DATED, Claims};
use crate::token::signer::Signer;
use bytes::Bytes;
use hyper::HeaderMap;
use proptest::prelude::*;
use serde_json::Value;

const NOW: UnixMs = UnixMs(1_795_420_800_000);
const TENANT: &str = "11111111-2222-3333-4444-555555555555";

fn answer(status: u16, content: &str) -> Response {
    let content = Bytes::copy_from_slice(content.as_bytes());
    Response { status, headers: HeaderMap::new(), content, is_cut: false }
}

fn dated(mut answer: Response, name: &'static str, value: &str) -> Response {
    answer.headers.insert(name, value.parse().unwrap());
    answer
}

/// The first case of the vectors is the assertion that we make, bit by bit.
#[test]
fn an_assertion_is_what_an_independent_program_makes_of_the_protocol() {
    let pem = |name: &str| match name {
        "certificate" => include_str!("../../../../fixtures/certificates/agent.cert.pem"),
        _ => include_str!("../../../../fixtures/certificates/agent.key.pem"),
    };
    let key = PrivateKey::from_pem(pem("key")).unwrap();
    let signer = Signer::new(Certificate::from_pem(pem("certificate"), "").unwrap(), key);
    let own = Principal::new("00000002-0000-0ff1-ce00-000000000000", TENANT);
    let audience = Audience::parse(&format!("00000001-0000-0000-c000-000000000000/sts.example@{TENANT}"));
    let signed_at = NOW.after(BACK_DATED);
    let assertion = signer.sign(&Claims::assertion(&own, &audience.unwrap(), signed_at)).unwrap();
    let vectors = include_str!("../../../../fixtures/tokens/token_service.json");
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    assert_eq!(vectors["cases"][0]["assertion"], assertion.token.expose_secret());
}

#[test]
fn a_request_is_the_form_of_the_protocol() {
    let assertion = SignedToken { token: Arc::new(SecretString::from("a.b-_.c+/=")), expires: NOW };
    let request = TokenRequest {
        service: String::from("sts"),
        endpoint: Arc::new(Url::parse("https://sts.example/T/tokens/OAuth/2").unwrap()),
        resource: Audience::parse("id/relay.example:8443@fabrikam.com").unwrap(),
        assertion,
    };
    let expected = "grant_type=http%3A%2F%2Foauth.net%2Fgrant_type%2Fjwt%2F1.0%2Fbearer&assertion=a.b-_.c%2B%2F%3D\
                    &resource=id%2Frelay.example%3A8443%40fabrikam.com";
    assert_eq!(request.form().expose_secret(), expected);
    assert!(!format!("{request:?}").contains("a.b"));
}

#[test]
fn a_token_lives_as_long_as_the_answer_says() {
    let cases = [
        (r#"{"access_token":"t","token_type":"Bearer","expires_in":"86399"}"#, Ok(86_399)),
        (r#"{"access_token":"t","expires_in":3600}"#, Ok(3600)),
        (r#"{"access_token":"t","expires_in":" 60 ","expires_on":"1795420860"}"#, Ok(60)),
        // The service's clock is 222 s behind ours, then so far behind that nothing is left, then ahead.
        (r#"{"access_token":"t","expires_in":600,"expires_on":1795421178}"#, Ok(378)),
        (r#"{"access_token":"t","expires_in":600,"expires_on":"1"}"#, Ok(30)),
        (r#"{"access_token":"t","expires_in":600,"expires_on":1795421700}"#, Ok(600)),
        (r#"{"access_token":"t","expires_on":"1795420860"}"#, Ok(60)),
        (r#"{"access_token":"t","expires_in":99999999999999999999,"expires_on":1795420860}"#, Ok(60)),
        (r#"{"access_token":"t","expires_in":18446744073709551615}"#, Ok(7 * 86_400)),
        (r#"{"access_token":"t","expires_in":0}"#, Ok(300)),
        (r#"{"access_token":"t","expires_in":"-5"}"#, Ok(300)),
        (r#"{"access_token":"t"}"#, Ok(300)),
        (r#"{"access_token":"t","expires_on":"2026-01-01","token_type":null}"#, Ok(300)),
        (r#"{"x":[{}],"ACCESS_TOKEN":"t","Expires_In":60.0,"token_type":" bearer "}"#, Ok(60)),
        ("\u{feff}{\"scope\":UNQUOTED,\"access_token\":\"t\",\"expires_in\":60}", Ok(60)),
        (r#"{"access_token":"t","expires_on":1}"#, Ok(30)),
        (r#"{"access_token":"t","token_type":"mac","expires_in":60}"#, Err("token_type")),
        (r#"{"access_token":"","expires_in":60}"#, Err("no access_token")),
        (r#"{"access_token":"a\r\nb","expires_in":60}"#, Err("no access_token")),
        (r#"{"access_token":["t"],"expires_in":60}"#, Err("no access_token")),
        ("<html>", Err("no access_token")),
        ("", Err("no access_token")),
    ];
    for (content, expected) in cases {
        match (read(&answer(200, content), NOW), expected) {
            (Ok(token), Ok(seconds)) => assert_eq!(token.expires, NOW.after(Duration::from_secs(seconds))),
            (Err(refusal), Err(expected)) => {
                assert_eq!(refusal.cause, Cause::Answer);
                assert!(refusal.words.contains(expected), "{content}: {refusal}");
            }
            (read, _) => panic!("{content}: {read:?}"),
        }
    }
    let long = format!(r#"{{"access_token":"{}","expires_in":60}}"#, "x".repeat(TOKEN_BYTES_MAX + 1));
    assert_eq!(read(&answer(200, &long), NOW).unwrap_err().cause, Cause::Answer);
}

#[test]
fn every_refusal_says_what_is_wrong() {
    let cases = [
        (401, "invalid_client", "AADSTS700027: the key was not found", Cause::Certificate, "register it"),
        (401, "invalid_client", "", Cause::Certificate, "register it"),
        (
            400,
            "invalid_client",
            "AADSTS700016: Application not found",
            Cause::Application,
            "auth.application-id",
        ),
        (400, "unauthorized_client", "", Cause::Application, "auth.application-id"),
        (400, "invalid_grant", "the assertion has expired", Cause::Clock, "synchronize"),
        (400, "invalid_grant", "AADSTS700024: not within its valid time range", Cause::Clock, "synchronize"),
        (400, "invalid_grant", "wrong audience", Cause::Audience, "--refresh"),
        (400, "invalid_grant", "AADSTS90002: Tenant x not found", Cause::Tenant, "metadata URL"),
        (400, "invalid_grant", "of another tenant", Cause::Tenant, "metadata URL"),
        (400, "invalid_grant", "", Cause::Other, "what it says"),
        (400, "invalid_resource", "", Cause::Resource, "mailbadge proxy show"),
        (400, "invalid_target", "", Cause::Resource, "mailbadge proxy show"),
        (
            400,
            "invalid_request",
            "AADSTS500011: The resource principal",
            Cause::Resource,
            "mailbadge proxy show",
        ),
        (503, "temporarily_unavailable", "", Cause::Unavailable, "tried again"),
    ];
    for (status, error, description, cause, advice) in cases {
        let content = serde_json::json!({ "error": error, "error_description": description });
        let refusal = read(&answer(status, &content.to_string()), NOW).unwrap_err();
        assert_eq!(refusal.cause, cause, "{error} {description}");
        let shown = refusal.to_string();
        assert!(shown.contains(error) && shown.contains(description) && shown.contains(advice), "{shown}");
    }
}

#[test]
fn what_is_not_json_is_told_by_its_status() {
    let cases = [
        (500, Cause::Unavailable),
        (429, Cause::Unavailable),
        (404, Cause::NoEndpoint),
        (302, Cause::NoEndpoint),
        (204, Cause::Answer),
        (403, Cause::Other),
    ];
    for (status, cause) in cases {
        let refusal = read(&answer(status, "<html>eyJsecret</html>"), NOW).unwrap_err();
        assert_eq!(refusal.cause, cause, "{status}");
        let shown = refusal.to_string();
        assert!(shown.starts_with(&format!("answered {status}; ")) && !shown.contains("secret"), "{shown}");
    }
}

#[test]
fn waits_and_clocks_are_read_from_the_headers() {
    for (text, seconds) in [("120", Some(120)), ("999999", Some(3600)), ("0", None), ("soon", None)] {
        let refused = read(&dated(answer(503, ""), "retry-after", text), NOW).unwrap_err();
        assert_eq!(refused.asked_wait, seconds.map(Duration::from_secs), "{text}");
    }
    let late = dated(answer(400, r#"{"error":"invalid_grant"}"#), "date", "Mon, 23 Nov 2026 08:10:00 GMT");
    let refused = read(&late, NOW).unwrap_err();
    assert_eq!(refused.clock_offset_ms, Some(600_000));
    assert!(refused.to_string().contains("its clock 600 s ahead of ours"), "{refused}");
}

#[test]
fn a_token_in_a_description_is_not_repeated() {
    let content = r#"{"error":"invalid_grant","error_description":"bad eyJhbGciOi.eyJ.x assertion"}"#;
    let shown = read(&answer(400, content), NOW).unwrap_err().to_string();
    assert!(shown.contains("bad … assertion"), "{shown}");
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(status in 0..1000_u16, content in proptest::collection::vec(any::<u8>(), 0..200)) {
        let answer = Response { status, content: content.into(), ..Response::default() };
        let _ = read(&answer, NOW).map_err(|refusal| refusal.to_string());
    }

    #[test]
    fn no_answer_that_looks_like_one_makes_it_panic(
        status in prop_oneof![Just(200_u16), Just(400)],
        life in any::<u64>(),
        description in ".{0,40}",
    ) {
        let content = serde_json::json!({
            "access_token": "t", "expires_in": life.to_string(), "error": "invalid_grant",
            "error_description": description,
        });
        let read = read(&answer(status, &content.to_string()), NOW);
        prop_assert_eq!(read.is_ok(), status == 200 && life > 0);
    }
}
