//! Each configured source, as far as that can be tried without standing in a running daemon's way.

use super::{Finding, Patient, Verdict};
use crate::commands::Failure;
use crate::config::Source;
use crate::source::doveadm::{self, driver as doveadm_driver};
use crate::source::imap::driver::check_login;
use crate::source::imap::{self, Method};
use crate::source::maildir::message::Separator;
use crate::source::{dovecot, maildir};
use crate::store::Store;
use rustix::fs::{Access, access};
use std::collections::HashSet;
use std::path::Path;

/// All of them.
pub(super) fn all(patient: &Patient) -> Result<Vec<Finding>, Failure> {
    if patient.config.sources.is_empty() {
        let remedy = "add a [[source]] to the configuration";
        return Ok(vec![Finding::ill("source", "there is none, so nothing is watched", remedy)]);
    }
    let mut findings = Vec::new();
    for source in &patient.config.sources {
        let first = one(source, patient)?;
        // Where one mailbox could not be asked for, all of them would only say so again, with another remedy.
        let is_ill = first.result == Verdict::Ill;
        findings.push(first);
        match source {
            Source::Imap(settings) => {
                findings.extend(instances(settings, patient)?);
                findings.extend(pace(settings, patient)?);
            }
            Source::Doveadm(settings) if !is_ill => findings.push(everyone(settings, patient)),
            _ => {}
        }
    }
    Ok(findings)
}

fn one(source: &Source, patient: &Patient) -> Result<Finding, Failure> {
    let check = format!("source {}", source.name());
    Ok(match source {
        Source::Dovecot(settings) => match &settings.listen {
            dovecot::Listen::Unix(path) => socket(check, path),
            dovecot::Listen::Tcp(address) => Finding::skipped(check, format!("dict server on {address}")),
        },
        Source::Cyrus(settings) => socket(check, &settings.listen),
        Source::Maildir(settings) => maildir(check, settings, patient)?,
        Source::Doveadm(settings) => doveadm_count(check, settings, patient)?,
        Source::Imap(settings) => login(check, settings, patient)?,
    })
}

/// The folder of a socket that the daemon makes: it must be there and let this user write.
fn socket(check: String, path: &Path) -> Finding {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let remedy = "make it and give it to the user that runs the daemon; under systemd the unit does";
    match access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        Err(cause) => Finding::ill(check, format!("{}: {cause}", folder.display()), remedy),
        Ok(()) if path.exists() => Finding::well(check, format!("{} is there", path.display())),
        Ok(()) => Finding::well(check, format!("{} can be made", path.display())),
    }
}

/// The mailbox that is tried: the given one, or one that is subscribed.
pub(super) fn mailbox(patient: &Patient) -> Result<Option<String>, Failure> {
    if let Some(mailbox) = &patient.mailbox {
        return Ok(Some(patient.config.rulebook().kept(mailbox).into_owned()));
    }
    let kept = patient.store.subscriptions(None)?;
    Ok(kept.into_iter().next().map(|one| one.record.mailbox))
}

fn untried(check: String) -> Finding {
    Finding::skipped(check, "no mailbox is subscribed; give one to try with --mailbox")
}

/// The Maildir of one mailbox must let this user read; one that never got mail has none.
fn maildir(check: String, settings: &maildir::Settings, patient: &Patient) -> Result<Finding, Failure> {
    let remedy = "check the source's path, and let the user that runs the daemon read the Maildirs";
    let Some(mailbox) = mailbox(patient)? else {
        return Ok(match maildir::driver::users(settings) {
            0 => Finding::ill(check, format!("nobody has a Maildir by {}", settings.path), remedy),
            users => Finding::well(
                check,
                format!("{users} Maildirs by {}, and no mailbox subscribed", settings.path),
            ),
        });
    };
    Ok(match maildir::driver::read_once(settings, &mailbox) {
        Ok(Some(unseen)) => match maildir::driver::other_separator(settings, &mailbox) {
            None => Finding::well(check, format!("{mailbox} has a Maildir, {unseen} unseen")),
            Some(other) => separated(check, &mailbox, settings.separator, other),
        },
        Ok(None) => Finding::skipped(check, format!("{mailbox} has no Maildir by {} yet", settings.path)),
        Err(wrong) => Finding::ill(check, wrong, remedy),
    })
}

/// Flags behind a character that is not looked for: every message would count as unseen.
fn separated(check: String, mailbox: &str, configured: Separator, other: Separator) -> Finding {
    let [configured, other] = [configured, other].map(|separator| char::from(separator.byte()));
    let found = format!(
        "most names in the Maildir of {mailbox} carry their flags behind {other:?}, not {configured:?}, so seen messages \
         count as unseen"
    );
    Finding::ill(check, found, format!("set flag-separator = \"{other}\" for this source"))
}

/// One mailbox, by its name.
fn doveadm_count(check: String, settings: &doveadm::Settings, patient: &Patient) -> Result<Finding, Failure> {
    let Some(mailbox) = mailbox(patient)? else { return Ok(untried(check)) };
    let remedy = "check url and api-key-file or password-file, Dovecot's `service doveadm` and its log";
    Ok(match patient.runtime.block_on(doveadm_driver::count_of(settings, &mailbox)) {
        Ok(unseen) => Finding::well(check, format!("{}: {mailbox} has {unseen} unseen", settings.url)),
        Err(wrong) => Finding::ill(check, format!("{mailbox}: {wrong}"), remedy),
    })
}

/// All users at once; where that fails the source asks for each by name, so that it is no fault.
fn everyone(settings: &doveadm::Settings, patient: &Patient) -> Finding {
    let check = format!("source {} users", settings.name);
    let remedy =
        "let Dovecot list its users (`doveadm user '*'`), and see its log for mailboxes that it cannot read";
    match patient.runtime.block_on(doveadm_driver::users(settings)) {
        Ok(Some(users)) => Finding::well(check, format!("{users} users in one answer")),
        Ok(None) => {
            let patience = doveadm_driver::EVERYONE_PATIENCE.as_secs();
            Finding::skipped(
                check,
                format!("no whole answer about all users within {patience} s; many take longer"),
            )
        }
        Err(wrong) => {
            let found = format!("not in one answer, so each mailbox is asked for by name: {wrong}");
            Finding { remedy: Some(remedy.to_owned()), ..Finding::skipped(check, found) }
        }
    }
}

/// How many mailboxes are subscribed.
fn subscribed(patient: &Patient) -> Result<u64, Failure> {
    let kept = patient.store.subscriptions(None)?;
    Ok(kept.iter().map(|one| &one.record.mailbox).collect::<HashSet<_>>().len() as u64)
}

/// Whether inotify has room for every subscribed Maildir.
pub(super) fn watches(patient: &Patient) -> Result<Vec<Finding>, Failure> {
    let is_maildir = |source: &&Source| matches!(source, Source::Maildir(_));
    let sources = patient.config.sources.iter().filter(is_maildir).count() as u64;
    let Some(limit) = maildir::driver::watches_max().filter(|_| sources > 0) else { return Ok(Vec::new()) };
    let mailboxes = subscribed(patient)?;
    let needed = sources * mailboxes * maildir::driver::WATCHES_PER_MAILBOX;
    let fit = limit / maildir::driver::WATCHES_PER_MAILBOX;
    let found = format!("{limit} of a user, enough for {fit} Maildirs; {mailboxes} are subscribed");
    let remedy = "raise fs.inotify.max_user_watches (sysctl); the rest is read by the sweep alone";
    let finding = if needed <= limit {
        Finding::well("inotify watches", found)
    } else {
        Finding::ill("inotify watches", found, remedy)
    };
    Ok(vec![finding])
}

/// Whether the kernel lets a mail server on this host hear of every mailbox at once, where it is asked to. Dovecot takes
/// an inotify instance for each connection that waits, and past the limit looks every half a minute (sources.md §4.2).
fn instances(settings: &imap::Settings, patient: &Patient) -> Result<Option<Finding>, Failure> {
    let is_here = ["localhost", "::1"].contains(&&*settings.host) || settings.host.starts_with("127.");
    let waits = !matches!(settings.watch, imap::Watch::Poll | imap::Watch::SweepOnly);
    let Some(limit) = maildir::driver::instances_max().filter(|_| is_here && waits) else { return Ok(None) };
    Ok(instances_of(format!("source {} inotify", settings.name), subscribed(patient)?, limit))
}

/// Whether visits reach every subscribed mailbox within each sweep, where visits are all there is.
fn pace(settings: &imap::Settings, patient: &Patient) -> Result<Option<Finding>, Failure> {
    if !matches!(settings.watch, imap::Watch::Poll | imap::Watch::SweepOnly) {
        return Ok(None);
    }
    let slow = imap::too_slow(subscribed(patient)? as usize, settings.login_rate, settings.sweep_interval);
    let remedy = "the server must allow that many log-ins; watched mailboxes (watch = \"auto\") need none";
    Ok(slow.map(|found| Finding::ill(format!("source {} log-ins", settings.name), found, remedy)))
}

/// Of a limit that is high enough nothing is told: whether the server needs it at all, only its user knows.
fn instances_of(check: String, mailboxes: u64, limit: u64) -> Option<Finding> {
    let remedy = "raise fs.inotify.max_user_instances (sysctl), unless each mailbox has its own user or sessions hibernate";
    let found = format!(
        "{limit} instances of a user, {mailboxes} mailboxes: a Dovecot here would tell of the others half a minute late"
    );
    (mailboxes > limit).then(|| Finding { remedy: Some(remedy.to_owned()), ..Finding::skipped(check, found) })
}

fn login(check: String, settings: &imap::Settings, patient: &Patient) -> Result<Finding, Failure> {
    let Some(mailbox) = mailbox(patient)? else { return Ok(untried(check)) };
    let place = format!("{}:{}", settings.host, settings.port);
    let tried = patient.runtime.block_on(check_login(settings.clone(), &mailbox, patient.clock));
    Ok(match tried {
        Ok(checked) => {
            let method = match checked.method {
                _ if settings.watch == imap::Watch::SweepOnly => "the sweep",
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
    })
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
