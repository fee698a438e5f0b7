//! Batches to the relay (protocol.md §1.2) over the HTTPS client: which headers a request has, and an [`Answer`] from
//! the response.
//!
//! What an answer means is `answer`'s, when a batch goes is the outbox's.

use super::answer::{Answer, Failure};
use super::url::RelayUrl;
use crate::https::driver::{Client as HttpsClient, Request, Settings};
use crate::https::{Error, Response};
use bytes::Bytes;
use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use uuid::Uuid;

/// How many lines of one header are kept.
const HEADER_LINES_MAX: usize = 16;

/// The token of a request.
#[derive(Clone, Debug)]
pub enum Bearer {
    /// `Bearer` alone: asks for the challenge.
    Empty,
    /// `Bearer <JWT>`.
    Token(Arc<SecretString>),
}

/// A request to the relay.
#[derive(Clone, Debug)]
pub struct Post {
    /// Where to.
    pub url: Arc<RelayUrl>,
    /// `client-request-id`: new for each batch, kept when it is repeated after a 401.
    pub request_id: Uuid,
    /// With which token.
    pub bearer: Bearer,
    /// Whether it is the probe (`X-ProbeType`).
    pub is_probe: bool,
    /// The batch, JSON.
    pub body: Bytes,
}

/// The client towards the relay. Cloning shares its connections.
#[derive(Clone)]
pub struct Client(HttpsClient);

impl Client {
    /// A client that trusts the system's roots and those of the settings. Connects to nothing and reads no roots yet.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        HttpsClient::new(settings).map(Self)
    }

    /// Makes ready what batches to `relay` need: the roots where it is https.
    pub fn prepare(&self, relay: &RelayUrl) -> Result<(), Error> {
        self.0.prepare(relay)
    }

    /// Posts, and reads the answer. A batch holds absolute counts, so that taking it twice does no harm.
    pub async fn post(&self, post: Post) -> Result<Answer, Failure> {
        let headers = head(&post)?;
        let url = Arc::clone(post.url.url());
        let request = Request { method: Method::POST, url, headers, body: post.body };
        Ok(answer(self.0.send(request).await?))
    }
}

/// The request's headers (protocol.md §1.2), but for those that the client and hyper write.
fn head(post: &Post) -> Result<HeaderMap, Failure> {
    let text = |text: &str| HeaderValue::from_str(text).map_err(|error| Failure::Write(error.to_string()));
    let mut bearer = match &post.bearer {
        Bearer::Empty => HeaderValue::from_static("Bearer"),
        Bearer::Token(token) => text(&format!("Bearer {}", token.expose_secret()))?,
    };
    bearer.set_sensitive(true);
    let mut head = HeaderMap::with_capacity(8);
    head.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    head.insert(header::AUTHORIZATION, bearer);
    head.insert(
        HeaderName::from_static("client-request-id"),
        text(&post.request_id.hyphenated().to_string())?,
    );
    head.insert(HeaderName::from_static("return-client-request-id"), HeaderValue::from_static("True"));
    head.insert(HeaderName::from_static("prefer"), HeaderValue::from_static("return=representation"));
    if post.is_probe {
        let probe = HeaderValue::from_static("X-MS-ClientAccess-LocalProbe");
        head.insert(HeaderName::from_static("x-probetype"), probe);
    }
    Ok(head)
}

fn answer(response: Response) -> Answer {
    let challenges = response.headers.get_all("www-authenticate").iter().take(HEADER_LINES_MAX);
    Answer {
        status: response.status,
        retry_after: response.header("retry-after"),
        www_authenticate: challenges
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect(),
        diagnostics: response.header("x-ms-diagnostics"),
        date: response.date(),
        is_report: response
            .header("preference-applied")
            .is_some_and(|applied| applied.contains("return=representation")),
        content: response.content,
        is_cut: response.is_cut,
    }
}

#[cfg(test)]
mod tests;
