//! The whole agent, told of every mailbox by Dovecot's dict: its rooms, its store and its threads in this process.

use super::{FED, LIMIT, Memory, Outcome, WARM_UP, again};
use mailbadge::admin::Status;
use mailbadge::config;
use mailbadge::store::{SqliteStore, Store};
use mailbadge::subscription::NewSubscription;
use mailbadge::time::driver::Clock;
use mailbadge::time::{Moment, UnixMs};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Subscriptions stored, or mailboxes told of, at once.
const PIECE: usize = 500;

/// An agent that idles with few mailboxes, then with many.
pub(super) fn measure() -> Outcome {
    let folder = tempfile::Builder::new().prefix("mb").tempdir_in("/tmp")?;
    subscribe(folder.path(), 0..WARM_UP)?;
    let path = folder.path().join("mailbadge.toml");
    std::fs::write(
        &path,
        format!(
            "organization = \"fabrikam.com\"\nstate-dir = \"{folder}/state\"\n[admin]\nlisten = \"{folder}/admin.sock\"\n\
             [[source]]\nkind = \"dovecot\"\nlisten = \"{folder}/dict.sock\"\n",
            folder = folder.path().display()
        ),
    )?;
    let configured = config::load(&path)?;
    std::thread::spawn(move || mailbadge::run::run(&path, configured).expect("it starts"));
    tell(folder.path(), 0..WARM_UP)?;
    let before = Memory::now()?;
    let child =
        again(&format!("subscribe {} {WARM_UP} {}", folder.path().display(), WARM_UP + FED)).status()?;
    assert!(child.success(), "{child}");
    tell(folder.path(), WARM_UP..WARM_UP + FED)?;
    Memory::now()?.tell("whole agent, dict", &before, FED);
    Ok(())
}

/// Stores a device each for these mailboxes, as the command line does.
pub(super) fn subscribe(folder: &Path, numbers: Range<u32>) -> Outcome {
    let now = Clock::start().now().unix;
    let store = SqliteStore::open_or_create(&folder.join("state"), now)?;
    let all: Vec<u32> = numbers.collect();
    for piece in all.chunks(PIECE) {
        store.add(&piece.iter().map(|number| subscription(*number, now)).collect::<Vec<_>>())?;
    }
    Ok(())
}

fn subscription(number: u32, now: UnixMs) -> NewSubscription {
    NewSubscription {
        mailbox: format!("u{}@fabrikam.com", number + 1),
        subscription_id: "phone".to_owned(),
        app_id: "com.microsoft.exchange.iphone".to_owned(),
        device_id: format!("{number:064x}"),
        device_type: "APNS".to_owned(),
        installation_id: None,
        option: 47,
        shown: Some(7),
        updated_at: now,
        expires_at: now.after(Duration::from_hours(72)),
    }
}

/// Waits until the agent knows these mailboxes, tells their counts, and waits until it has taken them.
fn tell(folder: &Path, numbers: Range<u32>) -> Outcome {
    let all = u64::from(numbers.end);
    until(folder, |status| status.mailboxes.subscribed == all && status.sources.len() == 1);
    let mut stream = UnixStream::connect(folder.join("dict.sock"))?;
    stream.write_all(b"H3\t2\t0\t\tunseen\n")?;
    let numbers: Vec<u32> = numbers.collect();
    for piece in numbers.chunks(PIECE) {
        let mut text = String::new();
        for number in piece {
            let id = number + 1;
            writeln!(text, "B{id}\tu{id}@fabrikam.com")?;
            writeln!(
                text,
                "S{id}\tpriv/status/INBOX\t{{\"unseen\":7,\"uidvalidity\":1795424325,\"modseq\":4}}"
            )?;
            writeln!(text, "C{id}")?;
        }
        stream.write_all(text.as_bytes())?;
        let answers: usize = piece.iter().map(|number| format!("O{}\n", number + 1).len()).sum();
        stream.read_exact(&mut vec![0; answers])?;
    }
    until(folder, |status| status.sources.iter().all(|source| source.readings == all));
    Ok(())
}

fn until(folder: &Path, is_so: impl Fn(&Status) -> bool) {
    let clock = Clock::start();
    while !status(folder).is_some_and(|status| is_so(&status)) {
        assert!(
            clock.now().moment.since(Moment::START) < LIMIT,
            "the agent does not get there: {:?}",
            status(folder)
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What the agent says of itself; `None` before it listens.
fn status(folder: &Path) -> Option<Status> {
    let mut stream = UnixStream::connect(folder.join("admin.sock")).ok()?;
    stream.write_all(b"GET /status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}
