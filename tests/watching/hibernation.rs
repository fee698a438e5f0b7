//! The IMAP source beside a real Dovecot that hibernates idle sessions: it reports at once, where a waking session waits
//! for half a second, and keeps a few kilobytes for each.
//!
//! `MAILBADGE_LONG=1` takes a thousand sessions.

#![expect(clippy::print_stdout, reason = "figures for docs/performance.md")]

use mailbadge::source::imap::Watch;
use mailbadge::time::driver::Clock;
use std::time::Duration;
use support::dovecot::{Dovecot, Options};
use support::generation::Generation;
use support::lmtp::LmtpClient;
use support::machine;
use support::wait_until;
use support::watching::{Watching, settings};

/// Sessions are put to sleep after a second; the processes on both sides reach each other's sockets.
const HIBERNATING: &str = "\
imap_hibernate_timeout = 1s
service imap {
  unix_listener imap-master {
    mode = 0666
  }
}
service imap-hibernate {
  unix_listener imap-hibernate {
    mode = 0666
  }
}
";

/// How long a change may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a thousand sessions may take to fall asleep: each logs in, is asked once more some seconds later, and wakes for
/// that.
const ASLEEP_LIMIT: Duration = Duration::from_mins(2);

/// A waking session reports after 500 ms, never sooner.
const ASLEEP_MAX: Duration = Duration::from_millis(400);

fn a_sleeping_session_reports_a_delivery_without_the_servers_half_second(generation: Generation) {
    let _alone = machine::alone();
    let users = if support::is_long() { 1000 } else { 8 };
    let extra = HIBERNATING.to_owned();
    let server = Dovecot::start(Options { generation, users, extra, ..Options::default() });
    let watching = Watching::start(settings(server.imap(), Watch::Idle, 200), users);
    // Each mailbox is told of once: afterwards its session is awake for a while.
    wait_until("every session asleep", ASLEEP_LIMIT, || {
        let processes = server.doveadm(&["process", "status", "imap"]).expect("doveadm");
        (processes.lines().count() <= 1).then_some(())
    });
    let mut lmtp = LmtpClient::connect(server.lmtp()).expect("lmtp");
    let clock = Clock::start();
    let mut delays = Vec::new();
    for number in 1..=users {
        let accepted = lmtp.deliver(&format!("u{number}")).expect("delivery").accepted_at;
        wait_until("the count", LIMIT, || (watching.unseen(number) == Some(1)).then_some(()));
        delays.push(clock.instant(clock.now().moment).saturating_duration_since(accepted));
    }
    delays.sort_unstable();
    let at = |percent: usize| *delays.get(delays.len() * percent / 100).expect("a part of all");
    println!(
        "{generation:?}: {users} sleeping sessions, from the 250 to the count: p50 {:?}, p99 {:?}",
        at(50),
        at(99)
    );
    assert!(at(50) < ASLEEP_MAX, "{delays:?}");
}

support::each_dovecot! {
    a_sleeping_session_reports_a_delivery_without_the_servers_half_second,
}
