//! Requests to a token service on loopback: what it is sent, and what odd ones get to hear.

use super::*;
use crate::https::driver::{Roots, Settings};
use crate::https::{Authorities, CONTENT_BYTES_MAX};
use crate::identity::principal::Audience;
use crate::time::UnixMs;
use crate::token::signer::SignedToken;
use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::Redirect;
use axum::routing::{get, post};
use parking_lot::Mutex;
use secrecy::SecretString;
use std::time::Duration;
use tokio::net::TcpListener;

const DOCUMENT: &str = include_str!("../../../../fixtures/metadata/good.json");

fn client() -> Client {
    Client::new(&Settings {
        roots: Roots { key: "relay.ca-file".to_owned(), authorities: Authorities::default() },
        concurrency: 2,
        timeout: Duration::from_secs(20),
        user_agent: String::from("mailbadge/test"),
    })
    .unwrap()
}

async fn serve(routes: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    base
}

#[tokio::test]
async fn a_document_is_fetched_with_the_query_of_its_url() {
    let seen = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&seen);
    let answer = async move |uri: Uri, headers: HeaderMap| {
        *noted.lock() = Some((uri.to_string(), headers));
        DOCUMENT
    };
    let base = serve(Router::new().route("/metadata/json/1/", get(answer))).await;
    let document = fetch_document(&client(), &format!("{base}/metadata/json/1/?realm=fabrikam.com")).await;
    assert_eq!(document.unwrap(), DOCUMENT.as_bytes());
    let (uri, headers) = seen.lock().take().unwrap();
    assert_eq!(uri, "/metadata/json/1/?realm=fabrikam.com");
    assert_eq!(headers["accept"], "application/json");
    assert_eq!(headers["user-agent"], "mailbadge/test");
}

#[tokio::test]
async fn what_is_no_document_is_told_with_its_url() {
    let routes = Router::new()
        .route("/long", get(async || "x".repeat(CONTENT_BYTES_MAX + 1)))
        .route("/gone", get(async || (StatusCode::GONE, "moved\nto nowhere")))
        .route("/elsewhere", get(async || Redirect::temporary("/long")));
    let base = serve(routes).await;
    let cases = [
        (format!("{base}/long"), "longer than 65536 bytes"),
        (format!("{base}/gone"), "/gone: the answer is 410: moved to nowhere"),
        (format!("{base}/elsewhere"), "/elsewhere: the answer is 307"),
        (String::from("http://sts.example/m"), "plain http is for loopback only"),
        (String::from("nonsense"), "metadata URL \"nonsense\""),
        (String::from("https://name.invalid/m"), "https://name.invalid/m: name not resolved"),
    ];
    for (url, expected) in cases {
        let error = fetch_document(&client(), &url).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_token_is_asked_for_with_a_form_and_its_redirect_is_not_followed() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let issue = async move |headers: HeaderMap, body: String| {
        noted.lock().push((headers, body));
        "{\"access_token\":\"t\",\"expires_in\":\"60\"}"
    };
    let routes = Router::new()
        .route("/T/tokens/OAuth/2", post(issue))
        .route("/moved", post(async || Redirect::permanent("/T/tokens/OAuth/2")));
    let base = serve(routes).await;
    let request = |path: &str| TokenRequest {
        service: String::from("sts"),
        endpoint: Arc::new(Url::parse(&format!("{base}{path}")).unwrap()),
        resource: Audience::parse("id/relay.example@fabrikam.com").unwrap(),
        assertion: SignedToken { token: Arc::new(SecretString::from("a.b.c")), expires: UnixMs(0) },
    };
    let client = client();
    let response = request_token(&client, &request("/T/tokens/OAuth/2")).await.unwrap();
    assert_eq!((response.status, &response.content[..16]), (200, &b"{\"access_token\":"[..]));
    let moved = request_token(&client, &request("/moved")).await.unwrap();
    assert_eq!(moved.status, 308);
    let seen = seen.lock();
    let [(headers, body)] = &seen[..] else { panic!("asked {} times", seen.len()) };
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(*body, request("/moved").form().expose_secret());
}
