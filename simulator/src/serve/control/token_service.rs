//! `/control/token-service`: how it signs, what it was asked, and the roll-over of its key.

use super::super::{World, certificates};
use super::{Answer, Body, Problem, Shared, faults, view};
use crate::peers::fault::Peer;
use crate::peers::token_service::TokenService;
use crate::peers::token_service::keys::SigningKey;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

/// Token requests that the page shows.
const REQUESTS_SHOWN: usize = 10;

pub(super) async fn show(State(world): Shared) -> Answer {
    Ok(Json(state(&world)))
}

/// Everything that the page shows of it.
pub(in crate::serve) fn state(world: &World) -> Value {
    let service = world.token_service.lock();
    let key = |key: &SigningKey| view::credential(key.credential());
    json!({
        "url": world.token_service_url(),
        "isUp": world.is_up(Peer::TokenService),
        "keys": {
            "current": key(service.keys.current()),
            "next": service.keys.next().map(key),
            "previous": service.keys.previous().map(key),
        },
        "issued": service.record.issued(),
        "documentsRead": service.record.documents(),
        "statuses": service.record.statuses(),
        "requests": requests(&service, REQUESTS_SHOWN),
    })
}

/// The newest token requests, oldest of them first; of tokens what stood in them.
pub(in crate::serve) fn requests(service: &TokenService, limit: usize) -> Value {
    let requests = service.record.requests();
    let from = requests.len().saturating_sub(limit);
    json!(requests.skip(from).collect::<Vec<_>>())
}

/// A step of the key's roll-over.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotate {
    step: Option<Step>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Step {
    /// A next key is published in documents.
    Publish,
    /// The next key signs; without one a fresh one at once, which nobody could have read of.
    Use,
    /// The previous key is published no more.
    Forget,
}

pub(super) async fn rotate(State(world): Shared, Body(rotate): Body<Rotate>) -> Answer {
    let is_published = world.token_service.lock().keys.next().is_some();
    let usual = if is_published { Step::Use } else { Step::Publish };
    let step = rotate.step.unwrap_or(usual);
    // RSA keys take their time: made outside of the lock, and off the threads that serve.
    let fresh = match step {
        Step::Publish => Some(fresh_key().await?),
        Step::Use if !is_published => Some(fresh_key().await?),
        Step::Use | Step::Forget => None,
    };
    let taken = {
        let keys = &mut world.token_service.lock().keys;
        match step {
            Step::Forget => keys.forget_previous(),
            Step::Publish | Step::Use => fresh.map_or(Ok(()), |key| keys.publish(key)),
        }
        .and_then(|()| if matches!(step, Step::Use) { keys.use_next() } else { Ok(()) })
    };
    taken.map_err(|error| Problem::new(StatusCode::CONFLICT, error))?;
    Ok(Json(state(&world)))
}

async fn fresh_key() -> Result<SigningKey, Problem> {
    let made = tokio::task::spawn_blocking(certificates::signing_key).await;
    let made = made.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    made.map_err(faults::failed)
}
