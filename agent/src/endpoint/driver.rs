//! The endpoint's paths. It answers from [`Host`] and changes nothing.

use super::{Host, METADATA_PATH, Settings};
use crate::listen::driver::{Error, ListenOptions, Server, serve};
use crate::listen::limits::Limits;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;

/// A reverse proxy of the same group may connect to a Unix socket.
const SOCKET_MODE: u32 = 0o660;

/// Listens and answers, on the current runtime; `None` where the endpoint is off.
pub async fn start(settings: &Settings, host: Arc<dyn Host>) -> Result<Option<Server>, Error> {
    let Some(listen) = &settings.listen else { return Ok(None) };
    let limits = Limits::of(settings.connections_max);
    let options = ListenOptions { key: "subscriptions.listen", listen, socket_mode: SOCKET_MODE, limits };
    serve(options, routes(host)).await.map(Some)
}

fn routes(host: Arc<dyn Host>) -> Router {
    Router::new()
        .route(METADATA_PATH, get(metadata))
        .route(&format!("{METADATA_PATH}/"), get(metadata))
        .with_state(host)
}

async fn metadata(State(host): State<Arc<dyn Host>>) -> Response {
    match host.metadata() {
        Some(document) => ([(header::CONTENT_TYPE, "application/json")], document).into_response(),
        None => {
            (StatusCode::SERVICE_UNAVAILABLE, "no certificate yet; run `mailbadge setup`\n").into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::Listen;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    struct Stub(Option<&'static str>);

    impl Host for Stub {
        fn metadata(&self) -> Option<Vec<u8>> {
            self.0.map(|text| text.as_bytes().to_vec())
        }
    }

    async fn ask(host: Stub, path: &str) -> String {
        let settings =
            Settings { listen: Some(Listen::Tcp("127.0.0.1:0".parse().unwrap())), connections_max: 4 };
        let server = start(&settings, Arc::new(host)).await.unwrap().unwrap();
        let mut stream = TcpStream::connect(server.address().unwrap()).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_document_is_where_relays_look_for_it() {
        for path in [METADATA_PATH, "/autodiscover/metadata/json/1/?realm=fabrikam.com"] {
            let answer = ask(Stub(Some("{}")), path).await;
            assert!(answer.starts_with("HTTP/1.0 200 OK") && answer.ends_with("\r\n\r\n{}"), "{answer}");
            assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
        }
        assert!(ask(Stub(Some("{}")), "/metrics").await.starts_with("HTTP/1.0 404"));
    }

    #[tokio::test]
    async fn without_a_certificate_it_says_what_to_do() {
        let answer = ask(Stub(None), METADATA_PATH).await;
        assert!(answer.starts_with("HTTP/1.0 503") && answer.contains("mailbadge setup"), "{answer}");
    }

    #[tokio::test]
    async fn off_is_off() {
        assert!(
            start(&Settings { listen: None, connections_max: 4 }, Arc::new(Stub(None)))
                .await
                .unwrap()
                .is_none()
        );
    }
}
