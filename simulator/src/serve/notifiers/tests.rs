//! Who is told hears what the quirks of a mailbox say, switched while it runs; who is not there keeps nobody waiting.

use super::*;
use crate::peers::mail_store::{AccountId, Quirk};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, UnixListener};

const FIRST: AccountId = AccountId(0);
const SECOND: AccountId = AccountId(1);
/// Longer than anything here takes; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(20);

/// What a dict server heard: the connection's number and the line.
type Heard = Arc<Mutex<Vec<(usize, String)>>>;

fn store() -> Arc<Mutex<MailStore>> {
    Arc::new(Mutex::new(MailStore::new(2, "")))
}

fn dict_at(address: DictAddress) -> Options {
    Options { dict: Some(address), ..Options::default() }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(LONG, waiting).await.is_ok(), "in vain: {what}");
}

/// Answers commits on one connection, and the hello where it `greets`.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, number: usize, heard: Heard, greets: bool) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
        let text = std::mem::take(&mut line).trim_end().to_owned();
        let answer = match text.strip_prefix('C') {
            Some(id) => format!("O{id}\n"),
            None if greets && text.starts_with('H') => "O0\n".to_owned(),
            None => String::new(),
        };
        heard.lock().push((number, text));
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn dict_server(path: &Path, greets: bool) -> Heard {
    let listener = UnixListener::bind(path).expect("own folder");
    let heard = Heard::default();
    let into = Arc::clone(&heard);
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(answer(stream, number, Arc::clone(&into), greets));
        }
    });
    heard
}

/// The hello, user and beginning of the last commit's connection.
fn last_told(heard: &Heard) -> (String, String) {
    let heard = heard.lock();
    let (number, begin) = heard.iter().rfind(|(_, line)| line.starts_with('B')).expect("a change");
    let (_, hello) = heard.iter().find(|(of, _)| of == number).expect("a hello");
    (hello.clone(), begin.split_once('\t').map(|(_, user)| user.to_owned()).unwrap_or_default())
}

struct Bench {
    folder: TempDir,
    store: Arc<Mutex<MailStore>>,
    notifiers: Notifiers,
    delivered: u64,
}

impl Bench {
    fn new(options: impl FnOnce(&Path) -> Options) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store();
        let (notifiers, _) = Notifiers::start(options(folder.path()), &store, 1).expect("a thread");
        Self { folder, store, notifiers, delivered: 0 }
    }

    fn dict() -> Self {
        Self::new(|folder| dict_at(DictAddress::Unix(folder.join("dict.sock"))))
    }

    fn cyrus() -> Self {
        Self::new(|folder| Options { cyrus: Some(folder.join("cyrus.sock")), ..Options::default() })
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn figures(&self) -> &Figures {
        &self.notifiers.dict.as_ref().or(self.notifiers.cyrus.as_ref()).expect("somebody is told").figures
    }

    fn trouble(&self) -> Option<String> {
        self.figures().trouble.lock().clone()
    }

    fn told(&self) -> (u64, u64) {
        let figures = self.figures();
        (figures.told.load(Ordering::Relaxed), figures.lost.load(Ordering::Relaxed))
    }

    fn deliver(&mut self, account: AccountId) {
        self.store.lock().deliver(account).expect("the account");
        self.delivered += 1;
    }

    async fn settle(&self) {
        until("every change is told or lost", || {
            let (told, lost) = self.told();
            told + lost == self.delivered
        })
        .await;
    }
}

#[tokio::test]
async fn a_mailbox_s_dialect_is_switched_while_it_runs_and_is_no_other_s() {
    let mut bench = Bench::dict();
    let heard = dict_server(&bench.place("dict.sock"), false);
    let steps = [
        (None, "H3\t2\t0\t\tunseen", "user1"),
        (Some((Quirk::DictV4, true)), "H4\t0\t0\t\tunseen", "user1\t0"),
        (Some((Quirk::DictV2, true)), "H2\t2\t0\tuser1\tunseen", ""),
        (Some((Quirk::DictV2, false)), "H3\t2\t0\t\tunseen", "user1"),
    ];
    for (quirk, hello, user) in steps {
        if let Some((quirk, on)) = quirk {
            bench.store.lock().set_quirk(Some(FIRST), quirk, on);
        }
        bench.deliver(FIRST);
        bench.settle().await;
        assert_eq!(last_told(&heard), (hello.to_owned(), user.to_owned()), "{quirk:?}");
        bench.deliver(SECOND);
        bench.settle().await;
        assert_eq!(last_told(&heard), ("H3\t2\t0\t\tunseen".to_owned(), "user2".to_owned()));
    }
    assert_eq!((bench.told(), bench.trouble()), ((8, 0), None));
    // Those that speak alike share a connection: one for each dialect.
    assert_eq!(heard.lock().iter().filter(|(_, line)| line.starts_with('H')).count(), 3);
}

#[tokio::test]
async fn out_of_order_changes_of_a_mailbox_overtake_each_other() {
    let mut bench = Bench::dict();
    let heard = dict_server(&bench.place("dict.sock"), false);
    bench.store.lock().set_quirk(Some(FIRST), Quirk::DictOutOfOrder, true);
    for _ in 0..40 {
        bench.deliver(FIRST);
        bench.deliver(SECOND);
    }
    bench.settle().await;
    let heard = heard.lock();
    let is_overtaken = |user: &str| {
        let begun = heard.iter().find(|(_, line)| line.starts_with('B') && line.ends_with(user));
        let number = begun.expect("it was told").0;
        let of_it = heard.iter().filter(|(of, _)| *of == number);
        let ids: Vec<u32> = of_it.filter_map(|(_, line)| line.strip_prefix('C')?.parse().ok()).collect();
        assert_eq!(ids.len(), 40);
        ids.windows(2).any(|pair| pair[0] > pair[1])
    };
    assert_eq!((is_overtaken("user1"), is_overtaken("user2")), (true, false));
}

#[tokio::test]
async fn a_dict_server_is_told_by_tcp_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let mut bench = Bench::new(|_| dict_at(address.parse().expect("an address")));
    bench.deliver(FIRST);
    let heard = Heard::default();
    let (stream, _) = listener.accept().await.expect("a connection");
    tokio::spawn(answer(stream, 0, Arc::clone(&heard), false));
    bench.settle().await;
    assert_eq!((bench.told(), last_told(&heard).1), ((1, 0), "user1".to_owned()));
}

#[tokio::test]
async fn a_dict_server_that_comes_in_time_misses_nothing() {
    let mut bench = Bench::dict();
    bench.deliver(FIRST);
    until("its absence is said", || bench.trouble().is_some()).await;
    dict_server(&bench.place("dict.sock"), false);
    bench.settle().await;
    assert_eq!((bench.told(), bench.trouble()), ((1, 0), None));
}

#[tokio::test]
async fn a_dict_server_that_does_not_come_loses_changes_and_keeps_nobody_waiting() {
    let mut bench = Bench::dict();
    for _ in 0..WAITING_MAX + 1000 {
        bench.deliver(FIRST);
    }
    // The store took them all; those for which there is no room are lost at once.
    assert!(bench.told().1 > 0, "{:?}", bench.told());
    until("what waited for it is lost", || bench.told().1 > 1000).await;
    assert!(bench.trouble().is_some_and(|why| why.contains("nobody listened")), "{:?}", bench.trouble());
}

#[tokio::test]
async fn an_answer_that_dovecot_does_not_bear_is_said() {
    let mut bench = Bench::dict();
    dict_server(&bench.place("dict.sock"), true);
    bench.deliver(FIRST);
    bench.settle().await;
    let trouble = bench.trouble().expect("it was broken");
    assert!(trouble.contains("invalid commit reply"), "{trouble}");
    assert_eq!(bench.told(), (0, 1));
}

#[tokio::test]
async fn cyrus_loses_datagrams_of_the_mailbox_that_has_the_quirk_alone() {
    let mut bench = Bench::cyrus();
    let socket = UnixDatagram::bind(bench.place("cyrus.sock")).expect("own folder");
    socket.set_read_timeout(Some(LONG)).expect("a limit");
    bench.store.lock().set_quirk(Some(FIRST), Quirk::CyrusLostDatagrams, true);
    let heard = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        let mut counts = [0; 2];
        // A change that is not lost comes in two datagrams; the last one of the second mailbox ends it.
        while counts[1] < 80 {
            let read = socket.recv(&mut buffer).expect("a datagram");
            let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
            counts[usize::from(text.contains("user/user2"))] += 1;
        }
        counts
    });
    for _ in 0..40 {
        bench.deliver(FIRST);
        bench.deliver(SECOND);
    }
    bench.settle().await;
    let [first, second] = heard.join().expect("it heard all");
    assert_eq!(second, 80);
    assert!((20..78).contains(&first), "{first} of 80 arrived");
    assert_eq!((bench.told(), bench.trouble()), ((80, 0), None));
}

#[tokio::test]
async fn a_notify_socket_that_is_not_there_or_not_read_keeps_nobody_waiting() {
    let mut bench = Bench::cyrus();
    bench.deliver(FIRST);
    bench.settle().await;
    assert_eq!(bench.told(), (0, 1));
    assert!(bench.trouble().is_some());
    let socket = UnixDatagram::bind(bench.place("cyrus.sock")).expect("own folder");
    bench.deliver(FIRST);
    until("it is told again", || bench.told() == (1, 1)).await;
    assert_eq!(bench.trouble(), None);
    // Its queue fills up, since nobody reads.
    for _ in 0..1000 {
        bench.deliver(FIRST);
    }
    until("what found no room is lost", || bench.trouble().is_some()).await;
    drop(socket);
}

#[test]
fn addresses_are_paths_or_host_and_port() {
    assert_eq!("./dict.sock".parse(), Ok(DictAddress::Unix("./dict.sock".into())));
    assert_eq!("localhost:9145".parse(), Ok(DictAddress::Tcp("localhost:9145".to_owned())));
    assert_eq!("[::1]:9145".parse(), Ok(DictAddress::Tcp("[::1]:9145".to_owned())));
    for wrong in ["", "dict.sock", "localhost", ":9145", "localhost:0", "localhost:many"] {
        assert!(wrong.parse::<DictAddress>().is_err(), "{wrong:?}");
    }
}
