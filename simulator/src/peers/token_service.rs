//! The token service: tells by metadata documents how it signs, and turns assertions into tokens (protocol.md §5.4, §5.5).
//!
//! This file holds the way of one request through it. How a request is read and refused is in [`request`], what an
//! assertion must be in `assertion`, what it signs with in [`keys`], what is remembered in [`record`]. No socket, no clock.

mod assertion;
pub mod keys;
pub mod record;
pub mod request;

use super::fault::{Act, Faults, Peer};
use super::http::{Exchange, Request, Response, plain_authority};
use super::jwt::{CLOCK_SKEW, Decoded, decode};
use super::metadata::Document;
use super::principal::TOKEN_SERVICE_APPLICATION_ID;
use super::tenant::{Tenant, Tenants};
use super::unix_time::UnixMicros;
use assertion::{AssertionCheck, Grant};
use aws_lc_rs::digest::{SHA256, digest};
use keys::Keys;
use record::{Issued, Record};
use request::{Error, Form, Refusal};
use serde_json::{Value, json};
use std::time::Duration;

/// Where metadata documents are, below the authority; a slash may follow.
pub const METADATA_PATH: &str = "/metadata/json/1";
/// Where tokens are issued, below the authority and a tenant.
pub const ISSUANCE_PATH: &str = "/tokens/OAuth/2";
/// An issued token counts from so long ago.
const BACK_DATED: Duration = Duration::from_mins(5);

/// How a token service is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its own application id.
    pub application_id: String,
    /// How long its tokens live.
    pub token_life: Duration,
    /// Longest body, in bytes; longer gets 413.
    pub body_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            application_id: TOKEN_SERVICE_APPLICATION_ID.to_owned(),
            token_life: Duration::from_hours(24),
            body_bytes_max: 64 * 1024,
        }
    }
}

/// The token service. Everything it has may be looked at and changed at run time.
pub struct TokenService {
    settings: Settings,
    rng: fastrand::Rng,
    /// What it signs with.
    pub keys: Keys,
    /// Whom it issues for.
    pub tenants: Tenants,
    /// What goes wrong.
    pub faults: Faults,
    /// What it was asked and what it issued.
    pub record: Record,
    /// While the request at hand is handled: how far clocks may differ.
    tolerance: Duration,
}

impl TokenService {
    /// A token service that knows nobody yet. The seed decides which requests a fault hits.
    pub fn new(settings: Settings, keys: Keys, seed: u64) -> Self {
        Self {
            settings,
            rng: fastrand::Rng::with_seed(seed),
            keys,
            tenants: Tenants::default(),
            faults: Faults::of(Peer::TokenService),
            record: Record::default(),
            tolerance: CLOCK_SKEW,
        }
    }

    /// How it is set up.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The answer to a request, as if no fault were on.
    pub fn handle(&mut self, now: UnixMicros, request: &Request) -> Response {
        self.route(now, request).and("date", now.http_date())
    }

    /// The answer to a request and how it travels, faults included.
    pub fn exchange(&mut self, now: UnixMicros, request: &Request) -> Exchange {
        let plan = self.faults.plan(now, &mut self.rng);
        let shown = now.shifted_ms(plan.clock_offset_ms);
        self.tolerance = plan.tolerance();
        let response = plan.answer(|act| match act {
            Act::Handle => self.route(shown, request),
            Act::Refuse => {
                let reason = "The assertion's signature is not valid: the key was not found.";
                Refusal::new(Error::InvalidClient, 700_027, reason).response(shown)
            }
        });
        self.tolerance = CLOCK_SKEW;
        self.record.count_status(response.status);
        let response = response.and("date", shown.http_date());
        Exchange { response, delay: plan.delay, wire: plan.wire }
    }

    fn route(&mut self, now: UnixMicros, request: &Request) -> Response {
        if !is_plain(&request.authority) {
            return Response::empty(400);
        }
        let path = request.path.strip_suffix('/').unwrap_or(&request.path);
        if path.eq_ignore_ascii_case(METADATA_PATH) {
            return self.metadata(now, request);
        }
        let at = path.len().checked_sub(ISSUANCE_PATH.len());
        match at.and_then(|at| path.split_at_checked(at)) {
            Some((before, end)) if end.eq_ignore_ascii_case(ISSUANCE_PATH) => {
                self.issuance(now, request, before.trim_start_matches('/'))
            }
            _ => Response::empty(404),
        }
    }

    fn metadata(&mut self, now: UnixMicros, request: &Request) -> Response {
        if !request.method.eq_ignore_ascii_case("GET") {
            return Response::empty(405).and("allow", "GET");
        }
        self.record.count_document();
        let fields = form_urlencoded::parse(request.query.as_bytes());
        let realm = fields.filter(|(name, _)| name == "realm").map(|(_, realm)| realm).next();
        let realm = realm.as_deref().unwrap_or("*");
        let tenant = self.tenants.find(realm);
        if tenant.is_none() && !matches!(realm, "*" | "") {
            let reason = "No tenant has the realm asked for.";
            let refused = Refusal::new(Error::InvalidRequest, 90_002, reason).response(now);
            return Response { status: 404, ..refused };
        }
        let document = self.document(tenant, plain_authority(&request.authority));
        Response::with_body(200, "application/json; charset=utf-8", document.to_json().to_string())
    }

    fn document(&self, tenant: Option<&Tenant>, authority: &str) -> Document {
        let below = tenant.map_or(String::new(), |tenant| format!("/{}", tenant.id));
        Document {
            name: "mailbadge simulator".to_owned(),
            application_id: self.settings.application_id.clone(),
            realm: tenant.map_or("*", |tenant| &tenant.id).to_owned(),
            authority: authority.to_owned(),
            certificates: self.keys.published().map(|key| key.certificate().to_vec()).collect(),
            issuance: Some(format!("https://{authority}{below}{ISSUANCE_PATH}")),
            metadata: format!("https://{authority}{METADATA_PATH}"),
        }
    }

    fn issuance(&mut self, now: UnixMicros, request: &Request, tenant: &str) -> Response {
        if !request.method.eq_ignore_ascii_case("POST") {
            return Response::empty(405).and("allow", "POST");
        }
        if request.body.len() > self.settings.body_bytes_max {
            return Response::with_body(413, "text/plain", "body too large");
        }
        let form = Form::read(request);
        let decoded = form.as_ref().ok().and_then(|form| decode(&form.assertion));
        let issued = form.and_then(|form| self.issue(now, request, tenant, &form, decoded.as_ref()));
        let response = match &issued {
            Ok((_, response)) => response.clone(),
            Err(refusal) => refusal.response(now),
        };
        let assertion = decoded.map(|decoded| json!({ "header": decoded.header, "claims": decoded.claims }));
        self.record.push(now, assertion, issued.map(|(issued, _)| issued));
        response.and("cache-control", "no-store").and("pragma", "no-cache")
    }

    fn issue(
        &self,
        now: UnixMicros,
        request: &Request,
        tenant: &str,
        form: &Form<'_>,
        decoded: Option<&Decoded>,
    ) -> Result<(Issued, Response), Refusal> {
        let check = AssertionCheck {
            own_application_id: &self.settings.application_id,
            authority: plain_authority(&request.authority),
            tenants: &self.tenants,
            tenant: self.named_tenant(tenant)?,
            now,
            tolerance: self.tolerance,
        };
        let grant = check.check(&form.assertion, decoded, &form.resource)?;
        let (header, claims) = (self.keys.current().header(), self.claims(now, &grant, &form.resource));
        let Some(token) = self.keys.current().sign(&header, &claims) else {
            return Err(Refusal::new(Error::InvalidRequest, 90_033, "The token service's key cannot sign."));
        };
        let response = self.granted(now, &token, &form.resource);
        Ok((Issued { tenant: grant.tenant.id.clone(), header, claims }, response))
    }

    /// The tenant that a path names; none where it names none, or all.
    fn named_tenant(&self, name: &str) -> Result<Option<&Tenant>, Refusal> {
        if name.is_empty() || name.eq_ignore_ascii_case("common") {
            return Ok(None);
        }
        let unknown =
            || Refusal::new(Error::InvalidRequest, 90_002, "The tenant of the request's URL is not found.");
        self.tenants.find(name).map(Some).ok_or_else(unknown)
    }

    fn claims(&self, now: UnixMicros, grant: &Grant<'_>, resource: &str) -> Value {
        let tenant = &grant.tenant.id;
        let own = format!("{}@{tenant}", self.settings.application_id);
        let object = object_id(tenant, grant.application_id);
        json!({
            "aud": resource,
            "iss": own,
            "nbf": not_before(now),
            "exp": self.expires(now),
            "identityprovider": own,
            "nameid": format!("{}@{tenant}", grant.application_id),
            "oid": object,
            "sub": object,
            "trustedfordelegation": "false",
        })
    }

    fn granted(&self, now: UnixMicros, token: &str, resource: &str) -> Response {
        let body = json!({
            "token_type": "Bearer",
            "access_token": token,
            "expires_in": self.settings.token_life.as_secs().to_string(),
            "not_before": not_before(now).to_string(),
            "expires_on": self.expires(now).to_string(),
            "resource": resource,
        });
        Response::with_body(200, "application/json; charset=utf-8", body.to_string())
    }

    const fn expires(&self, now: UnixMicros) -> u64 {
        now.seconds().saturating_add(self.settings.token_life.as_secs())
    }
}

const fn not_before(now: UnixMicros) -> u64 {
    now.seconds().saturating_sub(BACK_DATED.as_secs())
}

/// The service principal's own GUID: always the same for an application in a tenant.
fn object_id(tenant: &str, application_id: &str) -> String {
    let name = format!("{tenant}/{application_id}").to_ascii_lowercase();
    let bytes = digest(&SHA256, name.as_bytes());
    let n = bytes.as_ref().iter().take(16).fold(0_u128, |n, byte| n << 8 | u128::from(*byte));
    let part = |shift: u32, digits: u32| n >> shift & ((1 << (4 * digits)) - 1);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        part(96, 8),
        part(80, 4),
        part(64, 4),
        part(48, 4),
        part(0, 12)
    )
}

/// What may stand in a URL that is told to others.
fn is_plain(authority: &str) -> bool {
    !authority.is_empty() && authority.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]_".contains(&b))
}

#[cfg(test)]
mod tests;
