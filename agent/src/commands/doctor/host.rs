//! What lies on this host: configuration, state, certificates, limits, the daemon itself.

use super::{Finding, Installation};
use crate::commands::certificate::current;
use crate::commands::status::ask_status;
use crate::commands::{Context, Failure};
use crate::config::{self, Config};
use crate::identity::fitness::days_left;
use crate::identity::in_use::InUse;
use crate::source::kind::{Cost, Kind};
use crate::store::{SqliteStore, Store};
use std::collections::HashSet;

/// Descriptors that the daemon needs beside those of IMAP connections and endpoints.
const DESCRIPTORS_BASE: u64 = 256;

/// The file; `None` where it is of no use.
pub(super) fn configuration(context: &Context) -> (Vec<Finding>, Option<Config>) {
    let loaded = context.config_path().and_then(|path| Ok((config::load(&path)?, path)));
    match loaded {
        Ok((config, path)) => {
            let advice = config::check(&config).len();
            let advice =
                if advice == 0 { String::new() } else { format!(", advice: `mailbadge check` ({advice})") };
            let found = format!("{}{advice}", path.display());
            (vec![Finding::well("configuration", found)], Some(config))
        }
        Err(failure) => (vec![of_failure("configuration", &failure, "correct what is named")], None),
    }
}

/// The state directory and the database in it.
pub(super) fn state(config: &Config, context: &Context) -> (Finding, Option<SqliteStore>) {
    let remedy = "do what is named; the directory must be this user's alone";
    let opened = context.open_store(config).and_then(|store| {
        store.verify()?;
        Ok(store)
    });
    match opened {
        Ok(store) => (Finding::well("state", format!("{}, sound", store.path().display())), Some(store)),
        Err(failure) => (of_failure("state", &failure, remedy), None),
    }
}

/// The certificate that signs, and those before and behind it.
pub(super) fn certificates(installation: &Installation) -> Result<Vec<Finding>, Failure> {
    let now = installation.clock.now().unix;
    if let Err(failure) = current(&installation.store, now) {
        return Ok(vec![of_failure("certificate", &failure, "`mailbadge setup` makes one that fits")]);
    }
    let in_use = InUse::read(&installation.store.auth_config()?, &installation.store.certificates()?)?;
    let endings = in_use.endings(now);
    let finding = |(role, certificate): (crate::identity::auth_config::Role, &_)| {
        let check = format!("certificate, {role}");
        let thumbprint = crate::identity::certificate::Certificate::thumbprint(certificate);
        match endings.iter().find(|ending| ending.role == role) {
            Some(ending) => Finding::ill(check, ending.to_string(), "have another take its place in time"),
            None => Finding::well(check, format!("{thumbprint}, {} days left", days_left(certificate, now))),
        }
    };
    Ok(in_use.iter().map(finding).collect())
}

/// A source that logs in may hold a connection for each mailbox.
pub(super) fn descriptors(installation: &Installation) -> Result<Vec<Finding>, Failure> {
    let logs_in = |kind: &Kind| kind.abilities.asked_at == Some(Cost::LogIn);
    let sources = installation.config.sources.iter().filter(|source| logs_in(source.kind())).count() as u64;
    let kept = installation.store.subscriptions(None)?;
    let mailboxes = kept.iter().map(|one| &one.record.mailbox).collect::<HashSet<_>>().len() as u64;
    let endpoints =
        (installation.config.admin.connections_max + installation.config.endpoint.connections_max) as u64;
    let needed = DESCRIPTORS_BASE + endpoints + sources * mailboxes;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let found = format!("{limit} may be open, {needed} may be needed ({mailboxes} mailboxes)");
    let remedy = "raise LimitNOFILE in the daemon's unit, or `ulimit -n`";
    let finding = if limit >= needed {
        Finding::well("descriptors", found)
    } else {
        Finding::ill("descriptors", found, remedy)
    };
    Ok(vec![finding])
}

/// Whether the daemon runs, and what it says of itself.
#[expect(clippy::unnecessary_wraps, reason = "stands among checks that may fail")]
pub(super) fn daemon(installation: &Installation) -> Result<Vec<Finding>, Failure> {
    let check = "daemon";
    let Some(listen) = &installation.config.admin.listen else {
        return Ok(vec![Finding::skipped(check, "admin.listen is \"off\", so it cannot be asked")]);
    };
    let finding = match ask_status(listen) {
        Err(failure) => Finding::skipped(check, text(&failure)),
        Ok(status) if status.unready.is_empty() => Finding::well(check, "runs and is ready"),
        Ok(status) => Finding::ill(check, status.unready.join("; "), "look at each of these"),
    };
    Ok(vec![finding])
}

/// A failure's text as a finding.
pub(super) fn of_failure(check: &str, failure: &Failure, remedy: &str) -> Finding {
    Finding::ill(check, text(failure), remedy)
}

fn text(failure: &Failure) -> String {
    let text = failure.error.as_ref().map(|error| format!("{error:#}")).unwrap_or_default();
    text.lines().collect::<Vec<_>>().join("; ")
}
