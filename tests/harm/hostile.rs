//! What a local user can do to an agent whose sockets are all open to him: floods of every kind at once and one by one.
//! Each is compared with the same flood against another agent on the same machine, which has nothing to do with the
//! mail server: what it costs a delivery more is what the flood can do to the agent, and not to the machine.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use support::cloud::Cloud;
use support::dict_client::deliver;
use support::host::{Host, badges};
use support::machine;
use support::process::{try_until, wait_until};

/// Longest wait for a thing to happen on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);
/// Connections that a flood holds at once: more than any listener grants, fewer than a process may have open.
const HELD: usize = 350;
/// Deliveries measured in each half of a round; and with `MAILBADGE_LONG`.
const DELIVERIES: (usize, usize) = (50, 200);
/// Rounds, most. What else runs can only add to a round's difference: one clean round shows the cost.
const ROUNDS: usize = 20;
/// What a flood may add to a delivery, at the median.
const COST_MAX: Duration = Duration::from_millis(1);
/// What all floods together may add to the agent's memory, in kB.
const MEMORY_MAX: u64 = 16 * 1024;
/// What a flood sends at most before its connection is closed for it.
const ENDLESS: usize = 4 * 1024 * 1024;

/// Where an agent can be reached.
#[derive(Clone)]
struct Target {
    admin: PathBuf,
    dict: PathBuf,
    endpoint: String,
}

/// What a flood does again and again: opens a connection, does its worst, and gives it back to be held.
type Strike = fn(&Target) -> Option<Held>;

/// A connection that is held until there are too many.
enum Held {
    Unix(UnixStream),
    Tcp(TcpStream),
}

const FLOODS: &[(&str, Strike)] = &[
    ("silent connections to admin", |target| Some(Held::Unix(UnixStream::connect(&target.admin).ok()?))),
    ("half heads to admin", |target| {
        let mut stream = UnixStream::connect(&target.admin).ok()?;
        stream.write_all(b"GET /status HTTP/1.1\r\nHost: local").ok()?;
        Some(Held::Unix(stream))
    }),
    ("requests to admin, answers unread", |target| {
        let mut stream = UnixStream::connect(&target.admin).ok()?;
        stream.write_all(&b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20)).ok()?;
        Some(Held::Unix(stream))
    }),
    ("half requests of 60 KB to the endpoint", |target| {
        endless(target, b"GET / HTTP/1.1\r\nX: ", &[b'x'; 60 * 1024], 60 * 1024)
    }),
    ("endless headers to the endpoint", |target| {
        endless(target, b"GET / HTTP/1.1\r\n", &b"X: y\r\n".repeat(100), ENDLESS)
    }),
    ("endless bodies to the endpoint", |target| {
        let head =
            b"POST /autodiscover/metadata/json/1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        endless(target, head, &b"8\r\nxxxxxxxx\r\n".repeat(100), ENDLESS)
    }),
    ("HTTP/2 prefaces to the endpoint", |target| {
        endless(
            target,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            &[0, 0, 0, 4, 0, 0, 0, 0, 0].repeat(100),
            ENDLESS,
        )
    }),
    ("silent connections to the dict socket", |target| {
        Some(Held::Unix(UnixStream::connect(&target.dict).ok()?))
    }),
    ("half lines of 60 KB to the dict socket", |target| {
        let mut stream = UnixStream::connect(&target.dict).ok()?;
        stream.set_write_timeout(Some(LIMIT)).ok()?;
        let mut half = b"H3\t2\t0\t\tunseen\nB1\tu1\nS1\tpriv/status/INBOX\t".to_vec();
        half.resize(60 * 1024, b'x');
        stream.write_all(&half).ok()?;
        Some(Held::Unix(stream))
    }),
    ("connections opened and closed at all of them", |target| {
        drop(UnixStream::connect(&target.dict).ok()?);
        drop(UnixStream::connect(&target.admin).ok()?);
        drop(TcpStream::connect(&target.endpoint).ok()?);
        None
    }),
];

/// Sends `head` and then `piece` again and again, until so much was sent or nobody takes it any more.
fn endless(target: &Target, head: &[u8], piece: &[u8], most: usize) -> Option<Held> {
    let mut stream = TcpStream::connect(&target.endpoint).ok()?;
    stream.set_write_timeout(Some(LIMIT)).ok()?;
    stream.write_all(head).ok()?;
    for _ in 0..most.div_ceil(piece.len()) {
        stream.write_all(piece).ok()?;
    }
    Some(Held::Tcp(stream))
}

/// A flood under way; it ends when this is dropped.
struct Flood {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    /// A thread for each of them; together they hold [`HELD`] connections.
    fn begin(strikes: &[Strike], target: &Target) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let held_max = HELD / strikes.len();
        let threads = strikes.iter().map(|&strike| {
            let (is_over, target) = (Arc::clone(&is_over), target.clone());
            thread::spawn(move || {
                let mut held = std::collections::VecDeque::new();
                while !is_over.load(Ordering::Acquire) {
                    held.extend(strike(&target));
                    if held.len() > held_max {
                        held.pop_front();
                    }
                }
            })
        });
        let threads = threads.collect();
        Self { is_over, threads }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // What it panics with is printed.
            let _ended = thread.join();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It may have been ended meanwhile.
        match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Both).ok(),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both).ok(),
        };
    }
}

/// The agent of the mail server, and another one.
struct Scene {
    cloud: Cloud,
    host: Host,
    _other: Host,
    targets: [Target; 2],
    unseen: u32,
}

impl Scene {
    fn new() -> Self {
        let cloud = Cloud::start();
        let hosts = [(); 2].map(|()| {
            let mut host = Host::new();
            host.open_endpoint();
            host.configure(&cloud, &host.dovecot_source());
            host.subscribe(&["u1".to_owned()]);
            host.start();
            host
        });
        let target = |host: &Host| Target {
            admin: host.folder().join("admin.sock"),
            dict: host.dict_socket(),
            endpoint: host.metadata_url().split('/').nth(2).expect("it has an authority").to_owned(),
        };
        let targets = [target(&hosts[0]), target(&hosts[1])];
        let [host, other] = hosts;
        Self { cloud, host, _other: other, targets, unseen: 0 }
    }

    /// A number of `/proc/<pid>/status`, in kB.
    fn memory_kb(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.host.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).expect("a number of kB")
    }

    /// The median and the 99th percentile of what deliveries wait.
    fn deliver(&mut self) -> (Duration, Duration) {
        let count = if support::is_long() { DELIVERIES.1 } else { DELIVERIES.0 };
        let mut took: Vec<Duration> = (0..count)
            .map(|_| {
                self.unseen += 1;
                deliver(&self.host.dict_socket(), "u1", self.unseen)
            })
            .collect();
        took.sort_unstable();
        let at = |percent: usize| *took.get(count * percent / 100).expect("a part of all");
        (at(50), at(99))
    }

    /// Has this flood come over the other agent and over this one in turn. Panics where no round shows that it costs this
    /// one's deliveries no more than it costs with the other one. Returns the line of the table.
    fn withstand(&mut self, name: &str, strikes: &[Strike]) -> String {
        let mut costs = Vec::new();
        for _ in 0..ROUNDS {
            let elsewhere = {
                let _flood = Flood::begin(strikes, &self.targets[1]);
                self.deliver()
            };
            let (here, notice) = {
                let _flood = Flood::begin(strikes, &self.targets[0]);
                let here = self.deliver();
                (here, self.host.ask("/readyz"))
            };
            let unseen = Some(self.unseen);
            wait_until("the badge", LIMIT, || (badges(&self.cloud, "u1") == [unseen; 2]).then_some(()));
            let cost = here.0.saturating_sub(elsewhere.0);
            if cost <= COST_MAX {
                let told = if notice.contains("notice: ") { "told" } else { "within its limits" };
                return format!(
                    "| {name} | {:.2} and {:.2} ms | {:.2} and {:.2} ms | {told} |",
                    ms(here.0),
                    ms(elsewhere.0),
                    ms(here.1),
                    ms(elsewhere.1)
                );
            }
            costs.push(cost);
        }
        panic!("{name}: a delivery took {costs:?} more at the median");
    }
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

#[test]
fn no_flood_of_a_local_user_costs_a_delivery_a_millisecond_and_none_leaves_a_mark() {
    let _alone = machine::alone();
    let mut scene = Scene::new();
    let all: Vec<Strike> = FLOODS.iter().map(|(_, strike)| *strike).collect();
    let at_rest = scene.memory_kb("VmRSS");
    {
        // What each of its threads has touched once, an allocator keeps.
        let _flood = Flood::begin(&all, &scene.targets[0]);
        scene.deliver();
    }
    let before = scene.memory_kb("VmRSS");
    let chosen = if support::is_long() { 0..FLOODS.len() } else { 0..0 };
    println!("| Flood | Median: here and elsewhere | p99: here and elsewhere | `/readyz` |");
    for (name, strike) in &FLOODS[chosen] {
        println!("{}", scene.withstand(name, &[*strike]));
    }
    println!("{}", scene.withstand("all of these at once", &all));
    let most = scene.memory_kb("VmHWM").saturating_sub(at_rest);
    let left = || scene.memory_kb("VmRSS").saturating_sub(before);
    println!("memory: {at_rest} kB at rest, {most} kB more at most, {} kB more than before after", left());
    assert!(most <= MEMORY_MAX, "{most} kB more than the {at_rest} kB at rest");
    let is_back = try_until(LIMIT, || (left() <= before / 10).then_some(()));
    assert!(is_back.is_some(), "{} kB more than the {before} kB before", left());
    let ready = || scene.host.ask("/readyz").starts_with("HTTP/1.1 200").then_some(());
    wait_until("/readyz", LIMIT, ready);
    let mut metadata = TcpStream::connect(&scene.targets[0].endpoint).expect("it listens");
    write!(metadata, "GET /autodiscover/metadata/json/1 HTTP/1.0\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    metadata.read_to_string(&mut answer).expect("it answers");
    assert!(answer.contains(" 200 OK"), "{answer}");
}
