//! A listener on loopback, and peers who hold its connections in every way there is.

use super::*;
use crate::listen::limits::{HEAD_BYTES, HEADERS};
use axum::body::Bytes;
use axum::routing::{get, post};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// How long anything may take; far above what it takes.
const LIMIT: Duration = Duration::from_secs(20);
/// A limit of the listener in a test that waits for it.
const SHORT: Duration = Duration::from_millis(50);
/// More than the system takes for a peer that reads nothing.
const LARGE: usize = 32 * 1024 * 1024;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const ANSWER_END: &str = "\r\n\r\nok\n";

async fn listener(limits: Limits) -> Server {
    let routes = Router::new()
        .route("/", get(async || "ok\n"))
        .route("/large", get(async || vec![b'x'; LARGE]))
        .route("/length", post(async |body: Bytes| body.len().to_string()));
    let listen = Listen::Tcp("127.0.0.1:0".parse().unwrap());
    serve(ListenOptions { key: "test.listen", listen: &listen, socket_mode: 0o600, limits }, routes)
        .await
        .unwrap()
}

/// Connects and sends this.
async fn send(server: &Server, bytes: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = TcpStream::connect(server.address().unwrap()).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    stream
}

/// All that comes until the connection ends, which it must.
async fn until_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let all = async {
        // An end with unread bytes is a reset.
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            bytes.extend_from_slice(&buffer[..length]);
        }
    };
    timeout(LIMIT, all).await.expect("the connection ends");
    bytes
}

async fn status(stream: &mut TcpStream) -> String {
    let answer = until_end(stream).await;
    String::from_utf8_lossy(answer.get(..12).unwrap_or_default()).into_owned()
}

/// Sends a request on a connection that stays open, and reads the answer. Panics where there is none.
async fn ask(stream: &mut TcpStream) {
    stream.write_all(REQUEST.as_bytes()).await.unwrap();
    let mut answer = String::new();
    while !answer.ends_with(ANSWER_END) {
        let mut buffer = [0; 4096];
        let length = timeout(LIMIT, stream.read(&mut buffer)).await.expect("an answer in time").unwrap();
        assert!(length > 0, "the connection ended after {answer:?}");
        answer += &String::from_utf8_lossy(&buffer[..length]);
    }
}

#[tokio::test]
async fn one_too_many_ends_the_oldest_idle_one_and_is_served() {
    let server = listener(Limits::of(64)).await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        let mut stream = send(&server, "").await;
        ask(&mut stream).await;
        streams.push(stream);
    }
    ask(&mut send(&server, "").await).await;
    assert!(until_end(&mut streams[0]).await.is_empty());
    // One of them made room for the last; whoever asks here is open.
    for stream in &mut streams[1..] {
        ask(stream).await;
    }
}

#[tokio::test]
async fn half_heads_keep_nobody_waiting() {
    let server = listener(Limits::of(64)).await;
    let mut halves = Vec::new();
    for _ in 0..64 {
        halves.push(send(&server, &REQUEST[..20]).await);
    }
    for _ in 0..64 {
        ask(&mut send(&server, "").await).await;
    }
    for half in &mut halves {
        assert!(until_end(half).await.is_empty());
    }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_has_no_more_time_than_one_that_stops() {
    let server = listener(Limits { head_time: SHORT, ..Limits::of(4) }).await;
    assert!(until_end(&mut send(&server, "").await).await.is_empty(), "nothing at all");
    assert!(until_end(&mut send(&server, &REQUEST[..20]).await).await.is_empty(), "half a head");
    let mut stream = send(&server, "GET / HTTP/1.1\r\nX: ").await;
    let dripping = async {
        let mut buffer = [0; 64];
        // Between two bytes there is a tenth of the time.
        while timeout(SHORT / 10, stream.read(&mut buffer)).await.is_err() {
            if stream.write_all(b"x").await.is_err() {
                break;
            }
        }
    };
    timeout(LIMIT, dripping).await.expect("the connection ends");
}

#[tokio::test]
async fn an_idle_connection_a_slow_body_and_an_answer_that_nobody_takes_end_in_time() {
    let server = listener(Limits { idle_time: SHORT, ..Limits::of(4) }).await;
    let mut idle = send(&server, "").await;
    ask(&mut idle).await;
    assert!(until_end(&mut idle).await.is_empty());

    let server = listener(Limits { work_time: SHORT, ..Limits::of(4) }).await;
    let half = "POST /length HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345";
    assert!(until_end(&mut send(&server, half).await).await.is_empty());

    let server = listener(Limits { answer_time: SHORT, ..Limits::of(4) }).await;
    let mut lazy = send(&server, "GET /large HTTP/1.1\r\nHost: h\r\n\r\n").await;
    // It reads nothing, so only a write says that the other side is gone.
    let reset = async {
        while lazy.write_all(b" ").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, reset).await.expect("the connection ends");
    assert!(until_end(&mut lazy).await.len() < LARGE);
}

#[tokio::test]
async fn an_answer_that_nobody_takes_makes_room() {
    let server = listener(Limits::of(1)).await;
    let mut lazy = send(&server, "GET /large HTTP/1.1\r\nHost: h\r\n\r\n").await;
    timeout(LIMIT, lazy.readable()).await.expect("an answer begins").unwrap();
    ask(&mut send(&server, "").await).await;
    assert!(until_end(&mut lazy).await.len() < LARGE);
}

#[tokio::test]
async fn large_heads_and_bodies_are_refused() {
    let server = listener(Limits { body_bytes: 10, ..Limits::of(4) }).await;
    let head = |lines: &str| format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
    let long = head(&format!("X: {}\r\n", "x".repeat(HEAD_BYTES)));
    let path = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(HEAD_BYTES));
    let body = |lines: &str, body: &str| {
        format!("POST /length HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{lines}\r\n\r\n{body}")
    };
    let rows = [
        (long, "HTTP/1.1 431"),
        (head(&"X: x\r\n".repeat(HEADERS)), "HTTP/1.1 431"),
        (path, "HTTP/1.1 4"),
        (body("Content-Length: 10", "0123456789"), "HTTP/1.1 200"),
        (body("Content-Length: 11", ""), "HTTP/1.1 413"),
        (body("Transfer-Encoding: chunked", "B\r\n0123456789a\r\n0\r\n\r\n"), "HTTP/1.1 413"),
        (body("Transfer-Encoding: chunked", "A\r\n0123456789\r\n0\r\n\r\n"), "HTTP/1.1 200"),
    ];
    for (request, expected) in rows {
        let found = status(&mut send(&server, &request).await).await;
        assert!(found.starts_with(expected), "{found:?} for {request:?}");
    }
}

#[tokio::test]
async fn http_2_is_not_spoken() {
    let server = listener(Limits::of(4)).await;
    // The preface (RFC 9113 §3.4) and an empty SETTINGS frame.
    let preface = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let answer = until_end(&mut send(&server, preface).await).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    let upgrade = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n\
                   HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n";
    assert_eq!(status(&mut send(&server, upgrade).await).await, "HTTP/1.1 200");
}

#[tokio::test]
async fn requests_may_be_sent_ahead() {
    let server = listener(Limits { idle_time: SHORT, ..Limits::of(4) }).await;
    let answers = until_end(&mut send(&server, REQUEST.repeat(20)).await).await;
    assert_eq!(String::from_utf8_lossy(&answers).matches(ANSWER_END).count(), 20);
}

#[tokio::test]
async fn connections_end_with_their_listener() {
    let server = listener(Limits::of(4)).await;
    let mut stream = send(&server, "").await;
    ask(&mut stream).await;
    drop(server);
    assert!(until_end(&mut stream).await.is_empty());
}
