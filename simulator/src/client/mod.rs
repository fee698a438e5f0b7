//! A client of the control API: one request, one answer, over loopback.

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::time::Duration;
use tokio::net::TcpStream;

/// Longest answer, in bytes: 100,000 devices with their history.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// A call takes so long at most.
const CALL_MAX: Duration = Duration::from_mins(1);

/// A request to the control API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    method: hyper::Method,
    path: String,
    body: Bytes,
}

impl Call {
    /// Reads.
    pub fn get(path: &str) -> Self {
        Self { method: hyper::Method::GET, path: path.to_owned(), body: Bytes::new() }
    }

    /// Changes.
    pub fn post(path: &str, body: &Value) -> Self {
        Self { method: hyper::Method::POST, path: path.to_owned(), body: body.to_string().into() }
    }

    /// Removes.
    pub fn delete(path: &str) -> Self {
        Self { method: hyper::Method::DELETE, path: path.to_owned(), body: Bytes::new() }
    }
}

/// Status and JSON of the answer. `control` is `host:port`, with or without `http://` before and `/` behind it.
pub async fn call(control: &str, call: Call) -> anyhow::Result<(u16, Value)> {
    let authority = control.trim_start_matches("http://").trim_end_matches('/');
    let answer = tokio::time::timeout(CALL_MAX, exchange(authority, call)).await;
    answer.with_context(|| format!("the simulator at {authority} did not answer within {CALL_MAX:?}"))?
}

async fn exchange(authority: &str, call: Call) -> anyhow::Result<(u16, Value)> {
    let stream = TcpStream::connect(authority)
        .await
        .with_context(|| format!("no simulator at {authority}; start one with `mailbadge-sim serve`"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::builder()
        .method(call.method)
        .uri(call.path)
        .header(hyper::header::HOST, authority)
        .header(hyper::header::CONTENT_TYPE, "application/json")
        .body(Full::new(call.body))?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    connection.abort();
    let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?.to_bytes();
    let value = serde_json::from_slice(&body).context("the answer is not JSON: is this a simulator?")?;
    Ok((status, value))
}
