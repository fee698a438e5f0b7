//! What survives a restart: subscriptions with what devices show, the proxy, certificates, whom tokens are about; and in
//! [`notes`], what is in doubt.
//!
//! The trait speaks the domain's words in batches; SQL stands in `sqlite` and nowhere else. Rules about what is
//! stored (validation, expiry spans, which certificate fits) belong to `subscription` and `identity`.
//! Layout under `state-dir` (0700): `mailbadge.db` (0600, with its `-wal` and `-shm`),
//! `certificates/<THUMBPRINT>.key` (0600), a private key each.
//!
//! Nothing is read that was not stored: rows and tables have checksums ([`checksum`]), and damage ends all further reading
//! and writing of a process. A backup is the whole of it in one file.

pub mod notes;
pub mod doubt;
pub mod pages;
mod keys;
mod checksum;
mod schema;
mod sqlite;
#[cfg(test)]
mod tests;

pub use sqlite::{LOCK_TIMEOUT, SqliteStore};

use crate::event::SubscriptionKey;
use crate::files::FileError;
use crate::identity::auth_config::AuthConfig;
use crate::identity::certificate::StoredCertificate;
use crate::identity::partner::{AuthServer, PartnerApplication};
use crate::subscription::{Added, NewSubscription, Subscription};
use crate::time::UnixMs;
use secrecy::SecretString;
use std::path::{Path, PathBuf};

/// What is kept. Calls block for a disk's time and at most [`LOCK_TIMEOUT`]: not for tasks that must not wait.
///
/// A call that returned `Ok` is durable, [`Store::record_shown`] included.
pub trait Store: Send + Sync {
    /// Adds subscriptions, all or none, in the given order. One with the `subscription_id` of the same mailbox, or
    /// with the app and device of any mailbox, replaces the former registration: the device moved or renewed. What it
    /// reports to show is kept where the former one was known to show the same, and else counts as unknown.
    fn add(&self, new: &[NewSubscription]) -> Result<Vec<Added>, StoreError>;
    /// Removes these registrations; returns those that were there.
    fn remove(&self, keys: &[SubscriptionKey]) -> Result<Vec<SubscriptionKey>, StoreError>;
    /// Live and expired subscriptions of one mailbox or of all, by mailbox, the newest first.
    fn subscriptions(&self, mailbox: Option<&str>) -> Result<Vec<Subscription>, StoreError>;
    /// Shows `see` the subscriptions of all mailboxes one by one, in that order: nobody needs to hold those of a million.
    /// The store is busy meanwhile; `see` must not call it.
    fn each_subscription(&self, see: &mut dyn FnMut(Subscription)) -> Result<(), StoreError>;
    /// Removes what ended at or before `now`; returns what that was.
    fn expire(&self, now: UnixMs) -> Result<Vec<SubscriptionKey>, StoreError>;
    /// Sets what devices were last acknowledged to show. Keys that are gone are skipped, so that a count written
    /// behind never marks a renewed registration.
    fn record_shown(&self, shown: &[(SubscriptionKey, Option<u32>)]) -> Result<(), StoreError>;

    /// The proxy's state; there from the first start, disabled.
    fn proxy(&self) -> Result<Proxy, StoreError>;
    /// Changes what is given, and `changed_at` where that changes anything; returns the state after it.
    fn change_proxy(&self, change: &ProxyChange, now: UnixMs) -> Result<Proxy, StoreError>;

    /// All certificates, the newest added last.
    fn certificates(&self) -> Result<Vec<StoredCertificate>, StoreError>;
    /// Keeps a certificate with its private key (PKCS#8 PEM). Adding it again replaces friendly name and key.
    fn add_certificate(&self, certificate: &StoredCertificate, key: &SecretString) -> Result<(), StoreError>;
    /// Removes a certificate and its key; false: there was none. One that the auth config names cannot be removed.
    fn remove_certificate(&self, thumbprint: &str) -> Result<bool, StoreError>;
    /// The private key (PKCS#8 PEM) of a kept certificate, which it fits.
    fn private_key(&self, thumbprint: &str) -> Result<SecretString, StoreError>;
    /// Which certificates sign, signed and will sign; there from the first start, empty.
    fn auth_config(&self) -> Result<AuthConfig, StoreError>;
    /// Puts `after` where `before` still stands; false: somebody changed it meanwhile, and nothing was written. The
    /// certificates it names must be kept.
    fn replace_auth_config(&self, before: &AuthConfig, after: &AuthConfig) -> Result<bool, StoreError>;

    /// Begins a process: its start as it stands in notification ids, whole seconds. It is `now`, but at least a second
    /// after the last process's, whatever the clock says: devices take the newer process's word (protocol.md §6).
    fn begin(&self, now: UnixMs) -> Result<UnixMs, StoreError>;

    /// All auth servers, by name.
    fn auth_servers(&self) -> Result<Vec<AuthServer>, StoreError>;
    /// Keeps this auth server under its name; says what that changed. Where it brings no document, the one that is
    /// there stays as long as the URL does.
    fn keep_auth_server(&self, server: &AuthServer) -> Result<UpsertOutcome, StoreError>;
    /// Keeps a document that was fetched `at` then from the URL of this auth server. False: the one of that name is
    /// gone or has another URL by now, and nothing was written.
    fn keep_auth_document(&self, of: &AuthServer, document: &[u8], at: UnixMs) -> Result<bool, StoreError>;
    /// Removes an auth server; false: there was none of that name.
    fn remove_auth_server(&self, name: &str) -> Result<bool, StoreError>;

    /// All partner applications, by name.
    fn partners(&self) -> Result<Vec<PartnerApplication>, StoreError>;
    /// Adds a partner application; false: its name or its principal is taken, and nothing was written.
    fn add_partner(&self, partner: &PartnerApplication) -> Result<bool, StoreError>;
    /// Removes a partner application; false: there was none of that name.
    fn remove_partner(&self, name: &str) -> Result<bool, StoreError>;

    /// Whether anybody else, the command line, wrote since this was last asked. Cheap: a second's rhythm is fine.
    fn changed_elsewhere(&self) -> Result<bool, StoreError>;
}

/// The proxy's state (protocol.md §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Whether batches are sent at all.
    pub is_enabled: bool,
    /// `Organization`, a DNS domain; `None` until first given.
    pub organization: Option<String>,
    /// `Uri`, base of the relay's URL.
    pub uri: String,
    /// `Guid`, made at the first start, lower-case and hyphenated.
    pub guid: String,
    /// `WhenCreated`.
    pub created_at: UnixMs,
    /// `WhenChanged`.
    pub changed_at: UnixMs,
}

/// The file under `state-dir` that a daemon holds locked as long as it runs.
pub const DAEMON_LOCK: &str = "daemon.lock";

/// `Uri` of a proxy that was never given one (protocol.md §1.1).
pub const DEFAULT_PROXY_URI: &str = "https://outlook.office365.com/PushNotifications";

/// A change of the proxy: what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyChange {
    /// `Enabled`.
    pub is_enabled: Option<bool>,
    /// `Organization`.
    pub organization: Option<String>,
    /// `Uri`.
    pub uri: Option<String>,
}

impl ProxyChange {
    /// The state that this change would lead to, dates aside.
    #[must_use]
    pub fn applied_to(&self, proxy: &Proxy) -> Proxy {
        Proxy {
            is_enabled: self.is_enabled.unwrap_or(proxy.is_enabled),
            organization: self.organization.clone().or_else(|| proxy.organization.clone()),
            uri: self.uri.clone().unwrap_or_else(|| proxy.uri.clone()),
            ..proxy.clone()
        }
    }
}

/// What is in a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Subscriptions, ended ones among them.
    pub subscriptions: i64,
    /// Certificates.
    pub certificates: i64,
    /// Private keys; fewer than certificates where one was taken away.
    pub private_keys: i64,
    /// Auth servers.
    pub auth_servers: i64,
    /// Partner applications.
    pub partners: i64,
}

/// What keeping something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpsertOutcome {
    /// There was none of that name.
    Created,
    /// The one of that name was different.
    Corrected,
    /// It was there already.
    Unchanged,
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file of ours is open to others.
    #[error(transparent)]
    Permission(#[from] FileError),
    /// The operating system refused.
    #[error("{path}: {cause}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        cause: std::io::Error,
    },
    /// There is no database.
    #[error("{path}: there is no database; run `mailbadge setup`, or restore a backup with `mailbadge restore`", path = .path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// Written by a newer mailbadge.
    #[error("{path}: has schema {found}, this mailbadge knows up to {known}; use the newer mailbadge that wrote it", path = .path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Written by an older mailbadge, which still runs.
    #[error("{path}: an older mailbadge runs on it; restart the daemon, which brings the database up to date", path = .path.display())]
    OlderDaemon {
        /// The database.
        path: PathBuf,
    },
    /// Not a database of ours, or torn. It is left as it is.
    #[error("{path}: damaged or not a mailbadge database ({cause}); it was left untouched: restore a backup with `mailbadge restore --replace FILE`, or move it away and run `mailbadge setup`", path = .path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        cause: String,
    },
    /// A database is where a backup was to be restored.
    #[error("{path}: there is a database already; give --replace to move it aside", path = .path.display())]
    Occupied {
        /// The database.
        path: PathBuf,
    },
    /// A file that is no backup, or no whole one. Nothing was restored.
    #[error("{path}: damaged, or no backup of mailbadge ({cause}); nothing was changed: restore another one", path = .path.display())]
    NoBackup {
        /// The file.
        path: PathBuf,
        /// What was found.
        cause: String,
    },
    /// A private key that cannot be the one that was stored.
    #[error("{path}: damaged ({cause}); restore a backup with `mailbadge restore --replace FILE`, or make another certificate with `mailbadge certificate new` and have it sign with `mailbadge auth config set`", path = .path.display())]
    DamagedKey {
        /// The key's file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// Another process held the write lock too long.
    #[error("{path}: locked by another process; try again", path = .path.display())]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// No certificate of this thumbprint.
    #[error("no certificate {thumbprint}; `mailbadge certificate list` shows which there are")]
    NoCertificate {
        /// The one asked for.
        thumbprint: String,
    },
    /// Anything else that the database said: full disk, read-only file system.
    #[error("{path}: {cause}", path = .path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What it said.
        cause: rusqlite::Error,
    },
}

impl StoreError {
    /// Whether something is not what was stored.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::DamagedKey { .. })
    }

    /// Whether a file is missing.
    fn is_not_found(&self) -> bool {
        let (Self::Permission(FileError::Io { cause, .. }) | Self::Io { cause, .. }) = self else {
            return false;
        };
        cause.kind() == std::io::ErrorKind::NotFound
    }
}

/// Makes the state directory where there is none; one that others can enter is refused.
pub fn make_state_dir(path: &Path) -> Result<(), StoreError> {
    keys::private_dir(path)
}

/// Gives a file that root made in the state directory to the directory's owner.
pub fn belong_to_owner_of(state_dir: &Path, file: &Path) -> Result<(), StoreError> {
    keys::belong_to_owner_of(state_dir, file).map_err(|cause| StoreError::Io { path: file.to_owned(), cause })
}
