//! How the peers' state looks in JSON. Never a signature, a password or a key.

use crate::peers::device::Device;
use crate::peers::mail_store::{AccountId, MailStore};
use crate::peers::relay::batch::Batch;
use crate::peers::relay::documents::Documents;
use crate::peers::relay::record::{BatchRecord, SeenToken};
use crate::peers::tenant::credential::KeyCredential;
use crate::peers::tenant::{Issuer, Tenant};
use serde_json::{Value, json};

pub(in crate::serve) fn device(device: &Device) -> Value {
    let history: Vec<Value> = device
        .history()
        .map(|shown| {
            json!({
                "count": shown.count,
                "atMicros": shown.at.0,
                "number": shown.stamp.map(|stamp| stamp.number),
            })
        })
        .collect();
    json!({
        "appId": device.app.id(),
        "deviceId": device.id,
        "mailbox": device.mailbox,
        "badge": device.badge(),
        "isGone": device.is_gone,
        "received": device.received,
        "stale": device.stale,
        "repeated": device.repeated,
        "history": history,
    })
}

pub(in crate::serve) fn mailbox(store: &MailStore, account: AccountId) -> Option<Value> {
    let status = store.status(account)?;
    Some(json!({
        "name": store.name(account)?.as_ref(),
        "messages": status.messages,
        "unseen": status.unseen,
        "uidnext": status.uidnext,
        "uidvalidity": status.uidvalidity,
        "modseq": status.modseq,
    }))
}

/// A batch with what stands in it, `limit` notifications at most.
pub(in crate::serve) fn batch(batch: &BatchRecord, limit: usize) -> Value {
    let notifications: Vec<Value> = Batch::read(&batch.body)
        .map(|b| b.notifications.iter().take(limit).map(notification).collect())
        .unwrap_or_default();
    json!({
        "number": batch.number,
        "atMicros": batch.at.0,
        "requestId": batch.request_id,
        "tenant": batch.tenant,
        "token": batch.token,
        "isProbe": batch.is_probe,
        "accepted": batch.accepted,
        "rejected": batch.rejected,
        "bytes": batch.body.len(),
        "notificationCount": batch.notifications,
        "notifications": notifications,
    })
}

fn notification(notification: &crate::peers::relay::batch::Notification<'_>) -> Value {
    let payload = notification.payload.as_ref();
    let recipients: Vec<Value> = notification
        .recipients
        .iter()
        .flatten()
        .map(|r| json!({ "appId": r.app_id.as_deref(), "deviceId": r.device_id.as_deref() }))
        .collect();
    json!({
        "id": notification.id.as_deref(),
        "unseenEmailCount": payload.and_then(|p| p.unseen_email_count),
        "backgroundSyncType": payload.and_then(|p| p.background_sync_type),
        "isMonitoring": payload.and_then(|p| p.is_monitoring),
        "recipients": recipients,
    })
}

pub(in crate::serve) fn token(token: &SeenToken) -> Value {
    let refusal = token.verdict.as_ref().err();
    json!({
        "number": token.number,
        "firstSeenMicros": token.first_seen.0,
        "lastSeenMicros": token.last_seen.0,
        "uses": token.uses,
        "header": token.decoded.as_ref().map(|decoded| &decoded.header),
        "claims": token.decoded.as_ref().map(|decoded| &decoded.claims),
        "tenant": token.verdict.as_ref().ok().map(|accepted| &accepted.tenant),
        "refused": refusal.map(|r| json!({ "category": r.category.code(), "reason": r.reason })),
    })
}

pub(in crate::serve) fn tenant(tenant: &Tenant, documents: &Documents) -> Value {
    let issuers = |list: &[Issuer]| list.iter().map(|one| issuer(one, documents)).collect::<Vec<Value>>();
    json!({
        "id": tenant.id,
        "acceptedDomains": tenant.accepted_domains,
        "partnerApplications": issuers(&tenant.partner_applications),
        "tokenServices": issuers(&tenant.token_services),
        "servicePrincipals": issuers(&tenant.service_principals),
        "registeredApplications": tenant.registered_applications,
        "resources": tenant.resources,
        "notificationsPerMinute": tenant.notifications_per_minute,
    })
}

fn issuer(issuer: &Issuer, documents: &Documents) -> Value {
    let credentials: Vec<Value> = issuer.credentials.iter().map(credential).collect();
    let published: Vec<Value> = issuer.published.iter().map(credential).collect();
    let reading = issuer.metadata_url.as_deref().and_then(|url| documents.reading(url));
    json!({
        "applicationId": issuer.application_id,
        "realm": issuer.realm,
        "credentials": credentials,
        "metadataUrl": issuer.metadata_url,
        "published": published,
        "readAtMicros": reading.and_then(|reading| reading.read_at),
        "error": reading.and_then(|reading| reading.outcome.clone()?.err()),
    })
}

pub(in crate::serve) fn credential(credential: &KeyCredential) -> Value {
    let (start, end) = credential.validity();
    json!({
        "thumbprint": credential.thumbprint(),
        "x5t": credential.x5t(),
        "bits": credential.bits(),
        "startSeconds": start.seconds(),
        "endSeconds": end.seconds(),
    })
}
