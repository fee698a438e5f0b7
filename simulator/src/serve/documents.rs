//! Fetches the metadata documents that the relay trusts by. Which and when is [`crate::peers::relay::documents`]'s.

use super::certificates::Certificates;
use super::{ServeError, World, clock};
use crate::peers::metadata::DOCUMENT_BYTES_MAX;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Uri;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

/// How often it is looked for documents that are due.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Fetching a document takes so long at most.
const FETCH_MAX: Duration = Duration::from_secs(5);

/// Fetches documents, one at a time.
pub(super) struct Reader {
    tls: TlsConnector,
    one_at_a_time: tokio::sync::Mutex<()>,
}

impl Reader {
    /// Trusts the listeners' authority and these (PEM).
    pub(super) fn new(certificates: &Certificates, ca_files: &[PathBuf]) -> Result<Self, ServeError> {
        let tls = TlsConnector::from(certificates.client_config(ca_files)?);
        Ok(Self { tls, one_at_a_time: tokio::sync::Mutex::default() })
    }

    async fn fetch(&self, url: &str) -> Result<Bytes, String> {
        let read = tokio::time::timeout(FETCH_MAX, self.fetch_patiently(url)).await;
        read.map_err(|_| format!("no answer within {FETCH_MAX:?}"))?
    }

    async fn fetch_patiently(&self, url: &str) -> Result<Bytes, String> {
        let uri: Uri = url.parse().map_err(|error| format!("not a URL: {error}"))?;
        let host = uri.host().ok_or("a URL without a host")?.trim_matches(['[', ']']).to_owned();
        let is_tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let failed = |error: std::io::Error| format!("cannot connect to {host}:{port}: {error}");
        let addresses: Vec<SocketAddr> = lookup_host((host.as_str(), port)).await.map_err(failed)?.collect();
        // Whoever is on the way could put his own key into a document.
        if !is_tls && !addresses.iter().all(|address| address.ip().is_loopback()) {
            return Err("plain http is read from loopback only; use https".to_owned());
        }
        let stream = TcpStream::connect(&*addresses).await.map_err(failed)?;
        if !is_tls {
            return get(stream, &uri).await;
        }
        let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
        let stream = self.tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
        get(stream, &uri).await
    }
}

/// One GET; redirects are not followed.
async fn get<S>(stream: S, uri: &Uri) -> Result<Bytes, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let told = |error: hyper::Error| error.to_string();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(told)?;
    let connection = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = hyper::Request::get(path)
        .header(hyper::header::HOST, authority)
        .header(hyper::header::ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(told)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), DOCUMENT_BYTES_MAX).collect().await;
    connection.abort();
    if !status.is_success() {
        return Err(format!("answered with {status}"));
    }
    body.map(http_body_util::Collected::to_bytes).map_err(|error| error.to_string())
}

impl World {
    /// Reads every document that is due, one after the other. Returns when none is due any more.
    pub async fn read_due_documents(&self) {
        let _turn = self.reader.one_at_a_time.lock().await;
        while let Some(url) = self.due_document() {
            let read = self.reader.fetch(&url).await;
            if let Err(error) = &read {
                tracing::warn!(url, error, "a metadata document could not be read");
            }
            self.relay.lock().take_document(clock::now(), &url, read.as_deref().map_err(Clone::clone));
        }
    }

    /// The same where a refused token gave a reason for it; else nothing.
    pub(super) async fn read_documents_in_doubt(&self) {
        if self.due_document().is_some() {
            // Bounded, since a client waits: who publishes elsewhere may be slow.
            let _ = tokio::time::timeout(FETCH_MAX, self.read_due_documents()).await;
        }
    }

    fn due_document(&self) -> Option<String> {
        self.relay.lock().due_document(clock::now()).map(str::to_owned)
    }
}

/// Reads documents as they become due, until it is aborted.
pub(super) async fn keep_reading(world: Arc<World>) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        look.tick().await;
        world.read_due_documents().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_document_by_plain_http_comes_from_loopback_only() {
        let temporary = tempfile::tempdir().expect("a folder");
        let certificates = Certificates::open(temporary.path(), None).expect("an authority of its own");
        let reader = Reader::new(&certificates, &[]).expect("its roots");
        let refused = reader.fetch("http://192.0.2.1/metadata").await.expect_err("it is elsewhere");
        assert!(refused.contains("loopback only"), "{refused}");
        let refused = reader.fetch("http://127.0.0.1:1/metadata").await.expect_err("nobody listens");
        assert!(refused.contains("cannot connect"), "{refused}");
    }
}
