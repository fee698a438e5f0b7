//! Requests to a token service: for its metadata document (protocol.md §5.4), for a token (§5.5).
//!
//! What a document means is `identity`'s, what an answer means is `exchange`'s.

use super::exchange::TokenRequest;
use crate::https::driver::{Client, Request};
use crate::https::url::{Url, UrlError};
use crate::https::{Failure, Response, quote};
use bytes::Bytes;
use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderValue};
use secrecy::ExposeSecret;
use std::sync::Arc;
use thiserror::Error;

/// Why a metadata document could not be fetched. Each text names the URL.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FetchError {
    /// No URL that may be fetched from.
    #[error("metadata URL {0}")]
    Url(#[from] UrlError),
    /// No answer.
    #[error("metadata document {url}: {failure}")]
    Failed {
        /// Of whom it was asked.
        url: String,
        /// What went wrong.
        failure: Failure,
    },
    /// An answer without a document.
    #[error("metadata document {url}: the answer is {status}{words}; is the URL right?")]
    Refused {
        /// Of whom it was asked.
        url: String,
        /// HTTP status.
        status: u16,
        /// The beginning of what else it said.
        words: String,
    },
    /// More than anybody needs.
    #[error("metadata document {url}: longer than {} bytes", crate::https::CONTENT_BYTES_MAX)]
    TooLong {
        /// Of whom it was asked.
        url: String,
    },
}

/// Fetches the bytes of a metadata document, from https or loopback only. Whether they are one is for
/// [`Document::read`](crate::identity::metadata::Document::read) to say.
pub async fn fetch_document(client: &Client, url: &str) -> Result<Vec<u8>, FetchError> {
    let place = Arc::new(Url::parse(url)?);
    let shown = place.to_string();
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let request = Request { method: Method::GET, url: place, headers, body: Bytes::new() };
    let response = client.send(request).await;
    let response = response.map_err(|failure| FetchError::Failed { url: shown.clone(), failure })?;
    if response.status != 200 {
        let words = quote(&String::from_utf8_lossy(&response.content));
        let words = if words.is_empty() { words } else { format!(": {words}") };
        return Err(FetchError::Refused { url: shown, status: response.status, words });
    }
    if response.is_cut {
        return Err(FetchError::TooLong { url: shown });
    }
    Ok(response.content.to_vec())
}

/// Asks for a token: at the issuance endpoint of a document and nowhere else. Any status is an answer.
pub async fn request_token(client: &Client, request: &TokenRequest) -> Result<Response, Failure> {
    let mut headers = HeaderMap::new();
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(header::CONTENT_TYPE, form);
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let body = Bytes::copy_from_slice(request.form().expose_secret().as_bytes());
    let url = Arc::clone(&request.endpoint);
    client.send(Request { method: Method::POST, url, headers, body }).await
}

#[cfg(test)]
mod tests;
