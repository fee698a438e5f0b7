//! The way to the relay, by the probe, and the token services behind it.

use super::host::of_failure;
use super::{Finding, Installation};
use crate::commands::probe::probe;
use crate::commands::{Exit, Failure, relay};
use crate::config::ConfigError;
use crate::identity::metadata::Document;
use crate::identity::partner::AuthServer;
use crate::store::Store;
use crate::time::UnixMs;
use crate::token::refresh::DOCUMENT_LIFE;
use std::time::Duration;

/// A document older than this was not renewed when its time had come.
const DOCUMENT_AGE_MAX: Duration = Duration::from_hours(DOCUMENT_LIFE.as_secs() / 3600 + 2);

/// Proxy, name, connection, TLS, challenge, token, clock: all that one probe goes through.
pub(super) fn way(installation: &Installation) -> Result<Vec<Finding>, Failure> {
    let access = match relay::open(installation.context) {
        Ok(access) => access,
        Err(failure) if failure.exit == Exit::Config && !is_of_file(&failure) => {
            return Ok(vec![of_failure("relay", &failure, "then run this again")]);
        }
        Err(failure) => return Err(failure),
    };
    let mut findings = Vec::new();
    if !access.is_enabled {
        let remedy = "`mailbadge proxy enable`";
        findings.push(Finding::ill("proxy", "disabled: counts are not forwarded", remedy));
    }
    let url = access.url.to_string();
    let report = probe(access, installation.context)?;
    findings.push(match &report.trouble {
        None => Finding::well("relay", format!("{url} took a probe")),
        Some(trouble) => {
            let found = format!("{url}: {}: {}", trouble.component, trouble.exception);
            Finding::ill("relay", found, trouble.advice.clone())
        }
    });
    findings.extend(report.issuer.as_ref().map(|issuer| Finding::well("token", format!("of {issuer}"))));
    findings.push(match (report.clock_offset_ms, report.clock_advice()) {
        (None, _) => Finding::skipped("clock", "the relay did not tell its own"),
        (Some(offset), None) => {
            Finding::well("clock", format!("{} s off the relay's", offset.unsigned_abs() / 1000))
        }
        (Some(_), Some(advice)) => Finding::ill("clock", advice, "synchronize it (NTP), here or there"),
    });
    Ok(findings)
}

fn is_of_file(failure: &Failure) -> bool {
    failure.error.as_ref().is_some_and(anyhow::Error::is::<ConfigError>)
}

/// What is known of each token service, and since when.
pub(super) fn token_services(installation: &Installation) -> Result<Vec<Finding>, Failure> {
    let now = installation.clock.now().unix;
    Ok(installation.store.auth_servers()?.iter().map(|server| token_service(server, now)).collect())
}

fn token_service(server: &AuthServer, now: UnixMs) -> Finding {
    let check = format!("token service {}", server.name);
    let Some((document, at)) = server.document.as_ref().zip(server.fetched_at) else {
        return Finding::skipped(check, "its document was never needed");
    };
    let refresh = "`mailbadge auth server list --refresh` reads it and says what is wrong";
    match Document::read(document).and_then(|document| document.token_service()) {
        Err(error) => Finding::ill(check, error.to_string(), refresh),
        Ok(service) => {
            let age = Duration::from_secs(now.seconds().saturating_sub(at.seconds()));
            let found = format!("{}, read {} ago", service.principal, humantime::format_duration(age));
            if age > DOCUMENT_AGE_MAX {
                Finding::ill(check, found, refresh)
            } else {
                Finding::well(check, found)
            }
        }
    }
}
