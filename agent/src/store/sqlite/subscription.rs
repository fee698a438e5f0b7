//! The subscription table's SQL.

use crate::event::SubscriptionKey;
use crate::subscription::{Added, NewSubscription, Subscription};
use crate::time::UnixMs;
use rusqlite::{Connection, Row, params};

const COLUMNS: &str = "key, mailbox, subscription_id, app_id, device_id, device_type, installation_id, option, \
                       shown, updated_at_ms, expires_at_ms";

pub(super) fn add(db: &Connection, new: &[NewSubscription]) -> rusqlite::Result<Vec<Added>> {
    new.iter().map(|record| add_one(db, record)).collect()
}

fn add_one(db: &Connection, new: &NewSubscription) -> rusqlite::Result<Added> {
    let mut delete = db.prepare_cached(
        "DELETE FROM subscription WHERE (mailbox = ?1 AND subscription_id = ?2) OR (app_id = ?3 AND device_id = ?4)
         RETURNING key, shown",
    )?;
    let former = |row: &Row| Ok((key(row)?, row.get::<_, Option<u32>>(1)?));
    let (mut replaced, mut shown) = (Vec::new(), new.shown);
    for row in
        delete.query_map(params![new.mailbox, new.subscription_id, new.app_id, new.device_id], former)?
    {
        let (key, known) = row?;
        replaced.push(key);
        shown = shown.filter(|shown| known == Some(*shown));
    }
    let mut insert = db.prepare_cached(
        "INSERT INTO subscription (mailbox, subscription_id, app_id, device_id, device_type, installation_id, option,
                                   shown, updated_at_ms, expires_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    let number = insert.insert(params![
        new.mailbox,
        new.subscription_id,
        new.app_id,
        new.device_id,
        new.device_type,
        new.installation_id,
        new.option,
        shown,
        milliseconds(new.updated_at),
        milliseconds(new.expires_at),
    ])?;
    Ok(Added { key: SubscriptionKey(number), replaced })
}

pub(super) fn remove(db: &Connection, keys: &[SubscriptionKey]) -> rusqlite::Result<Vec<SubscriptionKey>> {
    let mut delete = db.prepare_cached("DELETE FROM subscription WHERE key = ?1")?;
    let mut removed = Vec::with_capacity(keys.len());
    for &key in keys {
        if delete.execute([key.0])? == 1 {
            removed.push(key);
        }
    }
    Ok(removed)
}

const ORDER: &str = "ORDER BY mailbox, updated_at_ms DESC, key DESC";

pub(super) fn list(db: &Connection, mailbox: Option<&str>) -> rusqlite::Result<Vec<Subscription>> {
    let filter = if mailbox.is_some() { "WHERE mailbox = ?1" } else { "" };
    let mut select = db.prepare_cached(&format!("SELECT {COLUMNS} FROM subscription {filter} {ORDER}"))?;
    let rows = match mailbox {
        Some(mailbox) => select.query_map([mailbox], subscription)?,
        None => select.query_map([], subscription)?,
    };
    rows.collect()
}

pub(super) fn each(db: &Connection, see: &mut dyn FnMut(Subscription)) -> rusqlite::Result<()> {
    let mut select = db.prepare_cached(&format!("SELECT {COLUMNS} FROM subscription {ORDER}"))?;
    for row in select.query_map([], subscription)? {
        see(row?);
    }
    Ok(())
}

pub(super) fn expire(db: &Connection, now: UnixMs) -> rusqlite::Result<Vec<SubscriptionKey>> {
    let mut delete = db.prepare_cached("DELETE FROM subscription WHERE expires_at_ms <= ?1 RETURNING key")?;
    delete.query_map([milliseconds(now)], key)?.collect()
}

pub(super) fn record_shown(
    db: &Connection,
    shown: &[(SubscriptionKey, Option<u32>)],
) -> rusqlite::Result<()> {
    let mut update = db.prepare_cached("UPDATE subscription SET shown = ?2 WHERE key = ?1")?;
    for (key, count) in shown {
        update.execute(params![key.0, count])?;
    }
    Ok(())
}

fn key(row: &Row) -> rusqlite::Result<SubscriptionKey> {
    row.get(0).map(SubscriptionKey)
}

fn subscription(row: &Row) -> rusqlite::Result<Subscription> {
    let record = NewSubscription {
        mailbox: row.get(1)?,
        subscription_id: row.get(2)?,
        app_id: row.get(3)?,
        device_id: row.get(4)?,
        device_type: row.get(5)?,
        installation_id: row.get(6)?,
        option: row.get(7)?,
        shown: row.get(8)?,
        updated_at: instant(row.get(9)?),
        expires_at: instant(row.get(10)?),
    };
    Ok(Subscription { key: key(row)?, record })
}

/// SQLite's integers are signed; the year 292 million is late enough.
pub(super) fn milliseconds(at: UnixMs) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

pub(super) fn instant(milliseconds: i64) -> UnixMs {
    UnixMs(u64::try_from(milliseconds).unwrap_or(0))
}
