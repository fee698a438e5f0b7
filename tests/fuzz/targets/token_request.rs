//! A token request's form, to the simulated token service (protocol.md §5.5). Its authority, tenant and resource are known;
//! no certificate is, so that nothing is ever issued.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailbadge_sim::peers::http::Request;
use mailbadge_sim::peers::principal::EXCHANGE_APPLICATION_ID;
use mailbadge_sim::peers::tenant::{Issuer, Tenant};
use mailbadge_sim::peers::token_service::keys::{Keys, SigningKey};
use mailbadge_sim::peers::token_service::{Settings, TokenService};
use mailbadge_sim::peers::unix_time::UnixMicros;
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use std::cell::RefCell;

const KEY: &str = include_str!("../../../fixtures/certificates/sts.key.pem");
const CERTIFICATE: &[u8] = include_bytes!("../../../fixtures/certificates/sts.cer");
const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const NOW: UnixMicros = UnixMicros::from_seconds(1_795_420_830);

thread_local! {
    static SERVICE: RefCell<TokenService> = RefCell::new(service());
}

fn service() -> TokenService {
    let key = KeyPair::from_pem_and_sign_algo(KEY, &PKCS_RSA_SHA256).expect("the fixture is a key");
    let key = SigningKey::new(key, CERTIFICATE.to_vec()).expect("the fixture is its certificate");
    let mut service = TokenService::new(Settings::default(), Keys::new(key), 1);
    let tenant = Tenant {
        id: TENANT.to_owned(),
        accepted_domains: vec!["fabrikam.com".to_owned()],
        service_principals: vec![Issuer::new(EXCHANGE_APPLICATION_ID, TENANT)],
        resources: vec![format!("{EXCHANGE_APPLICATION_ID}/relay.example")],
        ..Tenant::default()
    };
    service.tenants.put(tenant).expect("a good tenant");
    service
}

fuzz_target!(|bytes: &[u8]| {
    let request = Request {
        method: "POST".to_owned(),
        authority: "sts.example".to_owned(),
        path: format!("/{TENANT}/tokens/OAuth/2"),
        headers: vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())],
        body: bytes.to_vec().into(),
        ..Request::default()
    };
    let response = SERVICE.with_borrow_mut(|service| service.handle(NOW, &request));
    assert!(matches!(response.status, 400 | 401 | 413), "{response:?}");
});
