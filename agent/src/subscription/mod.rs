//! The subscription record: what a device must say of itself, its id, its end, and who of a mailbox is considered
//! (protocol.md §2.1).
//!
//! Keeping records is `store`'s; what a device shows is the tracker's once it runs. No I/O here.

mod record;
mod request;

pub use record::{Added, NewSubscription, Subscription};
pub use request::{Invalid, Request, subscription_id};

use crate::event::Recipient;
use crate::time::UnixMs;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Subscriptions of one mailbox that are considered: the newest.
pub const CONSIDERED_MAX: usize = 50;
/// `SubscriptionOption` where a device gives none: all but SuppressNotificationsWhenOof.
pub const DEFAULT_OPTION: u32 = 47;
/// `SubscriptionOption` flag BackgroundSync.
pub const BACKGROUND_SYNC: u32 = 32;

/// How subscriptions live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a subscription lives after the device's last subscribe, [`Settings::SHORTEST`] to [`Settings::LONGEST`].
    pub expiration: Duration,
}

impl Settings {
    /// The shortest life that may be configured.
    pub const SHORTEST: Duration = Duration::from_hours(1);
    /// The longest life that may be configured.
    pub const LONGEST: Duration = Duration::from_hours(168);
}

impl Default for Settings {
    fn default() -> Self {
        Self { expiration: Duration::from_hours(72) }
    }
}

/// A device that is to be sent its mailbox's counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// The mailbox as the mail server spells it.
    pub mailbox: String,
    /// The device.
    pub recipient: Recipient,
    /// What it was last known to show.
    pub shown: Option<u32>,
}

/// Chooses who is sent counts: live ones, the newest [`CONSIDERED_MAX`] of each mailbox.
///
/// App ids, few and repeated, are shared between recipients.
#[derive(Debug)]
pub struct RecipientFilter {
    now: UnixMs,
    app_ids: HashSet<Arc<String>>,
    /// Whose subscriptions come now, and how many were live.
    mailbox: String,
    of_this_mailbox: usize,
}

impl RecipientFilter {
    /// Who is considered at `now`.
    pub fn new(now: UnixMs) -> Self {
        Self { now, app_ids: HashSet::new(), mailbox: String::new(), of_this_mailbox: 0 }
    }

    /// The device, where it is to be sent counts. Takes the store's order: by mailbox, the newest first.
    pub fn consider(&mut self, subscription: Subscription) -> Option<Considered> {
        let Subscription { key, record } = subscription;
        if record.expires_at <= self.now {
            return None;
        }
        if record.mailbox != self.mailbox {
            (self.mailbox, self.of_this_mailbox) = (record.mailbox.clone(), 0);
        }
        self.of_this_mailbox += 1;
        if self.of_this_mailbox > CONSIDERED_MAX {
            return None;
        }
        let recipient = Recipient {
            key,
            app_id: self.shared(record.app_id),
            device_id: record.device_id.into(),
            installation_id: record.installation_id.map(Box::new),
            last_update: record.updated_at,
            expires_at: record.expires_at,
            background_sync: record.option & BACKGROUND_SYNC != 0,
        };
        Some(Considered { mailbox: record.mailbox, recipient, shown: record.shown })
    }

    fn shared(&mut self, app_id: String) -> Arc<String> {
        self.app_ids.get(&app_id).cloned().unwrap_or_else(|| {
            let shared = Arc::new(app_id);
            self.app_ids.insert(Arc::clone(&shared));
            shared
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::SubscriptionKey;

    fn considered(all: Vec<Subscription>, now: UnixMs) -> Vec<Considered> {
        let mut filter = RecipientFilter::new(now);
        all.into_iter().filter_map(|one| filter.consider(one)).collect()
    }

    fn kept(mailbox: &str, key: i64, expires_at: u64) -> Subscription {
        let record = NewSubscription {
            mailbox: mailbox.to_owned(),
            subscription_id: format!("MOWA-Android-{key}"),
            app_id: "com.microsoft.exchange.mowa".to_owned(),
            device_id: format!("reg-{key}"),
            device_type: "GCM".to_owned(),
            installation_id: Some(format!("DEV-{key}")),
            option: if key % 2 == 0 { 47 } else { 15 },
            shown: Some(3),
            updated_at: UnixMs(1),
            expires_at: UnixMs(expires_at),
        };
        Subscription { key: SubscriptionKey(key), record }
    }

    #[test]
    fn expired_ones_and_all_but_the_newest_fifty_of_a_mailbox_are_left_out() {
        let mut all = vec![kept("u1", 1000, 10), kept("u1", 1001, 11)];
        all.extend((0..60).map(|key| kept("u2", key, 11)));
        all.push(kept("u3", 1002, 11));
        let chosen = considered(all, UnixMs(10));
        let of = |mailbox: &str| {
            let mine = chosen.iter().filter(|one| one.mailbox == mailbox);
            mine.map(|one| one.recipient.key.0).collect::<Vec<_>>()
        };
        assert_eq!(of("u1"), [1001]);
        assert_eq!(of("u2"), (0..50).collect::<Vec<_>>());
        assert_eq!(of("u3"), [1002]);
    }

    #[test]
    fn a_recipient_says_what_its_record_said() {
        let chosen = considered(vec![kept("u1", 1, 11), kept("u1", 2, 11)], UnixMs(10));
        let expected = Recipient {
            key: SubscriptionKey(1),
            app_id: "com.microsoft.exchange.mowa".to_owned().into(),
            device_id: "reg-1".into(),
            installation_id: Some(Box::new("DEV-1".to_owned())),
            last_update: UnixMs(1),
            expires_at: UnixMs(11),
            background_sync: false,
        };
        assert_eq!((&chosen[0].recipient, chosen[0].shown), (&expected, Some(3)));
        assert!(chosen[1].recipient.background_sync, "option 47 holds flag 32");
        assert!(Arc::ptr_eq(&chosen[0].recipient.app_id, &chosen[1].recipient.app_id));
    }
}
