//! `mailbadge auth config show|set|publish|clear-previous|clear-next` (protocol.md §5.7). The rules are `identity`'s.

use super::{sound_application_id, sound_realm};
use crate::commands::certificate::{chosen, signing};
use crate::commands::change::{self, Row};
use crate::commands::{Context, Exit, Failure};
use crate::config::Config;
use crate::identity::auth_config::AuthConfig;
use crate::identity::auth_config::{self, Refusal};
use crate::identity::fitness;
use crate::store::Store;
use crate::time::UnixMs;
use serde::Serialize;

#[derive(Debug, clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Shows the present state.
    Show,
    /// Changes what is given; the rest stays.
    Set(Box<Set>),
    /// Signs with the next certificate at once, instead of on its date.
    Publish(WhatIf),
    /// Does not take the previous certificate for the own one any more.
    ClearPrevious(WhatIf),
    /// Does not let the next certificate sign by itself any more.
    ClearNext(WhatIf),
}

#[derive(Debug, clap::Args)]
pub(super) struct WhatIf {
    /// Says what would change, and changes nothing.
    #[arg(long)]
    what_if: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true, id = "change", args = ["certificate", "next", "service_name", "realm"])]
pub(super) struct Set {
    /// Signs with this certificate from now on; the current one becomes the previous one.
    #[arg(long, value_name = "THUMBPRINT", conflicts_with = "next")]
    certificate: Option<String>,
    /// Signs with this certificate from a date on; the running agent sees to it.
    #[arg(long, value_name = "THUMBPRINT", requires = "effective")]
    next: Option<String>,
    /// That date: 2026-12-01 or 2026-12-01T08:00:00Z; at least 48 hours ahead, so that others learn the certificate.
    #[arg(long, value_name = "DATE", requires = "next", value_parser = date)]
    effective: Option<UnixMs>,
    /// Less than 48 hours will do.
    #[arg(long, requires = "next")]
    force: bool,
    /// The own application id in tokens; "" for the configuration's.
    #[arg(long, value_name = "GUID")]
    service_name: Option<String>,
    /// The own realm in tokens; "" for the configuration's.
    #[arg(long, value_name = "REALM")]
    realm: Option<String>,
    #[command(flatten)]
    what_if: WhatIf,
}

/// A day, which begins at midnight UTC, or an instant.
fn date(text: &str) -> Result<UnixMs, String> {
    let day = format!("{text}T00:00:00Z");
    let wrong = |_| "expected a date like 2026-12-01 or 2026-12-01T08:00:00Z".to_owned();
    day.parse().or_else(|_| text.parse()).map_err(wrong)
}

/// Runs the command.
pub(super) fn run(command: ConfigCommand, context: &mut Context) -> Result<(), Failure> {
    let config = context.load_config()?;
    let store = context.open_store(&config)?;
    let before = store.auth_config()?;
    let (after, what_if) = match command {
        ConfigCommand::Show => return show(&before, None, &config, &store, context),
        ConfigCommand::Set(set) => (set.apply(&before, &store, context.now())?, set.what_if.what_if),
        ConfigCommand::Publish(WhatIf { what_if }) => {
            let next = auth_config::next_of(&before).map_err(refused)?;
            let signing = signing(&store, &next.thumbprint)?;
            let after = auth_config::publish(&before, signing.pair(), context.now()).map_err(refused)?;
            (after, what_if)
        }
        ConfigCommand::ClearPrevious(WhatIf { what_if }) => (auth_config::clear_previous(&before), what_if),
        ConfigCommand::ClearNext(WhatIf { what_if }) => (auth_config::clear_next(&before), what_if),
    };
    if what_if {
        let differences = change::differences(rows(&before, &after));
        change::tell(&differences, context)?;
        return show(&before, Some(differences), &config, &store, context);
    }
    replace(&store, &before, &after)?;
    show(&after, None, &config, &store, context)
}

impl Set {
    fn apply(&self, before: &AuthConfig, store: &dyn Store, now: UnixMs) -> Result<AuthConfig, Failure> {
        let mut after = before.clone();
        if let Some(id) = &self.service_name {
            after.service_name = (!id.is_empty()).then(|| sound_application_id(id)).transpose()?;
        }
        if let Some(realm) = &self.realm {
            after.realm = (!realm.is_empty()).then(|| sound_realm(realm)).transpose()?;
        }
        let named =
            |thumbprint: &str| signing(store, &chosen(store, Some(thumbprint))?.thumbprint().to_string());
        if let Some(thumbprint) = &self.certificate {
            after = auth_config::make_current(&after, named(thumbprint)?.pair(), now).map_err(refused)?;
        }
        if let Some((thumbprint, at)) = self.next.as_ref().zip(self.effective) {
            after =
                auth_config::plan(&after, named(thumbprint)?.pair(), at, self.force, now).map_err(refused)?;
        }
        Ok(after)
    }
}

/// A rule's refusal: what was asked for must be asked for in another way.
pub(in crate::commands) fn refused(refusal: Refusal) -> Failure {
    Failure { exit: Exit::Usage, error: Some(refusal.into()) }
}

/// Writes the change, unless somebody was faster.
pub(in crate::commands) fn replace(
    store: &dyn Store,
    before: &AuthConfig,
    after: &AuthConfig,
) -> Result<(), Failure> {
    if store.replace_auth_config(before, after)? {
        return Ok(());
    }
    let text = "the auth config was changed by somebody else meanwhile, and nothing was written; \
                look at `mailbadge auth config show` and try again";
    Err(Failure::new(Exit::Unavailable, text))
}

fn rows(before: &AuthConfig, after: &AuthConfig) -> Vec<Row> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let next = |config: &AuthConfig| {
        let next = config.next.as_ref();
        next.map(|next| (next.thumbprint.clone(), next.effective_at.to_string())).unwrap_or_default()
    };
    let ((next_before, date_before), (next_after, date_after)) = (next(before), next(after));
    vec![
        ("ServiceName", text(&before.service_name), text(&after.service_name)),
        ("Realm", text(&before.realm), text(&after.realm)),
        ("CurrentCertificateThumbprint", text(&before.current), text(&after.current)),
        ("PreviousCertificateThumbprint", text(&before.previous), text(&after.previous)),
        ("NextCertificateThumbprint", next_before, next_after),
        ("NextCertificateEffectiveDate", date_before, date_after),
    ]
}

/// The members are the cmdlet's.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigOutput {
    service_name: String,
    realm: String,
    current_certificate_thumbprint: Option<String>,
    previous_certificate_thumbprint: Option<String>,
    next_certificate_thumbprint: Option<String>,
    next_certificate_effective_date: Option<UnixMs>,
    name: &'static str,
    is_valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    what_if: Option<Vec<String>>,
}

fn show(
    state: &AuthConfig,
    what_if: Option<Vec<String>>,
    config: &Config,
    store: &dyn Store,
    context: &mut Context,
) -> Result<(), Failure> {
    let own = config.own(state);
    let output = ConfigOutput {
        service_name: own.id,
        realm: own.realm.as_str().to_owned(),
        current_certificate_thumbprint: state.current.clone(),
        previous_certificate_thumbprint: state.previous.clone(),
        next_certificate_thumbprint: state.next.as_ref().map(|next| next.thumbprint.clone()),
        next_certificate_effective_date: state.next.as_ref().map(|next| next.effective_at),
        name: "Auth Configuration",
        is_valid: may_sign(state, store, context.now())?,
        what_if,
    };
    if context.screen.is_json {
        return Ok(context.screen.json(&output)?);
    }
    let or_none = |text: &Option<String>| text.clone().unwrap_or_default();
    let date = output.next_certificate_effective_date.map(|at| at.to_string()).unwrap_or_default();
    Ok(context.screen.fields(&[
        ("ServiceName", output.service_name.clone()),
        ("Realm", output.realm.clone()),
        ("CurrentCertificateThumbprint", or_none(&output.current_certificate_thumbprint)),
        ("PreviousCertificateThumbprint", or_none(&output.previous_certificate_thumbprint)),
        ("NextCertificateThumbprint", or_none(&output.next_certificate_thumbprint)),
        ("NextCertificateEffectiveDate", date),
        ("Name", output.name.to_owned()),
        ("IsValid", if output.is_valid { "True" } else { "False" }.to_owned()),
    ])?)
}

/// Whether there is a current certificate that may sign now.
fn may_sign(state: &AuthConfig, store: &dyn Store, now: UnixMs) -> Result<bool, Failure> {
    let Some(thumbprint) = &state.current else { return Ok(false) };
    match signing(store, thumbprint) {
        Ok(it) => Ok(fitness::check(&it.certificate, &it.key, now).is_ok()),
        Err(failure) if failure.is_damage() => Err(failure),
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn a_date_is_a_day_or_an_instant() {
        for (text, instant) in [
            ("2026-12-01", "2026-12-01T00:00:00Z"),
            ("2026-12-01T08:00:00Z", "2026-12-01T08:00:00Z"),
            ("2026-12-01T08:00:00+02:00", "2026-12-01T06:00:00Z"),
        ] {
            assert_eq!(date(text).unwrap().to_string(), instant);
        }
        for text in ["", "tomorrow", "2026-13-01", "01/12/2026"] {
            assert!(date(text).unwrap_err().contains("2026-12-01"), "{text}");
        }
    }
}
