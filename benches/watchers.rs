//! Memory of an idle mailbox: watched over IMAP, plain and in TLS, and fed by events, alone and in the whole agent. A
//! program that prints, since memory is no matter of iterations: `cargo bench -p proof --bench watchers`.
//!
//! Each case runs in a process of its own with the mail server in another, since both hold a descriptor a connection.
//! A small number of mailboxes warms up; what a further, large number adds is divided by that number: bytes asked of the
//! allocator, and resident memory. With each mailbox go its record in the tracker and one device.

#![expect(clippy::print_stdout, reason = "a program that prints")]

#[path = "watchers/agent.rs"]
mod agent;

use cap::Cap;
use mailbadge::counters::SourceCounters;
use mailbadge::event::{
    MailboxId, ModSeq, News, Observer, Reading, Recipient, SourceId, SubscriptionKey, UidValidity, Verdict,
};
use mailbadge::https::Authorities;
use mailbadge::source::imap::driver::{ImapSource, start};
use mailbadge::source::imap::{Login, Settings, Tls};
use mailbadge::source::kind::Running;
use mailbadge::time::driver::Clock;
use mailbadge::time::{Now, UnixMs};
use mailbadge::tracker::Tracker;
use mailbadge_sim::peers::mail_store::{Credentials, MailStore};
use mailbadge_sim::serve::{self, ImapTls};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::io::{BufRead, BufReader, Write};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Cap<mimalloc::MiMalloc> = Cap::new(mimalloc::MiMalloc, usize::MAX);

/// Mailboxes before the first look: threads, tables and the allocator have their first size.
const WARM_UP: u32 = 1_000;
/// Mailboxes watched over IMAP; both ends together need more descriptors than one process may have.
const CONNECTIONS: u32 = 9_000;
/// Mailboxes fed by events.
const FED: u32 = 100_000;
/// All connections must watch after this long.
const LIMIT: Duration = Duration::from_mins(2);
/// For freed memory to go back to the system.
const REST: Duration = Duration::from_secs(3);

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("serve") => serve(is_tls(&args)),
        Some("imap") => imap(is_tls(&args)),
        Some("events") => events(),
        Some("agent") => agent::measure(),
        Some("subscribe") => match args.as_slice() {
            [_, folder, from, to] => agent::subscribe(Path::new(folder), from.parse()?..to.parse()?),
            _ => Err("subscribe FOLDER FROM TO".into()),
        },
        _ => ["imap", "imap tls", "events", "agent"].iter().try_for_each(|case| {
            let status = again(case).status()?;
            if status.success() { Ok(()) } else { Err(format!("{case}: {status}").into()) }
        }),
    }
}

fn is_tls(args: &[String]) -> bool {
    args.get(1).is_some_and(|word| word == "tls")
}

/// This program once more, with these arguments.
fn again(arguments: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a running program has a path"));
    // A huge page here or there is more than all mailboxes of this bench differ by.
    command.args(arguments.split(' ')).env("MIMALLOC_ALLOW_THP", "0");
    // What is freed goes back with the next allocations, of which there are none here.
    command.env("MIMALLOC_PURGE_DELAY", "0");
    command
}

/// The mail server, until its input ends: says where it listens and which certificate to trust.
fn serve(is_tls: bool) -> Outcome {
    let runtime = tokio::runtime::Runtime::new()?;
    let store = MailStore::new((WARM_UP + CONNECTIONS) as usize, "fabrikam.com");
    let options = serve::Options {
        mail_store: Some(Arc::new(parking_lot::Mutex::new(store))),
        imap_tls: if is_tls { ImapTls::Implicit } else { ImapTls::None },
        ..serve::Options::default()
    };
    let running = runtime.block_on(serve::start(options))?;
    let port = running.imap_addr.ok_or("no IMAP server")?.port();
    println!("{port} {}", running.ca_pem_path.display());
    std::io::stdout().flush()?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    runtime.block_on(running.stop());
    Ok(())
}

/// The agent's IMAP source beside a tracker whose mailboxes have a device each.
fn imap(is_tls: bool) -> Outcome {
    let mut server = again(if is_tls { "serve tls" } else { "serve" })
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let settings = settings(&mut server, is_tls)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let counters = Arc::new(SourceCounters::default());
    let clock = Clock::start();
    let tracker = Arc::new(Tracker::default());
    let observer = Arc::new(TrackerObserver(Arc::clone(&tracker)));
    let source = {
        let _within = runtime.enter();
        start(settings, SourceId(0), observer, clock, Arc::clone(&counters), 1)?
    };
    watch(&source, &tracker, 0..WARM_UP, clock);
    until_watched(&source, &tracker, WARM_UP, clock);
    let before = Memory::now()?;
    watch(&source, &tracker, WARM_UP..WARM_UP + CONNECTIONS, clock);
    until_watched(&source, &tracker, WARM_UP + CONNECTIONS, clock);
    Memory::now()?.tell(if is_tls { "IMAP over TLS" } else { "IMAP, plain" }, &before, CONNECTIONS);
    drop(server.stdin.take());
    server.wait()?;
    Ok(())
}

fn settings(server: &mut Child, is_tls: bool) -> Result<Settings, Box<dyn std::error::Error>> {
    let mut line = String::new();
    BufReader::new(server.stdout.as_mut().ok_or("no output")?).read_line(&mut line)?;
    let (port, ca_pem_path) = line.trim().split_once(' ').ok_or("the server does not say where it is")?;
    let master = Credentials::default().master.ok_or("no master user")?;
    let login = Login::Master {
        user: master.user,
        separator: master.separator.into(),
        password: master.password.into(),
    };
    let extra = CertificateDer::pem_file_iter(ca_pem_path)?.collect::<Result<_, _>>()?;
    Ok(Settings {
        port: port.parse()?,
        tls: if is_tls { Tls::Implicit } else { Tls::None },
        server_name: Some("localhost".to_owned()),
        authorities: Authorities { extra, is_only: false },
        login_rate: 10_000,
        ..Settings::new("watchers", "127.0.0.1", login)
    })
}

fn watch(source: &ImapSource, tracker: &Tracker, mailboxes: std::ops::Range<u32>, clock: Clock) {
    for number in mailboxes {
        let (mailbox, name) = enroll(tracker, number, clock.now());
        source.watch(mailbox, &name);
    }
}

/// Mailboxes that only events tell of.
fn events() -> Outcome {
    let clock = Clock::start();
    let tracker = Tracker::default();
    let feed = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            let (mailbox, _) = enroll(&tracker, number, clock.now());
            tracker.observe(mailbox, SourceId(0), count(7, 4), clock.now());
        }
        loop {
            let batch = tracker.take(256, clock.now());
            if batch.is_empty() {
                break;
            }
            tracker.acknowledge(&batch, &[], clock.now());
        }
        while !tracker.take_unsaved(256).is_empty() {}
    };
    feed(0..WARM_UP);
    let before = Memory::now()?;
    feed(WARM_UP..WARM_UP + FED);
    Memory::now()?.tell("fed by events", &before, FED);
    Ok(())
}

fn count(unseen: u32, modseq: u64) -> News {
    News::Reading(Reading {
        unseen,
        uid_validity: NonZeroU32::new(1).map(UidValidity),
        modseq: NonZeroU64::new(modseq).map(ModSeq),
        asked_at: None,
    })
}

/// A mailbox with one phone, whose device token is what APNs gives out.
fn enroll(tracker: &Tracker, number: u32, now: Now) -> (MailboxId, Arc<str>) {
    let name: Arc<str> = format!("u{}@fabrikam.com", number + 1).into();
    let mailbox = tracker.enroll(&name).expect("fewer than fit");
    let recipient = Recipient {
        key: SubscriptionKey(i64::from(number)),
        app_id: APP.with(Arc::clone),
        device_id: format!("{number:064x}").as_str().into(),
        installation_id: None,
        last_update: UnixMs(0),
        expires_at: UnixMs(u64::MAX),
        background_sync: false,
    };
    tracker.subscribe(mailbox, recipient, Some(0), now);
    (mailbox, name)
}

thread_local! {
    static APP: Arc<String> = "com.microsoft.exchange.iphone".to_owned().into();
}

struct TrackerObserver(Arc<Tracker>);

impl Observer for TrackerObserver {
    fn find(&self, name: &str) -> Option<MailboxId> {
        self.0.find(name)
    }

    fn observe(&self, mailbox: MailboxId, source: SourceId, news: News, now: Now) -> Verdict {
        self.0.observe(mailbox, source, news, now)
    }
}

fn until_watched(source: &ImapSource, tracker: &Tracker, mailboxes: u32, clock: Clock) {
    let is_read =
        |number| tracker.inspect(MailboxId(number), |record| record.known().is_some()) == Some(true);
    let begun_at = clock.now().moment;
    let mut first_unread = 0;
    while first_unread < mailboxes {
        if is_read(first_unread) {
            first_unread += 1;
        } else {
            let is_time_left = clock.now().moment.since(begun_at) < LIMIT;
            assert!(is_time_left, "only {first_unread} of {mailboxes} were read: {:?}", source.failure());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What this process holds.
struct Memory {
    asked: i64,
    resident: i64,
}

impl Memory {
    fn now() -> Result<Self, Box<dyn std::error::Error>> {
        std::thread::sleep(REST);
        let status = std::fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let resident: i64 = line.trim().trim_end_matches("kB").trim().parse::<i64>()? * 1024;
        Ok(Self { asked: i64::try_from(ALLOCATOR.allocated())?, resident })
    }

    fn tell(&self, what: &str, before: &Self, mailboxes: u32) {
        let each = |after: i64, before: i64| (after - before) / i64::from(mailboxes);
        println!(
            "{what:<16} {mailboxes:>7} mailboxes: {:>6} B asked of the allocator, {:>6} B resident, each",
            each(self.asked, before.asked),
            each(self.resident, before.resident)
        );
    }
}
