//! What outlives a killed agent: subscriptions, what devices show as last stored, who is in doubt, the last start.
//!
//! Plays the part of `store` and of the ledger's order of steps (note before sending, turn, store, settle).

use mailbadge::event::{Recipient, SubscriptionKey};
use mailbadge::forwarder::wire::Stamp;
use mailbadge::time::UnixMs;
use mailbadge::tracker::Tracker;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A subscription as it is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Of which mailbox, by number.
    pub mailbox: usize,
    /// The device.
    pub recipient: Arc<Recipient>,
    /// What it was last known to show.
    pub shown: Option<u32>,
}

/// The disk.
#[derive(Debug, Default)]
pub struct Disk {
    /// By key.
    pub subscriptions: BTreeMap<SubscriptionKey, Kept>,
    doubt: BTreeSet<SubscriptionKey>,
    keys_given: i64,
    started_s: u64,
}

impl Disk {
    /// A device subscribes to a mailbox: a new key, the former registration of that device is gone.
    pub fn subscribe(
        &mut self,
        mailbox: usize,
        device_id: &str,
        shown: Option<u32>,
        now: UnixMs,
    ) -> (Kept, Vec<SubscriptionKey>) {
        let replaced: Vec<SubscriptionKey> = self.keys_of(device_id);
        for key in &replaced {
            self.subscriptions.remove(key);
        }
        self.keys_given += 1;
        let key = SubscriptionKey(self.keys_given);
        let recipient = Arc::new(Recipient {
            key,
            app_id: "com.microsoft.exchange.mowa".into(),
            device_id: device_id.into(),
            installation_id: None,
            last_update: now,
            expires_at: UnixMs(u64::MAX),
            background_sync: false,
        });
        let kept = Kept { mailbox, recipient, shown };
        self.subscriptions.insert(key, kept.clone());
        (kept, replaced)
    }

    /// Registrations of a device.
    pub fn keys_of(&self, device_id: &str) -> Vec<SubscriptionKey> {
        let of_device = self.subscriptions.iter().filter(|(_, kept)| &*kept.recipient.device_id == device_id);
        of_device.map(|(key, _)| *key).collect()
    }

    /// Notes who is about to be told something.
    pub fn note(&mut self, keys: &[SubscriptionKey]) {
        self.doubt.extend(keys);
    }

    /// Stores what devices show.
    pub fn save(&mut self, tracker: &Tracker) {
        for (_, key, shown) in tracker.take_unsaved(usize::MAX) {
            if let Some(kept) = self.subscriptions.get_mut(&key) {
                kept.shown = shown;
            }
        }
        self.doubt.clear();
    }

    /// A process starts: what was in doubt is unknown. Gives its stamp.
    pub fn begin(&mut self, now: UnixMs) -> Stamp {
        for key in std::mem::take(&mut self.doubt) {
            if let Some(kept) = self.subscriptions.get_mut(&key) {
                kept.shown = None;
            }
        }
        self.started_s = now.seconds().max(self.started_s + 1);
        Stamp::new(UnixMs::from_seconds(self.started_s))
    }
}
