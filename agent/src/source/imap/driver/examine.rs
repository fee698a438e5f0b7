//! What `doctor` examines of an IMAP source: a log-in on trial, and what the server's host and the log-in rate allow.

use super::check_login;
use crate::source::examination::{Examiner, Finding};
use crate::source::imap::{Method, Settings, Watch, too_slow};
use crate::source::maildir;

/// The log-in first, then what would make it slow.
pub(in crate::source::imap) fn examine(settings: &Settings, examiner: &Examiner) -> Vec<Finding> {
    let login = login(settings, examiner);
    let instances = instances(settings, examiner.subscribed);
    [Some(login), instances, pace(settings, examiner.subscribed)].into_iter().flatten().collect()
}

fn login(settings: &Settings, examiner: &Examiner) -> Finding {
    let check = format!("source {}", settings.name);
    let Some(mailbox) = examiner.mailbox else { return Finding::untried(check) };
    let place = format!("{}:{}", settings.host, settings.port);
    let tried = check_login(settings.clone(), mailbox, examiner.clock);
    match examiner.runtime.block_on(tried) {
        Ok(checked) => {
            let method = match checked.method {
                _ if settings.watch == Watch::SweepOnly => "the sweep",
                Method::Notify => "NOTIFY",
                Method::Idle => "IDLE",
                Method::IdleUnselected => "IDLE with nothing selected",
                Method::Poll => "polling",
            };
            let unseen = checked.unseen;
            let server = checked.server.as_deref().unwrap_or_default();
            let words = if server.is_empty() { String::new() } else { format!("; it says {server:?}") };
            let found = format!("{place}: {mailbox} logs in, {unseen} unseen, watched by {method}{words}");
            let remedy = is_dovecot(server).then(|| dovecot_advice(checked.method)).flatten();
            Finding { remedy, ..Finding::well(check, found) }
        }
        Err(error) => {
            let remedy =
                "check host, port and tls, the log-in's keys in the configuration, and the server's log";
            Finding::ill(check, format!("{place}, {mailbox}: {error}"), remedy)
        }
    }
}

/// Whether the kernel lets a mail server on this host hear of every mailbox at once, where it is asked to. Dovecot takes
/// an inotify instance for each connection that waits, and past the limit looks every half a minute (sources.md §4.2).
fn instances(settings: &Settings, subscribed: u64) -> Option<Finding> {
    let is_here = ["localhost", "::1"].contains(&&*settings.host) || settings.host.starts_with("127.");
    let waits = !matches!(settings.watch, Watch::Poll | Watch::SweepOnly);
    let limit = maildir::driver::instances_max().filter(|_| is_here && waits)?;
    instances_of(format!("source {} inotify", settings.name), subscribed, limit)
}

/// A limit that is high enough is not mentioned: whether the server needs it at all, only its user knows.
fn instances_of(check: String, mailboxes: u64, limit: u64) -> Option<Finding> {
    let remedy = "raise fs.inotify.max_user_instances (sysctl), unless each mailbox has its own user or sessions hibernate";
    let found = format!(
        "{limit} instances of a user, {mailboxes} mailboxes: a Dovecot here would tell of the others half a minute late"
    );
    (mailboxes > limit).then(|| Finding::skipped(check, found).with_remedy(remedy))
}

/// Whether visits reach every subscribed mailbox within each sweep, where visits are all there is.
fn pace(settings: &Settings, subscribed: u64) -> Option<Finding> {
    if !matches!(settings.watch, Watch::Poll | Watch::SweepOnly) {
        return None;
    }
    let slow = too_slow(subscribed as usize, settings.login_rate, settings.sweep_interval)?;
    let remedy = "the server must allow that many log-ins; watched mailboxes (watch = \"auto\") need none";
    Some(Finding::ill(format!("source {} log-ins", settings.name), slow, remedy))
}

/// Not a fault: what would have a Dovecot report sooner, or cost it less (sources.md §4.2, §4.3).
fn dovecot_advice(method: Method) -> Option<String> {
    let advice = match method {
        Method::Idle | Method::IdleUnselected => {
            "for a Dovecot: waking sessions report after 0.5 s; with imap_hibernate_timeout = 5s they sleep, report after \
             some 20 ms and take a tenth of the memory or less (docs/operate.md has the listeners it needs)"
        }
        Method::Notify => {
            "for a Dovecot: watch = \"auto\" takes IDLE, which is never deaf and may sleep; with NOTIFY, \
             mailbox_idle_check_interval = 5s bounds what it notices late by itself, 30s unless set"
        }
        Method::Poll => return None,
    };
    Some(advice.to_owned())
}

/// By its own words: Cyrus, too, offers NOTIFY (sources.md §9.2).
fn is_dovecot(words: &str) -> bool {
    words.to_ascii_lowercase().contains("dovecot")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_by_its_own_words() {
        assert!(is_dovecot("Dovecot (Debian) ready.") && is_dovecot("dovecot 2.4.1"));
        assert!(
            !is_dovecot("mail Cyrus IMAP 3.10.2-Debian server ready")
                && !is_dovecot("Stalwart")
                && !is_dovecot("")
        );
    }

    #[test]
    fn more_mailboxes_than_inotify_instances_are_told_of() {
        assert!(instances_of("source imap inotify".to_owned(), 128, 128).is_none());
        let finding = instances_of("source imap inotify".to_owned(), 129, 128).expect("one too many");
        assert!(finding.found.contains("128 instances") && finding.found.contains("129 mailboxes"));
        assert!(finding.remedy.expect("what to do").contains("fs.inotify.max_user_instances"));
    }
}
