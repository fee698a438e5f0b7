//! `/control/tenants`: organizations, whom the relay trusts for them, and their key credentials.

use super::{Answer, Body, Problem, Shared, record, view};
use crate::peers::principal::{EXCHANGE_APPLICATION_ID, TOKEN_SERVICE_APPLICATION_ID};
use crate::peers::tenant::credential::KeyCredential;
use crate::peers::tenant::{Issuer, IssuerKind, Tenant, TenantError};
use crate::peers::unix_time::UnixMicros;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(super) async fn list(State(world): Shared) -> Answer {
    Ok(Json(json!({ "tenants": record::all_tenants(&world.relay.lock()) })))
}

/// A tenant as it is put; members as they are shown.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PutTenant {
    id: String,
    #[serde(default)]
    accepted_domains: Vec<String>,
    #[serde(default)]
    partner_applications: Vec<PutIssuer>,
    #[serde(default)]
    token_services: Vec<PutIssuer>,
    #[serde(default)]
    service_principals: Vec<PutIssuer>,
    #[serde(default)]
    registered_applications: Vec<String>,
    /// `application id/host`.
    #[serde(default)]
    resources: Vec<String>,
    notifications_per_minute: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PutIssuer {
    application_id: String,
    realm: String,
    /// Base64 of DER, or PEM.
    #[serde(default)]
    certificates: Vec<String>,
}

pub(super) async fn put(State(world): Shared, Body(put): Body<PutTenant>) -> Answer {
    let tenant = Tenant {
        partner_applications: issuers(&put.partner_applications)?,
        token_services: issuers(&put.token_services)?,
        service_principals: issuers(&put.service_principals)?,
        id: put.id,
        accepted_domains: put.accepted_domains,
        registered_applications: put.registered_applications,
        resources: put.resources,
        notifications_per_minute: put.notifications_per_minute,
    };
    let shown = view::tenant(&tenant);
    world.relay.lock().tenants.put(tenant).map_err(refused)?;
    Ok(Json(shown))
}

fn issuers(puts: &[PutIssuer]) -> Result<Vec<Issuer>, Problem> {
    puts.iter()
        .map(|put| {
            let issuer = Issuer::new(&put.application_id, &put.realm);
            put.certificates.iter().try_fold(issuer, |issuer, text| Ok(issuer.with(certificate(text)?)))
        })
        .collect()
}

fn certificate(text: &str) -> Result<KeyCredential, Problem> {
    KeyCredential::read(text.as_bytes()).map_err(Problem::bad)
}

pub(super) async fn remove(State(world): Shared, Path(realm): Path<String>) -> Answer {
    if world.relay.lock().tenants.remove(&realm) {
        return Ok(Json(json!({ "removed": realm })));
    }
    Err(refused(TenantError::Unknown(realm)))
}

/// An asymmetric `Verify` credential (protocol.md §5.7). Without names it is of the tenant's own Exchange.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PutCredential {
    application_id: Option<String>,
    /// Of a partner the tenant's first domain unless given, of others its GUID.
    realm: Option<String>,
    kind: Option<IssuerKind>,
    /// Base64 of DER, or PEM.
    #[serde(alias = "certificate")]
    key: String,
    #[serde(rename = "type")]
    key_type: Option<String>,
    usage: Option<String>,
    start_date: Option<String>,
    end_date: Option<String>,
}

/// The kind may also stand in the URL: whoever uploads a key credential has its form from elsewhere.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    kind: Option<IssuerKind>,
}

pub(super) async fn add_credential(
    State(world): Shared,
    Path(realm): Path<String>,
    Query(asked): Query<Asked>,
    Body(put): Body<PutCredential>,
) -> Answer {
    let credential = put.credential()?;
    let thumbprint = credential.thumbprint();
    let tenants = &mut world.relay.lock().tenants;
    let tenant = tenants.find(&realm).ok_or_else(|| refused(TenantError::Unknown(realm.clone())))?;
    let kinds = put.kind.or(asked.kind).map_or_else(|| put.usual_kinds(tenant), |kind| vec![kind]);
    let issuers: Vec<(IssuerKind, Issuer)> =
        kinds.iter().map(|&kind| (kind, put.issuer(tenant, kind))).collect();
    let mut is_new = false;
    for (kind, issuer) in &issuers {
        is_new |= tenants.add_credential(&realm, *kind, issuer, credential.clone()).map_err(refused)?;
    }
    Ok(Json(json!({ "thumbprint": thumbprint, "isNew": is_new, "kinds": kinds })))
}

impl PutCredential {
    fn credential(&self) -> Result<KeyCredential, Problem> {
        let is = |member: &Option<String>, expected: &str| {
            member.as_ref().is_none_or(|text| text.eq_ignore_ascii_case(expected))
        };
        if !is(&self.key_type, "AsymmetricX509Cert") || !is(&self.usage, "Verify") {
            return Err(Problem::bad(
                "a key credential has the type AsymmetricX509Cert and the usage Verify",
            ));
        }
        let (start, end) = (date(self.start_date.as_deref())?, date(self.end_date.as_deref())?);
        certificate(&self.key)?.between(start, end).map_err(Problem::bad)
    }

    /// For the token service, as a cloud's directory does it; and for direct trust where that is what the tenant has.
    fn usual_kinds(&self, tenant: &Tenant) -> Vec<IssuerKind> {
        let named = self.issuer(tenant, IssuerKind::Partner);
        let is_partner = tenant.partner_applications.iter().any(|partner| partner.is(&named));
        let mut kinds = vec![IssuerKind::ServicePrincipal];
        if is_partner || tenant.token_services.is_empty() {
            kinds.push(IssuerKind::Partner);
        }
        kinds
    }

    fn issuer(&self, tenant: &Tenant, kind: IssuerKind) -> Issuer {
        let (application_id, realm) = match kind {
            IssuerKind::Partner => {
                (EXCHANGE_APPLICATION_ID, tenant.accepted_domains.first().unwrap_or(&tenant.id))
            }
            IssuerKind::TokenService => (TOKEN_SERVICE_APPLICATION_ID, &tenant.id),
            IssuerKind::ServicePrincipal => (EXCHANGE_APPLICATION_ID, &tenant.id),
        };
        // A service principal is always of its tenant.
        let given = self.realm.as_ref().filter(|_| kind != IssuerKind::ServicePrincipal);
        Issuer::new(self.application_id.as_deref().unwrap_or(application_id), given.unwrap_or(realm))
    }
}

/// As JSON writes dates (RFC 3339).
fn date(text: Option<&str>) -> Result<Option<UnixMicros>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let parsed = OffsetDateTime::parse(text, &Rfc3339);
    let seconds = parsed.ok().and_then(|date| u64::try_from(date.unix_timestamp()).ok());
    let wrong = || Problem::bad(format!("{text:?} is no date like 2026-01-01T00:00:00Z"));
    seconds.map(|seconds| Some(UnixMicros::from_seconds(seconds))).ok_or_else(wrong)
}

pub(super) async fn remove_credential(
    State(world): Shared,
    Path((tenant, name)): Path<(String, String)>,
) -> Answer {
    let removed = world.relay.lock().tenants.remove_credential(&tenant, &name).map_err(refused)?;
    if removed == 0 {
        let error = format!("{tenant} has no certificate {name}");
        return Err(Problem::new(StatusCode::NOT_FOUND, error));
    }
    Ok(Json(json!({ "removed": removed })))
}

fn refused(error: TenantError) -> Problem {
    let status = match error {
        TenantError::Unknown(_) => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_REQUEST,
    };
    Problem::new(status, error)
}
