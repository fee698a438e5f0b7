//! Backups: the whole state in one file, a database like the store's with the private keys in a table of its own. Made beside
//! a running daemon by SQLite's online backup, and checked wholly before it becomes the store.
//!
//! What devices show is the one thing that a backup cannot know: a restored store knows it of nobody.

use super::connection::{connect, described, refuse_header};
use super::{FILE_NAME, SqliteStore, certificate};
use crate::files::driver::{Trust, open};
use crate::identity::certificate::StoredCertificate;
use crate::store::checksum::{self, Fault, PRIVATE_KEY, SUBSCRIPTION, TABLES};
use crate::store::{Contents, Store, StoreError, keys, pages, schema};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, params};
use secrecy::{ExposeSecret, SecretString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const PRIVATE_KEYS: &str = "
    CREATE TABLE private_key (
        thumbprint TEXT    NOT NULL PRIMARY KEY,
        pem        TEXT    NOT NULL,
        checksum   INTEGER NOT NULL DEFAULT 0
    ) STRICT;
";

impl SqliteStore {
    /// Writes the whole state to the file at `path`, which is empty and this user's alone. The daemon goes on meanwhile.
    pub fn back_up(&self, path: &Path) -> Result<Contents, StoreError> {
        let mut found = Vec::new();
        for StoredCertificate { thumbprint, .. } in self.certificates()? {
            match self.private_key(&thumbprint) {
                Ok(key) => found.push((thumbprint, key)),
                Err(error) if error.is_not_found() => {
                    tracing::error!("{error}; the backup is made without it");
                }
                Err(error) => return Err(error),
            }
        }
        let mut db = connect(path)?;
        let copied = copy(&self.whole()?.lock().db, &mut db);
        // What is damaged there was damaged here.
        copied.and_then(|()| verified(&db, &TABLES)).map_err(|fault| described(&self.path, fault))?;
        let finish = |db: &Connection| {
            db.pragma_update(None, "journal_mode", "DELETE")?;
            db.execute_batch(PRIVATE_KEYS)?;
            for (thumbprint, key) in &found {
                let row = "INSERT INTO private_key (thumbprint, pem) VALUES (?1, ?2)";
                db.execute(row, params![thumbprint, key.expose_secret()])?;
            }
            PRIVATE_KEY.seal(db)?;
            checksum::SCHEMA.seal(db)?;
            contents(db)
        };
        finish(&db).map_err(|fault| described(path, fault))
    }

    /// Puts the backup at `from` in the place of the store under `state_dir`, which no daemon may use meanwhile. A database that
    /// is there is moved to a name that ends with `aside`; `None`: it is not touched, and that is an error. Nothing is changed
    /// before all of the backup was checked. Returns what it holds, and where the former database is now.
    pub fn restore(
        state_dir: &Path,
        from: &Path,
        aside: Option<&str>,
    ) -> Result<(Contents, Option<PathBuf>), StoreError> {
        keys::private_dir(state_dir)?;
        let path = state_dir.join(FILE_NAME);
        let is_there = path.exists();
        if is_there && aside.is_none() {
            return Err(StoreError::Occupied { path });
        }
        let neighbor =
            path.with_extension(format!("db.new-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        let done = (|| {
            fetch(state_dir, from, &neighbor)?;
            let (contents, found) = examine(from, &neighbor)?;
            for (thumbprint, key) in &found {
                keys::write(&state_dir.join("certificates"), thumbprint, key)?;
            }
            let former = aside.filter(|_| is_there).map(|aside| path.with_extension(format!("db.{aside}")));
            exchange(state_dir, &path, &neighbor, former.as_deref())
                .map_err(|cause| StoreError::Io { path: path.clone(), cause })?;
            pages::forget(state_dir)?;
            Ok((contents, former))
        })();
        // It took the place, or is worth nothing.
        fs::remove_file(&neighbor).ok();
        done
    }

    /// Checks a whole backup without restoring it, as [`SqliteStore::restore`] does first; the file is changed, so that it must be a copy.
    pub fn verify_backup(copy: &Path) -> Result<Contents, StoreError> {
        examine(copy, copy).map(|(contents, _)| contents)
    }
}

fn copy(from: &Connection, to: &mut Connection) -> Result<(), Fault> {
    match Backup::new(from, to)?.step(-1)? {
        StepResult::Done => Ok(()),
        _ => Err(Fault::Sql(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            None,
        ))),
    }
}

fn verified(db: &Connection, tables: &[&checksum::Table]) -> Result<(), Fault> {
    schema::verify_trees(db)?;
    tables.iter().try_for_each(|table| table.verify_rows(db))
}

fn contents(db: &Connection) -> Result<Contents, Fault> {
    Ok(Contents {
        subscriptions: SUBSCRIPTION.recorded(db)?.rows(),
        certificates: checksum::CERTIFICATE.recorded(db)?.rows(),
        private_keys: PRIVATE_KEY.recorded(db)?.rows(),
        auth_servers: checksum::AUTH_SERVER.recorded(db)?.rows(),
        partners: checksum::PARTNER.recorded(db)?.rows(),
    })
}

/// Copies the backup to where nobody changes it while it is checked.
fn fetch(state_dir: &Path, from: &Path, neighbor: &Path) -> Result<(), StoreError> {
    let mut source = open(from, Trust::Secret)?;
    let mut copied = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(neighbor)?;
        io::copy(&mut source, &mut file)?;
        keys::belong_to_owner_of(state_dir, neighbor)
    };
    copied().map_err(|cause| StoreError::Io { path: neighbor.to_owned(), cause })
}

/// Checks the backup and makes a store of it. Errors name the file that the person gave.
fn examine(from: &Path, copy: &Path) -> Result<(Contents, Vec<(String, SecretString)>), StoreError> {
    let mut db = connect(copy)?;
    let examined = refuse_header(copy).and_then(|()| {
        let found = read(&db)?;
        let contents = contents(&db)?;
        strip(&db)?;
        schema::migrate(&mut db, || Ok(()), |_| Ok(()))?;
        Ok((contents, found))
    });
    let examined = examined.map_err(|fault| match fault {
        Fault::Damage(cause) => StoreError::NoBackup { path: from.to_owned(), cause },
        other => described(from, other),
    })?;
    db.close().map_err(|(_, cause)| described(from, cause.into()))?;
    Ok(examined)
}

fn read(db: &Connection) -> Result<Vec<(String, SecretString)>, Fault> {
    // Neither in a journal nor on free pages: what is taken out was secret.
    db.pragma_update(None, "journal_mode", "MEMORY")?;
    db.pragma_update(None, "secure_delete", true)?;
    if schema::look(db)? == schema::Found::Foreign {
        return Err(Fault::Damage("the database of another program".to_owned()));
    }
    let is_backup = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'private_key'";
    if db.query_row(is_backup, [], |row| row.get::<_, i64>(0))? == 0 {
        return Err(Fault::Damage(
            "it holds no private keys, and so was not made by `mailbadge backup`".to_owned(),
        ));
    }
    verified(db, &TABLES)?;
    let certificates = certificate::list(db)?;
    let mut found = Vec::new();
    PRIVATE_KEY.each(db, "", &mut |row| {
        found.push((row.get::<_, String>(0)?, SecretString::from(row.get::<_, String>(1)?)));
        Ok(())
    })?;
    for (thumbprint, key) in &found {
        let certificate = certificates.iter().find(|one| one.thumbprint == *thumbprint);
        let certificate =
            certificate.ok_or_else(|| Fault::Damage(format!("a key of no certificate: {thumbprint}")))?;
        let unfit = |why| Fault::Damage(format!("the key of {thumbprint}: {why}"));
        keys::refuse_other(certificate, key.expose_secret()).map_err(unfit)?;
    }
    Ok(found)
}

/// Takes out what only a backup has, and what it cannot know.
fn strip(db: &Connection) -> Result<(), Fault> {
    let transaction = db.unchecked_transaction()?;
    transaction.execute_batch(
        "DROP TABLE private_key;
         DELETE FROM total WHERE name = 'private_key';
         UPDATE subscription SET shown = NULL WHERE shown IS NOT NULL;",
    )?;
    SUBSCRIPTION.seal(&transaction)?;
    checksum::SCHEMA.seal(&transaction)?;
    Ok(transaction.commit()?)
}

/// The former database keeps its name until the other one takes it.
fn exchange(state_dir: &Path, path: &Path, neighbor: &Path, former: Option<&Path>) -> io::Result<()> {
    let beside = |path: &Path, end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    if let Some(former) = former {
        fs::hard_link(path, former)?;
        // The log belongs to the former one, and would be played into the other.
        let log = beside(path, "-wal");
        if log.exists() {
            fs::rename(log, beside(former, "-wal"))?;
        }
    }
    for end in ["-wal", "-shm"] {
        match fs::remove_file(beside(path, end)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
    }
    File::open(neighbor)?.sync_all()?;
    fs::rename(neighbor, path)?;
    File::open(state_dir)?.sync_all()
}
