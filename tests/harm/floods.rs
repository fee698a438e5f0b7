//! Servers that send without end: an IMAP server, a doveadm, a relay. The agent ends the connection, says so, comes back
//! less and less often, and reports true counts as soon as the server is itself again.

use mailbadge::time::Moment;
use mailbadge::time::driver::Clock;
use mailbadge_sim::peers::mail_store::{AccountId, MailStore};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use support::cloud::{Cloud, ORGANIZATION};
use support::host::{Host, badges};
use support::machine;
use support::process::{try_until, wait_until};
use support::scripted::{Script, ScriptedServer, hands_on_to, read_request, within_tls};

/// Longest wait for a thing to happen on a busy machine; back-off after a flood included.
const LIMIT: Duration = Duration::from_secs(90);
/// How long the agent's work is measured.
const WATCHED: Duration = Duration::from_secs(10);
/// What of a processor's time a flood may take of it, in per cent.
const BUSY_MAX: u64 = 20;
/// Ticks a second in `/proc/<pid>/stat`, on every Linux.
const TICKS: u64 = 100;

/// Processor time of a process: utime and stime of proc_pid_stat(5), in ticks.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(") ").expect("the name comes first");
    fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
}

/// The agent says that it is flooded, and has little to do for the next ten seconds. Returns what it had to do and said.
fn is_named_and_costs_little(host: &Host, server: &ScriptedServer) -> String {
    let named = wait_until("/readyz to name the flood", LIMIT, || {
        Some(host.ask("/readyz")).filter(|answer| answer.contains("floods the connection"))
    });
    let (clock, before, connections) = (Clock::start(), ticks(host.pid()), server.connections());
    let is_over = || (clock.now().moment.since(Moment::START) >= WATCHED).then_some(());
    wait_until("the time to pass", WATCHED * 2, is_over);
    let busy = (ticks(host.pid()) - before) * 100 / (TICKS * WATCHED.as_secs());
    let more = server.connections() - connections;
    assert!(busy < BUSY_MAX, "{busy} %");
    format!("busy {busy} % of a processor, {more} more connections; {named}")
}

fn shows(cloud: &Cloud, mailbox: &str, unseen: u32) {
    let is_true = try_until(LIMIT, || (badges(cloud, mailbox) == [Some(unseen); 2]).then_some(()));
    assert!(is_true.is_some(), "{mailbox} shows {:?}", badges(cloud, mailbox));
}

/// Writes this again and again until the other side has had enough.
fn flood(mut stream: impl Write, with: &str) {
    let much = with.repeat(64 * 1024 / with.len() + 1);
    while stream.write_all(much.as_bytes()).is_ok() {}
}

/// Lets everybody in, then sends lines that are each understood.
fn imap_flood() -> Script {
    Arc::new(|mut stream: TcpStream| {
        let mut lines = BufReader::new(stream.try_clone().expect("a socket of ours")).lines();
        let greeted = stream.write_all(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN IDLE] ready\r\n");
        let Some(Ok(log_in)) = lines.next().filter(|_| greeted.is_ok()) else { return };
        let tag = log_in.split(' ').next().unwrap_or_default();
        let let_in = write!(stream, "{tag} OK [CAPABILITY IMAP4rev1 IDLE] in\r\n");
        if let_in.is_ok() {
            flood(stream, &format!("* OK {}\r\n", "still here ".repeat(400)));
        }
    })
}

#[test]
fn an_imap_server_that_floods_is_left_alone_and_used_again_once_it_is_well() {
    let _alone = machine::alone();
    let cloud = Cloud::start_with(Some(MailStore::new(1, ORGANIZATION)));
    let (store, imap) = cloud.mail_store().expect("it was given one");
    let name = store.lock().name(AccountId(0)).expect("its name").to_string();
    let server = ScriptedServer::start(imap_flood());
    let mut host = Host::new();
    host.configure(&cloud, &host.imap_source_at(server.address(), "auto"));
    host.subscribe(std::slice::from_ref(&name));
    host.start_unready();
    println!("{}", is_named_and_costs_little(&host, &server));
    assert!(host.log().contains("floods the connection"), "it is logged");
    server.play(hands_on_to(imap));
    store.lock().deliver(AccountId(0)).expect("it takes messages");
    shows(&cloud, &name, 1);
    wait_until("the agent to be ready", LIMIT, || {
        host.ask("/readyz").starts_with("HTTP/1.1 200").then_some(())
    });
    host.stop();
}

/// Rows without end.
fn doveadm_flood() -> Script {
    Arc::new(|mut stream: TcpStream| {
        if read_request(&mut stream).is_none() {
            return;
        }
        let begun = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n[[\"doveadmResponse\",[");
        if begun.is_ok() {
            flood(stream, "{\"username\":\"nobody\",\"unseen\":\"1\"},");
        }
    })
}

/// Says that everybody has this many unseen.
fn doveadm(unseen: u32) -> Script {
    Arc::new(move |mut stream: TcpStream| {
        while let Some(question) = read_request(&mut stream) {
            let commands: Vec<Value> = serde_json::from_str(&question).expect("doveadm's JSON");
            let row = |_: &Value| json!({"username": "u1", "unseen": unseen.to_string()});
            let respond = |command: &Value| json!(["doveadmResponse", [row(command)], command[2]]);
            let answer = Value::Array(commands.iter().map(respond).collect()).to_string();
            let sent = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
            if sent.is_err() {
                return;
            }
        }
    })
}

#[test]
fn a_doveadm_whose_answer_has_no_end_is_left_alone_and_used_again_once_it_is_well() {
    let _alone = machine::alone();
    let (cloud, server) = (Cloud::start(), ScriptedServer::start(doveadm_flood()));
    let mut host = Host::new();
    let key = host.folder().join("api.key");
    fs::write(&key, "a-key\n").expect("own folder");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("own file");
    let port = server.address().port();
    let url = format!("http://127.0.0.1:{port}/doveadm/v1");
    host.configure(
        &cloud,
        &format!("[[source]]\nkind = \"doveadm\"\nurl = \"{url}\"\napi-key-file = \"api.key\"\n"),
    );
    host.subscribe(&["u1".to_owned()]);
    host.start_unready();
    println!("{}", is_named_and_costs_little(&host, &server));
    server.play(doveadm(5));
    shows(&cloud, "u1", 5);
    wait_until("the agent to be ready", LIMIT, || {
        host.ask("/readyz").starts_with("HTTP/1.1 200").then_some(())
    });
    host.stop();
}

#[test]
fn a_relay_whose_interim_answers_have_no_end_is_left_alone_and_used_again_once_it_is_well() {
    let _alone = machine::alone();
    let cloud = Cloud::start();
    let server = ScriptedServer::start(within_tls(&cloud, |mut stream| {
        let mut byte = [0];
        if stream.read(&mut byte).is_ok_and(|read| read > 0) {
            flood(stream, "HTTP/1.1 100 Continue\r\n\r\n");
        }
    }));
    let mut host = Host::new();
    host.configure(&cloud, &host.dovecot_source());
    let port = |url: &str| url.split(['/', ':']).find_map(|part| part.parse::<u16>().ok()).expect("a port");
    let own = server.address().port();
    let uri = cloud.url().replace(&port(cloud.url()).to_string(), &own.to_string());
    host.command(&["proxy", "enable", "--organization", ORGANIZATION, "--uri", &uri]).expect("enabled");
    host.subscribe(&["u1".to_owned()]);
    host.start_unready();
    report(&host, 1, |_| "u1".to_owned(), 3);
    println!("{}", is_named_and_costs_little(&host, &server));
    let relay = ([127, 0, 0, 1], port(cloud.url())).into();
    server.play(hands_on_to(relay));
    shows(&cloud, "u1", 3);
    wait_until("the agent to be ready", LIMIT, || {
        host.ask("/readyz").starts_with("HTTP/1.1 200").then_some(())
    });
    host.stop();
}

/// Transactions that are written before their answers are read.
const TOGETHER: usize = 100;

/// Reports to the dict socket that each of so many mailboxes has this many unseen.
fn report(host: &Host, count: usize, name: impl Fn(usize) -> String, unseen: u32) {
    let connect = || UnixStream::connect(host.dict_socket()).ok();
    let mut stream = wait_until("the agent to listen", LIMIT, connect);
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    stream.write_all(b"H3\t2\t0\t\tunseen\n").expect("it reads");
    let status = format!("{{\"unseen\":{unseen},\"uidvalidity\":1,\"modseq\":{}}}", unseen + 10);
    let mut answers = BufReader::new(stream.try_clone().expect("a socket of ours")).lines();
    for first in (0..count).step_by(TOGETHER) {
        let mut said = String::new();
        let numbers = first..count.min(first + TOGETHER);
        for number in numbers.clone() {
            let user = name(number);
            let _ = write!(said, "B1\t{user}\nS1\tpriv/status/INBOX\t{status}\nC1\n");
        }
        stream.write_all(said.as_bytes()).expect("it reads");
        for _ in numbers {
            assert_eq!(answers.next().expect("an answer").expect("in time"), "O1");
        }
    }
}

/// Names that somebody invents.
const INVENTED: usize = 200_000;
/// Of these, so many are reported in a row.
const AT_ONCE: usize = 5000;
/// Memory that they may cost the agent.
const MEMORY_MAX_KB: u64 = 16 * 1024;

fn resident_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is there");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Reports of names that nobody knew.
fn unknown(host: &Host) -> usize {
    let metrics = host.ask("/metrics");
    let counted = "mailbadge_observations_total{source=\"dovecot\",kind=\"unknown\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(counted)?.parse::<usize>().ok());
    count.expect("it is counted")
}

#[test]
fn invented_names_cost_little_memory_where_all_are_watched_and_take_nothing_from_subscribers() {
    let _alone = machine::alone();
    let (cloud, mut host) = (Cloud::start(), Host::new());
    // What is free is given back at once, so that it is not counted.
    host.set_variable("MIMALLOC_PURGE_DELAY", "0".into());
    host.configure(&cloud, &host.dovecot_source());
    let file = host.folder().join("mailbadge.toml");
    let text = fs::read_to_string(&file).expect("it was written");
    fs::write(&file, format!("watch-all = true\n{text}")).expect("own folder");
    host.subscribe(&["u1".to_owned()]);
    host.start();
    report(&host, 1, |_| "u1".to_owned(), 1);
    shows(&cloud, "u1", 1);
    let before = resident_kb(host.pid());
    for first in (0..INVENTED).step_by(AT_ONCE) {
        report(&host, AT_ONCE, |number| format!("invented-{}@fabrikam.com", first + number), 1);
        // What waits to be handed on has a limit of its own, and is not what is measured.
        let are_handed_on = || (unknown(&host) >= first + AT_ONCE).then_some(());
        wait_until("the names to be looked up", LIMIT, are_handed_on);
    }
    wait_until("names to be left out", LIMIT, || host.ask("/status").contains("were left out").then_some(()));
    report(&host, 1, |_| "u1".to_owned(), 2);
    shows(&cloud, "u1", 2);
    let grown = || resident_kb(host.pid()).saturating_sub(before);
    try_until(LIMIT, || (grown() <= MEMORY_MAX_KB).then_some(()));
    println!("{INVENTED} invented names: {before} kB before, {} kB more", grown());
    assert!(grown() <= MEMORY_MAX_KB, "{} kB", grown());
    let screen = host.command(&["status"]).expect("the daemon runs");
    assert!(screen.contains("were left out"), "{screen}");
    host.subscribe(&["late".to_owned()]);
    wait_until("the new subscription", LIMIT, || {
        host.ask("/mailbox?name=late").contains("200").then_some(())
    });
    report(&host, 1, |_| "late".to_owned(), 7);
    shows(&cloud, "late", 7);
    host.stop();
}
