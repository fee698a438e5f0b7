//! Looks at Maildirs and at inotify from outside a running source, for `doctor`.

use super::folder::inotify_limit;
use super::{WATCHES_PER_MAILBOX, discovery, folder};
use crate::source::examination::Finding;
use crate::source::maildir::Settings;
use crate::source::maildir::message::Separator;
use std::io;
use std::path::PathBuf;

/// Whether inotify has room for every subscribed Maildir of so many sources.
pub(in crate::source::maildir) fn examine_host(sources: u64, subscribed: u64) -> Option<Finding> {
    let limit = watches_max()?;
    let needed = sources * subscribed * WATCHES_PER_MAILBOX;
    let fit = limit / WATCHES_PER_MAILBOX;
    let found = format!("{limit} of a user, enough for {fit} Maildirs; {subscribed} are subscribed");
    let remedy = "raise fs.inotify.max_user_watches (sysctl); the rest is read by the sweep alone";
    Some(if needed <= limit {
        Finding::well("inotify watches", found)
    } else {
        Finding::ill("inotify watches", found, remedy)
    })
}

/// The Maildir of this mailbox must let this user read; one that never got mail has none.
pub(in crate::source::maildir) fn examine(settings: &Settings, mailbox: Option<&str>) -> Finding {
    let check = format!("source {}", settings.name);
    let remedy = "check the source's path, and let the user that runs the daemon read the Maildirs";
    let Some(mailbox) = mailbox else {
        return match users(settings) {
            0 => Finding::ill(check, format!("nobody has a Maildir by {}", settings.path), remedy),
            users => Finding::well(
                check,
                format!("{users} Maildirs by {}, and no mailbox subscribed", settings.path),
            ),
        };
    };
    match read_once(settings, mailbox) {
        Ok(Some(unseen)) => match other_separator(settings, mailbox) {
            None => Finding::well(check, format!("{mailbox} has a Maildir, {unseen} unseen")),
            Some(other) => separated(check, mailbox, settings.separator, other),
        },
        Ok(None) => Finding::skipped(check, format!("{mailbox} has no Maildir by {} yet", settings.path)),
        Err(wrong) => Finding::ill(check, wrong, remedy),
    }
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

/// Unseen messages in the Maildir of one mailbox, for a look from outside a running source; `None` where there is no
/// Maildir.
///
/// # Errors
/// What keeps it from being read, for people.
pub fn read_once(settings: &Settings, name: &str) -> Result<Option<u32>, String> {
    let user = settings.names.server(name);
    let path: PathBuf = settings.path.path(&user).map_err(|refused| format!("{user}: {refused}"))?;
    match folder::count(&path, settings.separator) {
        Ok(unseen) => Ok(Some(unseen)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// The separator that most names in the `cur/` of this mailbox carry, where it is another one than configured.
fn other_separator(settings: &Settings, name: &str) -> Option<Separator> {
    let path = settings.path.path(&settings.names.server(name)).ok()?;
    folder::separator_of(&path).ok()?.filter(|separator| *separator != settings.separator)
}

/// How many users have a Maildir by the source's template.
fn users(settings: &Settings) -> usize {
    let mut found = 0;
    discovery::users(&settings.path, |_| found += 1);
    found
}

/// How many watches of inotify the kernel gives one user (`fs.inotify.max_user_watches`).
fn watches_max() -> Option<u64> {
    inotify_limit("max_user_watches").parse().ok()
}

/// How many instances of inotify the kernel gives one user (`fs.inotify.max_user_instances`).
pub fn instances_max() -> Option<u64> {
    inotify_limit("max_user_instances").parse().ok()
}
