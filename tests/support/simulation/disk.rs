//! What outlives an agent's process: subscriptions, what devices show as last stored, who is in doubt, the last start.
//!
//! Plays the part of `store` and of the ledger's order of steps (note before sending, turn, store, settle).

use mailbadge::event::{Recipient, SubscriptionKey};
use mailbadge::forwarder::wire::Stamp;
use mailbadge::time::UnixMs;
use mailbadge::tracker::Tracker;
use std::collections::{BTreeMap, BTreeSet};

/// A subscription as it is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Of which mailbox, by number.
    pub mailbox: usize,
    /// The device.
    pub recipient: Recipient,
    /// What it was last known to show.
    pub shown: Option<u32>,
}

/// What `store::doubt` says of its notes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Notes {
    /// The last process ended cleanly.
    #[default]
    Closed,
    /// They are whole while this boot lasts.
    Whole,
    /// Some are missing.
    Missing,
}

/// The disk.
#[derive(Debug, Default)]
pub struct Disk {
    /// By key.
    pub subscriptions: BTreeMap<SubscriptionKey, Kept>,
    /// Nothing can be written.
    pub is_full: bool,
    doubt: BTreeSet<SubscriptionKey>,
    notes: Notes,
    /// Devices the relay called gone, until their subscriptions are dropped.
    gone: Vec<SubscriptionKey>,
    keys_given: i64,
    started_s: u64,
}

impl Disk {
    /// A device subscribes to a mailbox: a new key, the former registrations of that device are gone. `None` where that
    /// could not be stored, and is not acknowledged.
    pub fn subscribe(
        &mut self,
        mailbox: usize,
        device_id: &str,
        shown: Option<u32>,
        now: UnixMs,
        expires_at: UnixMs,
    ) -> Option<(Kept, Vec<SubscriptionKey>)> {
        if self.is_full {
            return None;
        }
        let replaced: Vec<SubscriptionKey> = self.keys_of(device_id);
        for key in &replaced {
            self.subscriptions.remove(key);
        }
        self.keys_given += 1;
        let key = SubscriptionKey(self.keys_given);
        let recipient = Recipient {
            key,
            app_id: "com.microsoft.exchange.mowa".to_owned().into(),
            device_id: device_id.into(),
            installation_id: None,
            last_update: now,
            expires_at,
            background_sync: self.keys_given % 2 == 0,
        };
        let kept = Kept { mailbox, recipient, shown };
        self.subscriptions.insert(key, kept.clone());
        Some((kept, replaced))
    }

    /// Registrations of a device.
    pub fn keys_of(&self, device_id: &str) -> Vec<SubscriptionKey> {
        let of_device = self.subscriptions.iter().filter(|(_, kept)| kept.recipient.device_id == *device_id);
        of_device.map(|(key, _)| *key).collect()
    }

    /// Drops those that have expired; gives them.
    pub fn expire(&mut self, now: UnixMs) -> Vec<(usize, SubscriptionKey)> {
        if self.is_full {
            return Vec::new();
        }
        let is_over = |kept: &Kept| kept.recipient.expires_at <= now;
        let over = self.subscriptions.iter().filter(|(_, kept)| is_over(kept));
        let over: Vec<_> = over.map(|(key, kept)| (kept.mailbox, *key)).collect();
        self.subscriptions.retain(|_, kept| !is_over(kept));
        over
    }

    /// The relay called this device gone.
    pub fn forget(&mut self, key: SubscriptionKey) {
        self.gone.push(key);
    }

    /// Notes who is about to be told something.
    pub fn note(&mut self, keys: &[SubscriptionKey]) {
        if self.is_full {
            self.notes = Notes::Missing;
        } else {
            self.doubt.extend(keys);
        }
    }

    /// Stores what devices show, and drops those that are gone. False where it could not.
    pub fn save(&mut self, tracker: &Tracker) -> bool {
        if self.is_full {
            return false;
        }
        for key in self.gone.drain(..) {
            self.subscriptions.remove(&key);
        }
        for (_, key, shown) in tracker.take_unsaved(usize::MAX) {
            if let Some(kept) = self.subscriptions.get_mut(&key) {
                kept.shown = shown;
            }
        }
        self.doubt.clear();
        self.notes = Notes::Whole;
        true
    }

    /// The process ends cleanly: what devices show is stored once more.
    pub fn close(&mut self, tracker: &Tracker) {
        if self.save(tracker) {
            self.notes = Notes::Closed;
        }
    }

    /// The process is no more.
    pub fn killed(&mut self) {
        self.gone.clear();
    }

    /// The machine is without power: what was written and not forced to the disk is lost, notes above all.
    pub fn power_cut(&mut self) {
        self.killed();
        self.doubt.clear();
        if self.notes != Notes::Closed {
            self.notes = Notes::Missing;
        }
    }

    /// A process starts: what was in doubt is unknown. Gives its stamp; `None` where that could not be stored, and the
    /// process ends again.
    pub fn begin(&mut self, now: UnixMs) -> Option<Stamp> {
        if self.is_full {
            return None;
        }
        let doubt = std::mem::take(&mut self.doubt);
        for (key, kept) in &mut self.subscriptions {
            if self.notes == Notes::Missing || doubt.contains(key) {
                kept.shown = None;
            }
        }
        self.notes = Notes::Whole;
        self.started_s = now.seconds().max(self.started_s + 1);
        Some(Stamp::new(UnixMs::from_seconds(self.started_s)))
    }
}
