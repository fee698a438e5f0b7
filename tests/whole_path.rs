//! The whole path with real parts: Dovecot, the agent as a process, the relay over HTTPS, devices with their icons.

use std::time::Duration;
use support::cloud::Cloud;
use support::dovecot::{Dovecot, Options, USER_PASSWORD};
use support::host::{Host, badges};
use support::imap_client::ImapClient;
use support::lmtp::LmtpClient;
use support::required;

/// Mailboxes, each with two devices.
const MAILBOXES: u32 = 50;

/// How long a count may take to its devices; far above what it takes.
const LIMIT: Duration = Duration::from_secs(30);

fn names() -> Vec<String> {
    (1..=MAILBOXES).map(|number| format!("u{number}")).collect()
}

/// Waits until both devices of each mailbox show what STATUS says.
fn all_badges_are_true(cloud: &Cloud, dovecot: &Dovecot, host: &Host, step: &str) {
    for name in names() {
        let mut witness = ImapClient::connect(dovecot.imap(), &name, USER_PASSWORD).expect("imap");
        let unseen = witness.status_unseen("INBOX").expect("STATUS");
        let mut shown = [None; 2];
        let is_true = || {
            shown = badges(cloud, &name);
            (shown == [Some(unseen); 2]).then_some(())
        };
        let is_true = support::process::try_until(LIMIT, is_true);
        let status = || host.ask("/status");
        assert!(
            is_true.is_some(),
            "{step}: {name} has {unseen} unseen, its devices show {shown:?}\n{}",
            status()
        );
    }
}

/// What happens to a mailbox, in one session of another mail program.
#[derive(Clone, Copy, Debug)]
enum Step {
    Deliver,
    Append,
    SetSeen,
    ClearSeen,
    Expunge,
    MoveOut,
    MoveIn,
    AllSeen,
}

const STEPS: &[Step] = &[
    Step::Deliver,
    Step::Append,
    Step::SetSeen,
    Step::ClearSeen,
    Step::Expunge,
    Step::MoveOut,
    Step::MoveIn,
    Step::AllSeen,
];

fn perform(step: Step, dovecot: &Dovecot, lmtp: &mut LmtpClient, name: &str) -> std::io::Result<()> {
    let mut imap = ImapClient::connect(dovecot.imap(), name, USER_PASSWORD)?;
    imap.select("INBOX")?;
    match step {
        Step::Deliver => (0..3).try_for_each(|_| lmtp.deliver(name).map(drop)),
        Step::Append => imap.append("INBOX", "", 2),
        Step::SetSeen => imap.store("1:2", '+', "\\Seen"),
        Step::ClearSeen => imap.store("1", '-', "\\Seen"),
        Step::Expunge => imap.expunge("1"),
        Step::MoveOut => imap.move_to("3:4", "Trash"),
        Step::MoveIn => {
            imap.select("Trash")?;
            imap.move_to("1", "INBOX")
        }
        Step::AllSeen => imap.store("1:*", '+', "\\Seen"),
    }
}

fn every_step_reaches_every_device(dict: bool) {
    if !required("dovecot") {
        return;
    }
    let cloud = Cloud::start();
    let mut host = Host::new();
    let options = Options { users: MAILBOXES, dict: dict.then(|| host.dict()), ..Options::default() };
    let dovecot = Dovecot::start(options);
    let source = if dict { host.dovecot_source() } else { host.imap_source(&dovecot, "auto") };
    host.configure(&cloud, &source);
    host.subscribe(&names());
    host.start();
    let mut lmtp = LmtpClient::connect(dovecot.lmtp()).expect("lmtp");
    for step in STEPS {
        for name in names() {
            perform(*step, &dovecot, &mut lmtp, &name).unwrap_or_else(|error| panic!("{step:?}: {error}"));
        }
        all_badges_are_true(&cloud, &dovecot, &host, &format!("{step:?}"));
    }
    host.stop();
    assert_eq!(dovecot.complaints(), Vec::<String>::new());
}

#[test]
fn with_the_dict_source_alone_every_device_shows_status_unseen_after_each_step() {
    every_step_reaches_every_device(true);
}

#[test]
fn with_the_imap_source_alone_every_device_shows_status_unseen_after_each_step() {
    every_step_reaches_every_device(false);
}
