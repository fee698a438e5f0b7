//! `/control/state`, `/control/notifications`, `/control/tokens`, `/control/totals`: what relay and token service saw.

use super::super::World;
use super::{Answer, Shared, faults, mailboxes, quirks, token_service, view};
use crate::peers::fault::Peer;
use crate::peers::relay::Relay;
use crate::peers::relay::record::TOKENS_MAX;
use crate::peers::token_service::record::REQUESTS_MAX;
use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

/// Batches that the page begins with.
pub(in crate::serve) const BATCHES_AT_FIRST: usize = 20;
/// Mailboxes that the page shows.
pub(in crate::serve) const MAILBOXES_SHOWN: usize = 50;
/// Notifications of a batch that the page shows.
pub(in crate::serve) const NOTIFICATIONS_SHOWN: usize = 50;
/// Tokens that the page knows.
pub(in crate::serve) const TOKENS_SHOWN: usize = 20;
/// Devices that the page shows.
pub(in crate::serve) const DEVICES_SHOWN: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    #[serde(default)]
    after: u64,
}

pub(super) async fn notifications(State(world): Shared, Query(slice): Query<After>) -> Answer {
    // Cloned under the lock, which costs no body; written down outside of it.
    let batches: Vec<_> = world.relay.lock().record.batches_after(slice.after).cloned().collect();
    let all = |batch| view::batch(batch, usize::MAX);
    Ok(Json(json!({ "batches": batches.iter().map(all).collect::<Vec<Value>>() })))
}

pub(super) async fn tokens(State(world): Shared) -> Answer {
    let seen = tokens_of(&world.relay.lock(), TOKENS_MAX);
    let requests = token_service::requests(&world.token_service.lock(), REQUESTS_MAX);
    Ok(Json(json!({ "tokens": seen, "requests": requests })))
}

/// The newest tokens, oldest of them first.
pub(in crate::serve) fn tokens_of(relay: &Relay, limit: usize) -> Vec<Value> {
    let tokens = relay.record.tokens();
    let from = tokens.len().saturating_sub(limit);
    tokens.into_iter().skip(from).map(view::token).collect()
}

pub(in crate::serve) fn all_tenants(relay: &Relay) -> Vec<Value> {
    relay.tenants.iter().map(|tenant| view::tenant(tenant, &relay.documents)).collect()
}

pub(super) async fn totals(State(world): Shared) -> Answer {
    Ok(Json(all_totals(&world)))
}

pub(in crate::serve) fn all_totals(world: &World) -> Value {
    let relay = world.relay.lock();
    let drops: Vec<Value> =
        relay.record.drops().iter().map(|(drop, times)| json!({ "reason": drop, "times": times })).collect();
    json!({
        "totals": relay.record.totals(),
        "statuses": relay.record.statuses(),
        "drops": drops,
        "unreadable": relay.record.unreadable,
        "handshakeFailures": world.handshake_failures(),
        "devices": relay.devices.len(),
    })
}

/// Everything that the page begins with; the events go on from there.
pub(super) async fn state(State(world): Shared) -> Answer {
    let (count, boxes, quirks) = world.mail_store.as_ref().map_or_else(Default::default, |store| {
        let store = store.lock();
        (store.count(), mailboxes::some(&store, 0, MAILBOXES_SHOWN), quirks::everywhere(&store))
    });
    let mut state = json!({
        "relay": { "url": world.relay_url(), "isUp": world.is_up(Peer::Relay) },
        "tokenService": token_service::state(&world),
        "hasMailStore": world.mail_store.is_some(),
        "mailboxCount": count,
        "mailboxes": boxes,
        "quirks": quirks,
        "figures": all_totals(&world),
    });
    let faults = faults::all(&world);
    let relay = world.relay.lock();
    let batches: Vec<_> = relay.record.batches_after(0).collect();
    let newest = batches.len().saturating_sub(BATCHES_AT_FIRST);
    let more = json!({
        "devices": relay.devices.iter().take(DEVICES_SHOWN).map(view::device).collect::<Vec<Value>>(),
        "batches": batches.iter().skip(newest).map(|batch| view::batch(batch, NOTIFICATIONS_SHOWN)).collect::<Vec<Value>>(),
        "tokens": tokens_of(&relay, TOKENS_SHOWN),
        "tenants": all_tenants(&relay),
        "faults": faults.get("faults"),
    });
    if let (Some(state), Value::Object(more)) = (state.as_object_mut(), more) {
        state.extend(more);
    }
    Ok(Json(state))
}
