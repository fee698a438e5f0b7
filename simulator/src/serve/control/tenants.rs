//! `/control/tenants`: organizations, whom the relay trusts for them, and their key credentials.

use super::super::{World, clock};
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
    /// Without them the token service here.
    token_services: Option<Vec<PutIssuer>>,
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
    metadata_url: Option<String>,
}

pub(super) async fn put(State(world): Shared, Body(put): Body<PutTenant>) -> Answer {
    let mut tenant = Tenant {
        partner_applications: issuers(&put.partner_applications)?,
        token_services: issuers(put.token_services.as_deref().unwrap_or_default())?,
        service_principals: issuers(&put.service_principals)?,
        id: put.id,
        accepted_domains: put.accepted_domains,
        registered_applications: put.registered_applications,
        resources: put.resources,
        notifications_per_minute: put.notifications_per_minute,
    };
    if put.token_services.is_none() {
        tenant = world.trusting_own_token_service(tenant);
    }
    let id = tenant.id.clone();
    world.put_tenant(tenant).map_err(refused)?;
    shown(&world, &id)
}

/// A tenant as it is now.
fn shown(world: &World, realm: &str) -> Answer {
    let relay = world.relay.lock();
    let tenant = relay.tenants.find(realm).ok_or_else(|| refused(TenantError::Unknown(realm.to_owned())))?;
    Ok(Json(view::tenant(tenant, &relay.documents)))
}

fn issuers(puts: &[PutIssuer]) -> Result<Vec<Issuer>, Problem> {
    puts.iter()
        .map(|put| {
            let mut issuer = Issuer::new(&put.application_id, &put.realm);
            issuer.metadata_url.clone_from(&put.metadata_url);
            put.certificates.iter().try_fold(issuer, |issuer, text| Ok(issuer.with(certificate(text)?)))
        })
        .collect()
}

fn certificate(text: &str) -> Result<KeyCredential, Problem> {
    KeyCredential::read(text.as_bytes()).map_err(Problem::bad)
}

pub(super) async fn remove(State(world): Shared, Path(realm): Path<String>) -> Answer {
    let unknown = || TenantError::Unknown(realm.clone());
    world
        .change_tenants(|tenants| tenants.remove(&realm).then_some(()).ok_or_else(unknown))
        .map_err(refused)?;
    Ok(Json(json!({ "removed": realm })))
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
    let changed = world.change_tenants(|tenants| {
        let tenant = tenants.find(&realm).ok_or_else(|| TenantError::Unknown(realm.clone()))?;
        let kinds = put.kind.or(asked.kind).map_or_else(|| put.usual_kinds(tenant), |kind| vec![kind]);
        let issuers: Vec<Issuer> = kinds.iter().map(|&kind| put.issuer(tenant, kind)).collect();
        let mut is_new = false;
        for (kind, issuer) in kinds.iter().zip(&issuers) {
            is_new |= tenants.add_credential(&realm, *kind, issuer, credential.clone())?;
        }
        Ok((kinds, is_new))
    });
    let (kinds, is_new) = changed.map_err(refused)?;
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
        usual_issuer(tenant, kind, self.application_id.as_deref(), self.realm.as_deref())
    }
}

/// An issuer of a tenant by what was said of it.
fn usual_issuer(
    tenant: &Tenant,
    kind: IssuerKind,
    application_id: Option<&str>,
    realm: Option<&str>,
) -> Issuer {
    let (usual_id, usual_realm) = match kind {
        IssuerKind::Partner => {
            (EXCHANGE_APPLICATION_ID, tenant.accepted_domains.first().unwrap_or(&tenant.id))
        }
        IssuerKind::TokenService => (TOKEN_SERVICE_APPLICATION_ID, &tenant.id),
        IssuerKind::ServicePrincipal => (EXCHANGE_APPLICATION_ID, &tenant.id),
    };
    // A service principal is always of its tenant.
    let realm = realm.filter(|_| kind != IssuerKind::ServicePrincipal);
    Issuer::new(application_id.unwrap_or(usual_id), realm.unwrap_or(usual_realm))
}

/// Trust by a document, of a partner unless it is said.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TrustDocument {
    url: String,
    kind: Option<IssuerKind>,
    application_id: Option<String>,
    realm: Option<String>,
}

pub(super) async fn trust_document(
    State(world): Shared,
    Path(realm): Path<String>,
    Body(trust): Body<TrustDocument>,
) -> Answer {
    let kind = trust.kind.unwrap_or(IssuerKind::Partner);
    let changed = world.change_tenants(|tenants| {
        let tenant = tenants.find(&realm).ok_or_else(|| TenantError::Unknown(realm.clone()))?;
        let issuer = usual_issuer(tenant, kind, trust.application_id.as_deref(), trust.realm.as_deref());
        tenants.trust_document(&realm, kind, &issuer, &trust.url)
    });
    changed.map_err(refused)?;
    refresh(State(world), Path(realm)).await
}

/// Reads a tenant's documents again, now, and shows the tenant with what became of them.
pub(super) async fn refresh(State(world): Shared, Path(realm): Path<String>) -> Answer {
    world.relay.lock().refresh_documents(clock::now(), &realm).map_err(refused)?;
    world.read_due_documents().await;
    shown(&world, &realm)
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
    let removed =
        world.change_tenants(|tenants| tenants.remove_credential(&tenant, &name)).map_err(refused)?;
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
