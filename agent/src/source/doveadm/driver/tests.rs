//! The source against a doveadm on loopback that answers as each test says: well, refusing, cut, silent, not at all.

use super::*;
use crate::https::url::Url;
use crate::source::names::{Names, Spelling};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::collections::HashMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// How long anything may take; far above what it takes.
const LIMIT: Duration = Duration::from_secs(20);

/// Mailboxes `m0@a.b` to `m2@a.b`, and what was last read of each.
#[derive(Default)]
struct Inboxes {
    read: Mutex<HashMap<MailboxId, Reading>>,
    is_news: Notify,
}

impl Observer for Inboxes {
    fn find(&self, name: &str) -> Option<MailboxId> {
        let number = name.strip_prefix('m')?.strip_suffix("@a.b")?.parse().ok()?;
        (number < 3).then_some(MailboxId(number))
    }

    fn observe(&self, mailbox: MailboxId, _: SourceId, news: News, _: crate::time::Now) -> Verdict {
        let News::Reading(reading) = news else { return Verdict::Ask };
        let before = self.read.lock().insert(mailbox, reading);
        self.is_news.notify_one();
        if before.is_some_and(|before| before.unseen == reading.unseen) {
            Verdict::Unchanged
        } else {
            Verdict::Changed
        }
    }
}

impl Inboxes {
    fn unseen(&self, mailbox: u32) -> Option<u32> {
        self.read.lock().get(&MailboxId(mailbox)).map(|reading| reading.unseen)
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let wait = async {
            while !is_so(self) {
                self.is_news.notified().await;
            }
        };
        timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("{what}: {:?}", self.read.lock()));
    }
}

/// What doveadm does with one request, given its body.
type Answer = dyn Fn(&Value) -> String + Send + Sync;

/// Serves each connection once; gives where, and the requests as they came.
async fn doveadm(answer: Box<Answer>) -> (Url, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/doveadm/v1", listener.local_addr().unwrap())).unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let request = request(&mut stream).await;
            let body = request.split("\r\n\r\n").nth(1).and_then(|body| serde_json::from_str(body).ok());
            heard.lock().push(request);
            let answer = answer(&body.unwrap_or_default());
            if answer.is_empty() {
                // Silence, until the other side gives up.
                tokio::spawn(async move { stream.read_u8().await });
            } else {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    (url, requests)
}

async fn request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).await.unwrap();
        text.extend_from_slice(&buffer[..length]);
        let told = String::from_utf8_lossy(&text).into_owned();
        let wanted =
            told.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let body = told.split("\r\n\r\n").nth(1).map_or(0, str::len);
        if length == 0 || wanted.is_some_and(|wanted| body >= wanted) {
            return told;
        }
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn is_about_all(question: &Value) -> bool {
    question[0][1]["allUsers"] == true
}

/// Every command by name answered with this count.
fn by_name(question: &Value, unseen: u32) -> String {
    let response =
        |command: &Value| json!(["doveadmResponse", [{"mailbox": "INBOX", "unseen": unseen}], command[2]]);
    ok(&Value::Array(question.as_array().unwrap().iter().map(response).collect()).to_string())
}

fn settings(url: Url) -> Settings {
    let names = Names { spelling: Spelling::LocalPart, domain: "a.b".into(), is_lowered: false };
    let key = Credential::ApiKey(SecretString::from("s3cret"));
    Settings { names, ..Settings::new("doveadm", url, key) }
}

struct Bench {
    source: DoveadmSource,
    inboxes: Arc<Inboxes>,
    counters: Arc<SourceCounters>,
}

fn watching(settings: &Settings) -> Bench {
    let (inboxes, counters) = (Arc::new(Inboxes::default()), Arc::new(SourceCounters::default()));
    let observer: Arc<dyn Observer> = Arc::<Inboxes>::clone(&inboxes);
    let source = start(settings, SourceId(0), observer, Clock::start(), Arc::clone(&counters), 7).unwrap();
    for number in 0..3 {
        source.watch(MailboxId(number), &format!("m{number}@a.b").into());
    }
    Bench { source, inboxes, counters }
}

impl Bench {
    /// What is wrong, as soon as something is.
    async fn failure(&self) -> String {
        let wait = async {
            loop {
                if let Some(failure) = self.source.failure() {
                    return failure;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, wait).await.expect("a failure")
    }
}

#[tokio::test]
async fn one_answer_reads_all_that_are_watched_and_skips_the_others() {
    let answer = r#"[["doveadmResponse",[
        {"username":"m0","mailbox":"INBOX","uidvalidity":"7","unseen":"4","highestmodseq":"9"},
        {"username":"stranger","mailbox":"INBOX","unseen":"1"},
        {"username":"m1","mailbox":"INBOX"},
        {"username":"m2","mailbox":"INBOX","unseen":"0"}],"everyone"]]"#;
    let script = |question: &Value| if is_about_all(question) { ok(answer) } else { by_name(question, 5) };
    let (url, requests) = doveadm(Box::new(script)).await;
    let bench = watching(&settings(url));
    bench.inboxes.until("all three", |inboxes| inboxes.read.lock().len() == 3).await;
    let reading = *bench.inboxes.read.lock().get(&MailboxId(0)).unwrap();
    assert_eq!((reading.unseen, reading.uid_validity.map(|it| it.0.get())), (4, Some(7)));
    assert_eq!(reading.modseq.map(|it| it.0.get()), Some(9));
    assert!(reading.asked_at.is_some());
    let told = [1, 2].map(|mailbox| bench.inboxes.unseen(mailbox));
    assert_eq!(told, [Some(5), Some(0)], "the one whose row was bad was asked for by name");
    let requests = requests.lock().clone();
    assert_eq!(requests.len(), 2);
    let first = requests[0].to_ascii_lowercase();
    assert!(first.starts_with("post /doveadm/v1 http/1.1\r\n"), "{first}");
    assert!(first.contains("authorization: x-dovecot-api cznjcmv0\r\n"), "{first}");
    assert!(requests[1].contains(r#""user":"m1""#), "{}", requests[1]);
    let counted = &bench.counters;
    assert_eq!((counted.readings.get(), counted.unknown.get(), counted.skipped.get()), (3, 1, 1));
    assert_eq!(counted.sweep_corrections.get(), 0, "first readings correct nothing");
    assert!(
        !format!("{:?} {:?}", bench.source, settings(Url::parse("https://h/").unwrap())).contains("s3cret")
    );
    bench.source.stop().await;
}

#[tokio::test]
async fn a_question_of_somebody_is_asked_by_name() {
    let all = json!([[
        "doveadmResponse",
        (0..3).map(|n| json!({"username": format!("m{n}"), "unseen": "1"})).collect::<Vec<_>>(),
        "everyone"
    ]]);
    let script = move |question: &Value| {
        if is_about_all(question) { ok(&all.to_string()) } else { by_name(question, 8) }
    };
    let (url, requests) = doveadm(Box::new(script)).await;
    let bench = watching(&settings(url));
    bench.inboxes.until("all three", |inboxes| inboxes.read.lock().len() == 3).await;
    bench.source.ask(MailboxId(2));
    bench.inboxes.until("the answer", |inboxes| inboxes.unseen(2) == Some(8)).await;
    assert_eq!(bench.inboxes.unseen(0), Some(1));
    assert!(requests.lock()[1].contains(r#""user":"m2""#));
    bench.source.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_told_with_the_place_and_without_the_key() {
    let cases = [
        (
            "HTTP/1.1 401 Authentication required\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "the credential is refused (HTTP status 401); api-key-file must hold what Dovecot has as doveadm_api_key",
        ),
        (ok("<html>It works</html>"), "what answers there is not doveadm"),
        (ok(""), "the answer ends in its middle"),
        (ok(r#"[["doveadmResponse",["#), "the answer ends in its middle"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[[\"doveadmResponse\",[".to_owned(),
            "reading the answer failed",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "HTTP status 302",
        ),
        ("HTTP/1.1 500 Oh\r\nContent-Length: 9\r\n\r\nit  broke".to_owned(), "HTTP status 500 it broke"),
    ];
    for (answer, expected) in cases {
        let (url, _) = doveadm(Box::new(move |_| answer.clone())).await;
        let bench = watching(&settings(url.clone()));
        let failure = bench.failure().await;
        assert!(failure.starts_with(&format!("source doveadm: {url}: {expected}")), "{failure}");
        assert!(!failure.contains("s3cret") && bench.inboxes.read.lock().is_empty(), "{failure}");
        bench.source.stop().await;
    }
    let nobody = Url::parse("http://127.0.0.1:1/doveadm/v1").unwrap();
    let bench = watching(&settings(nobody));
    let failure = bench.failure().await;
    assert!(failure.contains("no connection: 127.0.0.1:1: Connection refused"), "{failure}");
    assert_eq!(bench.counters.connections_lost.get(), 1);
    bench.source.stop().await;
}

#[tokio::test]
async fn where_all_are_not_answered_in_time_or_at_all_each_is_asked_by_name() {
    let error = json!([["error", {"type": "exitCode", "exitCode": 75}, "everyone"]]).to_string();
    for answer in [ok(&error), String::new()] {
        let script = move |question: &Value| {
            if is_about_all(question) { answer.clone() } else { by_name(question, 2) }
        };
        let (url, _) = doveadm(Box::new(script)).await;
        let bench = watching(&Settings { timeout: Duration::from_millis(300), ..settings(url) });
        bench.inboxes.until("all three", |inboxes| inboxes.read.lock().len() == 3).await;
        assert_eq!((bench.source.failure(), bench.counters.watched.get()), (None, 3));
        bench.source.stop().await;
    }
}

#[tokio::test]
async fn a_look_from_outside_counts_one_mailbox_and_all_users_with_a_password() {
    let all = json!([["doveadmResponse", [{"username": "m0", "unseen": "1"}, {"username": "x", "unseen": "0"}], "t"]]);
    let script = move |question: &Value| {
        if is_about_all(question) { ok(&all.to_string()) } else { by_name(question, 4) }
    };
    let (url, requests) = doveadm(Box::new(script)).await;
    let password = Credential::Password(SecretString::from("s3cret"));
    let settings = Settings { credential: password, ..settings(url) };
    assert_eq!(count_of(&settings, "m1@a.b").await, Ok(4));
    assert_eq!(users(&settings).await, Ok(Some(2)));
    let basic = format!("Basic {}", STANDARD.encode("doveadm:s3cret"));
    assert!(requests.lock().iter().all(|request| request.contains(&basic)));
    let error = json!([["error", {"type": "exitCode", "exitCode": 67}, "0"]]).to_string();
    let (url, _) = doveadm(Box::new(move |_| ok(&error))).await;
    let settings = Settings { url: Arc::new(url), ..settings };
    assert_eq!(count_of(&settings, "m1@a.b").await, Err("there is no such user".to_owned()));
    assert!(users(&settings).await.is_err());
}
