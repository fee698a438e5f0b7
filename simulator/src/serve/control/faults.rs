//! `/control/faults`, and of `/control/relay` and `/control/token-service` the listeners and their certificate.

use super::super::certificates::CertificateFiles;
use super::super::{ServeError, World, clock};
use super::{Answer, Body, Problem, Shared};
use crate::peers::fault::{FAULTS_MAX, Faults, Order, Peer};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;

pub(super) async fn list(State(world): Shared) -> Answer {
    Ok(Json(all(&world)))
}

/// The faults that are on.
pub(in crate::serve) fn all(world: &World) -> Value {
    let of = |peer| world.with_faults(peer, |faults| faults.list(clock::now()).to_vec());
    let faults = [of(Peer::Relay), of(Peer::TokenService)].concat();
    json!({ "faults": faults })
}

/// A fault as it is ordered, and whose.
#[derive(Deserialize)]
pub(super) struct Add {
    #[serde(default)]
    peer: Peer,
    #[serde(flatten)]
    order: Order,
}

pub(super) async fn add(State(world): Shared, Body(Add { peer, order }): Body<Add>) -> Answer {
    if !(0.0..=1.0).contains(&order.rate) {
        return Err(Problem::bad("rate is a share of the requests, from 0 to 1"));
    }
    if !peer.has(&order.kind) {
        return Err(Problem::bad("this is a fault of the relay alone"));
    }
    let id = world.change_faults(peer, |faults| faults.add(order, clock::now())).await.map_err(failed)?;
    let id = id.ok_or_else(|| Problem::bad(format!("{FAULTS_MAX} faults are on, which is the limit")))?;
    Ok(Json(json!({ "id": id, "peer": peer })))
}

/// Whose fault; the relay's unless it is said.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Of {
    peer: Option<Peer>,
}

pub(super) async fn remove(State(world): Shared, Path(id): Path<u64>, Query(of): Query<Of>) -> Answer {
    let removed = world.change_faults(of.peer.unwrap_or_default(), |faults| faults.remove(id)).await;
    if removed.map_err(failed)? {
        return Ok(Json(json!({ "removed": id })));
    }
    Err(Problem::new(StatusCode::NOT_FOUND, format!("no fault {id} is on")))
}

/// Of both unless one is named.
pub(super) async fn clear(State(world): Shared, Query(of): Query<Of>) -> Answer {
    for peer in [Peer::Relay, Peer::TokenService] {
        if of.peer.is_none_or(|named| named == peer) {
            world.change_faults(peer, Faults::clear).await.map_err(failed)?;
        }
    }
    Ok(Json(all(&world)))
}

pub(super) async fn start(State(world): Shared, peer: Peer) -> Answer {
    switch(&world, peer, true).await
}

pub(super) async fn stop(State(world): Shared, peer: Peer) -> Answer {
    switch(&world, peer, false).await
}

async fn switch(world: &World, peer: Peer, is_up: bool) -> Answer {
    world.set_up(peer, is_up).await.map_err(failed)?;
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

pub(super) fn failed(error: ServeError) -> Problem {
    Problem::new(StatusCode::CONFLICT, error)
}
