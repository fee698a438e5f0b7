//! The vectors, by data; every refusal; what is issued, and that a relay takes it; roll-over; any bytes at all.

use super::*;
use crate::peers::fault::{Kind, Order};
use crate::peers::metadata::Published;
use crate::peers::principal::EXCHANGE_APPLICATION_ID;
use crate::peers::relay::{Relay, token_check::Category};
use crate::peers::tenant::credential::KeyCredential;
use crate::peers::tenant::{Issuer, IssuerKind};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keys::{RollOverError, SigningKey};
use proptest::prelude::*;

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const URL: &str = "/11111111-2222-3333-4444-555555555555/tokens/OAuth/2";
const RESOURCE: &str =
    "00000002-0000-0ff1-ce00-000000000000/relay.example@11111111-2222-3333-4444-555555555555";
const NOW: UnixMicros = UnixMicros::from_seconds(1_795_420_830);

fn fixture(path: &str) -> Vec<u8> {
    let path = format!("{}/../fixtures/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn signing_key(name: &str) -> SigningKey {
    let pem = String::from_utf8(fixture(&format!("certificates/{name}.key.pem"))).expect("PEM");
    let key = rcgen::KeyPair::from_pem_and_sign_algo(&pem, &rcgen::PKCS_RSA_SHA256).expect("an RSA key");
    SigningKey::new(key, fixture(&format!("certificates/{name}.cer"))).expect("its certificate")
}

fn credential(file: &str) -> KeyCredential {
    KeyCredential::read(&fixture(&format!("certificates/{file}"))).expect("a certificate")
}

fn tenant(principal: Issuer) -> Tenant {
    Tenant {
        id: TENANT.to_owned(),
        accepted_domains: vec!["fabrikam.com".to_owned()],
        service_principals: vec![principal],
        resources: vec![format!("{EXCHANGE_APPLICATION_ID}/relay.example")],
        ..Tenant::default()
    }
}

/// The token service of the vectors.
fn token_service() -> TokenService {
    let vectors = vectors();
    let registered = &vectors["registered"][0];
    let principal = Issuer::new(registered["application_id"].as_str().expect("an id"), TENANT);
    let files = registered["certificates"].as_array().expect("files").iter();
    let principal =
        files.fold(principal, |issuer, file| issuer.with(credential(file.as_str().expect("a name"))));
    let mut service = TokenService::new(Settings::default(), Keys::new(signing_key("sts")), 1);
    service.tenants.put(tenant(principal)).expect("a good tenant");
    service
}

fn vectors() -> Value {
    serde_json::from_slice(&fixture("tokens/token_service.json")).expect("JSON")
}

fn form(fields: &[(&str, &str)]) -> Request {
    Request {
        method: "POST".to_owned(),
        authority: "sts.example".to_owned(),
        path: URL.to_owned(),
        headers: vec![("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned())],
        body: form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish().into(),
        ..Request::default()
    }
}

fn asking(assertion: &str) -> Request {
    form(&[("grant_type", request::GRANT_TYPES[0]), ("assertion", assertion), ("resource", RESOURCE)])
}

fn assertion(claims: &Value) -> String {
    let mut all = json!({
        "iss": format!("{EXCHANGE_APPLICATION_ID}@{TENANT}"),
        "aud": format!("{TOKEN_SERVICE_APPLICATION_ID}/sts.example@{TENANT}"),
        "nbf": NOW.seconds(), "exp": NOW.seconds() + 600,
    });
    for (name, value) in claims.as_object().expect("claims") {
        all[name] = value.clone();
    }
    let agent = signing_key("agent");
    agent.sign(&agent.header(), &all).expect("a signature")
}

#[test]
fn an_assertion_that_demands_extensions_or_has_a_space_at_a_name_is_refused() {
    let agent = signing_key("agent");
    let claims = decode(&assertion(&json!({}))).expect("a token").claims;
    for crit in [json!([]), json!(["exp"]), json!("exp"), json!({}), json!(null)] {
        let mut header = agent.header();
        header["crit"] = crit.clone();
        let assertion = agent.sign(&header, &Value::Object(claims.clone())).expect("a signature");
        let response = token_service().handle(NOW, &asking(&assertion));
        assert_eq!((response.status, &body(&response)["error"]), (400, &json!("invalid_grant")), "{crit}");
    }
    for (claim, name) in claims.iter().filter_map(|(claim, name)| Some((claim, name.as_str()?))) {
        for spaced in [format!(" {name}"), format!("{name} ")] {
            let response = token_service().handle(NOW, &asking(&assertion(&json!({ claim: spaced }))));
            assert_ne!(response.status, 200, "{claim}");
        }
    }
}

#[test]
fn without_tolerance_an_assertion_begins_to_the_second() {
    let mut service = token_service();
    service.faults.add(Order::always(Kind::ClockOffset { ms: -2_000 }), NOW);
    let ask = |service: &mut TokenService, begin: u64| {
        service.exchange(NOW, &asking(&assertion(&json!({ "nbf": begin })))).response.status
    };
    assert_eq!(ask(&mut service, NOW.seconds()), 200, "5 min of tolerance");
    service.faults.add(Order::always(Kind::NoTolerance), NOW);
    assert_eq!(ask(&mut service, NOW.seconds()), 400);
    assert_eq!(ask(&mut service, NOW.seconds() - 2), 200);
}

fn body(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|_| panic!("JSON: {response:?}"))
}

fn issue(service: &mut TokenService) -> String {
    let response = service.handle(NOW, &asking(&assertion(&json!({}))));
    assert_eq!(response.status, 200, "{response:?}");
    body(&response)["access_token"].as_str().expect("a token").to_owned()
}

#[test]
fn assertions_are_judged_as_the_vectors_say() {
    let vectors = vectors();
    let cases = vectors["cases"].as_array().expect("cases");
    assert!(!cases.is_empty());
    for case in cases {
        let text = |name: &str| case[name].as_str().unwrap_or_else(|| panic!("{name} in {case}"));
        let now = UnixMicros::from_seconds(case["now"].as_u64().expect("seconds"));
        for grant_type in request::GRANT_TYPES {
            let resource = vectors["resource"].as_str().expect("a resource");
            let request =
                form(&[("grant_type", grant_type), ("assertion", text("assertion")), ("resource", resource)]);
            let response = token_service().handle(now, &request);
            let answer = body(&response);
            assert_eq!(answer["error"], case["error"], "{}: {answer}", text("name"));
            assert_eq!(answer["access_token"].is_string(), case["accept"] == true, "{}", text("name"));
        }
    }
}

#[test]
fn each_refusal_has_its_code_and_says_what_is_wrong() {
    let good = assertion(&json!({}));
    let grant = ("grant_type", request::GRANT_TYPES[1]);
    let asks = |fields: &[(&str, &str)]| form(fields);
    let with = |claims: Value| asking(&assertion(&claims));
    let to = |path: &str| Request { path: path.to_owned(), ..asking(&good) };
    let for_resource = |resource: &str| form(&[grant, ("assertion", good.as_str()), ("resource", resource)]);
    let elsewhere = "99999999-2222-3333-4444-555555555555";
    let cases = [
        (Request { headers: Vec::new(), ..asking(&good) }, 400, "invalid_request", "x-www-form-urlencoded"),
        (asks(&[("assertion", "x"), ("resource", RESOURCE)]), 400, "invalid_request", "'grant_type'"),
        (asks(&[("grant_type", "password")]), 400, "unsupported_grant_type", "jwt-bearer"),
        (asks(&[grant, ("resource", RESOURCE)]), 400, "invalid_request", "'assertion'"),
        (asks(&[grant, ("assertion", good.as_str())]), 400, "invalid_request", "'resource'"),
        (asks(&[grant, grant, ("assertion", "x")]), 400, "invalid_request", "more than once"),
        (to("/nobody.example/tokens/OAuth/2"), 400, "invalid_request", "not found"),
        (asking("x"), 400, "invalid_grant", "not a JWT"),
        (with(json!({ "iss": "nobody" })), 400, "invalid_grant", "'iss'"),
        (with(json!({ "iss": format!("x@{elsewhere}") })), 400, "invalid_grant", elsewhere),
        (with(json!({ "iss": format!("x@{TENANT}") })), 401, "invalid_client", "no service principal"),
        (asking(&format!("{}x", &good[..good.len() - 1])), 401, "invalid_client", "signature"),
        (with(json!({ "aud": "x" })), 400, "invalid_grant", "must be 00000001-"),
        (with(json!({ "exp": 1 })), 400, "invalid_grant", "ends before it begins"),
        (with(json!({ "nbf": 1, "exp": 2 })), 400, "invalid_grant", "compare the clocks"),
        (for_resource("relay.example"), 400, "invalid_resource", "'relay.example'"),
        (for_resource(&RESOURCE.replace("relay.", "other.")), 400, "invalid_resource", "other.example"),
        (for_resource(&RESOURCE.replace(TENANT, elsewhere)), 400, "invalid_resource", elsewhere),
    ];
    for (request, status, error, words) in cases {
        let mut service = token_service();
        let response = service.handle(NOW, &request);
        let answer = body(&response);
        let description = answer["error_description"].as_str().expect("a description");
        assert_eq!((response.status, answer["error"].as_str()), (status, Some(error)), "{answer}");
        assert!(description.starts_with("AADSTS") && description.contains(words), "{words}: {description}");
        assert!(service.record.requests().all(|request| request.issued.is_none()));
    }
}

#[test]
fn what_is_issued_is_what_the_protocol_says() {
    let mut service = token_service();
    let response = service.handle(NOW, &asking(&assertion(&json!({}))));
    let answer = body(&response);
    let (nbf, exp) = (NOW.seconds() - 300, NOW.seconds() + 86_400);
    assert_eq!(answer["expires_in"], "86400");
    assert_eq!(answer["not_before"], nbf.to_string());
    assert_eq!(answer["expires_on"], exp.to_string());
    assert_eq!((&answer["token_type"], &answer["resource"]), (&json!("Bearer"), &json!(RESOURCE)));
    assert_eq!(response.header("cache-control"), Some("no-store"));

    let token = decode(answer["access_token"].as_str().expect("a token")).expect("three parts");
    let x5t = credential("sts.cer").x5t().to_owned();
    let header = json!({ "typ": "JWT", "alg": "RS256", "x5t": x5t, "kid": x5t });
    assert_eq!(Value::from(token.header), header);
    let oid = token.claims["oid"].as_str().expect("an object id").to_owned();
    assert!(crate::peers::tenant::is_guid(&oid));
    let own = format!("{TOKEN_SERVICE_APPLICATION_ID}@{TENANT}");
    let claims = json!({
        "aud": RESOURCE, "iss": own, "nbf": nbf, "exp": exp, "identityprovider": own,
        "nameid": format!("{EXCHANGE_APPLICATION_ID}@{TENANT}"), "oid": oid, "sub": oid, "trustedfordelegation": "false",
    });
    assert_eq!(Value::from(token.claims), claims);
}

#[test]
fn no_token_and_no_signature_is_kept() {
    let mut service = token_service();
    let token = issue(&mut service);
    let kept = serde_json::to_string(&service.record.requests().collect::<Vec<_>>()).expect("JSON");
    assert!(kept.contains("identityprovider"));
    for part in token.split('.').chain(assertion(&json!({})).split('.')) {
        assert!(!kept.contains(part));
    }
    assert!(!format!("{:?}", service.keys).contains("PRIVATE"));
}

#[test]
fn a_tenant_is_named_by_guid_by_domain_or_by_the_assertion_alone() {
    for tenant in [TENANT, "FABRIKAM.com", "common", ""] {
        let path = format!("/{tenant}/TOKENS/oauth/2/").replace("//", "/");
        let request = Request { path: path.clone(), ..asking(&assertion(&json!({}))) };
        assert_eq!(token_service().handle(NOW, &request).status, 200, "{path}");
    }
}

#[test]
fn a_document_is_asked_for_by_guid_by_domain_or_for_all() {
    let mut service = token_service();
    let mut ask = |path: &str, query: &str| {
        let request = Request {
            method: "GET".to_owned(),
            authority: "sts.example:444".to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            ..Request::default()
        };
        service.handle(NOW, &request)
    };
    for query in ["realm=fabrikam.com", &format!("realm={TENANT}"), "x=y&realm=Fabrikam%2Ecom"] {
        let document = body(&ask("/metadata/json/1", query));
        assert_eq!(document["realm"], TENANT, "{query}");
        assert_eq!(document["issuer"], format!("{TOKEN_SERVICE_APPLICATION_ID}@{TENANT}"), "{query}");
        assert_eq!(document["endpoints"][0]["location"], format!("https://sts.example:444{URL}"), "{query}");
        let audience = format!("{TOKEN_SERVICE_APPLICATION_ID}/sts.example:444@{TENANT}");
        assert_eq!(document["allowedAudiences"], json!([audience]), "{query}");
    }
    let common = body(&ask("/metadata/json/1/", ""));
    assert_eq!(common["realm"], "*");
    assert_eq!(common["endpoints"][0]["location"], "https://sts.example:444/tokens/OAuth/2");
    assert_eq!(ask("/metadata/json/1", "realm=nobody.example").status, 404);
    assert_eq!(ask("/metadata/json/2", "").status, 404);
}

/// A relay that trusts what the service's document says now.
fn relay(service: &mut TokenService) -> Relay {
    let request = Request {
        method: "GET".to_owned(),
        authority: "sts.example".to_owned(),
        path: METADATA_PATH.to_owned(),
        query: format!("realm={TENANT}"),
        ..Request::default()
    };
    let document = service.handle(NOW, &request);
    let published = Published::read(&document.body, IssuerKind::TokenService).expect("a good document");
    let issuer = Issuer::new(&published.application_id, &published.realm);
    let mut tenant = tenant(Issuer::new(EXCHANGE_APPLICATION_ID, TENANT));
    tenant.token_services = vec![published.credentials.into_iter().fold(issuer, Issuer::with)];
    let mut relay = Relay::new(crate::peers::relay::Settings::default(), 1);
    relay.tenants.put(tenant).expect("a good tenant");
    relay
}

fn is_taken(relay: &mut Relay, token: &str) -> bool {
    let request = Request {
        method: "POST".to_owned(),
        authority: "relay.example".to_owned(),
        path: crate::peers::relay::PUBLISH_SUFFIX.to_owned(),
        headers: vec![("Authorization".to_owned(), format!("Bearer {token}"))],
        body: r#"{"notifications":[]}"#.into(),
        ..Request::default()
    };
    let response = relay.handle(NOW, &request);
    let refused = Category::InvalidSignature.code().to_string();
    match response.status {
        200 => true,
        401 => {
            assert!(response.header("x-ms-diagnostics").is_some_and(|text| text.starts_with(&refused)));
            false
        }
        _ => panic!("{response:?}"),
    }
}

#[test]
fn a_relay_takes_what_was_issued_through_every_step_of_a_roll_over() {
    let mut service = token_service();
    let first = issue(&mut service);
    let mut before = relay(&mut service);
    assert!(is_taken(&mut before, &first));

    service.keys.publish(signing_key("stranger")).expect("the first next key");
    assert_eq!(service.keys.publish(signing_key("stranger")), Err(RollOverError::Published));
    assert_eq!(issue(&mut service), first, "what is published does not sign yet");
    let mut during = relay(&mut service);
    service.keys.use_next().expect("it was published");
    assert_eq!(service.keys.use_next(), Err(RollOverError::NothingPublished));
    let second = issue(&mut service);
    assert!(!is_taken(&mut before, &second), "who read the document earlier does not know the new key");
    assert!(is_taken(&mut during, &second) && is_taken(&mut during, &first));

    let mut after = relay(&mut service);
    assert!(is_taken(&mut after, &first) && is_taken(&mut after, &second));
    service.keys.forget_previous().expect("there is one");
    assert_eq!(service.keys.forget_previous(), Err(RollOverError::NothingPrevious));
    let mut end = relay(&mut service);
    assert!(!is_taken(&mut end, &first) && is_taken(&mut end, &second));
}

#[test]
fn faults_are_answered_as_a_token_service_does() {
    let cases = [
        (Kind::Internal, 500, Some("server_error")),
        (Kind::BadRequest, 400, Some("invalid_request")),
        (Kind::Unauthorized, 401, Some("invalid_client")),
        (Kind::ClockOffset { ms: -600_000 }, 400, Some("invalid_grant")),
        (Kind::Unavailable { retry_after_s: 3 }, 503, None),
        (Kind::Html { status: 200 }, 200, None),
        (Kind::Duplicate, 200, Some("Bearer")),
    ];
    for (kind, status, word) in cases {
        let mut service = token_service();
        service.faults.add(Order::always(kind.clone()), NOW);
        let response = service.exchange(NOW, &asking(&assertion(&json!({})))).response;
        assert_eq!(response.status, status, "{kind:?}");
        let text = String::from_utf8_lossy(&response.body);
        assert!(word.is_none_or(|word| text.contains(word)), "{kind:?}: {text}");
    }
    assert!(!Peer::TokenService.has(&Kind::DeviceGone) && Peer::Relay.has(&Kind::DeviceGone));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut service = token_service();
    for _ in 0..record::REQUESTS_MAX + 5 {
        service.handle(NOW, &asking("x"));
    }
    assert_eq!(service.record.requests().len(), record::REQUESTS_MAX);
    assert_eq!(service.record.requests().next().map(|request| request.number), Some(6));
}

proptest! {
    #[test]
    fn any_request_is_answered_without_a_panic(
        method in "GET|POST|PUT",
        path in "/metadata/json/1/?|/[a-z]{0,4}/tokens/OAuth/2|\\PC*",
        authority: String,
        query: String,
        body: Vec<u8>,
    ) {
        let request = Request { method, path, authority, query, body: body.into(), ..asking("") };
        let answered = token_service().handle(NOW, &request);
        prop_assert!(!String::from_utf8_lossy(&answered.body).contains("access_token"));
    }

    #[test]
    fn any_assertion_is_refused_without_a_panic(
        text: String, header: String, iss: String, aud: String, nbf: i64, exp: u64,
    ) {
        let claims = json!({ "iss": iss, "aud": aud, "nbf": nbf, "exp": exp.to_string() }).to_string();
        let made = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        for assertion in [text, format!("{made}.AAAA")] {
            let status = token_service().handle(NOW, &asking(&assertion)).status;
            prop_assert!(status == 400 || status == 401);
        }
    }
}
