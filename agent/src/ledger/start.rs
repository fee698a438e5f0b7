//! The order at a start: what is in doubt, then the process's start. Who is enrolled comes with the first tick.

use crate::event::SubscriptionKey;
use crate::store::notes::{InDoubt, Notes};
use crate::store::{Store, StoreError};
use crate::time::UnixMs;
use std::collections::BTreeSet;

/// Takes over what the last process left: of whom it left in doubt what they show, that is stored as unknown before the
/// notes that say so are thrown away. Then the process begins; returns its start as notification ids name it.
///
/// Killed anywhere in between, the next start finds the same in doubt, or more.
pub fn start(store: &dyn Store, notes: &dyn Notes, now: UnixMs) -> Result<UnixMs, StoreError> {
    let in_doubt = match notes.in_doubt()? {
        InDoubt::These(devices) if devices.is_empty() => devices,
        InDoubt::These(devices) => with_successors(store, devices)?,
        InDoubt::Everyone => everyone(store)?,
    };
    let unknown: Vec<(SubscriptionKey, Option<u32>)> = in_doubt.into_iter().map(|key| (key, None)).collect();
    store.record_shown(&unknown)?;
    notes.settle()?;
    store.begin(now)
}

/// These, and whoever may be one of them under another key: where a noted key is not stored any more, its device may have
/// subscribed anew, which gave it a key greater than all before.
fn with_successors(
    store: &dyn Store,
    noted: Vec<SubscriptionKey>,
) -> Result<Vec<SubscriptionKey>, StoreError> {
    let Some(&first) = noted.iter().min() else { return Ok(noted) };
    let mut missing: BTreeSet<SubscriptionKey> = noted.iter().copied().collect();
    let mut later = Vec::new();
    store.each_subscription(&mut |kept| {
        if !missing.remove(&kept.key) && kept.key > first {
            later.push(kept.key);
        }
    })?;
    let Some(&gone) = missing.first() else { return Ok(noted) };
    Ok(noted.into_iter().chain(later.into_iter().filter(|key| *key > gone)).collect())
}

fn everyone(store: &dyn Store) -> Result<Vec<SubscriptionKey>, StoreError> {
    let mut everyone = Vec::new();
    store.each_subscription(&mut |kept| everyone.push(kept.key))?;
    Ok(everyone)
}
