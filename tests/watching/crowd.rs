//! The IMAP source where a real Dovecot is at its worst: a mailbox whose log was rotated under NOTIFY, and hundreds of
//! mailboxes whose sessions end in the same instant. Every single change is tested in `real/imap.rs`.

#![expect(clippy::print_stdout, reason = "figures for docs/performance.md")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

use mailbadge::source::imap::{Settings, Watch};
use mailbadge::time::driver::Clock;
use std::time::Duration;
use support::dovecot::{Dovecot, Options};
use support::generation::Generation;
use support::lmtp::LmtpClient;
use support::machine;
use support::process::try_until;
use support::watching::{Watching, settings};
use support::{required, wait_until};

/// Longest wait for what is not measured.
const LIMIT: Duration = Duration::from_mins(2);

/// A mailbox whose log is rotated after a second and not after five minutes, on a server that looks by itself only after
/// longer than this test waits.
const ROTATING: &str = "\
mail_index_log_rotate_min_age = 1s
mail_index_log_rotate_min_size = 1k
mailbox_idle_check_interval = 10 mins
";
/// So many deliveries rotate it for sure.
const CHANGES: u32 = 250;
/// Between two armings.
const REARM: Duration = Duration::from_secs(4);
/// What NOTIFY's window and a busy machine add.
const SLACK: Duration = Duration::from_secs(3);
/// A change that is not read for so long is not read at all.
const PATIENCE: Duration = REARM.saturating_add(SLACK);
/// Deliveries that are waited for after the rotation.
const WATCHED: u32 = 5;
/// So many make a server deaf that ever is.
const ROTATIONS: u32 = 20;

/// One mailbox under NOTIFY, and what is delivered to it.
struct Rotating {
    /// Ends with this.
    _server: Dovecot,
    watching: Watching,
    lmtp: LmtpClient,
    clock: Clock,
    delivered: u32,
}

impl Rotating {
    fn start(generation: Generation, rearm_interval: Duration) -> Self {
        let server = Dovecot::start(Options {
            generation,
            users: 1,
            extra: ROTATING.to_owned(),
            ..Options::default()
        });
        let settings = settings(server.imap(), Watch::Notify, 100);
        let watching = Watching::start(Settings { rearm_interval, ..settings }, 1);
        let lmtp = LmtpClient::connect(server.lmtp()).unwrap();
        Self { _server: server, watching, lmtp, clock: Clock::start(), delivered: 0 }
    }

    fn deliver(&mut self) {
        self.lmtp.deliver("u1").unwrap();
        self.delivered += 1;
    }

    /// Rotates the log, then the longest wait from a delivery to its reading; `None` where one did not come within
    /// `PATIENCE`.
    fn longest_silence(&mut self) -> Option<Duration> {
        for _ in 0..CHANGES {
            self.deliver();
        }
        let mut longest = Duration::ZERO;
        for _ in 0..WATCHED {
            self.deliver();
            let begun = self.clock.now().moment;
            try_until(PATIENCE, || (self.watching.unseen(1) == Some(self.delivered)).then_some(()))?;
            longest = longest.max(self.clock.now().moment.since(begun));
        }
        Some(longest)
    }
}

fn a_mailbox_past_its_log_rotation_is_never_silent_for_longer_than_the_rearming_period(
    generation: Generation,
) {
    let _others = machine::shared();
    let longest = Rotating::start(generation, REARM).longest_silence();
    println!("longest silence {longest:?}, armed again every {REARM:?}");
    assert!(longest.is_some(), "silent for longer than {PATIENCE:?}");
    // The same server and the same mailbox without: it goes deaf, if not at this rotation, then at one of the next. A
    // session that looks just then opens the new log by itself.
    let mut without = Rotating::start(generation, Duration::from_hours(1));
    let is_deaf = (0..ROTATIONS).any(|_| without.longest_silence().is_none());
    assert!(is_deaf, "this Dovecot does not go deaf in {ROTATIONS} rotations");
}

/// Mailboxes that lose their sessions at once.
const CROWD: u32 = 500;
/// Log-ins a second.
const RATE: u32 = 50;
/// All must be true again after this long.
const TRUE_AGAIN: Duration = Duration::from_mins(1);

#[test]
fn five_hundred_mailboxes_come_back_by_the_configured_rate_and_are_true_within_a_minute() {
    if !required("dovecot") {
        return;
    }
    let _alone = machine::alone();
    let mut server = Dovecot::start(Options { users: CROWD, ..Options::default() });
    let watching = Watching::start(settings(server.imap(), Watch::Idle, RATE), CROWD);
    server.stop();
    wait_until("the loss to be noticed", LIMIT, || (watching.counters.watched.get() == 0).then_some(()));
    let before = watching.counters.logins_ok.get();
    server.start_again().unwrap();
    let clock = Clock::start();
    let mut lmtp = LmtpClient::connect(server.lmtp()).unwrap();
    for number in [1, 250, 500] {
        lmtp.deliver(&format!("u{number}")).unwrap();
    }
    let mut fastest = 0.0_f64;
    let mut marks = vec![(clock.now().moment, before)];
    wait_until("all watched again", TRUE_AGAIN, || {
        let (now, logins) = (clock.now().moment, watching.counters.logins_ok.get());
        let &(then, count) = marks.last().unwrap();
        if now.since(then) >= Duration::from_secs(2) {
            fastest = fastest.max((logins - count) as f64 / now.since(then).as_secs_f64());
            marks.push((now, logins));
        }
        (watching.counters.watched.get() == u64::from(CROWD)).then_some(())
    });
    wait_until("all true", TRUE_AGAIN, || {
        let is_true = |number| watching.unseen(number) == Some(u32::from([1, 250, 500].contains(&number)));
        (1..=CROWD).all(is_true).then_some(())
    });
    let took = clock.now().moment.since(marks.first().unwrap().0);
    println!(
        "{CROWD} mailboxes were watched and true {took:?} after the start, {fastest:.0} log-ins a second at most"
    );
    assert!(took < TRUE_AGAIN, "{took:?}");
    // A bucket's burst falls into one of the spans.
    assert!(fastest <= f64::from(RATE) * 1.2, "{fastest:.0} log-ins a second");
    let logins = watching.counters.logins_ok.get() - before;
    assert_eq!((logins, watching.counters.logins_refused.get()), (u64::from(CROWD), 0));
}

support::each_dovecot! {
    a_mailbox_past_its_log_rotation_is_never_silent_for_longer_than_the_rearming_period,
}
