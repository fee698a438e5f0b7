//! One mailbox's count as its server has it, as the daemon has it, and as its devices show it: they must agree.
//!
//! A change takes a moment from one to the next, so that a difference counts only where it stays.

use super::sources::{examiner, mailbox};
use super::{Finding, Installation};
use crate::admin::MailboxStatus;
use crate::commands::Failure;
use crate::commands::status::ask_mailbox;
use crate::source::examination::Examiner;
use std::time::Duration;

/// How often all three are asked while they differ.
const LOOKS_MAX: usize = 3;
/// Between two looks: longer than a batch is held and a server's window for news.
const PAUSE: Duration = Duration::from_millis(1500);

/// What servers say of the mailbox now, each by the name of its source.
type Counts = Vec<(String, u32)>;

/// What does not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    /// Two sources read different mailboxes.
    Servers,
    /// The daemon has read nothing yet.
    Unread,
    /// The daemon's count is not the server's.
    Daemon,
    /// A device shows another count than the daemon has, or nobody knows what it shows.
    Devices,
}

/// Server, daemon and devices beside each other.
pub(super) fn agree(installation: &Installation) -> Result<Vec<Finding>, Failure> {
    let check = "counts";
    let Some(listen) = &installation.config.admin.listen else { return Ok(Vec::new()) };
    let Some(mailbox) = mailbox(installation)? else { return Ok(Vec::new()) };
    let examiner = examiner(installation, Some(&mailbox))?;
    for look in 1..=LOOKS_MAX {
        let servers = ask_servers(installation, &mailbox, &examiner);
        if servers.is_empty() {
            return Ok(vec![Finding::skipped(check, format!("no source can be asked for {mailbox} now"))]);
        }
        let daemon = match ask_mailbox(listen, &mailbox) {
            Ok(Some(daemon)) => daemon,
            Ok(None) => {
                let found = format!("{}; nobody subscribed to {mailbox}", told(&servers));
                return Ok(vec![Finding::skipped(check, found)]);
            }
            Err(_) => {
                let found =
                    format!("{}; the daemon does not run, so there is nothing to compare", told(&servers));
                return Ok(vec![Finding::skipped(check, found)]);
            }
        };
        let found = format!("{mailbox}: {}, {}", told(&servers), told_by(&daemon));
        match difference(&servers, &daemon) {
            None => return Ok(vec![Finding::well(check, found)]),
            Some(difference) if look == LOOKS_MAX => {
                return Ok(vec![Finding::ill(check, found, remedy(difference))]);
            }
            Some(_) => installation.runtime.block_on(async { tokio::time::sleep(PAUSE).await }),
        }
    }
    Ok(Vec::new())
}

/// Each source that can be asked, as far as it answers; what is wrong with one that does not is another check's matter.
fn ask_servers(installation: &Installation, mailbox: &str, examiner: &Examiner) -> Counts {
    let sources = installation.config.sources.iter();
    sources.filter_map(|source| Some((source.name().to_owned(), source.count(mailbox, examiner)?))).collect()
}

fn difference(servers: &[(String, u32)], daemon: &MailboxStatus) -> Option<Difference> {
    let (_, first) = servers.first()?;
    if servers.iter().any(|(_, count)| count != first) {
        return Some(Difference::Servers);
    }
    match daemon.unseen {
        None => Some(Difference::Unread),
        Some(known) if known != *first => Some(Difference::Daemon),
        Some(known) => {
            let is_shown = daemon.devices.iter().all(|device| device.shows == Some(known));
            (!is_shown).then_some(Difference::Devices)
        }
    }
}

fn remedy(difference: Difference) -> &'static str {
    match difference {
        Difference::Servers => {
            "the sources read different mailboxes: compare their names, domain, lowercase and path"
        }
        Difference::Unread => {
            "the daemon has not read it: look at its source in `mailbadge status`, and in the log"
        }
        Difference::Daemon => {
            "the daemon was not told of a change; the sweep finds it within sweep-interval. Look at the sources in \
             `mailbadge status`: whether they hear anything, and of the names that are subscribed"
        }
        Difference::Devices => "the relay has not acknowledged it: look at relay, token and daemon here",
    }
}

fn told(servers: &[(String, u32)]) -> String {
    match servers {
        [(_, count)] => format!("server {count}"),
        all => {
            let each: Vec<String> =
                all.iter().map(|(name, count)| format!("server {count} by {name}")).collect();
            each.join(", ")
        }
    }
}

fn told_by(daemon: &MailboxStatus) -> String {
    let number = |count: Option<u32>| count.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
    let shown: Vec<String> = daemon.devices.iter().map(|device| number(device.shows)).collect();
    let shown =
        if shown.is_empty() { "no devices".to_owned() } else { format!("devices {}", shown.join(", ")) };
    let source = daemon.source.as_ref().zip(daemon.read_seconds_ago);
    let source = source.map(|(source, ago)| format!(" (by {source}, {ago:.0} s ago)")).unwrap_or_default();
    let moving = if daemon.is_moving { "; a batch is under way" } else { "" };
    format!("daemon {}{source}, {shown}{moving}", number(daemon.unseen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::DeviceStatus;

    fn daemon(unseen: Option<u32>, shown: &[Option<u32>]) -> MailboxStatus {
        let device = |shows: &Option<u32>| DeviceStatus { app: "app".to_owned(), shows: *shows };
        MailboxStatus { unseen, devices: shown.iter().map(device).collect(), ..MailboxStatus::default() }
    }

    #[test]
    fn the_first_that_differs_on_the_way_from_server_to_device_is_named() {
        let server =
            |counts: &[u32]| -> Counts { counts.iter().map(|count| ("imap".to_owned(), *count)).collect() };
        let rows = [
            (server(&[3]), daemon(Some(3), &[Some(3), Some(3)]), None),
            (server(&[3, 3]), daemon(Some(3), &[]), None),
            (server(&[3, 2]), daemon(Some(3), &[Some(3)]), Some(Difference::Servers)),
            (server(&[3]), daemon(None, &[Some(3)]), Some(Difference::Unread)),
            (server(&[3]), daemon(Some(2), &[Some(2)]), Some(Difference::Daemon)),
            (server(&[3]), daemon(Some(3), &[Some(3), Some(2)]), Some(Difference::Devices)),
            (server(&[3]), daemon(Some(3), &[None]), Some(Difference::Devices)),
        ];
        for (servers, daemon, expected) in rows {
            assert_eq!(difference(&servers, &daemon), expected, "{servers:?} {daemon:?}");
        }
        let told = format!("{}, {}", told(&server(&[3])), told_by(&daemon(Some(3), &[Some(3), None])));
        assert_eq!(told, "server 3, daemon 3, devices 3, unknown");
    }
}
