//! `/control/tenants`: organizations, whom the relay trusts for them, and their key credentials.

use super::{Answer, Body, Problem, Shared, record, view};
use crate::peers::relay::EXCHANGE_APPLICATION_ID;
use crate::peers::tenant::credential::KeyCredential;
use crate::peers::tenant::{Issuer, IssuerKind, Tenant, TenantError, Tenants};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;

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
    registered_applications: Vec<String>,
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
        id: put.id,
        accepted_domains: put.accepted_domains,
        registered_applications: put.registered_applications,
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

/// An asymmetric `Verify` credential. Without names it is of the tenant's own Exchange.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PutCredential {
    application_id: Option<String>,
    /// Default: the tenant's first domain.
    realm: Option<String>,
    #[serde(default)]
    kind: Kind,
    /// Base64 of DER, or PEM.
    certificate: String,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    #[default]
    Partner,
    TokenService,
}

pub(super) async fn add_credential(
    State(world): Shared,
    Path(tenant): Path<String>,
    Body(put): Body<PutCredential>,
) -> Answer {
    let credential = certificate(&put.certificate)?;
    let thumbprint = credential.thumbprint();
    let tenants = &mut world.relay.lock().tenants;
    let issuer = issuer_of(tenants, &tenant, &put).map_err(refused)?;
    let kind = match put.kind {
        Kind::Partner => IssuerKind::Partner,
        Kind::TokenService => IssuerKind::TokenService,
    };
    let is_new = tenants.add_credential(&tenant, kind, &issuer, credential).map_err(refused)?;
    Ok(Json(json!({ "thumbprint": thumbprint, "isNew": is_new })))
}

fn issuer_of(tenants: &Tenants, realm: &str, put: &PutCredential) -> Result<Issuer, TenantError> {
    let tenant = tenants.find(realm).ok_or_else(|| TenantError::Unknown(realm.to_owned()))?;
    let own_realm = tenant.accepted_domains.first().unwrap_or(&tenant.id);
    let application_id = put.application_id.as_deref().unwrap_or(EXCHANGE_APPLICATION_ID);
    Ok(Issuer::new(application_id, put.realm.as_ref().unwrap_or(own_realm)))
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
