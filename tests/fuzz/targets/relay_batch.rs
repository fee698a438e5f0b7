//! A batch, to the simulated relay, with a token that it takes (protocol.md §1.3 to §1.5).
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailbadge_sim::peers::http::Request;
use mailbadge_sim::peers::principal::EXCHANGE_APPLICATION_ID;
use mailbadge_sim::peers::relay::{PUBLISH_SUFFIX, Relay, Settings};
use mailbadge_sim::peers::tenant::credential::KeyCredential;
use mailbadge_sim::peers::tenant::{Issuer, Tenant};
use mailbadge_sim::peers::unix_time::UnixMicros;
use std::sync::OnceLock;

const VECTORS: &str = include_str!("../../../fixtures/tokens/relay.json");
const CERTIFICATE: &[u8] = include_bytes!("../../../fixtures/certificates/agent.cer");

/// The first token of the vectors, and when it is good.
fn token() -> &'static (String, UnixMicros) {
    static TOKEN: OnceLock<(String, UnixMicros)> = OnceLock::new();
    TOKEN.get_or_init(|| {
        let vectors: serde_json::Value = serde_json::from_str(VECTORS).expect("the fixture is JSON");
        let case = &vectors["cases"][0];
        let seconds = case["now"].as_u64().expect("seconds");
        (case["token"].as_str().expect("a token").to_owned(), UnixMicros::from_seconds(seconds))
    })
}

fn relay() -> Relay {
    let credential = KeyCredential::from_der(CERTIFICATE).expect("the fixture is a certificate");
    let mut relay = Relay::new(Settings::default(), 1);
    let tenant = Tenant {
        id: "11111111-2222-3333-4444-555555555555".to_owned(),
        accepted_domains: vec!["fabrikam.com".to_owned()],
        partner_applications: vec![Issuer::new(EXCHANGE_APPLICATION_ID, "fabrikam.com").with(credential)],
        ..Tenant::default()
    };
    relay.tenants.put(tenant).expect("a good tenant");
    relay
}

fuzz_target!(|bytes: &[u8]| {
    let (token, now) = token();
    let request = Request {
        method: "POST".to_owned(),
        authority: "relay.example".to_owned(),
        path: PUBLISH_SUFFIX.to_owned(),
        headers: vec![
            ("authorization".to_owned(), format!("Bearer {token}")),
            ("prefer".to_owned(), "return=representation".to_owned()),
        ],
        body: bytes.to_vec().into(),
        ..Request::default()
    };
    let mut relay = relay();
    let response = relay.handle(*now, &request);
    assert!(matches!(response.status, 200 | 400), "{response:?}");
    assert!(relay.devices.iter().all(|device| !device.id.is_empty()));
});
