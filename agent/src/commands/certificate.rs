//! `mailbadge certificate new|list|show|import|export|remove`. Private keys are never printed.

mod import;
mod output;
mod signing;

pub use signing::{Signing, certificate, current, keep, kept, signing};

use super::{Context, Exit, Failure};
use crate::config::{Config, is_dns_domain};
use crate::files::driver::replace;
use crate::identity::auth_config::Role;
use crate::identity::certificate::{Certificate, Thumbprint};
use crate::identity::issue;
use crate::store::Store;
use output::CertificateOutput;
use serde_json::json;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Permissions of an exported certificate: everybody may read it.
pub(super) const EXPORT_MODE: u32 = 0o644;
/// A friendly name has so many characters at most.
const FRIENDLY_NAME_CHARS_MAX: usize = 100;

/// Certificates that tokens are signed with.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: CertificateCommand,
}

#[derive(Debug, clap::Subcommand)]
enum CertificateCommand {
    /// Makes a certificate with its key; nothing signs with it until `auth config set` says so.
    New {
        /// The DNS domain it is for; the organization by default.
        #[arg(long, value_name = "DOMAIN")]
        domain: Option<String>,
        /// What it is called in lists.
        #[arg(long, value_name = "NAME", default_value = issue::FRIENDLY_NAME)]
        friendly_name: String,
    },
    /// All certificates, with what they are used for and how long they last.
    List,
    /// One certificate in full.
    Show {
        /// Its thumbprint; the current one's by default.
        thumbprint: Option<String>,
    },
    /// Keeps a certificate with its key from files; nothing signs with it until `auth config set` says so.
    Import(import::Import),
    /// Removes a certificate that is not in use, with its key, for good.
    Remove {
        /// Its thumbprint.
        thumbprint: String,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
        /// Says what would be removed, and removes nothing.
        #[arg(long)]
        what_if: bool,
    },
    /// Writes one certificate, without its key.
    Export {
        /// Its thumbprint; the current one's by default.
        thumbprint: Option<String>,
        /// DER or PEM.
        #[arg(long, value_enum, default_value_t = Format::Cer)]
        format: Format,
        /// The file; standard output by default.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Cer,
    Pem,
}

/// Runs the command.
pub fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let config = context.load_config()?;
    let store = context.open_store(&config)?;
    match args.command {
        CertificateCommand::New { domain, friendly_name } => {
            new(&config, &store, domain, &friendly_name, context)
        }
        CertificateCommand::List => list(&store, context),
        CertificateCommand::Show { thumbprint } => {
            show(&chosen(&store, thumbprint.as_deref())?, &store, context)
        }
        CertificateCommand::Import(import) => {
            import.friendly_name.as_deref().map(sound_name).transpose()?;
            let signing = import.read(context.now())?;
            keep(&store, &signing)?;
            show(&signing.certificate, &store, context)
        }
        CertificateCommand::Remove { thumbprint, yes, what_if } => {
            remove(&chosen(&store, Some(&thumbprint))?, &store, yes, what_if, context)
        }
        CertificateCommand::Export { thumbprint, format, out } => {
            export(&chosen(&store, thumbprint.as_deref())?, format, out, context)
        }
    }
}

/// The certificate of this thumbprint, or the current one.
pub(super) fn chosen(store: &dyn Store, thumbprint: Option<&str>) -> Result<Certificate, Failure> {
    let usage = |error: crate::identity::Error| Failure { exit: Exit::Usage, error: Some(error.into()) };
    let thumbprint = match thumbprint {
        Some(given) => given.parse::<Thumbprint>().map_err(usage)?.to_string(),
        None => store.auth_config()?.current.ok_or_else(|| {
            Failure::new(Exit::Config, "there is no current certificate; `mailbadge setup` makes one")
        })?,
    };
    certificate(store, &thumbprint)
}

fn new(
    config: &Config,
    store: &dyn Store,
    domain: Option<String>,
    friendly_name: &str,
    context: &mut Context,
) -> Result<(), Failure> {
    let domain = domain.unwrap_or_else(|| config.organization.clone());
    if !is_dns_domain(&domain) {
        let text = format!("--domain {domain:?} is not a DNS domain; expected one like fabrikam.com");
        return Err(Failure::new(Exit::Usage, text));
    }
    let name = sound_name(friendly_name)?;
    let (made, key) = issue::self_signed(&domain, context.now())?;
    let certificate = Certificate::from_der(made.der(), name)?;
    keep(store, &Signing { certificate: certificate.clone(), key })?;
    show(&certificate, store, context)
}

fn sound_name(name: &str) -> Result<&str, Failure> {
    let is_sound = name.chars().count() <= FRIENDLY_NAME_CHARS_MAX && !name.chars().any(char::is_control);
    let wrong = || {
        let text =
            format!("--friendly-name: expected one line of {FRIENDLY_NAME_CHARS_MAX} characters at most");
        Failure::new(Exit::Usage, text)
    };
    is_sound.then_some(name).ok_or_else(wrong)
}

fn show(certificate: &Certificate, store: &dyn Store, context: &mut Context) -> Result<(), Failure> {
    let output = CertificateOutput::of(certificate, &store.auth_config()?, store, context.now())?;
    if context.screen.is_json {
        return Ok(context.screen.json(&output)?);
    }
    Ok(context.screen.fields(&output.fields())?)
}

fn list(store: &dyn Store, context: &mut Context) -> Result<(), Failure> {
    let config = store.auth_config()?;
    let mut all = Vec::new();
    for stored in store.certificates()? {
        let certificate = Certificate::from_der(&stored.der, &stored.friendly_name)?;
        all.push(CertificateOutput::of(&certificate, &config, store, context.now())?);
    }
    if context.screen.is_json {
        return Ok(context.screen.json(&all)?);
    }
    let rows: Vec<_> = all.iter().map(CertificateOutput::row).collect();
    Ok(context.screen.table(&CertificateOutput::HEADS, &rows)?)
}

fn remove(
    certificate: &Certificate,
    store: &dyn Store,
    yes: bool,
    what_if: bool,
    context: &mut Context,
) -> Result<(), Failure> {
    let thumbprint = certificate.thumbprint().to_string();
    if let Some(role) = Role::of(&thumbprint, &store.auth_config()?) {
        let text = format!(
            "certificate {thumbprint} is the {role} one; `mailbadge auth config` must name others first"
        );
        return Err(Failure::new(Exit::Usage, text));
    }
    if what_if {
        let text = format!("What if: certificate {thumbprint} and its key would be removed.");
        return tell(context, &text, &json!({ "WhatIf": [text] }));
    }
    if !yes {
        let question =
            format!("The key of {} ({thumbprint}) cannot be had back. Remove it?", certificate.subject());
        let silent =
            || Failure::new(Exit::Usage, "nobody answered; give --yes to remove without being asked");
        if !context.screen.ask(&question)?.ok_or_else(silent)? {
            return Ok(context.screen.remark("Nothing was changed.")?);
        }
    }
    store.remove_certificate(&thumbprint)?;
    tell(context, &format!("Removed {thumbprint} and its key."), &json!({ "Removed": thumbprint }))
}

/// A line for people, the same for programs.
fn tell(context: &mut Context, text: &str, value: &serde_json::Value) -> Result<(), Failure> {
    if context.screen.is_json {
        return Ok(context.screen.json(value)?);
    }
    Ok(context.screen.line(text)?)
}

fn export(
    certificate: &Certificate,
    format: Format,
    out: Option<PathBuf>,
    context: &mut Context,
) -> Result<(), Failure> {
    let bytes = match format {
        Format::Cer => certificate.der().to_vec(),
        Format::Pem => certificate.pem().into_bytes(),
    };
    let Some(path) = out else {
        if format == Format::Cer && std::io::stdout().is_terminal() {
            return Err(Failure::new(
                Exit::Usage,
                "DER is not for a terminal; give --out FILE or --format pem",
            ));
        }
        return Ok(context.screen.bytes(&bytes)?);
    };
    replace(&path, &bytes, EXPORT_MODE)?;
    let thumbprint = certificate.thumbprint().to_string();
    let text = format!("Exported {thumbprint} to {}", path.display());
    tell(context, &text, &json!({ "Thumbprint": thumbprint, "Exported": path }))
}
