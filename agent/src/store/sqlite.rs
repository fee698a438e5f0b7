//! The store in one SQLite file, shared by the daemon and the command line: WAL, `synchronous=FULL`.
//!
//! What to store and when is decided elsewhere. A damaged or newer file is refused and left as it is.

mod auth_config;
mod auth_server;
mod certificate;
mod create;
mod partner;
mod process;
mod proxy;
mod subscription;

use super::{Proxy, ProxyChange, Store, StoreError, UpsertOutcome, keys, schema};
use crate::event::SubscriptionKey;
use crate::files::driver::owner_only;
use crate::identity::auth_config::AuthConfig;
use crate::identity::certificate::StoredCertificate;
use crate::identity::partner::{AuthServer, PartnerApplication};
use crate::subscription::{Added, NewSubscription, Subscription};
use crate::time::UnixMs;
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use secrecy::SecretString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a call waits for another process's write before it says [`StoreError::Locked`].
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// The database's name under `state-dir`.
const FILE_NAME: &str = "mailbadge.db";

/// Statements kept prepared.
const STATEMENTS_MAX: usize = 32;

/// The store under one state directory.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    certificates_dir: PathBuf,
    connection: Mutex<Inner>,
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
        let at = |cause| described(&path, cause);
        let mut db = connect(&path)?;
        refuse_unknown(&path, &db)?;
        configure(&db).map_err(at)?;
        schema::migrate(&mut db, |_| Ok(())).map_err(at)?;
        let data_version = data_version(&db).map_err(at)?;
        let certificates_dir = state_dir.join("certificates");
        Ok(Self { path, certificates_dir, connection: Mutex::new(Inner { db, data_version }) })
    }

    /// Whether there is a store under `state_dir`.
    pub fn exists(state_dir: &Path) -> bool {
        state_dir.join(FILE_NAME).exists()
    }

    /// Reads the whole file for damage that opening does not meet. Some 100 ms per 100,000 subscriptions: for the
    /// daemon's start, not for every command.
    pub fn verify(&self) -> Result<(), StoreError> {
        let found: String = self.read(|db| db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)))?;
        if found == "ok" {
            Ok(())
        } else {
            Err(StoreError::Damaged { path: self.path.clone(), cause: found })
        }
    }

    /// The database's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read<T>(&self, question: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        question(&self.connection.lock().db).map_err(|cause| described(&self.path, cause))
    }

    /// Takes the write lock at once, so that what `change` reads is still so when it writes.
    fn write<T>(&self, change: impl FnOnce(&Transaction) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut inner = self.connection.lock();
        let done =
            inner.db.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|transaction| {
                let done = change(&transaction)?;
                transaction.commit()?;
                Ok(done)
            });
        done.map_err(|cause| described(&self.path, cause))
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
        let is_kept = self.read(|db| certificate::is_kept(db, thumbprint))?;
        if !is_kept {
            return Err(StoreError::NoCertificate { thumbprint: thumbprint.to_owned() });
        }
        keys::read(&self.certificates_dir, thumbprint)
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
        let mut inner = self.connection.lock();
        let version = data_version(&inner.db).map_err(|cause| described(&self.path, cause))?;
        let is_changed = inner.data_version != version;
        inner.data_version = version;
        Ok(is_changed)
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(|cause| described(path, cause))?;
    db.busy_timeout(LOCK_TIMEOUT).map_err(|cause| described(path, cause))?;
    Ok(db)
}

fn refuse_unknown(path: &Path, db: &Connection) -> Result<(), StoreError> {
    let path = path.to_owned();
    if path.metadata().is_ok_and(|metadata| metadata.len() == 0) {
        return Err(StoreError::Damaged { path, cause: "the file is empty".to_owned() });
    }
    match schema::look(db).map_err(|cause| described(&path, cause))? {
        schema::Found::Version(found) if found > schema::VERSION => {
            Err(StoreError::Newer { path, found, known: schema::VERSION })
        }
        schema::Found::Version(_) => Ok(()),
        schema::Found::Foreign => {
            Err(StoreError::Damaged { path, cause: "the database of another program".to_owned() })
        }
    }
}

fn configure(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", true)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(())
}

fn data_version(db: &Connection) -> rusqlite::Result<i64> {
    db.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

fn described(path: &Path, cause: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match cause.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked { path },
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::Damaged { path, cause: cause.to_string() }
        }
        _ => StoreError::Database { path, cause },
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
        let (ours, other) =
            (SqliteStore::open_or_create(&state, NOW).unwrap(), SqliteStore::open_or_create(&state, NOW).unwrap());
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
        let pages: i64 = store.read(|db| db.query_row("PRAGMA page_count", [], |row| row.get(0))).unwrap();
        store.read(|db| db.pragma_update(None, "max_page_count", pages)).unwrap();
        let uri = Some("u".repeat(100_000));
        let error = store.change_proxy(&ProxyChange { uri, ..ProxyChange::default() }, NOW).unwrap_err();
        assert!(error.to_string().contains("full"), "{error}");
        assert_eq!(store.proxy().unwrap().uri, crate::store::DEFAULT_PROXY_URI);
    }
}
