//! Checksums of rows and totals of tables, so that no damage of the database passes for what was stored.
//!
//! Each row holds a checksum of its other columns. For each table `total` holds the number of its rows and the sum of their
//! checksums, so that a row that vanished is damage as well. The schema and the sequence of keys have a total each, too.
//! A checksum is made by the SQL function `row_checksum` alone: the first 8 bytes of a SHA-256 over all values, each with its
//! type and length. The schema that uses it is [`schema`](super::schema)'s.

use aws_lc_rs::digest::{SHA256, digest};
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, ErrorCode, Row, params};

/// Why SQL did not give what was asked for.
#[derive(Debug)]
pub(super) enum Fault {
    /// What SQLite said.
    Sql(Error),
    /// What is stored is not what was stored: which table, and what was found.
    Damage(String),
    /// The schema of a newer mailbadge, of this version.
    Newer(i64),
    /// An older schema, and a daemon that works on it.
    OlderDaemon,
}

impl From<Error> for Fault {
    fn from(cause: Error) -> Self {
        if is_damage(&cause) { Self::Damage(cause.to_string()) } else { Self::Sql(cause) }
    }
}

/// Whether an error comes from the file: our statements fit our schema, so that what they cannot be applied to is damaged.
fn is_damage(cause: &Error) -> bool {
    match cause {
        Error::SqliteFailure(..) => matches!(
            cause.sqlite_error_code(),
            Some(
                ErrorCode::NotADatabase
                    | ErrorCode::DatabaseCorrupt
                    | ErrorCode::TypeMismatch
                    | ErrorCode::TooBig
                    | ErrorCode::Unknown
            )
        ),
        Error::SqlInputError { .. }
        | Error::QueryReturnedNoRows
        | Error::InvalidColumnType(..)
        | Error::InvalidColumnIndex(_)
        | Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::Utf8Error(..) => true,
        _ => false,
    }
}

/// A table that is checked whenever it is read.
#[derive(Debug)]
pub(super) struct Table {
    /// Its name in the schema.
    pub(super) name: &'static str,
    /// All of its columns but the checksum.
    pub(super) columns: &'static str,
    /// What its checksums begin with: the name, in case of the schema with its version.
    label: &'static str,
    /// Whether its rows hold their checksums; those of SQLite's own tables cannot.
    has_checksums: bool,
}

impl Table {
    const fn ours(name: &'static str, columns: &'static str) -> Self {
        Self { name, columns, label: name, has_checksums: true }
    }
}

pub(super) const SUBSCRIPTION: Table = Table::ours(
    "subscription",
    "key, mailbox, subscription_id, app_id, device_id, device_type, installation_id, option, shown, updated_at_ms, \
     expires_at_ms",
);
pub(super) const PROXY: Table =
    Table::ours("proxy", "only, is_enabled, organization, uri, guid, created_at_ms, changed_at_ms");
pub(super) const CERTIFICATE: Table = Table::ours("certificate", "number, thumbprint, friendly_name, der");
pub(super) const AUTH_CONFIG: Table = Table::ours(
    "auth_config",
    "only, service_name, realm, current_certificate, previous_certificate, next_certificate, next_effective_at_ms",
);
pub(super) const AUTH_SERVER: Table =
    Table::ours("auth_server", "name, metadata_url, document, fetched_at_ms");
pub(super) const PARTNER: Table =
    Table::ours("partner_application", "name, application_id, realm, metadata_url");
pub(super) const PROCESS: Table = Table::ours("process", "only, started_at_ms");
/// Private keys: in a backup alone, where they cannot be files of their own.
pub(super) const PRIVATE_KEY: Table = Table::ours("private_key", "thumbprint, pem");
/// The keys that were used up.
pub(super) const SEQUENCE: Table =
    Table { name: "sqlite_sequence", columns: "name, seq", label: "sqlite_sequence", has_checksums: false };
/// The schema as version 4 has it, whatever `user_version` says. What `ANALYZE` leaves does not count.
pub(super) const SCHEMA: Table = Table {
    name: "(SELECT * FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%')",
    columns: "type, name, tbl_name, sql",
    label: "sqlite_schema 4",
    has_checksums: false,
};

/// All tables, the smallest first.
pub(super) const TABLES: [&Table; 9] =
    [&SCHEMA, &SEQUENCE, &PROXY, &PROCESS, &AUTH_CONFIG, &CERTIFICATE, &AUTH_SERVER, &PARTNER, &SUBSCRIPTION];

/// How many rows a table has, and the sum of their checksums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Total {
    rows: i64,
    sum: i64,
}

impl Total {
    pub(super) fn rows(self) -> i64 {
        self.rows
    }

    pub(super) fn add(&mut self, checksum: i64) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(checksum);
    }

    pub(super) fn remove(&mut self, checksum: i64) {
        self.rows -= 1;
        self.sum = self.sum.wrapping_sub(checksum);
    }
}

impl Table {
    /// SQL for the checksum of a row.
    pub(super) fn checksum(&self) -> String {
        format!("row_checksum('{}', {})", self.label, self.columns)
    }

    /// SQL for all columns, the stored checksum, and the one that it must be.
    pub(super) fn checked_columns(&self) -> String {
        let checksum = self.checksum();
        let stored = if self.has_checksums { "checksum" } else { checksum.as_str() };
        format!("{}, {stored}, {checksum}", self.columns)
    }

    /// The checksum of a row that was selected by [`Table::checked_columns`], where it is right.
    pub(super) fn checked(&self, row: &Row) -> Result<i64, Fault> {
        let place = self.columns.split(',').count();
        let stored: i64 = row.get(place).map_err(|cause| self.at(cause.into()))?;
        if stored == row.get::<_, i64>(place + 1)? {
            return Ok(stored);
        }
        Err(self.damage("a row is not what was stored"))
    }

    /// Shows `see` all rows in the order of this SQL, each of them checked. That none is missing is known at the end.
    pub(super) fn each(
        &self,
        db: &Connection,
        order: &str,
        see: &mut dyn FnMut(&Row) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.walk(db, order, see).map_err(|fault| self.at(fault))
    }

    fn walk(
        &self,
        db: &Connection,
        order: &str,
        see: &mut dyn FnMut(&Row) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let recorded = self.recorded(db)?;
        let mut found = Total::default();
        let mut select =
            db.prepare_cached(&format!("SELECT {} FROM {} {order}", self.checked_columns(), self.name))?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            found.add(self.checked(row)?);
            // A damaged tree may have no end.
            if found.rows > recorded.rows {
                break;
            }
            see(row)?;
        }
        if found == recorded {
            return Ok(());
        }
        Err(self.damage(&format!("{} rows were stored, {} or others are there", recorded.rows, found.rows)))
    }

    /// All rows of a small table, in the order of this SQL expression.
    pub(super) fn all<T>(
        &self,
        db: &Connection,
        order: &str,
        mut read: impl FnMut(&Row) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Fault> {
        let mut all = Vec::new();
        // The sign: sorted by the values, not by where a tree has them.
        let order = if order.is_empty() { String::new() } else { format!("NOT INDEXED ORDER BY +{order}") };
        self.each(db, &order, &mut |row| {
            all.push(read(row)?);
            Ok(())
        })?;
        Ok(all)
    }

    /// The row of a table that has one.
    pub(super) fn one<T>(
        &self,
        db: &Connection,
        read: impl FnMut(&Row) -> rusqlite::Result<T>,
    ) -> Result<T, Fault> {
        let mut all = self.all(db, "", read)?;
        match (all.pop(), all.pop()) {
            (Some(row), None) => Ok(row),
            (None, _) => Err(self.damage("its row is missing")),
            (Some(_), Some(_)) => Err(self.damage("it has more than its one row")),
        }
    }

    /// Changes a small table, which is checked whole before, and gets its checksums and total after.
    pub(super) fn change<T>(
        &self,
        db: &Connection,
        change: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.verify_trees(db)?;
        self.verify_rows(db)?;
        let done = change(db)?;
        self.seal(db)?;
        Ok(done)
    }

    /// Checks all rows.
    pub(super) fn verify_rows(&self, db: &Connection) -> Result<(), Fault> {
        self.each(db, "", &mut |_| Ok(()))
    }

    /// Checks the table's trees and its indexes against it.
    pub(super) fn verify_trees(&self, db: &Connection) -> Result<(), Fault> {
        let check = format!("PRAGMA integrity_check('{}')", self.name);
        if !self.has_checksums {
            return Ok(());
        }
        let found: String =
            db.query_row(&check, [], |row| row.get(0)).map_err(|cause| self.at(cause.into()))?;
        if found == "ok" { Ok(()) } else { Err(self.damage(&found)) }
    }

    /// Gives the rows as they are their checksums, and the table its total.
    pub(super) fn seal(&self, db: &Connection) -> Result<(), Fault> {
        let (name, checksum) = (self.name, self.checksum());
        if self.has_checksums {
            db.execute(
                &format!("UPDATE {name} SET checksum = {checksum} WHERE checksum IS NOT {checksum}"),
                [],
            )?;
        }
        let mut total = Total::default();
        let mut select = db.prepare_cached(&format!("SELECT {checksum} FROM {name}"))?;
        for row in select.query_map([], |row| row.get(0))? {
            total.add(row?);
        }
        self.record(db, total)
    }

    /// What the table should hold.
    pub(super) fn recorded(&self, db: &Connection) -> Result<Total, Fault> {
        let damage = || self.damage("its total is missing or not what was stored");
        let mut select = db.prepare_cached(
            "SELECT rows, sum, checksum IS row_checksum('total', name, rows, sum) FROM total NOT INDEXED WHERE name = ?1",
        )?;
        let total = |row: &Row| Ok((Total { rows: row.get(0)?, sum: row.get(1)? }, row.get(2)?));
        let found =
            select.query_map([self.label], total)?.collect::<rusqlite::Result<Vec<(Total, bool)>>>()?;
        match found.as_slice() {
            [(total, true)] => Ok(*total),
            _ => Err(damage()),
        }
    }

    /// Stores what the table should hold.
    pub(super) fn record(&self, db: &Connection, total: Total) -> Result<(), Fault> {
        let mut replace = db.prepare_cached(
            "INSERT INTO total (name, rows, sum, checksum) VALUES (?1, ?2, ?3, row_checksum('total', ?1, ?2, ?3))
             ON CONFLICT (name) DO UPDATE SET rows = excluded.rows, sum = excluded.sum, checksum = excluded.checksum",
        )?;
        replace.execute(params![self.label, total.rows, total.sum])?;
        Ok(())
    }

    /// What was found in this table.
    pub(super) fn damage(&self, found: &str) -> Fault {
        Fault::Damage(format!("table {}: {found}", self.label))
    }

    /// The same fault, with the table's name.
    fn at(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Damage(found) if !found.starts_with("table ") => self.damage(&found),
            other => other,
        }
    }
}

/// Whether the schema is whole and version 4's.
pub(super) fn has_our_schema(db: &Connection) -> bool {
    SCHEMA.verify_rows(db).is_ok()
}

/// Gives a connection the function `row_checksum(…)`.
pub(super) fn register(db: &Connection) -> rusqlite::Result<()> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    db.create_scalar_function("row_checksum", -1, flags, |values| Ok(row_checksum(values)))
}

fn row_checksum(values: &Context) -> i64 {
    let mut bytes = Vec::with_capacity(512);
    for place in 0..values.len() {
        // Text as it is stored: it may be no UTF-8.
        match values.get_raw(place) {
            ValueRef::Null => put(&mut bytes, 0, &[]),
            ValueRef::Integer(number) => put(&mut bytes, 1, &number.to_le_bytes()),
            ValueRef::Real(number) => put(&mut bytes, 2, &number.to_bits().to_le_bytes()),
            ValueRef::Text(text) => put(&mut bytes, 3, text),
            ValueRef::Blob(blob) => put(&mut bytes, 4, blob),
        }
    }
    let digest = digest(&SHA256, &bytes);
    digest.as_ref().first_chunk().map_or(0, |first| i64::from_le_bytes(*first))
}

fn put(bytes: &mut Vec<u8>, kind: u8, value: &[u8]) {
    bytes.push(kind);
    bytes.extend((value.len() as u64).to_le_bytes());
    bytes.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored in databases: it must never change.
    #[test]
    fn a_checksum_depends_on_type_length_and_bytes_of_each_value() {
        let db = Connection::open_in_memory().unwrap();
        register(&db).unwrap();
        let of = |values: &str| -> i64 {
            db.query_row(&format!("SELECT row_checksum({values})"), [], |row| row.get(0)).unwrap()
        };
        let all = ["", "NULL", "NULL, NULL", "1", "1.0", "'1'", "x'31'", "'1', ''", "'', '1'", "''", "'11'"];
        let mut found: Vec<i64> = all.iter().map(|values| of(values)).collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), all.len());
        assert_eq!(of("'subscription', 1, NULL, x'ff', 'ü'"), -2_361_848_856_084_326_534);
    }
}
