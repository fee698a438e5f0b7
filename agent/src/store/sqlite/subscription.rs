//! The subscription table's SQL.

use crate::event::SubscriptionKey;
use crate::store::checksum::{self, Fault, Table, Total};
use crate::subscription::{Added, NewSubscription, Subscription};
use crate::time::UnixMs;
use rusqlite::{Connection, Row, params};
use std::cmp::Reverse;

/// What each of these statements is made of.
const TABLE: &Table = &checksum::SUBSCRIPTION;

pub(super) fn add(db: &Connection, new: &[NewSubscription]) -> Result<Vec<Added>, Fault> {
    checksum::SEQUENCE.verify_rows(db)?;
    let mut total = TABLE.recorded(db)?;
    let used_up = "SELECT max(0, (SELECT seq FROM sqlite_sequence WHERE name = 'subscription'),
                             (SELECT max(key) FROM subscription))";
    let last: Option<i64> = db.query_row(used_up, [], |row| row.get(0))?;
    let keys = last.unwrap_or(0).saturating_add(1)..;
    let added = keys.zip(new).map(|(key, record)| add_one(db, SubscriptionKey(key), record, &mut total));
    let added = added.collect::<Result<Vec<Added>, Fault>>()?;
    TABLE.record(db, total)?;
    checksum::SEQUENCE.seal(db)?;
    Ok(added)
}

fn add_one(
    db: &Connection,
    key: SubscriptionKey,
    new: &NewSubscription,
    total: &mut Total,
) -> Result<Added, Fault> {
    let mut delete = db.prepare_cached(&format!(
        "DELETE FROM subscription WHERE (mailbox = ?1 AND subscription_id = ?2) OR (app_id = ?3 AND device_id = ?4)
         RETURNING {}",
        TABLE.checked_columns()
    ))?;
    let (mut replaced, mut shown) = (Vec::new(), new.shown);
    let mut rows = delete.query(params![new.mailbox, new.subscription_id, new.app_id, new.device_id])?;
    while let Some(row) = rows.next()? {
        total.remove(TABLE.checked(row)?);
        let former = subscription(row)?;
        replaced.push(former.key);
        shown = shown.filter(|shown| former.record.shown == Some(*shown));
    }
    let mut insert = db.prepare_cached(
        "INSERT INTO subscription (key, mailbox, subscription_id, app_id, device_id, device_type, installation_id, option,
                                   shown, updated_at_ms, expires_at_ms, checksum)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11,
                 row_checksum('subscription', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11))
         RETURNING checksum",
    )?;
    let row = params![
        key.0,
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
    ];
    total.add(insert.query_row(row, |row| row.get(0))?);
    Ok(Added { key, replaced })
}

pub(super) fn remove(db: &Connection, keys: &[SubscriptionKey]) -> Result<Vec<SubscriptionKey>, Fault> {
    let mut total = TABLE.recorded(db)?;
    let mut removed = Vec::with_capacity(keys.len());
    for &key in keys {
        removed.extend(delete(db, "key = ?1", key.0, &mut total)?);
    }
    if !removed.is_empty() {
        TABLE.record(db, total)?;
    }
    Ok(removed)
}

pub(super) fn expire(db: &Connection, now: UnixMs) -> Result<Vec<SubscriptionKey>, Fault> {
    let mut total = TABLE.recorded(db)?;
    let expired = delete(db, "expires_at_ms <= ?1", milliseconds(now), &mut total)?;
    if !expired.is_empty() {
        TABLE.record(db, total)?;
    }
    Ok(expired)
}

fn delete(
    db: &Connection,
    which: &str,
    value: i64,
    total: &mut Total,
) -> Result<Vec<SubscriptionKey>, Fault> {
    let columns = TABLE.checked_columns();
    let mut delete =
        db.prepare_cached(&format!("DELETE FROM subscription WHERE {which} RETURNING {columns}"))?;
    let (mut rows, mut deleted) = (delete.query([value])?, Vec::new());
    while let Some(row) = rows.next()? {
        total.remove(TABLE.checked(row)?);
        deleted.push(key(row)?);
    }
    Ok(deleted)
}

/// All are read whomever it is about: an index that lost an entry would leave somebody out.
pub(super) fn list(db: &Connection, mailbox: Option<&str>) -> Result<Vec<Subscription>, Fault> {
    let mut all = Vec::new();
    each(db, &mut |kept| {
        if mailbox.is_none_or(|mailbox| kept.record.mailbox == mailbox) {
            all.push(kept);
        }
    })?;
    Ok(all)
}

pub(super) fn each(db: &Connection, see: &mut dyn FnMut(Subscription)) -> Result<(), Fault> {
    let mut last: Option<(String, Reverse<(UnixMs, SubscriptionKey)>)> = None;
    TABLE.each(db, "ORDER BY mailbox, updated_at_ms DESC, key DESC", &mut |row| {
        let kept = subscription(row)?;
        // Read by an index: the order is its word.
        let place = (kept.record.mailbox.as_str(), Reverse((kept.record.updated_at, kept.key)));
        if last.as_ref().is_some_and(|(mailbox, behind)| (mailbox.as_str(), *behind) >= place) {
            return Err(TABLE.damage("an index is not what was stored"));
        }
        let (mailbox, behind) = last.get_or_insert_with(|| (String::new(), place.1));
        mailbox.clear();
        mailbox.push_str(place.0);
        *behind = place.1;
        see(kept);
        Ok(())
    })
}

pub(super) fn record_shown(db: &Connection, shown: &[(SubscriptionKey, Option<u32>)]) -> Result<(), Fault> {
    if shown.is_empty() {
        return Ok(());
    }
    let mut total = TABLE.recorded(db)?;
    let columns = TABLE.checked_columns();
    let mut before = db.prepare_cached(&format!("SELECT {columns} FROM subscription WHERE key = ?1"))?;
    let mut update = db.prepare_cached(&format!(
        "UPDATE subscription SET shown = ?2, checksum = {} WHERE key = ?1 RETURNING checksum",
        TABLE.checksum().replace(" shown,", " ?2,")
    ))?;
    for (key, count) in shown {
        let mut rows = before.query([key.0])?;
        let Some(row) = rows.next()? else { continue };
        total.remove(TABLE.checked(row)?);
        total.add(update.query_row(params![key.0, count], |row| row.get(0))?);
    }
    TABLE.record(db, total)
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
