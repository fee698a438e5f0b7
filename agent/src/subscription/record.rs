//! A registration as it is kept.

use crate::event::SubscriptionKey;
use crate::time::UnixMs;

/// A device's registration at a mailbox (protocol.md §2.1), checked by [`Request`](super::Request) before it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSubscription {
    /// The mailbox as the mail server spells it.
    pub mailbox: String,
    /// `SubscriptionId`, one per mailbox.
    pub subscription_id: String,
    /// `AppId`.
    pub app_id: String,
    /// `DeviceNotificationId`.
    pub device_id: String,
    /// `DeviceNotificationType`, in its canonical spelling.
    pub device_type: String,
    /// `InstallationId`, where the device gave one.
    pub installation_id: Option<String>,
    /// `SubscriptionOption`, flags.
    pub option: u32,
    /// What the device shows: its `InboxUnreadCount` at first, then what was acknowledged; `None`: unknown.
    pub shown: Option<u32>,
    /// `LastSubscriptionUpdate`.
    pub updated_at: UnixMs,
    /// From then on nothing is sent.
    pub expires_at: UnixMs,
}

/// A registration as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Names this registration. Renewing a subscription gives it a new key: it counts as showing what it now reports.
    pub key: SubscriptionKey,
    /// The registration itself, `shown` as last recorded.
    pub record: NewSubscription,
}

/// What adding a subscription did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// The new registration.
    pub key: SubscriptionKey,
    /// The registrations it took the place of, gone now.
    pub replaced: Vec<SubscriptionKey>,
}
