//! What the token service demands of an assertion and of the resource asked for (protocol.md §5.5).

use super::request::{Error, Refusal};
use crate::peers::jwt::{self, Decoded, SignatureFault, text};
use crate::peers::principal::{Audience, Principal};
use crate::peers::tenant::credential::KeyCredential;
use crate::peers::tenant::{Issuer, Tenant, Tenants};
use crate::peers::unix_time::UnixMicros;
use serde_json::{Map, Value};
use std::time::Duration;

/// Texts of a caller that stand in an answer are cut after so many characters.
const QUOTED_CHARS_MAX: usize = 200;

/// The token service's point of view on one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct AssertionCheck<'a> {
    pub(super) own_application_id: &'a str,
    /// Of the request: host, with a port that is not the default.
    pub(super) authority: &'a str,
    pub(super) tenants: &'a Tenants,
    /// The tenant that the request's path names; without one the assertion's issuer says which.
    pub(super) tenant: Option<&'a Tenant>,
    pub(super) now: UnixMicros,
    /// How far clocks may differ.
    pub(super) tolerance: Duration,
}

/// Who may have a token for what.
pub(super) struct Grant<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) application_id: &'a str,
}

impl<'a> AssertionCheck<'a> {
    /// All checks: who, by which signature, for here, for now, for what.
    pub(super) fn check(
        &self,
        assertion: &str,
        decoded: Option<&Decoded>,
        resource: &str,
    ) -> Result<Grant<'a>, Refusal> {
        let Some(Decoded { header, claims }) = decoded else {
            let reason = "The assertion is not a JWT: three base64url parts, of which two are JSON objects.";
            return Err(Refusal::new(Error::InvalidGrant, 50_027, reason));
        };
        if jwt::demands_extensions(header) {
            let reason = "The assertion's header has 'crit', and none of its extensions is understood.";
            return Err(Refusal::new(Error::InvalidGrant, 50_027, reason));
        }
        let (tenant, issuer) = self.issuer(claims)?;
        let principal = principal(tenant, issuer)?;
        jwt::signer(assertion, header, principal.credentials.iter(), self.now)
            .map_err(|fault| unsigned(fault, header, principal))?;
        self.audience(claims, tenant)?;
        jwt::lifetime(claims, self.now, self.tolerance).map_err(|fault| {
            let reason = format!("The assertion is not within its valid time range: {fault}.");
            Refusal::new(Error::InvalidGrant, 700_024, reason)
        })?;
        known_resource(tenant, resource)?;
        Ok(Grant { tenant, application_id: &principal.application_id })
    }

    fn issuer<'c>(&self, claims: &'c Map<String, Value>) -> Result<(&'a Tenant, Principal<'c>), Refusal> {
        let Some(issuer) = text(claims, "iss").and_then(Principal::parse) else {
            let reason = "The assertion's 'iss' is missing or is not application@tenant.";
            return Err(Refusal::new(Error::InvalidGrant, 50_027, reason));
        };
        let tenant = self.tenant.or_else(|| self.tenants.find(issuer.realm));
        if let Some(tenant) = tenant.filter(|tenant| tenant.is_realm(issuer.realm)) {
            return Ok((tenant, issuer));
        }
        let realm = quoted(issuer.realm);
        let reason = match self.tenant {
            Some(tenant) => {
                format!("The assertion's issuer is of {realm}, the request is for {}.", tenant.id)
            }
            None => format!("Tenant {realm} not found."),
        };
        Err(Refusal::new(Error::InvalidGrant, 90_002, reason))
    }

    fn audience(&self, claims: &Map<String, Value>, tenant: &Tenant) -> Result<(), Refusal> {
        let audience = text(claims, "aud").unwrap_or("");
        let is_here = |audience: Audience<'_>| {
            audience.id.eq_ignore_ascii_case(self.own_application_id)
                && audience.authority.eq_ignore_ascii_case(self.authority)
                && tenant.is_realm(audience.realm)
        };
        if Audience::parse(audience).is_some_and(is_here) {
            return Ok(());
        }
        let own = format!("{}/{}@{}", self.own_application_id, self.authority, tenant.id);
        let reason = format!("The assertion's audience is {}, it must be {own}.", quoted(audience));
        Err(Refusal::new(Error::InvalidGrant, 700_023, reason))
    }
}

fn principal<'a>(tenant: &'a Tenant, issuer: Principal<'_>) -> Result<&'a Issuer, Refusal> {
    let known = tenant.service_principals.iter().find(|p| p.application_id.eq_ignore_ascii_case(issuer.id));
    known.ok_or_else(|| {
        let id = quoted(issuer.id);
        let reason = format!("Application {id} has no service principal in the tenant {}.", tenant.id);
        Refusal::new(Error::InvalidClient, 700_016, reason)
    })
}

fn unsigned(fault: SignatureFault, header: &Map<String, Value>, principal: &Issuer) -> Refusal {
    let registered: Vec<String> = principal.credentials.iter().map(KeyCredential::thumbprint).collect();
    let registered = if registered.is_empty() { "none".to_owned() } else { registered.join(", ") };
    let named = text(header, "x5t").map_or("no x5t".to_owned(), |x5t| format!("x5t {}", quoted(x5t)));
    let reason = format!(
        "The assertion's signature is not valid: {fault}. The assertion names {named}; registered for {} are the thumbprints: {registered}.",
        principal.application_id
    );
    Refusal::new(Error::InvalidClient, 700_027, reason)
}

fn known_resource(tenant: &Tenant, resource: &str) -> Result<(), Refusal> {
    let audience = Audience::parse(resource);
    if audience.is_some_and(|audience| tenant.is_realm(audience.realm) && tenant.has_resource(audience)) {
        return Ok(());
    }
    let reason = format!(
        "The resource {} was not found in the tenant {}: it is application/host@tenant.",
        quoted(resource),
        tenant.id
    );
    Err(Refusal::new(Error::InvalidResource, 500_011, reason))
}

/// A caller's text, short enough to be repeated.
fn quoted(text: &str) -> String {
    let short: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    format!("'{short}'")
}
