//! `mailbadge-sim serve`: from arguments to running servers, until a signal ends it.

use crate::peers::mail_store::MailStore;
use crate::peers::relay::{EXCHANGE_APPLICATION_ID, Profile, Settings};
use crate::peers::tenant::credential::KeyCredential;
use crate::peers::tenant::{Issuer, Tenant};
use crate::peers::token_service;
use crate::serve::certificates::CertificateFiles;
use crate::serve::notifiers::{self, DictAddress};
use crate::serve::{ImapTls, Options, Running, imap, start};
use anyhow::Context as _;
use clap::Args;
use parking_lot::Mutex;
use serde_json::json;
use std::io::{IsTerminal as _, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;

/// Where the token service listens unless told otherwise.
const TOKEN_SERVICE_PORT: u16 = 9944;
/// The tenant that is there from the start.
const TENANT_DEFAULT: &str = "11111111-2222-3333-4444-555555555555";

#[derive(Args)]
pub(super) struct ServeArgs {
    /// Where the relay listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9943")]
    relay: SocketAddr,
    /// Where the token service listens; unless given on port 9944, or on a free one where the relay does.
    #[arg(long, value_name = "ADDRESS")]
    token_service: Option<SocketAddr>,
    /// How long its tokens live.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
    token_life: Duration,
    /// Where page and control API listen. They trust whoever reaches them.
    #[arg(long, value_name = "ADDRESS", default_value = super::CONTROL_DEFAULT)]
    page: SocketAddr,
    /// An IMAP server with so many mailboxes.
    #[arg(long, value_name = "N")]
    mail_store: Option<usize>,
    /// Where the IMAP server listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9143")]
    imap: SocketAddr,
    /// Tells a dict server there of every change, as Dovecot does: a Unix socket, or host:port.
    #[arg(long, value_name = "PATH", requires = "mail_store")]
    tell_dict: Option<DictAddress>,
    /// Tells the notify socket there of every change, as Cyrus does.
    #[arg(long, value_name = "PATH", requires = "mail_store")]
    tell_cyrus: Option<PathBuf>,
    /// How IMAP connections are protected.
    #[arg(long, value_name = "HOW", default_value = "none")]
    imap_tls: Protection,
    /// The organization that the relay knows from the start; mailboxes are u1@DOMAIN and so on.
    #[arg(long, value_name = "DOMAIN", default_value = "fabrikam.com")]
    organization: String,
    /// The organization's tenant GUID.
    #[arg(long, value_name = "GUID", default_value = TENANT_DEFAULT)]
    tenant: String,
    /// A certificate that the organization's agent signs with: DER or PEM, as `certificate export` writes it.
    #[arg(long, value_name = "FILE")]
    credential: Vec<PathBuf>,
    /// The relay takes tokens of the token service only, none that the agent signed itself.
    #[arg(long)]
    no_direct_trust: bool,
    /// An authority in PEM, of a server whose metadata document the relay reads; may be given more than once.
    #[arg(long, value_name = "FILE")]
    document_ca: Vec<PathBuf>,
    /// Keeps the authority's certificate and key, so that trust outlives a restart.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The relay's certificate chain in PEM, instead of one of its own authority.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The key of --certificate in PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Keeps the limits of the real relay.
    #[arg(long)]
    office365: bool,
    /// Decides which requests a fault hits.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Says where everything is as one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Protection {
    None,
    Starttls,
    Implicit,
}

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let options = options(args)?;
    // Where this program is a part of another, that one may have a log already.
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(Level::INFO);
    _ = log.with_ansi(std::io::stderr().is_terminal()).try_init();
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let running = start(options).await?;
        announce(args, &running, &mut std::io::stdout())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        running.stop().await;
        Ok(())
    })
}

fn options(args: &ServeArgs) -> anyhow::Result<Options> {
    let mut partner = Issuer::new(EXCHANGE_APPLICATION_ID, &args.organization);
    let mut principal = Issuer::new(EXCHANGE_APPLICATION_ID, &args.tenant);
    for path in &args.credential {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        let credential = KeyCredential::read(&bytes).with_context(|| path.display().to_string())?;
        partner = partner.with(credential.clone());
        principal = principal.with(credential);
    }
    let tenant = Tenant {
        id: args.tenant.clone(),
        accepted_domains: vec![args.organization.clone()],
        partner_applications: if args.no_direct_trust { Vec::new() } else { vec![partner] },
        service_principals: vec![principal],
        ..Tenant::default()
    };
    let certificate = args.certificate.clone().zip(args.key.clone());
    let store = args.mail_store.map(|n| Arc::new(Mutex::new(MailStore::new(n, &args.organization))));
    Ok(Options {
        relay_listen: args.relay,
        token_service_listen: args.token_service.unwrap_or_else(|| {
            let port = if args.relay.port() == 0 { 0 } else { TOKEN_SERVICE_PORT };
            SocketAddr::new(args.relay.ip(), port)
        }),
        page_listen: args.page,
        state_dir: args.state_dir.clone(),
        certificate: certificate.map(|(certificate, key)| CertificateFiles { certificate, key }),
        relay: Settings {
            profile: if args.office365 { Profile::Office365 } else { Profile::Open },
            ..Settings::default()
        },
        token_service: token_service::Settings {
            token_life: args.token_life,
            ..token_service::Settings::default()
        },
        tenants: vec![tenant],
        document_ca_files: args.document_ca.clone(),
        mail_store: store,
        imap: imap::Options { listen: args.imap, seed: args.seed, ..imap::Options::default() },
        imap_tls: match args.imap_tls {
            Protection::None => ImapTls::None,
            Protection::Starttls => ImapTls::StartTls,
            Protection::Implicit => ImapTls::Implicit,
        },
        tell: notifiers::Options { dict: args.tell_dict.clone(), cyrus: args.tell_cyrus.clone() },
        seed: args.seed,
    })
}

/// Where everything is: for people, or one line for programs that wait for it.
fn announce(args: &ServeArgs, running: &Running, out: &mut impl Write) -> std::io::Result<()> {
    if args.json {
        let places = json!({
            "relayUrl": running.relay_url,
            "tokenServiceUrl": running.token_service_url,
            "authMetadataUrl": running.auth_metadata_url(&args.organization),
            "pageUrl": running.page_url,
            "imap": running.imap_addr,
            "caFile": running.ca_pem_path,
            "organization": args.organization,
            "tenant": args.tenant,
        });
        writeln!(out, "{places}")?;
        return out.flush();
    }
    writeln!(out, "page     {}", running.page_url)?;
    writeln!(out, "relay    {}", running.relay_url)?;
    writeln!(out, "tokens   {}", running.auth_metadata_url(&args.organization))?;
    writeln!(out, "ca file  {}", running.ca_pem_path.display())?;
    if let (Some(address), Some(store)) = (running.imap_addr, &running.world.mail_store) {
        let store = store.lock();
        let credentials = store.credentials();
        writeln!(
            out,
            "imap     {address}, {} mailboxes, password {:?}",
            store.count(),
            credentials.password
        )?;
        if let Some(master) = &credentials.master {
            writeln!(
                out,
                "         master {}{}, password {:?}",
                master.separator, master.user, master.password
            )?;
        }
    }
    if let Some(address) = &args.tell_dict {
        writeln!(out, "told     {address}, as Dovecot's dict server")?;
    }
    if let Some(path) = &args.tell_cyrus {
        writeln!(out, "told     {}, as Cyrus's notify socket", path.display())?;
    }
    if args.credential.is_empty() {
        writeln!(
            out,
            "no certificate is trusted yet: mailbadge-sim tenant credential {} FILE",
            args.organization
        )?;
    }
    out.flush()
}
