//! A token, to the simulated relay, and an assertion with a form around it, to the simulated token service
//! (protocol.md §5.5, §5.6). Nobody here has a key: only what was signed before may pass.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailbadge_sim::peers::jwt::{CLOCK_SKEW, decode};
use mailbadge_sim::peers::principal::EXCHANGE_APPLICATION_ID;
use mailbadge_sim::peers::relay::token_check::TokenCheck;
use mailbadge_sim::peers::tenant::credential::KeyCredential;
use mailbadge_sim::peers::tenant::{Issuer, Tenant, Tenants};
use mailbadge_sim::peers::unix_time::UnixMicros;
use std::sync::OnceLock;

const VECTORS: &str = include_str!("../../../fixtures/tokens/relay.json");
const CERTIFICATE: &[u8] = include_bytes!("../../../fixtures/certificates/agent.cer");
const NOW: UnixMicros = UnixMicros::from_seconds(1_795_420_860);

fn tenants() -> &'static Tenants {
    static TENANTS: OnceLock<Tenants> = OnceLock::new();
    TENANTS.get_or_init(|| {
        let credential = KeyCredential::from_der(CERTIFICATE).expect("the fixture is a certificate");
        let mut tenants = Tenants::default();
        let tenant = Tenant {
            id: "11111111-2222-3333-4444-555555555555".to_owned(),
            accepted_domains: vec!["fabrikam.com".to_owned()],
            partner_applications: vec![Issuer::new(EXCHANGE_APPLICATION_ID, "fabrikam.com").with(credential)],
            ..Tenant::default()
        };
        tenants.put(tenant).expect("a good tenant");
        tenants
    })
}

fuzz_target!(|text: &str| {
    let check = TokenCheck {
        own_application_id: EXCHANGE_APPLICATION_ID,
        tenants: tenants(),
        authority: "relay.example",
        now: NOW,
        tolerance: CLOCK_SKEW,
    };
    let decoded = decode(text);
    let _ = check.document(decoded.as_ref());
    if check.check_decoded(text, decoded.as_ref()).is_ok() {
        assert!(VECTORS.contains(text), "a signature out of nothing: {text}");
    }
});
