//! `mailbadge auth server list|add|set|remove`: token services (protocol.md §5.4), by the URL of their document.

use super::document::{self, Fetched};
use super::sound_name;
use crate::commands::change;
use crate::commands::{Context, Exit, Failure};
use crate::config::Config;
use crate::identity::metadata::Document;
use crate::identity::partner::AuthServer;
use crate::store::Store;
use crate::time::UnixMs;
use serde::Serialize;
use serde_json::json;

/// Auth servers, at most: each one's document is read every day.
const AUTH_SERVERS_MAX: usize = 16;

#[derive(Debug, clap::Subcommand)]
pub(super) enum ServerCommand {
    /// All of them, with what their documents say.
    List {
        /// Fetches their documents anew before.
        #[arg(long)]
        refresh: bool,
    },
    /// Adds one: fetches its document and keeps it.
    Add {
        /// What it is called here.
        name: String,
        /// Where its metadata document is; https, or http to loopback.
        #[arg(long, value_name = "URL")]
        auth_metadata_url: String,
    },
    /// Changes where its document is, or fetches that anew.
    Set {
        /// What it is called here.
        name: String,
        /// Where its metadata document is; https, or http to loopback.
        #[arg(long, value_name = "URL", required_unless_present = "refresh")]
        auth_metadata_url: Option<String>,
        /// Fetches its document anew; a new URL does so as well.
        #[arg(long)]
        refresh: bool,
        /// Says what would change, and changes nothing.
        #[arg(long)]
        what_if: bool,
    },
    /// Removes one.
    Remove {
        /// What it is called here.
        name: String,
        /// Says what would change, and changes nothing.
        #[arg(long)]
        what_if: bool,
    },
}

/// Runs the command.
pub(super) fn run(command: ServerCommand, context: &mut Context) -> Result<(), Failure> {
    let config = context.load_config()?;
    let store = context.open_store(&config)?;
    match command {
        ServerCommand::List { refresh } => {
            if refresh {
                for server in store.auth_servers()? {
                    refreshed(&server, &server.metadata_url, &config, &store, context)?;
                }
            }
            list(&store, context)
        }
        ServerCommand::Add { name, auth_metadata_url } => {
            let name = sound_name(&name)?;
            refuse_another(&name, &store)?;
            let new = AuthServer { name, metadata_url: auth_metadata_url, document: None, fetched_at: None };
            let kept = refreshed(&new, &new.metadata_url, &config, &store, context)?;
            show(&kept, None, context)
        }
        ServerCommand::Set { name, auth_metadata_url, what_if, .. } => {
            let server = find(&name, &store)?;
            let url = auth_metadata_url.unwrap_or_else(|| server.metadata_url.clone());
            if what_if {
                document::sound_url(&url)?;
                let row = ("AuthMetadataUrl", server.metadata_url.clone(), url);
                return what_if_shown(&server, change::differences([row]), context);
            }
            let kept = refreshed(&server, &url, &config, &store, context)?;
            show(&kept, None, context)
        }
        ServerCommand::Remove { name, what_if } => {
            let server = find(&name, &store)?;
            if what_if {
                let text = format!("What if: auth server {:?} would be removed.", server.name);
                return what_if_shown(&server, vec![text], context);
            }
            store.remove_auth_server(&server.name)?;
            if context.screen.is_json {
                return Ok(context.screen.json(&json!({ "Removed": server.name }))?);
            }
            Ok(context.screen.line(format!("Removed auth server {}.", server.name))?)
        }
    }
}

fn refuse_another(name: &str, store: &dyn Store) -> Result<(), Failure> {
    let servers = store.auth_servers()?;
    if servers.iter().any(|server| server.name.eq_ignore_ascii_case(name)) {
        let text = format!("auth server {name:?} is there already; `mailbadge auth server set` changes it");
        return Err(Failure::new(Exit::Usage, text));
    }
    if servers.len() >= AUTH_SERVERS_MAX {
        let text =
            format!("there are {AUTH_SERVERS_MAX} auth servers, and that is the most; remove one first");
        return Err(Failure::new(Exit::Usage, text));
    }
    Ok(())
}

fn find(name: &str, store: &dyn Store) -> Result<AuthServer, Failure> {
    let found = store.auth_servers()?.into_iter().find(|it| it.name.eq_ignore_ascii_case(name));
    let text = || format!("no auth server {name:?}; `mailbadge auth server list` shows which there are");
    found.ok_or_else(|| Failure::new(Exit::Usage, text()))
}

/// Fetches the document at `url` and keeps it under the name of `server`; nothing is written where it is none.
fn refreshed(
    server: &AuthServer,
    url: &str,
    config: &Config,
    store: &dyn Store,
    context: &Context,
) -> Result<AuthServer, Failure> {
    document::sound_url(url)?;
    let Fetched { bytes, .. } = document::fetch(url, true, config)?;
    let kept = AuthServer {
        name: server.name.clone(),
        metadata_url: url.to_owned(),
        document: Some(bytes),
        fetched_at: Some(context.now()),
    };
    store.keep_auth_server(&kept)?;
    Ok(kept)
}

/// The members are the cmdlet's, where they have a meaning here.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ServerOutput {
    name: String,
    auth_metadata_url: String,
    issuer_identifier: Option<String>,
    application_identifier: Option<String>,
    realm: Option<String>,
    token_issuing_endpoint: Option<String>,
    endpoints: Vec<Endpoint>,
    certificate_thumbprints: Vec<String>,
    fetched_at: Option<UnixMs>,
    /// What is wrong with the document that is kept.
    trouble: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    what_if: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    location: String,
    protocol: String,
    usage: String,
}

impl ServerOutput {
    fn of(server: &AuthServer) -> Self {
        let output = Self {
            name: server.name.clone(),
            auth_metadata_url: server.metadata_url.clone(),
            fetched_at: server.fetched_at,
            ..Self::default()
        };
        let Some(bytes) = &server.document else { return output };
        match Document::read(bytes) {
            Ok(document) => output.with(document),
            Err(error) => Self { trouble: Some(error.to_string()), ..output },
        }
    }

    fn with(self, document: Document) -> Self {
        let service = document.token_service();
        let endpoint = |it: crate::identity::metadata::Endpoint| Endpoint {
            location: it.location,
            protocol: it.protocol,
            usage: it.usage,
        };
        Self {
            issuer_identifier: Some(document.issuer.to_string()),
            application_identifier: Some(document.issuer.id),
            realm: Some(document.issuer.realm.as_str().to_owned()),
            trouble: service.as_ref().err().map(ToString::to_string),
            token_issuing_endpoint: service.ok().map(|service| service.endpoint.to_string()),
            endpoints: document.endpoints.into_iter().map(endpoint).collect(),
            certificate_thumbprints: document
                .certificates
                .iter()
                .map(|certificate| certificate.thumbprint().to_string())
                .collect(),
            ..self
        }
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_default();
        let fetched_at = self.fetched_at.map_or_else(|| "never".to_owned(), |at| at.to_string());
        let mut fields = vec![
            ("Name", self.name.clone()),
            ("AuthMetadataUrl", self.auth_metadata_url.clone()),
            ("IssuerIdentifier", or_none(&self.issuer_identifier)),
            ("ApplicationIdentifier", or_none(&self.application_identifier)),
            ("Realm", or_none(&self.realm)),
            ("TokenIssuingEndpoint", or_none(&self.token_issuing_endpoint)),
        ];
        let others =
            self.endpoints.iter().filter(|it| Some(&it.location) != self.token_issuing_endpoint.as_ref());
        fields.extend(
            others.map(|it| ("Endpoint", format!("{} ({}, {})", it.location, it.protocol, it.usage))),
        );
        fields.extend(self.certificate_thumbprints.iter().map(|it| ("CertificateThumbprint", it.clone())));
        fields.push(("FetchedAt", fetched_at));
        fields.extend(self.trouble.iter().map(|trouble| ("Trouble", trouble.clone())));
        fields
    }
}

fn list(store: &dyn Store, context: &mut Context) -> Result<(), Failure> {
    let all: Vec<_> = store.auth_servers()?.iter().map(ServerOutput::of).collect();
    if context.screen.is_json {
        return Ok(context.screen.json(&all)?);
    }
    if all.is_empty() {
        return document::tell_none("auth server; `mailbadge auth server add` adds one", context);
    }
    for (index, output) in all.iter().enumerate() {
        if index > 0 {
            context.screen.line("")?;
        }
        context.screen.fields(&output.fields())?;
    }
    Ok(())
}

fn show(server: &AuthServer, what_if: Option<Vec<String>>, context: &mut Context) -> Result<(), Failure> {
    let output = ServerOutput { what_if, ..ServerOutput::of(server) };
    if context.screen.is_json {
        return Ok(context.screen.json(&output)?);
    }
    Ok(context.screen.fields(&output.fields())?)
}

fn what_if_shown(
    server: &AuthServer,
    differences: Vec<String>,
    context: &mut Context,
) -> Result<(), Failure> {
    change::tell(&differences, context)?;
    show(server, Some(differences), context)
}
