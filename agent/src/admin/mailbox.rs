//! What the daemon knows of one mailbox: `/mailbox?name=M`. Who asks by a name gets numbers; names are never listed.

use super::Health;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One mailbox as the daemon sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MailboxStatus {
    /// The newest count that was believed; `None`: none was read since the start.
    pub unseen: Option<u32>,
    /// How long ago it arrived, in seconds.
    pub read_seconds_ago: Option<f64>,
    /// `name` of the source that gave it.
    pub source: Option<String>,
    /// A batch with it is under way, or waits to leave.
    pub is_moving: bool,
    /// Its devices.
    pub devices: Vec<DeviceStatus>,
}

/// One device of a mailbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// The app's id.
    pub app: String,
    /// What it was acknowledged to show; `None`: nobody knows.
    pub shows: Option<u32>,
}

/// Which mailbox.
#[derive(Deserialize)]
pub(super) struct Asked {
    name: String,
}

/// 404 where nobody subscribed to the mailbox.
pub(super) async fn answer(State(health): State<Arc<dyn Health>>, Query(asked): Query<Asked>) -> Response {
    match health.mailbox(&asked.name) {
        Some(status) => Json(status).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
