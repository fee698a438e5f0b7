//! The peers on real sockets: HTTPS, IMAP, the page, the control API.
//!
//! [`start`] brings everything up in this process and hands back where it is; `mailbadge-sim serve` does only that.

pub mod certificates;
pub mod clock;
mod control;
mod events;
mod faulty_stream;
pub mod imap;
mod documents;
mod https;
mod page;
pub mod notifiers;
mod world;

pub use world::World;

use crate::peers::fault::Peer;
use crate::peers::mail_store::MailStore;
use crate::peers::relay::{Relay, Settings};
use crate::peers::tenant::credential::CredentialError;
use crate::peers::tenant::{Tenant, TenantError};
use crate::peers::token_service::keys::Keys;
use crate::peers::token_service::{self, METADATA_PATH, TokenService};
use certificates::{CertificateFiles, Certificates};
use documents::Reader;
use https::{Door, Listener};
use imap::ImapListener;
use notifiers::Notifiers;
use parking_lot::Mutex;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Why the servers could not come up or do as they were told.
#[derive(Debug, Error)]
pub enum ServeError {
    /// An address that cannot be listened on.
    #[error("cannot listen on {address} for {what}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The server.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// A file that cannot be read, written or understood.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS refused what it was given.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A key of a form that TLS does not know.
    #[error("a key that cannot be used: {0}")]
    Key(&'static str),
    /// The certificate was given from outside, so a new one has to be given too.
    #[error("the certificate was given as files: name the files of the new one")]
    NoAuthority,
    /// A tenant that was not taken.
    #[error(transparent)]
    Tenant(#[from] TenantError),
    /// A signing key that is none.
    #[error("a signing key that cannot be used: {0}")]
    SigningKey(#[from] CredentialError),
    /// Who is told of changes cannot be.
    #[error("cannot tell anybody of changes: {0}")]
    Tell(std::io::Error),
    /// A listener did not come up or go down.
    #[error("the listener at {0} did not {1} in time; is another process on its port?")]
    Switch(SocketAddr, &'static str),
}

impl ServeError {
    fn file(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::File { path: path.to_owned(), error: error.to_string() }
    }
}

/// What to bring up. Port 0 means any free one.
#[derive(Clone)]
pub struct Options {
    /// Where the relay listens.
    pub relay_listen: SocketAddr,
    /// Where the token service listens.
    pub token_service_listen: SocketAddr,
    /// Where the page and the control API listen. They trust whoever reaches them: loopback.
    pub page_listen: SocketAddr,
    /// Keeps the authority's certificate and key; without it they are made anew in a temporary directory.
    pub state_dir: Option<PathBuf>,
    /// The relay's certificate; without it one of our own authority is made.
    pub certificate: Option<CertificateFiles>,
    /// How the relay is set up.
    pub relay: Settings,
    /// How the token service is set up.
    pub token_service: token_service::Settings,
    /// Whom both know from the start. Who names no token service trusts this one, by its document.
    pub tenants: Vec<Tenant>,
    /// Further authorities, in PEM, of servers whose metadata documents are read.
    pub document_ca_files: Vec<PathBuf>,
    /// The mail host, where there is one.
    pub mail_store: Option<Arc<Mutex<MailStore>>>,
    /// How the mail host's IMAP server listens.
    pub imap: imap::Options,
    /// Whether the IMAP server protects connections; then it shows the relay's certificate.
    pub imap_tls: ImapTls,
    /// Who is told of the mail host's changes.
    pub tell: notifiers::Options,
    /// Decides which requests a fault hits.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        let any_free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            relay_listen: any_free,
            token_service_listen: any_free,
            page_listen: any_free,
            state_dir: None,
            certificate: None,
            relay: Settings::default(),
            token_service: token_service::Settings::default(),
            tenants: Vec::new(),
            document_ca_files: Vec::new(),
            mail_store: None,
            imap: imap::Options::default(),
            imap_tls: ImapTls::None,
            tell: notifiers::Options::default(),
            seed: 0,
        }
    }
}

/// How IMAP connections are protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImapTls {
    /// Not at all.
    #[default]
    None,
    /// Plain at first, log-in after STARTTLS.
    StartTls,
    /// From the first byte.
    Implicit,
}

/// The servers while they run. Dropping it stops them at once.
pub struct Running {
    /// Base URL for an agent's `proxy enable --uri`, ending in `/PushNotifications`.
    pub relay_url: String,
    /// Base URL of the token service.
    pub token_service_url: String,
    /// The page; the control API is below it at `/control`.
    pub page_url: String,
    /// Where the IMAP server listens, where there is a mail host.
    pub imap_addr: Option<SocketAddr>,
    /// What an agent must trust (`ca-file`).
    pub ca_pem_path: PathBuf,
    /// Everything, to look at and to change from inside the process.
    pub world: Arc<World>,
    /// The IMAP server, where there is a mail host.
    pub imap: Option<ImapListener>,
    tasks: Vec<JoinHandle<()>>,
    // Removed with everything in it when the servers stop.
    _temporary: Option<tempfile::TempDir>,
}

impl Running {
    /// What an agent is given as `--auth-metadata-url`, of a tenant's GUID or domain.
    pub fn auth_metadata_url(&self, realm: &str) -> String {
        self.world.auth_metadata_url(realm)
    }

    /// Ends all servers and their connections.
    pub async fn stop(mut self) {
        if let Some(imap) = self.imap.take() {
            imap.stop().await;
        }
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            // Aborted is how it shall end.
            let _ = task.await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Brings everything up; it is reachable when this returns, and documents that trust comes from were read or tried.
pub async fn start(options: Options) -> Result<Running, ServeError> {
    let (state_dir, temporary) = state_dir(options.state_dir.clone())?;
    let certificates = Certificates::open(&state_dir, options.certificate.as_ref())?;
    let acceptor = TlsAcceptor::from(certificates.server_config(&["h2", "http/1.1"])?);
    let reader = Reader::new(&certificates, &options.document_ca_files)?;
    let (relay_listener, relay_address) = bind(options.relay_listen, "the relay").await?;
    let (issuing_listener, issuing_address) = bind(options.token_service_listen, "the token service").await?;
    let (page_listener, page_address) = bind(options.page_listen, "the page").await?;

    let mut settings = options.relay;
    let authorization_uri = || format!("https://{issuing_address}/common/oauth2/authorize");
    settings.authorization_uri.get_or_insert_with(authorization_uri);
    let keys = Keys::new(certificates::signing_key()?);
    let ca_pem_path = certificates.ca_pem_path.clone();
    let imap = match &options.mail_store {
        Some(store) => Some(start_imap(options.imap, options.imap_tls, &certificates, Arc::clone(store))?),
        None => None,
    };
    let (notifiers, mut tasks) = match &options.mail_store {
        Some(store) => Notifiers::start(options.tell, store, options.seed).map_err(ServeError::Tell)?,
        None => Default::default(),
    };
    let world = Arc::new(World::new(
        (Relay::new(settings, options.seed), Door::new(relay_address)),
        (TokenService::new(options.token_service, keys, options.seed), Door::new(issuing_address)),
        (options.mail_store, notifiers),
        certificates,
        reader,
    ));
    for tenant in options.tenants {
        world.put_tenant(world.trusting_own_token_service(tenant))?;
    }
    tasks.push(tokio::spawn(page::serve(page_listener, control::router(Arc::clone(&world)))));
    tasks.push(tokio::spawn(documents::keep_reading(Arc::clone(&world))));
    for (peer, listener) in [(Peer::Relay, relay_listener), (Peer::TokenService, issuing_listener)] {
        let server = Listener { peer, world: Arc::clone(&world), acceptor: acceptor.clone() };
        tasks.push(tokio::spawn(server.run(listener)));
    }
    world.read_due_documents().await;
    Ok(Running {
        relay_url: world.relay_url(),
        token_service_url: world.token_service_url(),
        page_url: format!("http://{page_address}/"),
        imap_addr: imap.as_ref().map(ImapListener::address),
        ca_pem_path,
        world,
        imap,
        tasks,
        _temporary: temporary,
    })
}

fn start_imap(
    options: imap::Options,
    tls: ImapTls,
    certificates: &Certificates,
    store: Arc<Mutex<MailStore>>,
) -> Result<ImapListener, ServeError> {
    let config = certificates.server_config(&[])?;
    let tls = match tls {
        ImapTls::None => imap::Tls::None,
        ImapTls::StartTls => imap::Tls::StartTls(config),
        ImapTls::Implicit => imap::Tls::Implicit(config),
    };
    let address = options.listen;
    ImapListener::start(imap::Options { tls, ..options }, store).map_err(|error| ServeError::Listen {
        address,
        what: "IMAP",
        error,
    })
}

fn state_dir(given: Option<PathBuf>) -> Result<(PathBuf, Option<tempfile::TempDir>), ServeError> {
    if let Some(path) = given {
        std::fs::create_dir_all(&path).map_err(|e| ServeError::file(&path, e))?;
        return Ok((path, None));
    }
    let folder = tempfile::Builder::new().prefix("mailbadge-sim-").tempdir();
    let folder = folder.map_err(|e| ServeError::file(&std::env::temp_dir(), e))?;
    Ok((folder.path().to_owned(), Some(folder)))
}

async fn bind(address: SocketAddr, what: &'static str) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |error| ServeError::Listen { address, what, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

#[cfg(test)]
mod tests;
