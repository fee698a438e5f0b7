//! `/control/state`, `/control/notifications`, `/control/tokens`, `/control/totals`: what the relay saw.

use super::super::World;
use super::{Answer, Shared, faults, mailboxes, view};
use crate::peers::relay::Relay;
use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

/// Batches that the page begins with.
pub(in crate::serve) const BATCHES_AT_FIRST: usize = 20;
/// Mailboxes that the page shows.
pub(in crate::serve) const MAILBOXES_SHOWN: usize = 50;
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
    Ok(Json(json!({ "batches": batches.iter().map(view::batch).collect::<Vec<Value>>() })))
}

pub(super) async fn tokens(State(world): Shared) -> Answer {
    Ok(Json(json!({ "tokens": all_tokens(&world.relay.lock()) })))
}

pub(in crate::serve) fn all_tokens(relay: &Relay) -> Vec<Value> {
    relay.record.tokens().into_iter().map(view::token).collect()
}

pub(in crate::serve) fn all_tenants(relay: &Relay) -> Vec<Value> {
    relay.tenants.iter().map(view::tenant).collect()
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
    let (count, boxes) = world.mail_store.as_ref().map_or_else(Default::default, |store| {
        let store = store.lock();
        (store.count(), mailboxes::some(&store, 0, MAILBOXES_SHOWN))
    });
    let mut state = json!({
        "relay": { "url": world.relay_url(), "isUp": world.is_relay_up() },
        "hasMailStore": world.mail_store.is_some(),
        "mailboxCount": count,
        "mailboxes": boxes,
        "figures": all_totals(&world),
    });
    let faults = faults::all(&world);
    let relay = world.relay.lock();
    let batches: Vec<_> = relay.record.batches_after(0).collect();
    let newest = batches.len().saturating_sub(BATCHES_AT_FIRST);
    let more = json!({
        "devices": relay.devices.iter().take(DEVICES_SHOWN).map(view::device).collect::<Vec<Value>>(),
        "batches": batches.iter().skip(newest).map(|batch| view::batch(batch)).collect::<Vec<Value>>(),
        "tokens": all_tokens(&relay),
        "tenants": all_tenants(&relay),
        "faults": faults.get("faults"),
    });
    if let (Some(state), Value::Object(more)) = (state.as_object_mut(), more) {
        state.extend(more);
    }
    Ok(Json(state))
}
