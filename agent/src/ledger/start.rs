//! The order at a start: what is in doubt, then the process's start. Who is enrolled comes with the first tick.

use crate::event::SubscriptionKey;
use crate::store::notes::{InDoubt, Notes};
use crate::store::{Store, StoreError};
use crate::time::UnixMs;

/// Takes over what the last process left: of whom it left in doubt what they show, that is stored as unknown before the
/// notes that say so are thrown away. Then the process begins; returns its start as notification ids name it.
///
/// Killed anywhere in between, the next start finds the same in doubt, or more.
pub fn start(store: &dyn Store, notes: &dyn Notes, now: UnixMs) -> Result<UnixMs, StoreError> {
    let in_doubt = match notes.in_doubt()? {
        InDoubt::These(devices) => devices,
        InDoubt::Everyone => everyone(store)?,
    };
    let unknown: Vec<(SubscriptionKey, Option<u32>)> = in_doubt.into_iter().map(|key| (key, None)).collect();
    store.record_shown(&unknown)?;
    notes.settle()?;
    store.begin(now)
}

fn everyone(store: &dyn Store) -> Result<Vec<SubscriptionKey>, StoreError> {
    let mut everyone = Vec::new();
    store.each_subscription(&mut |kept| everyone.push(kept.key))?;
    Ok(everyone)
}
