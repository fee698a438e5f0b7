//! `mailbadge certificate list|show|export`. Private keys are never printed.

use super::{Context, Exit, Failure};
use crate::identity::certificate::{Certificate, Thumbprint};
use crate::identity::key::PrivateKey;
use crate::identity::{auth_config, fitness};
use crate::store::{Store, StoreError};
use crate::time::UnixMs;
use secrecy::ExposeSecret;
use serde::Serialize;
use std::fs;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Certificates that tokens are signed with.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// All certificates, the current one marked.
    List,
    /// One certificate in full.
    Show {
        /// Its thumbprint; the current one's by default.
        thumbprint: Option<String>,
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

/// A certificate with its key.
#[derive(Debug)]
pub struct Signing {
    /// The certificate.
    pub certificate: Certificate,
    /// Its private key.
    pub key: PrivateKey,
}

impl Signing {
    /// Whether `setup` may take it.
    pub fn is_reusable(&self, now: UnixMs) -> bool {
        fitness::is_reusable(&self.certificate, &self.key, now)
    }
}

/// The kept certificates whose keys can be read, the newest last.
pub fn kept(store: &dyn Store) -> Result<Vec<Signing>, Failure> {
    let mut found = Vec::new();
    for stored in store.certificates()? {
        match signing(store, &stored.thumbprint) {
            Ok(signing) => found.push(signing),
            // A key that was taken away makes its certificate useless, not the others.
            Err(Failure { exit: Exit::Io, .. }) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(found)
}

/// The certificate that tokens are signed with, with its key, if it may sign now.
pub fn current(store: &dyn Store, now: UnixMs) -> Result<Signing, Failure> {
    let none =
        || Failure::new(Exit::Config, "there is no certificate to sign with; `mailbadge setup` makes one");
    let thumbprint = store.auth_config()?.current.ok_or_else(none)?;
    let signing = signing(store, &thumbprint)?;
    let unfit = |error: fitness::Unfit| Failure { exit: Exit::Config, error: Some(error.into()) };
    fitness::check(&signing.certificate, &signing.key, now).map_err(unfit)?;
    Ok(signing)
}

/// Signs with this certificate from now on.
pub fn make_current(store: &dyn Store, signing: &Signing, now: UnixMs) -> Result<(), Failure> {
    let before = store.auth_config()?;
    let refused = |refusal: auth_config::Refusal| Failure { exit: Exit::Usage, error: Some(refusal.into()) };
    let after =
        auth_config::make_current(&before, (&signing.certificate, &signing.key), now).map_err(refused)?;
    if store.replace_auth_config(&before, &after)? {
        return Ok(());
    }
    Err(Failure::new(Exit::Unavailable, "the auth config was changed by somebody else meanwhile; try again"))
}

fn signing(store: &dyn Store, thumbprint: &str) -> Result<Signing, Failure> {
    let certificate = certificate(store, thumbprint)?;
    let key = PrivateKey::from_pem(store.private_key(thumbprint)?.expose_secret())?;
    Ok(Signing { certificate, key })
}

fn certificate(store: &dyn Store, thumbprint: &str) -> Result<Certificate, Failure> {
    let found = store.certificates()?.into_iter().find(|one| one.thumbprint == thumbprint);
    let stored = found.ok_or_else(|| StoreError::NoCertificate { thumbprint: thumbprint.to_owned() })?;
    Ok(Certificate::from_der(&stored.der, &stored.friendly_name)?)
}

/// Runs the command.
pub fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let config = context.load_config()?;
    let store = context.open_store(&config)?;
    match args.what {
        What::List => list(&store, context),
        What::Show { thumbprint } => {
            let shown = Shown::of(&chosen(&store, thumbprint.as_deref())?, &store, context.now())?;
            if context.screen.is_json {
                return Ok(context.screen.json(&shown)?);
            }
            Ok(context.screen.fields(&shown.fields())?)
        }
        What::Export { thumbprint, format, out } => {
            export(&chosen(&store, thumbprint.as_deref())?, format, out, context)
        }
    }
}

fn chosen(store: &dyn Store, thumbprint: Option<&str>) -> Result<Certificate, Failure> {
    let usage = |error: crate::identity::Error| Failure { exit: Exit::Usage, error: Some(error.into()) };
    let thumbprint = match thumbprint {
        Some(given) => given.parse::<Thumbprint>().map_err(usage)?.to_string(),
        None => store.auth_config()?.current.ok_or_else(|| {
            Failure::new(Exit::Config, "there is no current certificate; `mailbadge setup` makes one")
        })?,
    };
    certificate(store, &thumbprint)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    thumbprint: String,
    x5t: String,
    is_current: bool,
    friendly_name: String,
    subject: String,
    subject_key_identifier: Option<String>,
    not_before: UnixMs,
    not_after: UnixMs,
    days_left: u64,
    key_bits: Option<usize>,
}

impl Shown {
    fn of(certificate: &Certificate, store: &dyn Store, now: UnixMs) -> Result<Self, Failure> {
        let thumbprint = certificate.thumbprint().to_string();
        Ok(Self {
            is_current: store.auth_config()?.current.as_ref() == Some(&thumbprint),
            thumbprint,
            x5t: certificate.thumbprint().x5t(),
            friendly_name: certificate.friendly_name().to_owned(),
            subject: certificate.subject().to_owned(),
            subject_key_identifier: certificate.subject_key_id(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            days_left: fitness::days_left(certificate, now),
            key_bits: certificate.rsa_bits(),
        })
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let or_none = |text: Option<String>| text.unwrap_or_default();
        vec![
            ("Thumbprint", self.thumbprint.clone()),
            ("X5t", self.x5t.clone()),
            ("IsCurrent", self.is_current.to_string()),
            ("FriendlyName", self.friendly_name.clone()),
            ("Subject", self.subject.clone()),
            ("SubjectKeyIdentifier", or_none(self.subject_key_identifier.clone())),
            ("NotBefore", self.not_before.to_string()),
            ("NotAfter", self.not_after.to_string()),
            ("DaysLeft", self.days_left.to_string()),
            ("KeyBits", or_none(self.key_bits.map(|bits| bits.to_string()))),
        ]
    }
}

fn list(store: &dyn Store, context: &mut Context) -> Result<(), Failure> {
    let mut all = Vec::new();
    for stored in store.certificates()? {
        let certificate = Certificate::from_der(&stored.der, &stored.friendly_name)?;
        all.push(Shown::of(&certificate, store, context.now())?);
    }
    if context.screen.is_json {
        return Ok(context.screen.json(&all)?);
    }
    let row = |one: &Shown| {
        let mark = if one.is_current { "*" } else { "" };
        let cells = [mark, &one.thumbprint, &one.friendly_name, &one.subject, &one.not_after.to_string()];
        cells.map(str::to_owned).to_vec()
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    Ok(context.screen.table(&["", "THUMBPRINT", "FRIENDLY NAME", "SUBJECT", "NOT AFTER"], &rows)?)
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
    let failed = |cause| Failure::new(Exit::Io, format!("{}: {cause}", path.display()));
    fs::write(&path, &bytes).map_err(failed)?;
    if context.screen.is_json {
        let thumbprint = certificate.thumbprint().to_string();
        return Ok(context
            .screen
            .json(&serde_json::json!({ "Thumbprint": thumbprint, "Exported": path }))?);
    }
    Ok(context.screen.line(format!("Exported {} to {}", certificate.thumbprint(), path.display()))?)
}
