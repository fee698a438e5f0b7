//! Each configured source, as far as that can be tried without standing in a running daemon's way.

use super::{Finding, Patient};
use crate::commands::Failure;
use crate::config::Source;
use crate::source::imap::driver::check_login;
use crate::source::imap::{self, Method};
use crate::source::{dovecot, maildir};
use crate::store::Store;
use rustix::fs::{Access, access};
use std::path::Path;

/// All of them.
pub(super) fn all(patient: &Patient) -> Result<Vec<Finding>, Failure> {
    if patient.config.sources.is_empty() {
        let remedy = "add a [[source]] to the configuration";
        return Ok(vec![Finding::ill("source", "there is none, so nothing is watched", remedy)]);
    }
    patient.config.sources.iter().map(|source| one(source, patient)).collect()
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
fn mailbox(patient: &Patient) -> Result<Option<String>, Failure> {
    if patient.mailbox.is_some() {
        return Ok(patient.mailbox.clone());
    }
    let kept = patient.store.subscriptions(None)?;
    Ok(kept.into_iter().next().map(|one| one.record.mailbox))
}

fn untried(check: String) -> Finding {
    Finding::skipped(check, "no mailbox is subscribed; give one to try with --mailbox")
}

/// The Maildir of one mailbox must let this user read.
fn maildir(check: String, settings: &maildir::Settings, patient: &Patient) -> Result<Finding, Failure> {
    let Some(mailbox) = mailbox(patient)? else { return Ok(untried(check)) };
    let remedy = "check the source's path, and let the user that runs the daemon read the Maildirs";
    let found = match settings.path.path(&settings.names.server(&mailbox)) {
        Err(refused) => Err(format!("{mailbox}: {refused}")),
        Ok(path) => match access(path.join("new"), Access::READ_OK | Access::EXEC_OK) {
            Err(cause) => Err(format!("{}/new: {cause}", path.display())),
            Ok(()) => Ok(format!("{} can be read", path.display())),
        },
    };
    Ok(found.map_or_else(
        |wrong| Finding::ill(check.clone(), wrong, remedy),
        |found| Finding::well(&check, found),
    ))
}

fn login(check: String, settings: &imap::Settings, patient: &Patient) -> Result<Finding, Failure> {
    let Some(mailbox) = mailbox(patient)? else { return Ok(untried(check)) };
    let place = format!("{}:{}", settings.host, settings.port);
    let tried = patient.runtime.block_on(check_login(settings.clone(), &mailbox, patient.clock));
    Ok(match tried {
        Ok(checked) => {
            let method = match checked.method {
                Method::Notify => "NOTIFY",
                Method::Idle => "IDLE",
                Method::Poll => "polling",
            };
            let found = format!("{place}: {mailbox} logs in, {} unseen, watched by {method}", checked.unseen);
            Finding::well(check, found)
        }
        Err(error) => {
            let remedy =
                "check host, port and tls, the log-in's keys in the configuration, and the server's log";
            Finding::ill(check, format!("{place}, {mailbox}: {error}"), remedy)
        }
    })
}
