//! `mailbadge proxy enable|disable|show` (protocol.md §3): state in the store, which a running agent notices by itself.

use super::{Context, Exit, Failure, change};
use crate::config::is_dns_domain;
use crate::forwarder::url::RelayUrl;
use crate::store::{Proxy, ProxyChange, Store};
use serde::Serialize;

/// The relay that counts are forwarded to.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: ProxyCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ProxyCommand {
    /// Starts forwarding; organization and URI stay as they are where they are not given.
    Enable {
        /// The organization's DNS domain.
        #[arg(long, value_name = "DOMAIN")]
        organization: Option<String>,
        /// Base of the relay's URL.
        #[arg(long, value_name = "URL")]
        uri: Option<String>,
        /// Says what would change, and changes nothing.
        #[arg(long)]
        what_if: bool,
    },
    /// Stops forwarding; organization and URI stay.
    Disable {
        /// Does not ask.
        #[arg(long)]
        yes: bool,
        /// Says what would change, and changes nothing.
        #[arg(long)]
        what_if: bool,
    },
    /// Shows the present state.
    Show,
}

/// Runs the command.
pub fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let config = context.load_config()?;
    let store = context.open_store(&config)?;
    match args.command {
        ProxyCommand::Show => show(&store.proxy()?, None, context),
        ProxyCommand::Enable { organization, uri, what_if } => {
            let change = ProxyChange { is_enabled: Some(true), organization, uri };
            sound(&change.applied_to(&store.proxy()?)).map_err(|text| Failure::new(Exit::Usage, text))?;
            apply(&store, &change, what_if, context)
        }
        ProxyCommand::Disable { yes, what_if } => {
            let change = ProxyChange { is_enabled: Some(false), ..ProxyChange::default() };
            if !yes && !what_if && !is_confirmed(context)? {
                return Ok(context.screen.remark("Nothing was changed.")?);
            }
            apply(&store, &change, what_if, context)
        }
    }
}

/// What must hold before anything is forwarded.
fn sound(proxy: &Proxy) -> Result<(), String> {
    match &proxy.organization {
        None => return Err("the organization is not known yet; give it with --organization".to_owned()),
        Some(domain) if !is_dns_domain(domain) => {
            return Err(format!(
                "--organization {domain:?} is not a DNS domain; expected one like fabrikam.com"
            ));
        }
        Some(_) => {}
    }
    RelayUrl::parse(&proxy.uri).map(|_| ()).map_err(|error| error.to_string())
}

fn is_confirmed(context: &mut Context) -> Result<bool, Failure> {
    let question = "Devices will no longer be told their counts. Disable the push notification proxy?";
    let silent = || Failure::new(Exit::Usage, "nobody answered; give --yes to disable without being asked");
    context.screen.ask(question)?.ok_or_else(silent)
}

fn apply(
    store: &dyn Store,
    change: &ProxyChange,
    what_if: bool,
    context: &mut Context,
) -> Result<(), Failure> {
    if !what_if {
        let after = store.change_proxy(change, context.now())?;
        return show(&after, None, context);
    }
    let before = store.proxy()?;
    let differences = differences(&before, &change.applied_to(&before));
    change::tell(&differences, context)?;
    show(&before, Some(differences), context)
}

fn differences(before: &Proxy, after: &Proxy) -> Vec<String> {
    let organization = |proxy: &Proxy| proxy.organization.clone().unwrap_or_default();
    change::differences([
        ("Enabled", before.is_enabled.to_string(), after.is_enabled.to_string()),
        ("Organization", organization(before), organization(after)),
        ("Uri", before.uri.clone(), after.uri.clone()),
    ])
}

/// The members and their order are the cmdlet's.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ProxyOutput<'a> {
    display_name: &'static str,
    enabled: bool,
    organization: Option<&'a str>,
    uri: &'a str,
    identity: &'static str,
    is_valid: bool,
    name: &'static str,
    guid: &'a str,
    when_changed: String,
    when_created: String,
    #[serde(rename = "WhenChangedUTC")]
    when_changed_utc: String,
    #[serde(rename = "WhenCreatedUTC")]
    when_created_utc: String,
    object_state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    what_if: Option<Vec<String>>,
}

fn show(proxy: &Proxy, what_if: Option<Vec<String>>, context: &mut Context) -> Result<(), Failure> {
    let (changed, created) = (proxy.changed_at.to_string(), proxy.created_at.to_string());
    let output = ProxyOutput {
        display_name: "On Premises Proxy app",
        enabled: proxy.is_enabled,
        organization: proxy.organization.as_deref(),
        uri: &proxy.uri,
        identity: "OnPrem-Proxy",
        is_valid: sound(proxy).is_ok(),
        name: "OnPrem-Proxy",
        guid: &proxy.guid,
        when_changed: changed.clone(),
        when_created: created.clone(),
        when_changed_utc: changed,
        when_created_utc: created,
        object_state: "Unchanged",
        what_if,
    };
    if context.screen.is_json {
        Ok(context.screen.json(&output)?)
    } else {
        Ok(context.screen.fields(&fields(&output))?)
    }
}

fn fields(output: &ProxyOutput) -> Vec<(&'static str, String)> {
    vec![
        ("DisplayName", output.display_name.to_owned()),
        ("Enabled", title(output.enabled)),
        ("Organization", output.organization.unwrap_or_default().to_owned()),
        ("Uri", output.uri.to_owned()),
        ("Identity", output.identity.to_owned()),
        ("IsValid", title(output.is_valid)),
        ("Name", output.name.to_owned()),
        ("Guid", output.guid.to_owned()),
        ("WhenChanged", output.when_changed.clone()),
        ("WhenCreated", output.when_created.clone()),
        ("WhenChangedUTC", output.when_changed_utc.clone()),
        ("WhenCreatedUTC", output.when_created_utc.clone()),
        ("ObjectState", output.object_state.to_owned()),
    ]
}

/// As the cmdlet writes it.
fn title(is_so: bool) -> String {
    if is_so { "True" } else { "False" }.to_owned()
}
