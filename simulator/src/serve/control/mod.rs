//! The control API: what people and tests look at and change at run time, as JSON under `/control`.
//!
//! It has no log-in: it listens on loopback, and refuses what another site's page would send through a browser.

pub(super) mod devices;
pub(super) mod faults;
pub(super) mod mailboxes;
pub(super) mod quirks;
pub(super) mod record;
mod tenants;
pub(super) mod token_service;
pub(super) mod view;

use super::{World, events, page};
use crate::peers::fault::Peer;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;

/// Longest body of a control call, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

type Shared = State<Arc<World>>;
type Answer = Result<Json<Value>, Problem>;

/// The page and everything below `/control`.
pub(super) fn router(world: Arc<World>) -> Router {
    Router::new()
        .merge(page::routes())
        .route("/control/state", get(record::state))
        .route("/control/events", get(events::stream))
        .route("/control/notifications", get(record::notifications))
        .route("/control/tokens", get(record::tokens))
        .route("/control/totals", get(record::totals))
        .route("/control/devices", get(devices::list).post(devices::put))
        .route("/control/tenants", get(tenants::list).post(tenants::put))
        .route("/control/tenants/{realm}", axum::routing::delete(tenants::remove))
        .route("/control/tenants/{realm}/credentials", post(tenants::add_credential))
        .route(
            "/control/tenants/{realm}/credentials/{thumbprint}",
            axum::routing::delete(tenants::remove_credential),
        )
        .route("/control/tenants/{realm}/documents", post(tenants::trust_document))
        .route("/control/tenants/{realm}/refresh", post(tenants::refresh))
        .route("/control/faults", get(faults::list).post(faults::add).delete(faults::clear))
        .route("/control/faults/{id}", axum::routing::delete(faults::remove))
        .route("/control/relay/start", post(async |world| faults::start(world, Peer::Relay).await))
        .route("/control/relay/stop", post(async |world| faults::stop(world, Peer::Relay).await))
        .route("/control/token-service", get(token_service::show))
        .route(
            "/control/token-service/start",
            post(async |world| faults::start(world, Peer::TokenService).await),
        )
        .route(
            "/control/token-service/stop",
            post(async |world| faults::stop(world, Peer::TokenService).await),
        )
        .route("/control/token-service/rotate", post(token_service::rotate))
        .route("/control/relay/certificate", post(faults::certificate))
        .route("/control/quirks", get(quirks::list).post(quirks::switch))
        .route("/control/mailboxes", get(mailboxes::list))
        .route("/control/mailboxes/{name}/{action}", post(mailboxes::act))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "no such control call"))
        .layer(middleware::from_fn(own_pages_only))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(world)
}

/// What is wrong with a call, told in JSON.
pub(super) struct Problem {
    status: StatusCode,
    error: String,
}

impl Problem {
    fn new(status: StatusCode, error: impl Display) -> Self {
        Self { status, error: error.to_string() }
    }

    fn bad(error: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.error }))).into_response()
    }
}

/// A JSON body whose faults are told in JSON, whatever `Content-Type` says.
struct Body<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = axum::body::Bytes::from_request(request, state)
            .await
            .map_err(|error| Problem::new(error.status(), error.body_text()))?;
        let text = if bytes.is_empty() { &b"{}"[..] } else { &bytes };
        serde_json::from_slice(text).map(Self).map_err(Problem::bad)
    }
}

/// A page of another site may make a browser send requests here: by an origin of its own, or by a name that it points at
/// loopback. Neither gets through.
async fn own_pages_only(request: Request, next: Next) -> Response {
    if is_from_elsewhere(request.headers()) {
        return Problem::new(StatusCode::FORBIDDEN, "only pages of this server may call it").into_response();
    }
    next.run(request).await
}

fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(host) = text(header::HOST) else { return true };
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    let is_named = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok();
    let is_own = headers.get(header::ORIGIN).is_none_or(|origin| {
        origin.to_str().is_ok_and(|origin| origin.strip_prefix("http://") == Some(host))
    });
    !is_named || !is_own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_pages_and_programs_get_through() {
        let cases = [
            ("127.0.0.1:8080", None, true),
            ("[::1]:8080", None, true),
            ("localhost:8080", Some("http://localhost:8080"), true),
            ("127.0.0.1:8080", Some("http://127.0.0.1:8080"), true),
            ("127.0.0.1:8080", Some("https://evil.example"), false),
            ("127.0.0.1:8080", Some("null"), false),
            ("127.0.0.1:8080", Some("http://127.0.0.1:9999"), false),
            ("rebound.example:8080", None, false),
        ];
        for (host, origin, may) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a value"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().expect("a value"));
            }
            assert_eq!(!is_from_elsewhere(&headers), may, "{host} {origin:?}");
        }
    }
}
