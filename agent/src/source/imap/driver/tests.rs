//! The source on loopback sockets, against a server that treats each mailbox differently (product.md §5, IMAP).

use super::*;
use crate::event::{News, Reading, Verdict};
use crate::files::driver::replace;
use crate::source::imap::{LINE_MAX, Login, Mechanism, Method, TokenFrom, TokenLogin};
use crate::time::{Moment, Now};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

/// How long anything may take; far above what it takes.
const LIMIT: Duration = Duration::from_secs(20);

/// Remembers the last reading of each mailbox.
#[derive(Default)]
struct Recorder {
    told: Mutex<HashMap<MailboxId, Reading>>,
}

impl Observer for Recorder {
    fn find(&self, _name: &str) -> Option<MailboxId> {
        None
    }

    fn observe(&self, mailbox: MailboxId, _source: SourceId, news: News, _now: Now) -> Verdict {
        if let News::Reading(reading) = news {
            self.told.lock().insert(mailbox, reading);
        }
        Verdict::Changed
    }
}

/// How often each account logged in.
type Logins = Arc<Mutex<HashMap<String, u32>>>;

/// A server on a free port, a thread for each connection, which ends with it.
fn serve() -> (u16, Logins) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let logins = Logins::default();
    let shared = logins.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let logins = shared.clone();
            // A connection that breaks is the test's intention.
            std::thread::spawn(move || drop(converse(stream, &logins)));
        }
    });
    (port, logins)
}

fn converse(mut stream: TcpStream, logins: &Logins) -> std::io::Result<()> {
    stream.write_all(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=XOAUTH2] ready\r\n")?;
    let mut name = String::new();
    let reader = BufReader::new(stream.try_clone()?);
    for line in reader.lines() {
        let line = line?;
        let mut words = line.split(' ');
        let (tag, command) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match command {
            "AUTHENTICATE" if words.next() == Some("XOAUTH2") => {
                let shown = STANDARD.decode(words.next().unwrap()).unwrap();
                let is_known = shown == b"user=good\x01auth=Bearer second\x01\x01";
                *logins.lock().entry(if is_known { "good" } else { "refused" }.to_owned()).or_default() += 1;
                let answer =
                    if is_known { "OK [CAPABILITY IMAP4rev1 NOTIFY]" } else { "NO [AUTHENTICATIONFAILED]" };
                write!(stream, "{tag} {answer} so\r\n")?;
            }
            "AUTHENTICATE" => {
                let token = STANDARD.decode(words.next().unwrap()).unwrap();
                name = String::from_utf8(token.split(|byte| *byte == 0).nth(1).unwrap().to_vec()).unwrap();
                *logins.lock().entry(name.clone()).or_default() += 1;
                write!(stream, "{tag} OK [CAPABILITY IMAP4rev1 NOTIFY] in\r\n")?;
            }
            "NOTIFY" => {
                misbehave(&mut stream, &name)?;
                write!(stream, "* STATUS INBOX (MESSAGES 9 UNSEEN 1 UIDVALIDITY 5)\r\n{tag} OK done\r\n")?;
                write!(stream, "* STATUS INBOX (MESSAGES 9 UNSEEN 2)\r\n")?;
            }
            "STATUS" => {
                write!(stream, "* STATUS INBOX (MESSAGES 9 UNSEEN 3 UIDVALIDITY 5)\r\n{tag} OK done\r\n")?;
            }
            _ => write!(stream, "* BYE bye\r\n{tag} OK bye\r\n")?,
        }
    }
    Ok(())
}

fn misbehave(stream: &mut TcpStream, name: &str) -> std::io::Result<()> {
    match name {
        "endless" => stream.write_all(&vec![b'x'; LINE_MAX * 4]),
        "literal" => stream.write_all(b"* LIST () NIL {99999999999}\r\n"),
        "garbage" => stream.write_all(b"\xff\x00garbage\r\n* STATUS INBOX (UNSEEN x)\r\n* LIST {x}\r\n"),
        "unasked" => stream.write_all(b"* 3 EXISTS\r\n* SEARCH 1\r\n+ go on\r\n* OK hello\r\n"),
        "bye" => stream.write_all(b"* BYE go away\r\n"),
        "gone" => stream.shutdown(std::net::Shutdown::Both),
        _ => Ok(()),
    }
}

struct Fixture {
    source: ImapSource,
    recorder: Arc<Recorder>,
    counters: Arc<SourceCounters>,
    logins: Logins,
}

fn settings(port: u16) -> Settings {
    let login = Login::Password { user: None, password: "secret".to_owned().into() };
    Settings { port, login_rate: 1000, ..Settings::new("test", "127.0.0.1", login) }
}

impl Fixture {
    fn start(names: &[&str]) -> Self {
        let (port, logins) = serve();
        let (recorder, counters) = (Arc::new(Recorder::default()), Arc::new(SourceCounters::default()));
        let source =
            start(settings(port), SourceId(0), recorder.clone(), Clock::start(), counters.clone(), 1)
                .unwrap();
        for (id, name) in names.iter().enumerate() {
            source.watch(MailboxId(id as u32), &(*name).into());
        }
        Self { source, recorder, counters, logins }
    }

    async fn wait(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let clock = Clock::start();
        while !condition(self) {
            assert!(clock.now().moment.since(Moment::START) < LIMIT, "waited in vain for {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn unseen(&self, id: u32) -> Option<u32> {
        self.recorder.told.lock().get(&MailboxId(id)).map(|reading| reading.unseen)
    }

    fn logins(&self, name: &str) -> u32 {
        self.logins.lock().get(name).copied().unwrap_or(0)
    }
}

#[tokio::test]
async fn one_bad_connection_ends_or_goes_on_is_counted_and_leaves_the_others_alone() {
    for (name, is_ended) in [
        ("endless", true),
        ("literal", true),
        ("bye", true),
        ("gone", true),
        ("garbage", false),
        ("unasked", false),
    ] {
        let fixture = Fixture::start(&["good", name]);
        fixture.wait("the good one", |fixture| fixture.unseen(0) == Some(2)).await;
        if is_ended {
            fixture.wait("the loss", |fixture| fixture.counters.connections_lost.get() > 0).await;
            fixture.wait("another attempt", |fixture| fixture.logins(name) > 2).await;
        } else {
            fixture.wait("its reading", |fixture| fixture.unseen(1) == Some(2)).await;
            assert_eq!((fixture.counters.connections_lost.get(), fixture.logins(name)), (0, 1), "{name}");
        }
        assert_eq!(fixture.counters.skipped.get() > 0, matches!(name, "garbage"), "{name}");
        assert_eq!((fixture.logins("good"), fixture.source.failure()), (1, None), "{name}");
        fixture.source.stop().await;
    }
}

#[tokio::test]
async fn a_question_is_answered_and_a_stop_closes_everything() {
    let fixture = Fixture::start(&["good"]);
    fixture.wait("the push", |fixture| fixture.unseen(0) == Some(2)).await;
    fixture.source.ask(MailboxId(0));
    fixture.source.ask(MailboxId(7));
    fixture.wait("the answer", |fixture| fixture.unseen(0) == Some(3)).await;
    assert_eq!(fixture.counters.watched.get(), 1);
    fixture.source.unwatch(MailboxId(0));
    fixture.wait("the end", |fixture| fixture.source.shared.live.load(Ordering::Acquire) == 0).await;
    assert_eq!(fixture.counters.watched.get(), 0);
    let shared = fixture.source.shared.clone();
    fixture.source.watch(MailboxId(1), &"good".into());
    fixture.wait("it again", |fixture| fixture.unseen(1) == Some(2)).await;
    fixture.source.stop().await;
    assert_eq!(shared.live.load(Ordering::Acquire), 0);
}

#[tokio::test]
async fn an_unreachable_server_is_told_of() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let counters = Arc::new(SourceCounters::default());
    let recorder = Arc::new(Recorder::default());
    let source = start(settings(port), SourceId(0), recorder, Clock::start(), counters, 1).unwrap();
    source.watch(MailboxId(0), &"good".into());
    let waited = Clock::start();
    let failure = loop {
        if let Some(failure) = source.failure() {
            break failure;
        }
        assert!(waited.now().moment.since(Moment::START) < LIMIT);
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    assert!(failure.starts_with(&format!("source test: cannot connect to 127.0.0.1:{port}: ")), "{failure}");
    source.stop().await;
}

#[tokio::test]
async fn a_refused_access_token_is_tried_once_and_the_next_one_from_the_file_is_used() {
    let (port, logins) = serve();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    replace(&path, b"first\n", 0o600).unwrap();
    let from = TokenFrom::File(path.clone());
    let login = Login::Token(TokenLogin { mechanism: Mechanism::XOAuth2, user: None, from });
    let settings = Settings { login, ..settings(port) };
    let refused = check_login(settings.clone(), "good", Clock::start()).await.unwrap_err();
    assert_eq!(refused.to_string(), "log-in refused: [AUTHENTICATIONFAILED] so");
    replace(&path, b"second\n", 0o600).unwrap();
    assert_eq!(check_login(settings, "good", Clock::start()).await.unwrap().unseen, 3);
    let logins = logins.lock();
    assert_eq!((logins.get("refused"), logins.get("good")), (Some(&1), Some(&1)));
}

#[tokio::test]
async fn a_log_in_on_trial_says_what_it_found() {
    let (port, _) = serve();
    let checked = check_login(settings(port), "good", Clock::start()).await.unwrap();
    assert_eq!((checked.method, checked.unseen), (Method::Notify, 3));
    let refused = check_login(settings(1), "good", Clock::start()).await.unwrap_err();
    assert!(refused.to_string().starts_with("cannot connect to 127.0.0.1:1: "), "{refused}");
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Connection>() <= 512, "{} bytes", size_of::<Connection>());
}
