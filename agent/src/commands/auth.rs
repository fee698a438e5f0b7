//! `mailbadge auth config|server|partner|credential`: who this host is in tokens, and whom it trusts. State in the
//! store, which a running agent notices by itself.

pub(super) mod config;
mod credential;
mod document;
mod partner;
mod server;

use super::{Context, Exit, Failure};

/// Names of auth servers and partner applications have so many characters at most.
const NAME_CHARS_MAX: usize = 64;

/// Server-to-server authentication.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: AuthCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AuthCommand {
    /// Which certificates sign, signed and will sign; the own name in tokens.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Token services, known by the URL of their metadata document.
    #[command(subcommand)]
    Server(server::ServerCommand),
    /// Applications that are trusted directly, without a token service.
    #[command(subcommand)]
    Partner(partner::PartnerCommand),
    /// The certificate as a key credential, for the tenant's service principal.
    Credential(credential::Args),
}

/// Runs the command.
pub fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    match args.command {
        AuthCommand::Config(command) => config::run(command, context),
        AuthCommand::Server(command) => server::run(command, context),
        AuthCommand::Partner(command) => partner::run(command, context),
        AuthCommand::Credential(args) => credential::run(&args, context),
    }
}

/// A name that fits in a line of a table.
fn sound_name(name: &str) -> Result<String, Failure> {
    let name = name.trim();
    let is_sound =
        !name.is_empty() && name.chars().count() <= NAME_CHARS_MAX && !name.chars().any(char::is_control);
    let wrong =
        || Failure::new(Exit::Usage, format!("name: expected one line of 1 to {NAME_CHARS_MAX} characters"));
    is_sound.then(|| name.to_owned()).ok_or_else(wrong)
}

/// An application id, lower-case and hyphenated.
fn sound_application_id(id: &str) -> Result<String, Failure> {
    let wrong = |_| {
        let text =
            format!("{id:?} is no application id; expected a GUID like 00000002-0000-0ff1-ce00-000000000000");
        Failure::new(Exit::Usage, text)
    };
    uuid::Uuid::try_parse(id).map(|guid| guid.to_string()).map_err(wrong)
}

/// A realm, lower-case: a DNS domain or a tenant's GUID.
fn sound_realm(realm: &str) -> Result<String, Failure> {
    if let Ok(guid) = uuid::Uuid::try_parse(realm) {
        return Ok(guid.to_string());
    }
    if crate::config::is_dns_domain(realm) {
        return Ok(realm.to_ascii_lowercase());
    }
    let text = format!("--realm {realm:?} is neither a DNS domain like fabrikam.com nor a tenant's GUID");
    Err(Failure::new(Exit::Usage, text))
}
