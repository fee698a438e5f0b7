//! NOTIFY armed again and again on one connection to a real Dovecot: every delivery before, between and after the
//! re-armings is reported at once. A second `NOTIFY SET` alone would switch the reports off (sources.md §4.2).

use mailbadge::source::imap::{Settings, Watch};
use mailbadge::time::driver::Clock;
use std::time::Duration;
use support::dovecot::{Dovecot, Options};
use support::generation::Generation;
use support::lmtp::LmtpClient;
use support::machine;
use support::wait_until;
use support::watching::{Watching, settings};

/// Between two armings.
const REARM: Duration = Duration::from_secs(4);

/// Armings that deliveries are spread over, at least.
const ARMINGS: u32 = 3;

/// NOTIFY's window of half a second and what a busy machine adds; well below [`REARM`], whose STATUS hides a silence.
const LIMIT: Duration = Duration::from_secs(2);

/// Else the server looks by itself every half a minute.
const NEVER_LOOKS: &str = "mailbox_idle_check_interval = 10 mins\n";

fn every_delivery_between_the_armings_of_one_connection_is_reported_within_two_seconds(
    generation: Generation,
) {
    let _others = machine::shared();
    let extra = NEVER_LOOKS.to_owned();
    let server = Dovecot::start(Options { generation, users: 1, extra, ..Options::default() });
    let settings = settings(server.imap(), Watch::Notify, 100);
    let watching = Watching::start(Settings { rearm_interval: REARM, ..settings }, 1);
    let mut lmtp = LmtpClient::connect(server.lmtp()).expect("lmtp");
    let clock = Clock::start();
    let begun = clock.now().moment;
    for number in 1.. {
        let at = clock.now().moment.since(begun);
        if at > REARM * (ARMINGS + 1) {
            break;
        }
        lmtp.deliver("u1").expect("delivery");
        let what = format!("delivery {number}, made {at:?} after the start, armed every {REARM:?}");
        wait_until(&what, LIMIT, || (watching.unseen(1) == Some(number)).then_some(()));
    }
    assert_eq!(watching.counters.logins_ok.get(), 1, "all of it on one connection");
}

support::each_dovecot! {
    every_delivery_between_the_armings_of_one_connection_is_reported_within_two_seconds,
}
