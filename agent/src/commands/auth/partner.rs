//! `mailbadge auth partner list|add|remove`: applications that are trusted directly (protocol.md §5.3, row 4).

use super::{document, sound_application_id, sound_name, sound_realm};
use crate::commands::{Context, Exit, Failure, change};
use crate::config::Config;
use crate::identity::partner::PartnerApplication;
use crate::identity::principal::Principal;
use crate::store::Store;
use serde::Serialize;
use serde_json::json;

/// Partner applications, at most.
const PARTNERS_MAX: usize = 64;

#[derive(Debug, clap::Subcommand)]
pub(super) enum PartnerCommand {
    /// All of them.
    List,
    /// Adds one: a relay that names this application and realm gets tokens that this host signs itself.
    Add(Add),
    /// Removes one.
    Remove {
        /// What it is called here.
        name: String,
        /// Says what would change, and changes nothing.
        #[arg(long)]
        what_if: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Add {
    /// What it is called here; its application id and realm by default.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Its application id.
    #[arg(long, value_name = "GUID", requires = "realm", required_unless_present = "auth_metadata_url")]
    application_id: Option<String>,
    /// Its realm: a DNS domain or a tenant's GUID.
    #[arg(long, value_name = "REALM", requires = "application_id")]
    realm: Option<String>,
    /// Takes both from this metadata document; https, or http to loopback.
    #[arg(long, value_name = "URL", conflicts_with_all = ["application_id", "realm"])]
    auth_metadata_url: Option<String>,
}

/// Runs the command.
pub(super) fn run(command: PartnerCommand, context: &mut Context) -> Result<(), Failure> {
    let config = context.load_config()?;
    let store = context.open_store(&config)?;
    match command {
        PartnerCommand::List => list(&store.partners()?, context),
        PartnerCommand::Add(add) => {
            let partner = add.partner(&config)?;
            refuse_another(&partner, &store.partners()?)?;
            if !store.add_partner(&partner)? {
                return Err(Failure::new(Exit::Usage, taken(&partner)));
            }
            show(&partner, None, context)
        }
        PartnerCommand::Remove { name, what_if } => remove(&name, what_if, &store, context),
    }
}

impl Add {
    fn partner(&self, config: &Config) -> Result<PartnerApplication, Failure> {
        let principal = self.principal(config)?;
        let default_name = || format!("{}@{}", principal.id, principal.realm);
        Ok(PartnerApplication {
            name: sound_name(&self.name.clone().unwrap_or_else(default_name))?,
            application_id: principal.id.clone(),
            realm: principal.realm.as_str().to_owned(),
            metadata_url: self.auth_metadata_url.clone(),
        })
    }

    fn principal(&self, config: &Config) -> Result<Principal, Failure> {
        if let Some(url) = &self.auth_metadata_url {
            document::sound_url(url)?;
            let issuer = document::fetch(url, false, config)?.document.issuer;
            if issuer.realm.is_empty() {
                let text = format!(
                    "{url}: its realm is empty, and a partner's must not be; give --application-id and --realm"
                );
                return Err(Failure::new(Exit::Usage, text));
            }
            return Ok(issuer);
        }
        let (id, realm) = (self.application_id.as_deref(), self.realm.as_deref());
        Ok(Principal::new(
            &sound_application_id(id.unwrap_or_default())?,
            &sound_realm(realm.unwrap_or_default())?,
        ))
    }
}

fn refuse_another(partner: &PartnerApplication, all: &[PartnerApplication]) -> Result<(), Failure> {
    let principal = |it: &PartnerApplication| Principal::new(&it.application_id, &it.realm);
    let is_same = |it: &&PartnerApplication| {
        it.name.eq_ignore_ascii_case(&partner.name) || principal(it) == principal(partner)
    };
    if let Some(other) = all.iter().find(is_same) {
        return Err(Failure::new(Exit::Usage, taken(other)));
    }
    if all.len() >= PARTNERS_MAX {
        let text =
            format!("there are {PARTNERS_MAX} partner applications, and that is the most; remove one first");
        return Err(Failure::new(Exit::Usage, text));
    }
    Ok(())
}

fn taken(other: &PartnerApplication) -> String {
    let PartnerApplication { name, application_id, realm, .. } = other;
    format!(
        "partner application {name:?} ({application_id}@{realm}) is there already; `mailbadge auth partner remove` removes it"
    )
}

fn remove(name: &str, what_if: bool, store: &dyn Store, context: &mut Context) -> Result<(), Failure> {
    let found = store.partners()?.into_iter().find(|it| it.name.eq_ignore_ascii_case(name));
    let unknown =
        || format!("no partner application {name:?}; `mailbadge auth partner list` shows which there are");
    let partner = found.ok_or_else(|| Failure::new(Exit::Usage, unknown()))?;
    if what_if {
        let text = vec![format!("What if: partner application {:?} would be removed.", partner.name)];
        change::tell(&text, context)?;
        return show(&partner, Some(text), context);
    }
    store.remove_partner(&partner.name)?;
    if context.screen.is_json {
        return Ok(context.screen.json(&json!({ "Removed": partner.name }))?);
    }
    Ok(context.screen.line(format!("Removed partner application {}.", partner.name))?)
}

/// The members are the cmdlet's.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PartnerOutput<'a> {
    name: &'a str,
    application_identifier: &'a str,
    realm: &'a str,
    auth_metadata_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    what_if: Option<Vec<String>>,
}

impl<'a> PartnerOutput<'a> {
    fn of(partner: &'a PartnerApplication, what_if: Option<Vec<String>>) -> Self {
        Self {
            name: &partner.name,
            application_identifier: &partner.application_id,
            realm: &partner.realm,
            auth_metadata_url: partner.metadata_url.as_deref(),
            what_if,
        }
    }
}

fn show(
    partner: &PartnerApplication,
    what_if: Option<Vec<String>>,
    context: &mut Context,
) -> Result<(), Failure> {
    let output = PartnerOutput::of(partner, what_if);
    if context.screen.is_json {
        return Ok(context.screen.json(&output)?);
    }
    Ok(context.screen.fields(&[
        ("Name", output.name.to_owned()),
        ("ApplicationIdentifier", output.application_identifier.to_owned()),
        ("Realm", output.realm.to_owned()),
        ("AuthMetadataUrl", output.auth_metadata_url.unwrap_or_default().to_owned()),
    ])?)
}

fn list(all: &[PartnerApplication], context: &mut Context) -> Result<(), Failure> {
    if context.screen.is_json {
        let output: Vec<_> = all.iter().map(|partner| PartnerOutput::of(partner, None)).collect();
        return Ok(context.screen.json(&output)?);
    }
    if all.is_empty() {
        return document::tell_none("partner application", context);
    }
    let row = |it: &PartnerApplication| vec![it.name.clone(), it.application_id.clone(), it.realm.clone()];
    let rows: Vec<_> = all.iter().map(row).collect();
    Ok(context.screen.table(&["NAME", "APPLICATION ID", "REALM"], &rows)?)
}
