//! `mailbadge setup`: the certificate that tokens are signed with, exported for the tenant, and the auth server.
//!
//! Idempotent: a second run reuses what fits and says so. The recipe is `identity`'s.

use super::auth::config::{refused, replace};
use super::certificate::{EXPORT_MODE, Signing, keep, kept};
use super::{Context, Exit, Failure, driver};
use crate::config::is_dns_domain;
use crate::files::driver::replace as replace_file;
use crate::https::url::Url;
use crate::identity::partner::AuthServer;
use crate::identity::{auth_config, issue};
use crate::store::{Store, UpsertOutcome};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Name of the auth server that the help page's script makes.
const AUTH_SERVER: &str = "MicrosoftSts";
/// Name of the exported certificate.
const EXPORT_NAME: &str = "OAuthCert.cer";

/// Makes or reuses the certificate, makes it current, exports it, adds the auth server. Changes nothing that fits.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The organization's DNS domain; the configuration's by default.
    #[arg(long, value_name = "DOMAIN")]
    organization: Option<String>,
    /// Where the token service's metadata document is; Microsoft's, for the organization, by default.
    #[arg(long, value_name = "URL")]
    auth_metadata_url: Option<String>,
    /// Where OAuthCert.cer is written; the current folder by default.
    #[arg(long, value_name = "DIR", default_value = ".")]
    export_dir: PathBuf,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Outcome {
    thumbprint: String,
    certificate: &'static str,
    exported: PathBuf,
    sha256: String,
    auth_server: &'static str,
    auth_metadata_url: String,
}

/// Runs the command.
pub fn run(args: &Args, context: &mut Context) -> Result<(), Failure> {
    let config = context.load_config()?;
    let organization = args.organization.clone().unwrap_or_else(|| config.organization.clone());
    if !is_dns_domain(&organization) {
        let text =
            format!("--organization {organization:?} is not a DNS domain; expected one like fabrikam.com");
        return Err(Failure::new(Exit::Usage, text));
    }
    let metadata_url = metadata_url(args.auth_metadata_url.as_deref(), &organization)?;
    let store = context.open_or_create_store(&config)?;
    let found = reusable(&store, context)?;
    let is_new = found.is_none();
    if is_new && !context.screen.is_json {
        context.screen.line("Creating certificate for oAuth...")?;
    }
    let signing = found.map_or_else(|| create(&store, &organization, context), Ok)?;
    let thumbprint = signing.certificate.thumbprint().to_string();
    let before = store.auth_config()?;
    let after = auth_config::make_current(&before, signing.pair(), context.now()).map_err(refused)?;
    replace(&store, &before, &after)?;
    say(context, &format!("Configured Certificate Thumbprint is: {thumbprint}"))?;
    say(context, "Exporting certificate...")?;
    let (exported, sha256) =
        (export(&args.export_dir, signing.certificate.der())?, signing.certificate.sha256());
    say(context, &format!("Exported {}, SHA-256 {sha256}", exported.display()))?;
    let (auth_server, auth_metadata_url) = auth_server(&store, metadata_url, context)?;
    let certificate = if is_new { "Created" } else { "Reused" };
    if context.screen.is_json {
        let outcome = Outcome { thumbprint, certificate, exported, sha256, auth_server, auth_metadata_url };
        return Ok(context.screen.json(&outcome)?);
    }
    Ok(context.screen.line("Complete.")?)
}

fn say(context: &mut Context, text: &str) -> Result<(), Failure> {
    if context.screen.is_json { Ok(()) } else { Ok(context.screen.line(text)?) }
}

/// The current certificate where it fits, else the newest that does.
fn reusable(store: &dyn Store, context: &Context) -> Result<Option<Signing>, Failure> {
    let current = store.auth_config()?.current;
    let mut fitting: Vec<_> = kept(store)?.into_iter().filter(|one| one.is_reusable(context.now())).collect();
    let is_current = |one: &Signing| Some(one.certificate.thumbprint().to_string()) == current;
    let place = fitting.iter().position(is_current);
    Ok(place.map(|place| fitting.swap_remove(place)).or_else(|| fitting.pop()))
}

fn create(store: &dyn Store, organization: &str, context: &Context) -> Result<Signing, Failure> {
    let (certificate, key) = issue::self_signed(organization, context.now())?;
    let signing = Signing { certificate, key };
    keep(store, &signing)?;
    Ok(signing)
}

fn export(dir: &Path, der: &[u8]) -> Result<PathBuf, Failure> {
    let path = dir.join(EXPORT_NAME);
    driver::make_folder(dir)
        .map_err(|cause| Failure::new(Exit::Io, format!("{}: {cause}", dir.display())))?;
    replace_file(&path, der, EXPORT_MODE)?;
    Ok(path)
}

fn metadata_url(given: Option<&str>, organization: &str) -> Result<String, Failure> {
    let Some(url) = given else {
        return Ok(format!(
            "https://accounts.accesscontrol.windows.net/metadata/json/1/?realm={organization}"
        ));
    };
    let wrong = |error| Failure::new(Exit::Usage, format!("--auth-metadata-url {error}"));
    Url::parse(url).map_err(wrong)?;
    Ok(url.to_owned())
}

fn auth_server(
    store: &dyn Store,
    metadata_url: String,
    context: &mut Context,
) -> Result<(&'static str, String), Failure> {
    let server = AuthServer { name: AUTH_SERVER.to_owned(), metadata_url, document: None, fetched_at: None };
    let before = store.auth_servers()?.into_iter().find(|it| it.name.eq_ignore_ascii_case(AUTH_SERVER));
    let (line, word) = match store.keep_auth_server(&server)? {
        UpsertOutcome::Created => ("Creating AuthServer Config...", "Created"),
        UpsertOutcome::Corrected => ("AuthServer Config already exists.", "Corrected"),
        UpsertOutcome::Unchanged => ("AuthServer Config already exists.", "Unchanged"),
    };
    say(context, line)?;
    if let Some(before) = before.filter(|it| it.metadata_url != server.metadata_url) {
        context.screen.remark(format!(
            "warning: the metadata URL of {AUTH_SERVER} was {}; it is {} now",
            before.metadata_url, server.metadata_url
        ))?;
    }
    Ok((word, server.metadata_url))
}
