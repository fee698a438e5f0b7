//! The tables and their versions. A version, once released, is never edited: a change is a further step.

use super::checksum::{self, Fault, TABLES};
use rusqlite::{Connection, TransactionBehavior};

/// What `PRAGMA application_id` says of our databases: "mbdg".
const APPLICATION_ID: i64 = 0x6d62_6467;

/// The schema version of this mailbadge.
pub(super) const VERSION: i64 = 4;

/// Step n leads from schema version n to n + 1.
const STEPS: [&str; VERSION as usize] = [VERSION_1, VERSION_2, VERSION_3, VERSION_4];

// Keys grow and are never used twice, so that a count written behind cannot meet a later registration.
const VERSION_1: &str = "
    CREATE TABLE subscription (
        key             INTEGER PRIMARY KEY AUTOINCREMENT,
        mailbox         TEXT    NOT NULL,
        subscription_id TEXT    NOT NULL,
        app_id          TEXT    NOT NULL,
        device_id       TEXT    NOT NULL,
        device_type     TEXT    NOT NULL,
        installation_id TEXT,
        option          INTEGER NOT NULL,
        shown           INTEGER,
        updated_at_ms   INTEGER NOT NULL,
        expires_at_ms   INTEGER NOT NULL,
        UNIQUE (mailbox, subscription_id),
        UNIQUE (app_id, device_id)
    ) STRICT;
    CREATE INDEX subscription_by_end ON subscription (expires_at_ms);

    CREATE TABLE proxy (
        only          INTEGER PRIMARY KEY CHECK (only = 1),
        is_enabled    INTEGER NOT NULL,
        organization  TEXT,
        uri           TEXT    NOT NULL,
        guid          TEXT    NOT NULL,
        created_at_ms INTEGER NOT NULL,
        changed_at_ms INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE certificate (
        number        INTEGER PRIMARY KEY AUTOINCREMENT,
        thumbprint    TEXT NOT NULL UNIQUE,
        friendly_name TEXT NOT NULL,
        der           BLOB NOT NULL
    ) STRICT;

    CREATE TABLE auth_config (
        only                 INTEGER PRIMARY KEY CHECK (only = 1),
        current_certificate  TEXT REFERENCES certificate (thumbprint),
        previous_certificate TEXT REFERENCES certificate (thumbprint)
    ) STRICT;
    INSERT INTO auth_config VALUES (1, NULL, NULL);

    CREATE TABLE process (
        only          INTEGER PRIMARY KEY CHECK (only = 1),
        started_at_ms INTEGER NOT NULL
    ) STRICT;
    INSERT INTO process VALUES (1, 0);

    CREATE TABLE auth_server (
        name         TEXT PRIMARY KEY,
        metadata_url TEXT NOT NULL
    ) STRICT;
";

// The auth config whole, what auth servers say of themselves, partner applications. Names are unique in any case.
const VERSION_2: &str = "
    ALTER TABLE auth_config ADD COLUMN service_name TEXT;
    ALTER TABLE auth_config ADD COLUMN realm TEXT;
    ALTER TABLE auth_config ADD COLUMN next_certificate TEXT REFERENCES certificate (thumbprint);
    ALTER TABLE auth_config ADD COLUMN next_effective_at_ms INTEGER
        CHECK ((next_certificate IS NULL) = (next_effective_at_ms IS NULL));

    ALTER TABLE auth_server ADD COLUMN document BLOB;
    ALTER TABLE auth_server ADD COLUMN fetched_at_ms INTEGER
        CHECK ((document IS NULL) = (fetched_at_ms IS NULL));
    CREATE UNIQUE INDEX auth_server_by_name ON auth_server (name COLLATE NOCASE);

    CREATE TABLE partner_application (
        name           TEXT NOT NULL COLLATE NOCASE PRIMARY KEY,
        application_id TEXT NOT NULL COLLATE NOCASE,
        realm          TEXT NOT NULL COLLATE NOCASE,
        metadata_url   TEXT,
        UNIQUE (application_id, realm)
    ) STRICT;
";

// Mailboxes with their domains in lower case: what stands behind the last @, which is what rtrim leaves off. Of two
// registrations that are one by that the newest stays.
const VERSION_3: &str = "
    DELETE FROM subscription WHERE key IN (
        SELECT key FROM (
            SELECT key, row_number() OVER (
                PARTITION BY
                    CASE instr(mailbox, '@') WHEN 0 THEN mailbox ELSE
                        rtrim(mailbox, replace(mailbox, '@', ''))
                        || lower(substr(mailbox, length(rtrim(mailbox, replace(mailbox, '@', ''))) + 1))
                    END,
                    subscription_id
                ORDER BY updated_at_ms DESC, key DESC
            ) AS place FROM subscription
        ) WHERE place > 1
    );
    UPDATE subscription SET mailbox =
        rtrim(mailbox, replace(mailbox, '@', ''))
        || lower(substr(mailbox, length(rtrim(mailbox, replace(mailbox, '@', ''))) + 1))
    WHERE mailbox GLOB '*@*[A-Z]*';
";

// Checksums of rows and totals of tables, which `migrate` fills in.
const VERSION_4: &str = "
    ALTER TABLE subscription ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE proxy ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE certificate ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE auth_config ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE process ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE auth_server ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE partner_application ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;

    CREATE TABLE total (
        name     TEXT    NOT NULL PRIMARY KEY,
        rows     INTEGER NOT NULL,
        sum      INTEGER NOT NULL,
        checksum INTEGER NOT NULL
    ) STRICT;
";

/// What stands in a database file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A database of ours of this version; 0: a new, empty one.
    Version(i64),
    /// A database, but somebody else's, or its header is damaged.
    Foreign,
}

/// Looks, changes nothing.
pub(super) fn look(db: &Connection) -> Result<Found, Fault> {
    let number = |name: &str| db.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let is_new = application == 0 && version == 0 && tables == 0;
    if !is_new && application != APPLICATION_ID {
        return Ok(Found::Foreign);
    }
    // Ours never had it; a header that says so would have pages overwritten.
    if number("auto_vacuum")? != 0 {
        return Err(Fault::Damage("the header is not what was stored".to_owned()));
    }
    let is_changed = version < 0 || (version != VERSION && tables > 0 && checksum::has_our_schema(db));
    if is_changed {
        return Err(Fault::Damage(format!("the header says version {version}, the tables say {VERSION}")));
    }
    if version > VERSION {
        return Err(Fault::Newer(version));
    }
    Ok(Found::Version(version))
}

/// Brings a database of ours to [`VERSION`], all steps in one transaction. Two processes may try at once.
///
/// `first` adds what a new database starts with beside its tables; it is not called for one that has a version. `before`
/// is called while nobody else writes.
pub(super) fn migrate(
    db: &mut Connection,
    before: impl FnOnce() -> Result<(), Fault>,
    first: impl FnOnce(&Connection) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    before()?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == VERSION {
        return checksum::SCHEMA.verify_rows(&transaction);
    }
    if version > 0 {
        // What is damaged by now would get checksums as if it were whole.
        verify_trees(&transaction)?;
    }
    for step in STEPS.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
        transaction.execute_batch(step)?;
    }
    if version == 0 {
        first(&transaction)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    for table in TABLES {
        table.seal(&transaction)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    Ok(transaction.commit()?)
}

/// Reads the whole file: all trees, indexes against tables, and what is free. Names the table where it can.
pub(super) fn verify_trees(db: &Connection) -> Result<(), Fault> {
    let found: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found == "ok" {
        return Ok(());
    }
    for table in TABLES {
        table.verify_trees(db)?;
    }
    Err(Fault::Damage(found))
}

/// Makes a database of an older version, as a mailbadge of that time would have left it.
#[cfg(test)]
pub(super) fn make_old(db: &Connection, version: i64) {
    for step in STEPS.iter().take(usize::try_from(version).unwrap()) {
        db.execute_batch(step).unwrap();
    }
    db.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    db.pragma_update(None, "user_version", version).unwrap();
}
