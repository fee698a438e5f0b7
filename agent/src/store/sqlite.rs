//! The store in one SQLite file, shared by the daemon and the command line: WAL, `synchronous=FULL`.
//!
//! What to store and when is decided elsewhere. A damaged or newer file is refused and left as it is.

mod backup;
mod auth_config;
mod auth_server;
mod certificate;
mod connection;
mod create;
mod log;
mod partner;
mod process;
mod proxy;
mod subscription;

use super::checksum::{Fault, TABLES};
use super::{Proxy, ProxyChange, Store, StoreError, UpsertOutcome, keys, schema};
use crate::event::SubscriptionKey;
use crate::files::driver::owner_only;
use crate::identity::auth_config::AuthConfig;
use crate::identity::certificate::StoredCertificate;
use crate::identity::partner::{AuthServer, PartnerApplication};
use crate::subscription::{Added, NewSubscription, Subscription};
use crate::time::UnixMs;
use connection::{connect, data_version, described};
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use secrecy::SecretString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// How long a call waits for another process's write before it says [`StoreError::Locked`].
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// The database's name under `state-dir`.
const FILE_NAME: &str = "mailbadge.db";

/// The store under one state directory.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    certificates_dir: PathBuf,
    connection: Mutex<Inner>,
    /// What was found damaged, once something was: nothing is read or written any more, until it was seen to.
    damage: OnceLock<String>,
}

#[derive(Debug)]
struct Inner {
    db: Connection,
    /// `PRAGMA data_version` when last asked: it moves with other connections' commits only.
    data_version: i64,
}

impl SqliteStore {
    /// Opens the store under `state_dir`. Makes nothing: where it is missing something is wrong, and an empty one in its
    /// place would hide that.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(FILE_NAME);
        if !path.exists() {
            create::refuse_orphaned_log(&path)?;
            return Err(StoreError::Missing { path });
        }
        owner_only(state_dir)?;
        Self::open_file(state_dir, path)
    }

    /// The same, but makes folder and database where there is nothing yet; `now` dates what is made.
    pub fn open_or_create(state_dir: &Path, now: UnixMs) -> Result<Self, StoreError> {
        keys::private_dir(state_dir)?;
        let path = state_dir.join(FILE_NAME);
        if !path.exists() {
            create::database(state_dir, &path, now)?;
        }
        Self::open_file(state_dir, path)
    }

    fn open_file(state_dir: &Path, path: PathBuf) -> Result<Self, StoreError> {
        owner_only(&path)?;
        let mut db = connect(&path)?;
        let opened = connection::open(&path, &mut db).and_then(|()| Ok(data_version(&db)?));
        let data_version = opened.map_err(|fault| described(&path, fault))?;
        let certificates_dir = state_dir.join("certificates");
        let connection = Mutex::new(Inner { db, data_version });
        Ok(Self { path, certificates_dir, connection, damage: OnceLock::new() })
    }

    /// Whether there is a store under `state_dir`.
    pub fn exists(state_dir: &Path) -> bool {
        state_dir.join(FILE_NAME).exists()
    }

    /// Reads all that is stored, with its checksums and totals: for a daemon's start, not for every command.
    pub fn verify_rows(&self) -> Result<(), StoreError> {
        self.read(|db| TABLES.iter().try_for_each(|table| table.verify_rows(db)))
    }

    /// Reads the whole file for damage that rows do not show: trees, indexes, free pages. It does so by a connection of
    /// its own, so that a daemon works meanwhile; what is found ends all further reading and writing.
    pub fn verify_trees(&self) -> Result<(), StoreError> {
        let db = connect(&self.path)?;
        self.noticed(schema::verify_trees(&db))
    }

    /// Both.
    pub fn verify(&self) -> Result<(), StoreError> {
        self.verify_trees().and_then(|()| self.verify_rows())
    }

    /// Bytes of the database, its log aside.
    pub fn size(&self) -> u64 {
        self.path.metadata().map_or(0, |file| file.len())
    }

    /// The database's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `question` reads is of one moment: rows and their totals.
    fn read<T>(&self, question: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, StoreError> {
        let inner = self.whole()?.lock();
        let snapshot = inner.db.unchecked_transaction().map_err(Fault::from);
        self.noticed(snapshot.and_then(|snapshot| question(&snapshot)))
    }

    /// Takes the write lock at once, so that what `change` reads is still so when it writes.
    fn write<T>(&self, change: impl FnOnce(&Transaction) -> Result<T, Fault>) -> Result<T, StoreError> {
        let mut inner = self.whole()?.lock();
        let transaction = inner.db.transaction_with_behavior(TransactionBehavior::Immediate);
        let done = transaction.map_err(Fault::from).and_then(|transaction| {
            let done = change(&transaction)?;
            transaction.commit()?;
            Ok(done)
        });
        let done = self.noticed(done)?;
        log::fold_in(&inner.db, LOCK_TIMEOUT);
        Ok(done)
    }

    /// The connection, as long as no damage was found.
    fn whole(&self) -> Result<&Mutex<Inner>, StoreError> {
        match self.damage.get() {
            Some(cause) => Err(StoreError::Damaged { path: self.path.clone(), cause: cause.clone() }),
            None => Ok(&self.connection),
        }
    }

    /// Remembers damage: on what is damaged nothing is written.
    fn noticed<T>(&self, outcome: Result<T, Fault>) -> Result<T, StoreError> {
        outcome.map_err(|fault| {
            let error = described(&self.path, fault);
            if let StoreError::Damaged { cause, .. } = &error {
                // The first word stays.
                self.damage.set(cause.clone()).ok();
            }
            error
        })
    }
}

impl Drop for SqliteStore {
    /// The last one who closes a database folds its log in, unless that is damaged.
    fn drop(&mut self) {
        if self.damage.get().is_some() {
            connection::leave_log(&self.connection.get_mut().db).ok();
        }
    }
}

impl Store for SqliteStore {
    fn add(&self, new: &[NewSubscription]) -> Result<Vec<Added>, StoreError> {
        self.write(|db| subscription::add(db, new))
    }

    fn remove(&self, keys: &[SubscriptionKey]) -> Result<Vec<SubscriptionKey>, StoreError> {
        self.write(|db| subscription::remove(db, keys))
    }

    fn subscriptions(&self, mailbox: Option<&str>) -> Result<Vec<Subscription>, StoreError> {
        self.read(|db| subscription::list(db, mailbox))
    }

    fn each_subscription(&self, see: &mut dyn FnMut(Subscription)) -> Result<(), StoreError> {
        self.read(|db| subscription::each(db, see))
    }

    fn expire(&self, now: UnixMs) -> Result<Vec<SubscriptionKey>, StoreError> {
        self.write(|db| subscription::expire(db, now))
    }

    fn record_shown(&self, shown: &[(SubscriptionKey, Option<u32>)]) -> Result<(), StoreError> {
        self.write(|db| subscription::record_shown(db, shown))
    }

    fn proxy(&self) -> Result<Proxy, StoreError> {
        self.read(proxy::read)
    }

    fn change_proxy(&self, change: &ProxyChange, now: UnixMs) -> Result<Proxy, StoreError> {
        self.write(|db| proxy::change(db, change, now))
    }

    fn certificates(&self) -> Result<Vec<StoredCertificate>, StoreError> {
        self.read(certificate::list)
    }

    fn add_certificate(&self, certificate: &StoredCertificate, key: &SecretString) -> Result<(), StoreError> {
        // The key first: a row whose key is missing would be a certificate nobody can sign with.
        keys::write(&self.certificates_dir, &certificate.thumbprint, key)?;
        self.write(|db| certificate::add(db, certificate))
    }

    fn remove_certificate(&self, thumbprint: &str) -> Result<bool, StoreError> {
        let is_removed = self.write(|db| certificate::remove(db, thumbprint))?;
        if is_removed {
            keys::remove(&self.certificates_dir, thumbprint)?;
        }
        Ok(is_removed)
    }

    fn private_key(&self, thumbprint: &str) -> Result<SecretString, StoreError> {
        let kept = self.read(certificate::list)?.into_iter().find(|kept| kept.thumbprint == thumbprint);
        let kept = kept.ok_or_else(|| StoreError::NoCertificate { thumbprint: thumbprint.to_owned() })?;
        keys::read(&self.certificates_dir, &kept)
    }

    fn auth_config(&self) -> Result<AuthConfig, StoreError> {
        self.read(auth_config::read)
    }

    fn replace_auth_config(&self, before: &AuthConfig, after: &AuthConfig) -> Result<bool, StoreError> {
        let unknown = self.read(|db| auth_config::unknown_certificate(db, after))?;
        if let Some(thumbprint) = unknown {
            return Err(StoreError::NoCertificate { thumbprint });
        }
        self.write(|db| auth_config::replace(db, before, after))
    }

    fn begin(&self, now: UnixMs) -> Result<UnixMs, StoreError> {
        self.write(|db| process::begin(db, now))
    }

    fn auth_servers(&self) -> Result<Vec<AuthServer>, StoreError> {
        self.read(auth_server::list)
    }

    fn keep_auth_server(&self, server: &AuthServer) -> Result<UpsertOutcome, StoreError> {
        self.write(|db| auth_server::keep(db, server))
    }

    fn keep_auth_document(&self, of: &AuthServer, document: &[u8], at: UnixMs) -> Result<bool, StoreError> {
        self.write(|db| auth_server::keep_document(db, of, document, at))
    }

    fn remove_auth_server(&self, name: &str) -> Result<bool, StoreError> {
        self.write(|db| auth_server::remove(db, name))
    }

    fn partners(&self) -> Result<Vec<PartnerApplication>, StoreError> {
        self.read(partner::list)
    }

    fn add_partner(&self, partner: &PartnerApplication) -> Result<bool, StoreError> {
        self.write(|db| partner::add(db, partner))
    }

    fn remove_partner(&self, name: &str) -> Result<bool, StoreError> {
        self.write(|db| partner::remove(db, name))
    }

    fn changed_elsewhere(&self) -> Result<bool, StoreError> {
        let mut inner = self.whole()?.lock();
        let version = self.noticed(data_version(&inner.db).map_err(Fault::from))?;
        let is_changed = inner.data_version != version;
        inner.data_version = version;
        Ok(is_changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_767_268_500_000);

    #[test]
    fn a_lock_that_another_process_holds_too_long_is_named_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let (ours, other) = (
            SqliteStore::open_or_create(&state, NOW).unwrap(),
            SqliteStore::open_or_create(&state, NOW).unwrap(),
        );
        ours.connection.lock().db.busy_timeout(Duration::from_millis(20)).unwrap();
        other.connection.lock().db.execute_batch("BEGIN IMMEDIATE").unwrap();
        let error = ours.change_proxy(&ProxyChange::default(), NOW).unwrap_err();
        assert!(matches!(error, StoreError::Locked { .. }), "{error}");
        assert!(ours.proxy().is_ok(), "reading goes on beside a writer");
        other.connection.lock().db.execute_batch("ROLLBACK").unwrap();
        assert!(ours.change_proxy(&ProxyChange::default(), NOW).is_ok());
    }

    #[test]
    fn a_full_disk_is_an_error_and_what_was_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open_or_create(&dir.path().join("state"), NOW).unwrap();
        let pages: i64 =
            store.read(|db| Ok(db.query_row("PRAGMA page_count", [], |row| row.get(0))?)).unwrap();
        store.read(|db| Ok(db.pragma_update(None, "max_page_count", pages)?)).unwrap();
        let uri = Some("u".repeat(100_000));
        let error = store.change_proxy(&ProxyChange { uri, ..ProxyChange::default() }, NOW).unwrap_err();
        assert!(error.to_string().contains("full"), "{error}");
        assert_eq!(store.proxy().unwrap().uri, crate::store::DEFAULT_PROXY_URI);
    }
}
