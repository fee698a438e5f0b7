//! A real Dovecot whose index files are deleted, a usual remedy: HIGHESTMODSEQ falls, and what is reported from then on
//! seems older than what is known (sources.md §9.1). The badge must follow all the same, asked or not.

use mailbadge::time::driver::Clock;
use std::fs;
use std::path::Path;
use std::time::Duration;
use support::cloud::Cloud;
use support::dovecot::{Dovecot, Options, USER_PASSWORD};
use support::generation::Generation;
use support::host::{Host, badges};
use support::imap_client::ImapClient;
use support::lmtp::LmtpClient;
use support::wait_until;

/// How long a badge may stay behind after the order went back.
const LIMIT: Duration = Duration::from_mins(2);

/// Messages before the index is deleted, and after.
const BEFORE: u32 = 20;
const AFTER: u32 = 2;
/// Then one after each of these, where nobody can be asked; fewer than would reach the former order.
const BETWEEN: Duration = Duration::from_secs(15);
const MESSAGES_MAX: u32 = BEFORE + AFTER + 8;

fn the_dict_source_alone_follows_an_order_that_went_back(generation: Generation) {
    check(generation, false);
}

fn the_dict_source_beside_imap_follows_an_order_that_went_back(generation: Generation) {
    check(generation, true);
}

fn check(generation: Generation, has_imap: bool) {
    let cloud = Cloud::start();
    let mut host = Host::beside(generation);
    let dict = Some(host.dict());
    let mut dovecot = Dovecot::start(Options { generation, users: 1, dict, ..Options::default() });
    let mut sources = host.dovecot_source();
    if has_imap {
        // The default: a visit every 15 minutes.
        sources += &host.imap_source(&dovecot, "sweep");
    }
    host.configure(&cloud, &sources);
    host.subscribe(&["u1".to_owned()]);
    host.start();
    deliver(&dovecot, BEFORE);
    shows(&cloud, &host, BEFORE);
    let before = modseq(&dovecot);
    dovecot.stop();
    delete_index(Path::new(&dovecot.maildirs().replace("{user}", "u1")));
    dovecot.start_again().expect("on the same ports");
    deliver(&dovecot, AFTER);
    let after = modseq(&dovecot);
    assert!(after < before, "MODSEQ went from {before} to {after}: this shows nothing");
    if has_imap {
        shows(&cloud, &host, BEFORE + AFTER);
    } else {
        follows(&cloud, &host, &dovecot, BEFORE + AFTER);
    }
    host.stop();
}

/// Nobody can be asked, and an event is taken for a late one within a minute of the last that was believed. Mail goes on
/// arriving, without a new order that would be believed by its own, until the badge follows.
fn follows(cloud: &Cloud, host: &Host, dovecot: &Dovecot, mut unseen: u32) {
    let clock = Clock::start();
    let mut last = clock.now().moment;
    let what = format!("the badge to follow: {}", host.ask("/status"));
    wait_until(&what, LIMIT, || {
        let now = clock.now().moment;
        if now.since(last) > BETWEEN && unseen < MESSAGES_MAX {
            deliver(dovecot, 1);
            (unseen, last) = (unseen + 1, now);
        }
        (badges(cloud, "u1") == [Some(unseen); 2]).then_some(())
    });
}

fn deliver(dovecot: &Dovecot, count: u32) {
    let mut lmtp = LmtpClient::connect(dovecot.lmtp()).expect("lmtp");
    for _ in 0..count {
        lmtp.deliver("u1").expect("delivery");
    }
}

fn shows(cloud: &Cloud, host: &Host, unseen: u32) {
    let is_shown = || (badges(cloud, "u1") == [Some(unseen); 2]).then_some(());
    let what = format!("{unseen} unseen, not {:?}: {}", badges(cloud, "u1"), host.ask("/status"));
    wait_until(&what, LIMIT, is_shown);
}

fn modseq(dovecot: &Dovecot) -> u64 {
    let mut imap = ImapClient::connect(dovecot.imap(), "u1", USER_PASSWORD).expect("imap");
    let lines = imap.ask("STATUS INBOX (HIGHESTMODSEQ)").expect("STATUS");
    let modseq =
        lines.iter().find_map(|line| line.split_once("HIGHESTMODSEQ ")?.1.strip_suffix(')')?.parse().ok());
    modseq.unwrap_or_else(|| panic!("no HIGHESTMODSEQ in {lines:?}"))
}

/// INBOX's; what the messages themselves say stays.
fn delete_index(maildir: &Path) {
    let files = fs::read_dir(maildir).expect("a Maildir").map(|entry| entry.expect("an entry").path());
    let is_index = |path: &Path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("dovecot.index"))
    };
    let index: Vec<_> = files.filter(|path| is_index(path)).collect();
    assert!(!index.is_empty(), "no index in {}", maildir.display());
    for path in index {
        fs::remove_file(path).expect("own file");
    }
}

support::each_dovecot! {
    the_dict_source_alone_follows_an_order_that_went_back,
    the_dict_source_beside_imap_follows_an_order_that_went_back,
}
