//! More mailboxes than a real Dovecot lets in at once: each is read within its sweep period all the same.

use std::time::Duration;
use support::cloud::Cloud;
use support::dovecot::{Dovecot, Options};
use support::generation::Generation;
use support::host::{Host, badges};
use support::lmtp::LmtpClient;
use support::wait_until;

/// Subscribed mailboxes, twice as many as the server has processes for.
const MAILBOXES: u32 = 8;

/// Each IMAP session is a process of its own.
const LIMITED: &str = "service imap {\n  process_limit = 4\n}\n";

/// The configured `sweep-interval`.
const SWEEP: &str = "sweep-interval = \"10s\"\n";

/// Several sweep periods: what a refused log-in waits for and a busy machine adds.
const LIMIT: Duration = Duration::from_mins(1);

fn every_mailbox_is_read_where_the_server_lets_in_half_of_them(generation: Generation) {
    let cloud = Cloud::start();
    let mut host = Host::beside(generation);
    let extra = LIMITED.to_owned();
    let dovecot = Dovecot::start(Options { generation, users: MAILBOXES, extra, ..Options::default() });
    host.configure(&cloud, &(host.imap_source(&dovecot, "auto") + SWEEP));
    let names: Vec<String> = (1..=MAILBOXES).map(|number| format!("u{number}")).collect();
    host.subscribe(&names);
    host.start();
    let mut lmtp = LmtpClient::connect(dovecot.lmtp()).expect("lmtp");
    for unseen in 1..=3 {
        for name in &names {
            lmtp.deliver(name).expect("delivery");
        }
        for name in &names {
            let shown = || badges(&cloud, name);
            let what = format!("{name} to show {unseen}, not {:?}", shown());
            wait_until(&what, LIMIT, || (shown() == [Some(unseen); 2]).then_some(()));
        }
    }
    host.stop();
}

support::each_dovecot! {
    every_mailbox_is_read_where_the_server_lets_in_half_of_them,
}
