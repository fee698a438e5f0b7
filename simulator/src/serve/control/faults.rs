//! `/control/faults` and `/control/relay`: what goes wrong, the relay's listener and its certificate.

use super::super::certificates::CertificateFiles;
use super::super::{ServeError, World, clock};
use super::{Answer, Body, Problem, Shared};
use crate::peers::fault::{FAULTS_MAX, Order};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;

pub(super) async fn list(State(world): Shared) -> Answer {
    Ok(Json(all(&world)))
}

/// The faults that are on.
pub(in crate::serve) fn all(world: &World) -> Value {
    json!({ "faults": world.relay.lock().faults.list(clock::now()) })
}

pub(super) async fn add(State(world): Shared, Body(order): Body<Order>) -> Answer {
    if !(0.0..=1.0).contains(&order.rate) {
        return Err(Problem::bad("rate is a share of the requests, from 0 to 1"));
    }
    let id = world.relay.lock().faults.add(order, clock::now());
    let id = id.ok_or_else(|| Problem::bad(format!("{FAULTS_MAX} faults are on, which is the limit")))?;
    Ok(Json(json!({ "id": id })))
}

pub(super) async fn remove(State(world): Shared, Path(id): Path<u64>) -> Answer {
    if world.relay.lock().faults.remove(id) {
        return Ok(Json(json!({ "removed": id })));
    }
    Err(Problem::new(StatusCode::NOT_FOUND, format!("no fault {id} is on")))
}

pub(super) async fn clear(State(world): Shared) -> Answer {
    world.relay.lock().faults.clear();
    Ok(Json(json!({ "faults": [] })))
}

pub(super) async fn start(State(world): Shared) -> Answer {
    switch(&world, true).await
}

pub(super) async fn stop(State(world): Shared) -> Answer {
    switch(&world, false).await
}

async fn switch(world: &World, is_up: bool) -> Answer {
    world.set_relay_up(is_up).await.map_err(failed)?;
    Ok(Json(json!({ "isUp": is_up })))
}

/// Files of a new certificate; none where our own authority shall make one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Renew {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

pub(super) async fn certificate(State(world): Shared, Body(renew): Body<Renew>) -> Answer {
    let files = match renew {
        Renew { certificate: Some(certificate), key: Some(key) } => {
            Some(CertificateFiles { certificate, key })
        }
        Renew { certificate: None, key: None } => None,
        _ => return Err(Problem::bad("certificate and key go together")),
    };
    world.renew_certificate(files.as_ref()).map_err(failed)?;
    Ok(Json(json!({ "renewed": true })))
}

fn failed(error: ServeError) -> Problem {
    Problem::new(StatusCode::CONFLICT, error)
}
