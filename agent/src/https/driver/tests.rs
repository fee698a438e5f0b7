//! A server that cuts its answer after each number of bytes, on a new connection and on a kept-alive one: how often it
//! hears a request.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: Thu, 01 Jan 2026 12:00:00 GMT\r\n\r\nOK";
const BODY: &[u8] = b"{\"notifications\":[]}";

/// A server, and how many requests it heard.
struct Server {
    url: Arc<Url>,
    heard: Arc<AtomicUsize>,
}

impl Server {
    /// Gives the first `whole` requests their answer; of each further one it sends `cut` and ends the connection.
    async fn start(whole: usize, cut: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = Arc::new(Url::parse(&format!("http://127.0.0.1:{port}/P")).unwrap());
        let heard = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, whole, cut.clone(), Arc::clone(&count)));
            }
        });
        Self { url, heard }
    }

    fn heard(&self) -> usize {
        self.heard.load(Ordering::Acquire)
    }

    fn post(&self) -> Request {
        let body = Bytes::from_static(BODY);
        Request { method: Method::POST, url: Arc::clone(&self.url), headers: HeaderMap::new(), body }
    }
}

async fn serve(mut stream: TcpStream, whole: usize, cut: Vec<u8>, heard: Arc<AtomicUsize>) {
    loop {
        let mut request = Vec::new();
        while !request.ends_with(BODY) {
            if !stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
                return;
            }
        }
        let is_whole = heard.fetch_add(1, Ordering::AcqRel) < whole;
        let answer = if is_whole { ANSWER } else { &cut };
        if stream.write_all(answer).await.is_err() || !is_whole {
            return;
        }
    }
}

fn client() -> Client {
    let settings = Settings {
        roots: Roots { key: String::from("test.ca-file"), authorities: Authorities::default() },
        concurrency: 1,
        timeout: Duration::from_secs(20),
        user_agent: String::from("mailbadge/test"),
    };
    Client::new(&settings).unwrap()
}

/// What comes of a request whose answer is `cut`, behind `whole` good ones, and how often all of them were heard.
async fn outcome(whole: usize, cut: &[u8]) -> (Result<Response, Failure>, usize) {
    let server = Server::start(whole, cut.to_vec()).await;
    let client = client();
    for _ in 0..whole {
        assert_eq!(client.send(server.post()).await.unwrap().status, 200);
    }
    let outcome = client.send(server.post()).await;
    (outcome, server.heard())
}

#[tokio::test]
async fn a_post_is_not_repeated_once_a_byte_of_the_answer_had_come() {
    for length in 1..ANSWER.len() {
        let cut = ANSWER.get(..length).unwrap();
        for kept_alive in [0, 1] {
            let (outcome, heard) = outcome(kept_alive, cut).await;
            assert_eq!(heard, kept_alive + 1, "{length} bytes, {outcome:?}");
            assert!(matches!(outcome, Err(Failure::Read(_))), "{length} bytes, {outcome:?}");
        }
    }
}

#[tokio::test]
async fn neither_an_interim_answer_nor_nonsense_is_silence() {
    for cut in [
        &b"HTTP/1.1 100 Continue\r\n\r\n"[..],
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
        b"\r\n",
        b"\0",
        b"nonsense",
    ] {
        let (outcome, heard) = outcome(1, cut).await;
        assert_eq!((heard, outcome.is_err()), (2, true), "{cut:?} {outcome:?}");
    }
}

#[tokio::test]
async fn a_kept_alive_connection_that_ends_without_a_byte_is_tried_once_more_and_a_new_one_is_not() {
    let (outcome_of_new, heard) = outcome(0, b"").await;
    assert_eq!(heard, 1);
    assert!(matches!(outcome_of_new, Err(Failure::Closed(_))), "{outcome_of_new:?}");
    let (outcome_of_kept, heard) = outcome(1, b"").await;
    assert_eq!(heard, 3, "once more on a new connection, and no third time");
    assert!(matches!(outcome_of_kept, Err(Failure::Closed(_))), "{outcome_of_kept:?}");
}

#[tokio::test]
async fn an_answer_without_end_is_a_flood_that_ends_its_connection_and_the_next_request_has_another() {
    let body = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}", "1\r\nx\r\n".repeat(99));
    for (begin, again) in [
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
        (&*body, "0000001\r\nx\r\n"),
    ] {
        let bytes = ANSWER_BYTES_MAX as usize;
        let flood = begin.to_owned() + &again.repeat(2 * bytes / again.len());
        let server = Server::start(1, flood.into_bytes()).await;
        let client = client();
        assert_eq!(client.send(server.post()).await.unwrap().status, 200);
        let limit = AnswerLimit { time: Duration::from_secs(20), bytes: bytes as u64 };
        let outcome = client.receive(server.post(), limit, |_, _| true).await;
        assert!(matches!(outcome, Err(Failure::Flooded(_))), "{again:?} {outcome:?}");
        assert!(client.0.idle.lock().is_empty(), "the connection is gone");
        assert_eq!(server.heard(), 2, "it is not asked again at once");
    }
}

#[tokio::test]
async fn bytes_that_come_unasked_end_a_kept_alive_connection_and_the_next_request_has_another() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = Arc::new(Url::parse(&format!("http://127.0.0.1:{port}/P")).unwrap());
    let (flooded, mut until_flooded) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(BODY) && stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
            }
            stream.write_all(ANSWER).await.unwrap();
            while stream.write_all(ANSWER).await.is_ok() {}
            flooded.send(()).unwrap();
        }
    });
    let client = client();
    for _ in 0..3 {
        let (url, body) = (Arc::clone(&url), Bytes::from_static(BODY));
        let request = Request { method: Method::POST, url, headers: HeaderMap::new(), body };
        let outcome = client.send(request).await;
        assert_eq!(outcome.unwrap().status, 200);
        until_flooded.recv().await.expect("the connection ends, however much is written");
    }
}
