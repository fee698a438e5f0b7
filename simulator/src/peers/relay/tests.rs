//! The vectors, by data, and each answer of protocol.md §1.5.

use super::documents::{READ_EVERY, RETRY_EVERY};
use super::*;
use crate::peers::device::App;
use crate::peers::fault::{HTML, Kind, Order};
use crate::peers::metadata::Document;
use crate::peers::tenant::credential::KeyCredential;
use crate::peers::tenant::{Issuer, Tenant};
use serde_json::{Value, json};

const NOW: UnixMicros = UnixMicros::from_seconds(1_795_420_860);
const PATH: &str = "/PushNotifications/service.svc/PublishOnPremNotifications";
const DEVICE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn fixture(path: &str) -> Vec<u8> {
    let path = format!("{}/../fixtures/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json_fixture(path: &str) -> Value {
    serde_json::from_slice(&fixture(path)).expect("JSON")
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().expect("a list").iter().map(|v| v.as_str().expect("text").to_owned()).collect()
}

fn issuers(list: &Value) -> Vec<Issuer> {
    let list = list.as_array().expect("a list").iter();
    list.map(|issuer| {
        let name = |member| text(issuer, member);
        texts(&issuer["certificates"])
            .iter()
            .map(|file| {
                KeyCredential::read(&fixture(&format!("certificates/{file}"))).expect("a certificate")
            })
            .fold(Issuer::new(name("application_id"), name("realm")), Issuer::with)
    })
    .collect()
}

/// The relay of the vectors' `trust`.
fn relay() -> Relay {
    let trust = &json_fixture("tokens/relay.json")["trust"];
    let mut relay = Relay::new(Settings::default(), 1);
    assert_eq!(text(trust, "own_application_id"), relay.settings.application_id);
    relay
        .tenants
        .put(Tenant {
            id: text(trust, "tenant").to_owned(),
            accepted_domains: texts(&trust["accepted_domains"]),
            partner_applications: issuers(&trust["partner_applications"]),
            token_services: issuers(&trust["token_services"]),
            registered_applications: texts(&trust["registered_applications"]),
            ..Tenant::default()
        })
        .expect("a good tenant");
    relay
}

/// The first token of the vectors, which is accepted at [`NOW`].
fn token() -> String {
    text(&json_fixture("tokens/relay.json")["cases"][0], "token").to_owned()
}

fn post(token: &str, body: impl Into<Vec<u8>>) -> Request {
    Request {
        method: "POST".to_owned(),
        authority: "relay.example".to_owned(),
        path: PATH.to_owned(),
        query: String::new(),
        headers: vec![("Authorization".to_owned(), format!("Bearer {token}"))],
        body: body.into().into(),
    }
}

fn with(mut request: Request, name: &str, value: &str) -> Request {
    request.headers.push((name.to_owned(), value.to_owned()));
    request
}

fn batch(count: u32) -> String {
    let recipient =
        json!({ "appId": App::Iphone.id(), "deviceId": DEVICE, "lastSubscriptionUpdate": "/Date(1)/" });
    let notification = json!({ "id": format!("20261123-080000-{count}"), "payload": { "tenantId": "", "unseenEmailCount": count }, "recipients": [recipient] });
    json!({ "notifications": [notification] }).to_string()
}

#[test]
fn tokens_are_judged_as_the_vectors_say_fresh_and_known() {
    let vectors = json_fixture("tokens/relay.json");
    let mut relay = relay();
    for case in vectors["cases"].as_array().expect("cases") {
        let name = text(case, "name");
        let url = text(case, "request_url").strip_prefix("https://").expect("https");
        let (authority, _) = url.split_once('/').expect("a path");
        let now = UnixMicros::from_seconds(case["now"].as_u64().expect("seconds"));
        let mut request = post(text(case, "token"), r#"{"notifications":[]}"#);
        request.authority = authority.to_owned();
        // The second time the relay knows the token from before.
        for _ in 0..2 {
            let response = relay.handle(now, &request);
            let diagnostics = response.header("x-ms-diagnostics").and_then(|text| text.split(';').next());
            let expected = case["category"].as_u64().map(|code| code.to_string());
            match (case["accept"].as_bool(), case["category"].as_u64()) {
                (Some(true), _) => assert_eq!(response.status, 200, "{name}: {response:?}"),
                (_, Some(403)) => assert_eq!((response.status, diagnostics), (403, None), "{name}"),
                _ => assert_eq!((response.status, diagnostics), (401, expected.as_deref()), "{name}"),
            }
        }
    }
}

#[test]
fn batches_lead_to_the_badges_that_the_vectors_say() {
    let vectors = json_fixture("batches/relay.json");
    for case in vectors["cases"].as_array().expect("cases") {
        let name = text(case, "name");
        let mut relay = relay();
        let now = UnixMicros::from_ms(case["now_ms"].as_u64().expect("milliseconds"));
        let response = relay.handle(now, &post(&token(), text(case, "body")));
        assert_eq!(Some(u64::from(response.status)), case["status"].as_u64(), "{name}: {response:?}");
        let shown: Vec<Value> = relay.devices.iter().map(|d| json!([d.app.id(), d.id, d.badge()])).collect();
        assert_eq!(json!(shown), case["badges"], "{name}");
    }
}

#[test]
fn every_place_of_a_batch_may_hold_any_value_without_a_panic() {
    let whole: Value = serde_json::from_str(&batch(3)).expect("JSON");
    let values = [json!(null), json!(-1), json!(1e40), json!(""), json!([]), json!({}), json!(true)];
    let places = [
        "/notifications",
        "/notifications/0",
        "/notifications/0/id",
        "/notifications/0/payload",
        "/notifications/0/payload/tenantId",
        "/notifications/0/payload/unseenEmailCount",
        "/notifications/0/recipients",
        "/notifications/0/recipients/0",
        "/notifications/0/recipients/0/appId",
        "/notifications/0/recipients/0/deviceId",
        "/notifications/0/recipients/0/lastSubscriptionUpdate",
    ];
    let mut relay = relay();
    for place in places {
        for value in &values {
            let mut bent = whole.clone();
            *bent.pointer_mut(place).expect("there") = value.clone();
            let response = relay.handle(NOW, &post(&token(), bent.to_string()));
            assert!(matches!(response.status, 200 | 400), "{place} {value}");
        }
    }
}

/// Asks a relay once and checks status, body and the headers named.
#[track_caller]
fn check(relay: &mut Relay, request: &Request, status: u16, body: &str, headers: &[(&str, &str)]) {
    let response = relay.exchange(NOW, request).response;
    assert_eq!((response.status, String::from_utf8_lossy(&response.body).as_ref()), (status, body));
    for (name, value) in headers {
        assert_eq!(response.header(name), Some(*value), "{name}");
    }
    assert!(response.header("date").is_some_and(|date| date.ends_with(" GMT")));
}

const CHALLENGE: &str = "Bearer client_id=\"00000002-0000-0ff1-ce00-000000000000\", trusted_issuers=\"\
    00000002-0000-0ff1-ce00-000000000000@fabrikam.com,\
    00000001-0000-0000-c000-000000000000@11111111-2222-3333-4444-555555555555\"";

#[test]
fn without_a_token_there_is_a_challenge_and_the_body_is_not_read() {
    let mut none = post("", "not a batch");
    none.headers.clear();
    for request in [post("", "not a batch"), none.clone(), with(none, "Authorization", "Basic YTpi")] {
        check(&mut relay(), &request, 401, "", &[("www-authenticate", CHALLENGE)]);
    }
}

#[test]
fn a_refused_token_is_told_by_error_and_diagnostics() {
    let error = format!("{CHALLENGE}, error=\"invalid_token\"");
    let diagnostics = "2000001;reason=\"not a token: three base64url parts of JSON objects are\";error_category=\"invalid_token\"";
    let headers = [("www-authenticate", error.as_str()), ("x-ms-diagnostics", diagnostics)];
    check(&mut relay(), &post("x.y", batch(3)), 401, "", &headers);
}

#[test]
fn an_accepted_batch_is_answered_with_nothing_or_where_preferred_with_a_report() {
    let mut relay = relay();
    check(&mut relay, &post(&token(), batch(3)), 200, "", &[]);
    let prefer = with(post(&token(), batch(4)), "Prefer", "respond-async, return=representation");
    let applied = [("preference-applied", "return=representation")];
    check(&mut relay, &prefer, 200, r#"{"accepted":1,"rejected":[]}"#, &applied);

    relay.devices.make(App::Iphone, DEVICE).expect("room").is_gone = true;
    let gone = format!(
        r#"{{"accepted":0,"rejected":[{{"id":"20261123-080000-4","appId":"{}","deviceId":"{DEVICE}","reason":"gone"}}]}}"#,
        App::Iphone.id()
    );
    check(&mut relay, &prefer, 200, &gone, &applied);
    assert_eq!(relay.devices.badge(App::Iphone, DEVICE), Some(4));
    assert_eq!(relay.record.drops().get(&Drop::Gone), Some(&1));
}

#[test]
fn what_is_invalid_is_reported_and_counted_by_reason() {
    let mut relay = relay();
    let body = batch(3).replace("/Date(1)/", "/Date(1795420861000)/");
    let prefer = with(post(&token(), body), "Prefer", "return=representation");
    let response = relay.handle(NOW, &prefer);
    let report: Value = serde_json::from_slice(&response.body).expect("JSON");
    assert_eq!(report["rejected"][0]["reason"], "invalid");
    assert_eq!(relay.record.drops().get(&Drop::FutureSubscription), Some(&1));
    assert!(relay.devices.is_empty());
}

#[test]
fn the_path_is_known_by_its_end_in_any_case_and_only_post_is_taken() {
    let mut relay = relay();
    let mut request = post(&token(), batch(3));
    request.path = "/x/SERVICE.svc/publishonpremnotifications".to_owned();
    check(&mut relay, &request, 200, "", &[]);
    request.method = "GET".to_owned();
    check(&mut relay, &request, 405, "", &[("allow", "POST")]);
    request.path = "/service.svc/Publish\u{e9}".to_owned();
    check(&mut relay, &request, 404, "", &[]);
}

#[test]
fn a_body_over_the_limit_gets_413() {
    let settings = Settings { body_bytes_max: 10, ..Settings::default() };
    let mut relay = Relay { settings, ..relay() };
    check(&mut relay, &post(&token(), batch(3)), 413, "body too large", &[]);
}

#[test]
fn a_tenant_over_its_budget_is_told_how_long_to_wait() {
    let mut relay = relay();
    relay.tenants.change("fabrikam.com", |tenant| tenant.notifications_per_minute = Some(1)).expect("known");
    check(&mut relay, &post(&token(), batch(3)), 200, "", &[]);
    let fault = r#"{"BackOffTimeInMilliseconds":60000,"CanRetry":false,"Message":"tenant over budget","OriginatingServer":"RELAY01"}"#;
    check(&mut relay, &post(&token(), batch(4)), 403, fault, &[("content-type", "application/json")]);
    assert_eq!(relay.devices.badge(App::Iphone, DEVICE), Some(3));
}

#[test]
fn the_request_id_is_echoed_where_that_is_asked_for_and_it_is_harmless() {
    let id = "8b567958-58a4-403c-a8f0-524d7f1e9279";
    let asked = with(with(post("", ""), "Client-Request-Id", id), "return-client-request-id", "True");
    check(&mut relay(), &asked, 401, "", &[("client-request-id", id)]);
    let rude = with(with(post("", ""), "client-request-id", "a\r\nb: c"), "return-client-request-id", "True");
    assert_eq!(relay().handle(NOW, &rude).header("client-request-id"), None);
    let silent = with(post("", ""), "client-request-id", id);
    assert_eq!(relay().handle(NOW, &silent).header("client-request-id"), None);
}

#[test]
fn a_probe_is_kept_and_reaches_no_device() {
    let mut relay = relay();
    let probe = with(post(&token(), batch(3)), "X-ProbeType", "X-MS-ClientAccess-LocalProbe");
    check(&mut relay, &probe, 200, "", &[]);
    assert!(relay.devices.is_empty());
    assert!(relay.record.batches_after(0).all(|batch| batch.is_probe));
    assert_eq!(relay.record.totals().probes, 1);
    check(
        &mut relay,
        &with(post("x", batch(3)), "X-ProbeType", "X-MS-ClientAccess-LocalProbe"),
        401,
        "",
        &[],
    );
}

#[test]
fn each_fault_answers_and_acts_as_its_name_says() {
    let back_off = r#"{"BackOffTimeInMilliseconds":5,"CanRetry":false,"Message":"throttled","OriginatingServer":"RELAY01"}"#;
    let can_retry = r#"{"CanRetry":true,"Message":"queue full","OriginatingServer":"RELAY01"}"#;
    let internal = r#"{"CanRetry":true,"Message":"internal error","OriginatingServer":"RELAY01"}"#;
    let over = r#"{"BackOffTimeInMilliseconds":60000,"CanRetry":false,"Message":"tenant over budget","OriginatingServer":"RELAY01"}"#;
    let later = "try again later";
    let retry_after = ("retry-after", "7");
    // What is answered, one header, and whether the count reached the device.
    let cases = [
        (Kind::BackOff { ms: 5 }, 403, back_off, None, false),
        (Kind::CanRetry, 403, can_retry, None, false),
        (Kind::OverBudget, 403, over, None, false),
        (Kind::Internal, 500, internal, None, false),
        (Kind::BadRequest, 400, "the batch could not be read", None, false),
        (Kind::TooLarge, 413, "body too large", None, false),
        (Kind::TooManyRequests { retry_after_s: 7 }, 429, later, Some(retry_after), false),
        (Kind::Unavailable { retry_after_s: 7 }, 503, later, Some(retry_after), false),
        (Kind::RetryAfter { value: "4.5".to_owned() }, 503, later, Some(("retry-after", "4.5")), false),
        (Kind::Html { status: 502 }, 502, HTML, Some(("content-type", "text/html")), false),
        (Kind::Html { status: 200 }, 200, HTML, Some(("content-type", "text/html")), true),
        (
            Kind::Redirect { location: "https://x/".to_owned() },
            307,
            "",
            Some(("location", "https://x/")),
            false,
        ),
        (Kind::Unauthorized, 401, "", None, false),
        (Kind::DeviceGone, 200, "", None, false),
        (Kind::Duplicate, 200, "", None, true),
        (Kind::AnswerLost, 200, "", None, true),
        (Kind::Cut { after_bytes: 5 }, 200, "", None, true),
        (Kind::SlowBytes { rate_bytes: 5 }, 200, "", None, true),
        (Kind::Delay { ms: 5 }, 200, "", None, true),
        (Kind::Reset, 503, "", None, false),
        (Kind::BlackHole, 503, "", None, false),
    ];
    for (kind, status, body, header, is_shown) in cases {
        let mut relay = relay();
        relay.faults.add(Order::times(kind.clone(), 1), NOW);
        check(&mut relay, &post(&token(), batch(3)), status, body, header.as_slice());
        assert_eq!(relay.devices.badge(App::Iphone, DEVICE).is_some(), is_shown, "{kind:?}");
        check(&mut relay, &post(&token(), batch(4)), 200, "", &[]);
        assert_eq!(relay.devices.badge(App::Iphone, DEVICE), Some(4), "{kind:?}");
    }
}

#[test]
fn a_wrong_clock_shows_in_the_date_and_breaks_tokens() {
    let mut relay = relay();
    relay.faults.add(Order::always(Kind::ClockOffset { ms: -600_000 }), NOW);
    let response = relay.exchange(NOW, &post(&token(), batch(3))).response;
    assert_eq!(response.status, 401);
    assert_eq!(response.header("date"), Some(NOW.shifted_ms(-600_000).http_date().as_str()));
    assert!(response.header("x-ms-diagnostics").is_some_and(|text| text.starts_with("2000002")));
}

#[test]
fn a_new_certificate_is_believed_at_once_and_a_removed_one_no_more() {
    let mut relay = relay();
    check(&mut relay, &post(&token(), batch(3)), 200, "", &[]);
    let agent = KeyCredential::read(&fixture("certificates/agent.cer")).expect("a certificate");
    assert_eq!(relay.tenants.remove_credential("fabrikam.com", &agent.thumbprint()), Ok(1));
    let response = relay.handle(NOW, &post(&token(), batch(4)));
    assert!(response.header("x-ms-diagnostics").is_some_and(|text| text.starts_with("2000000")));
    let issuer = Issuer::new(EXCHANGE_APPLICATION_ID, "fabrikam.com");
    let kind = crate::peers::tenant::IssuerKind::Partner;
    assert_eq!(relay.tenants.add_credential("fabrikam.com", kind, &issuer, agent), Ok(true));
    check(&mut relay, &post(&token(), batch(5)), 200, "", &[]);
}

#[test]
fn a_partner_of_one_tenant_cannot_speak_for_another() {
    let mut relay = relay();
    let fabrikam = relay.tenants.find("fabrikam.com").expect("there").clone();
    // The audience of the vectors' token is fabrikam's GUID; here that GUID is another organization's.
    let partner = Tenant { id: "99999999-2222-3333-4444-555555555555".to_owned(), ..fabrikam.clone() };
    assert!(relay.tenants.remove("fabrikam.com"));
    relay.tenants.put(partner).expect("a good tenant");
    relay.tenants.put(Tenant { id: fabrikam.id, ..Tenant::default() }).expect("a good tenant");
    let response = relay.handle(NOW, &post(&token(), batch(3)));
    assert_eq!(response.status, 401);
    assert!(response.header("x-ms-diagnostics").is_some_and(|text| text.starts_with("2000004")));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut relay = relay();
    for n in 0..record::BATCHES_MAX as u32 + 10 {
        relay.handle(NOW, &post(&token(), batch(n)));
        relay.handle(NOW, &post(&format!("{n}"), ""));
    }
    assert_eq!(relay.record.batches_after(0).count(), record::BATCHES_MAX);
    assert_eq!(relay.record.batches_after(record::BATCHES_MAX as u64 + 5).count(), 5);
    assert_eq!(relay.record.tokens().len(), record::TOKENS_MAX);
}

#[test]
fn the_record_of_a_token_holds_no_signature() {
    let mut relay = relay();
    let vectors = json_fixture("tokens/relay.json");
    for case in vectors["cases"].as_array().expect("cases") {
        relay.handle(NOW, &post(text(case, "token"), ""));
    }
    for case in vectors["cases"].as_array().expect("cases") {
        let (_, signature) = text(case, "token").rsplit_once('.').expect("parts");
        if signature.len() > 20 {
            assert!(!format!("{:?}", relay.record.tokens()).contains(signature), "{}", text(case, "name"));
        }
    }
}

/// A document of the vectors' partner with these certificates.
fn document(certificates: &[&str]) -> Vec<u8> {
    let document = Document {
        name: "agent".to_owned(),
        application_id: EXCHANGE_APPLICATION_ID.to_owned(),
        realm: "fabrikam.com".to_owned(),
        authority: "mail.fabrikam.com".to_owned(),
        certificates: certificates.iter().map(|name| fixture(&format!("certificates/{name}.cer"))).collect(),
        issuance: None,
        metadata: URL.to_owned(),
    };
    document.to_json().to_string().into_bytes()
}

const URL: &str = "https://mail.fabrikam.com/autodiscover/metadata/json/1";

/// The relay of the vectors, whose partner is trusted by its document instead of by certificate.
fn relay_by_document() -> Relay {
    let mut relay = relay();
    let partner = Issuer::new(EXCHANGE_APPLICATION_ID, "fabrikam.com").by_document(URL);
    relay.tenants.change("fabrikam.com", |tenant| tenant.partner_applications = vec![partner]).expect("good");
    relay
}

#[test]
fn a_partner_is_trusted_by_its_document_from_when_it_was_read_on() {
    let mut relay = relay_by_document();
    check(&mut relay, &post(&token(), batch(3)), 401, "", &[]);
    assert_eq!(relay.due_document(NOW), Some(URL));
    relay.take_document(NOW, URL, Err("nobody listens".to_owned()));
    assert_eq!(relay.due_document(NOW), None);
    let later = NOW.after(RETRY_EVERY);
    assert_eq!(relay.due_document(later), Some(URL), "what could not be read is tried again");
    relay.take_document(later, URL, Ok(&document(&["agent"])));
    check(&mut relay, &post(&token(), batch(3)), 200, "", &[]);
    assert_eq!(relay.due_document(later.after(READ_EVERY).shifted_ms(-1)), None);
    assert_eq!(relay.due_document(later.after(READ_EVERY)), Some(URL));
}

#[test]
fn a_signature_that_no_published_certificate_made_has_the_document_read_again_now_and_then() {
    let mut relay = relay_by_document();
    assert_eq!(relay.due_document(NOW), Some(URL));
    let long_ago = NOW.shifted_ms(-60_000);
    relay.take_document(long_ago, URL, Ok(&document(&["stranger"])));
    assert_eq!(relay.due_document(NOW), None);
    check(&mut relay, &post("x.y.z", batch(3)), 401, "", &[]);
    assert_eq!(relay.due_document(NOW), None, "a token of nobody's is no reason");
    check(&mut relay, &post(&token(), batch(3)), 401, "", &[]);
    assert_eq!(relay.due_document(NOW), Some(URL));
    relay.take_document(NOW, URL, Ok(&document(&["stranger"])));
    check(&mut relay, &post(&token(), batch(3)), 401, "", &[]);
    assert_eq!(relay.due_document(NOW), None, "it was read just now");
    relay.refresh_documents(NOW, "fabrikam.com").expect("a tenant");
    assert_eq!(relay.due_document(NOW), Some(URL), "asked for by hand it is read at once");
    relay.take_document(NOW, URL, Ok(&document(&["stranger", "agent"])));
    check(&mut relay, &post(&token(), batch(3)), 200, "", &[]);
}

#[test]
fn a_document_of_someone_else_changes_nothing_and_says_so() {
    let mut relay = relay_by_document();
    assert_eq!(relay.due_document(NOW), Some(URL));
    relay.take_document(NOW, URL, Ok(&document(&["agent"])));
    let other = String::from_utf8(document(&["stranger"])).expect("text").replace("@fabrikam", "@contoso");
    let cases = [(other.as_str(), "and not of"), ("[]", "not a JSON object"), ("{}", "neither an issuer")];
    for (text, words) in cases {
        relay.take_document(NOW, URL, Ok(text.as_bytes()));
        let outcome = relay.documents.reading(URL).and_then(|reading| reading.outcome.clone());
        assert!(outcome.is_some_and(|o| o.is_err_and(|error| error.contains(words))), "{text}");
        check(&mut relay, &post(&token(), batch(3)), 200, "", &[]);
    }
}

#[test]
fn a_tenant_put_anew_has_its_document_read_again_and_one_without_it_never() {
    let mut relay = relay_by_document();
    assert_eq!(relay.due_document(NOW), Some(URL));
    relay.take_document(NOW, URL, Ok(&document(&["agent"])));
    assert_eq!(relay.due_document(NOW), None);
    let partner = Issuer::new(EXCHANGE_APPLICATION_ID, "fabrikam.com").by_document(URL);
    let again = partner.clone();
    relay.tenants.change("fabrikam.com", |tenant| tenant.partner_applications = vec![again]).expect("good");
    assert_eq!(relay.due_document(NOW), Some(URL));
    relay.tenants.change("fabrikam.com", |tenant| tenant.partner_applications.clear()).expect("good");
    assert_eq!(relay.due_document(NOW), None);
    assert_eq!(relay.documents.reading(URL), None);
    let bad = partner.by_document("file:///etc/passwd");
    let refused = relay.tenants.change("fabrikam.com", |tenant| tenant.partner_applications = vec![bad]);
    assert_eq!(refused, Err(TenantError::MetadataUrl));
}
