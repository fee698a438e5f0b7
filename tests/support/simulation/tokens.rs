//! The token service of a story, where the relay takes no other tokens than its.

use super::cloud::{AUTHORITY as RELAY, EXCHANGE, ORGANIZATION, TENANT};
use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use mailbadge::https;
use mailbadge::identity::metadata::Document;
use mailbadge::token::choice::AuthServer;
use mailbadge::token::exchange::TokenRequest;
use mailbadge_sim::peers::http::{Request, Response};
use mailbadge_sim::peers::principal::TOKEN_SERVICE_APPLICATION_ID;
use mailbadge_sim::peers::tenant::credential::KeyCredential;
use mailbadge_sim::peers::tenant::{Issuer, Tenant};
use mailbadge_sim::peers::token_service::keys::{Keys, SigningKey};
use mailbadge_sim::peers::token_service::{METADATA_PATH, Settings, TokenService};
use mailbadge_sim::peers::unix_time::UnixMicros;
use mailbadge_sim::play::Plan;
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use secrecy::ExposeSecret;

/// Its host.
pub const AUTHORITY: &str = "sts.example";
/// Its certificate.
const CERTIFICATE: &[u8] = include_bytes!("../../../fixtures/certificates/sts.cer");

/// A token service that knows the organization's tenant.
pub fn service(plan: &Plan) -> TokenService {
    let pem = include_str!("../../../fixtures/certificates/sts.key.pem");
    let key = KeyPair::from_pem_and_sign_algo(pem, &PKCS_RSA_SHA256).expect("the fixture is a key");
    let key = SigningKey::new(key, CERTIFICATE.to_vec()).expect("the fixture is a certificate");
    let settings = Settings { token_life: plan.token_life, ..Settings::default() };
    let seed = plan.seed.stream("token service").u64(..);
    let mut service = TokenService::new(settings, Keys::new(key), seed);
    let tenant = Tenant {
        id: TENANT.to_owned(),
        accepted_domains: vec![ORGANIZATION.to_owned()],
        resources: vec![format!("{EXCHANGE}/{RELAY}")],
        ..Tenant::default()
    };
    service.tenants.put(tenant).expect("the only tenant");
    service
}

/// From now on it issues tokens to who signs with this certificate, and to nobody else.
pub fn register(service: &mut TokenService, certificate_der: &[u8]) {
    let credential = KeyCredential::from_der(certificate_der).expect("the fixture is a certificate");
    let principal = Issuer::new(EXCHANGE, TENANT).with(credential);
    let change = |tenant: &mut Tenant| tenant.service_principals = vec![principal];
    service.tenants.change(TENANT, change).expect("the tenant is there");
}

/// How a relay knows it.
pub fn issuer() -> Issuer {
    let credential = KeyCredential::from_der(CERTIFICATE).expect("the fixture is a certificate");
    Issuer::new(TOKEN_SERVICE_APPLICATION_ID, TENANT).with(credential)
}

/// How the agent knows it: by its document.
pub fn known(service: &mut TokenService, now: UnixMicros) -> AuthServer {
    let request = Request {
        method: "GET".to_owned(),
        authority: AUTHORITY.to_owned(),
        path: METADATA_PATH.to_owned(),
        query: format!("realm={ORGANIZATION}"),
        ..Request::default()
    };
    let document = Document::read(&service.handle(now, &request).body);
    let service = document.and_then(|document| document.token_service()).map_err(|error| error.to_string());
    AuthServer { name: "MicrosoftSts".to_owned(), service }
}

/// What the agent asks of it, as it stands on the wire.
pub fn request(request: &TokenRequest) -> Request {
    Request {
        method: "POST".to_owned(),
        authority: request.endpoint.authority(),
        path: request.endpoint.path().to_owned(),
        headers: vec![("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned())],
        body: Bytes::copy_from_slice(request.form().expose_secret().as_bytes()),
        ..Request::default()
    }
}

/// Its answer as the agent's client hands it on.
pub fn response(answer: &Response) -> https::Response {
    let mut headers = HeaderMap::new();
    for (name, value) in &answer.headers {
        let name: HeaderName = name.parse().expect("the simulator writes good names");
        headers.append(name, HeaderValue::from_str(value).expect("the simulator writes good values"));
    }
    https::Response { status: answer.status, headers, content: answer.body.clone(), is_cut: false }
}
