//! Each configured source, as far as that can be tried without standing in a running daemon's way.

use super::{Finding, Installation};
use crate::commands::Failure;
use crate::source::examination::Examiner;
use crate::source::registry::KINDS;
use crate::store::Store;
use std::collections::HashSet;

/// All of them: each examines itself.
pub(super) fn all(installation: &Installation) -> Result<Vec<Finding>, Failure> {
    if installation.config.sources.is_empty() {
        let remedy = "add a [[source]] to the configuration";
        return Ok(vec![Finding::ill("source", "there is none, so nothing is watched", remedy)]);
    }
    let mailbox = mailbox(installation)?;
    let examiner = examiner(installation, mailbox.as_deref())?;
    Ok(installation.config.sources.iter().flat_map(|source| source.examine(&examiner)).collect())
}

/// What a source needs to examine itself.
pub(super) fn examiner<'a>(
    installation: &'a Installation,
    mailbox: Option<&'a str>,
) -> Result<Examiner<'a>, Failure> {
    let (subscribed, clock, runtime) = (subscribed(installation)?, installation.clock, &installation.runtime);
    Ok(Examiner { mailbox, subscribed, clock, runtime })
}

/// The mailbox that is tried: the given one, or one that is subscribed.
pub(super) fn mailbox(installation: &Installation) -> Result<Option<String>, Failure> {
    if let Some(mailbox) = &installation.mailbox {
        return Ok(Some(installation.config.rulebook().kept(mailbox).into_owned()));
    }
    let kept = installation.store.subscriptions(None)?;
    Ok(kept.into_iter().next().map(|one| one.record.mailbox))
}

/// How many mailboxes are subscribed.
fn subscribed(installation: &Installation) -> Result<u64, Failure> {
    let kept = installation.store.subscriptions(None)?;
    Ok(kept.iter().map(|one| &one.record.mailbox).collect::<HashSet<_>>().len() as u64)
}

/// Whether the host has what the sources of each kind need together.
pub(super) fn hosts(installation: &Installation) -> Result<Vec<Finding>, Failure> {
    let subscribed = subscribed(installation)?;
    let of_kind =
        |name| installation.config.sources.iter().filter(|source| source.kind().name == name).count();
    let counted = KINDS.into_iter().map(|kind| (kind, of_kind(kind.name) as u64));
    let there = counted.filter(|(_, sources)| *sources > 0);
    Ok(there.filter_map(|(kind, sources)| (kind.examine_host)(sources, subscribed)).collect())
}
