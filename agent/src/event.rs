//! The words that cross from room to room: mailboxes, readings, notifications. No behavior beyond their own.

mod device_id;
pub mod mailbox_name;

pub use device_id::DeviceId;

use crate::time::{Moment, Now, UnixMs};
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

/// A mailbox's place in the tracker's table. Given to another mailbox only long after the first was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxId(pub u32);

/// Which configured source spoke: its index in the configuration, 255 at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u8);

/// UIDVALIDITY of a mailbox (RFC 9051 §2.3.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UidValidity(pub NonZeroU32);

/// HIGHESTMODSEQ of a mailbox (RFC 7162 §3.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModSeq(pub NonZeroU64);

/// A statement "unseen is n" by a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// STATUS UNSEEN (RFC 9051 §6.3.11): messages without `\Seen`.
    pub unseen: u32,
    /// What orders readings together with `modseq`, where the source knows it.
    pub uid_validity: Option<UidValidity>,
    /// HIGHESTMODSEQ, where the source knows it.
    pub modseq: Option<ModSeq>,
    /// When the question was sent whose answer this is; `None` for what the server pushed by itself.
    pub asked_at: Option<Moment>,
}

/// What a source has to say of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The count itself.
    Reading(Reading),
    /// "Something changed": ask for a [`Reading`].
    Hint,
}

/// What the tracker made of a piece of [`News`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Older than what is known; dropped.
    Older,
    /// Believed, and the count is what it was.
    Unchanged,
    /// Believed, and the count moved.
    Changed,
    /// Not believed as it stands: a source that can be asked should read the mailbox.
    Ask,
}

/// Where sources deliver their news. Implemented by the daemon over the tracker, and by tests.
///
/// Calls return at once: they overwrite a record under a short lock, never queue, never wait.
pub trait Observer: Send + Sync {
    /// The mailbox of this name as the mail server spells it, if anyone subscribed to it.
    fn find(&self, name: &str) -> Option<MailboxId>;
    /// The same of a name by which the mail server itself lists one of its users: then it is no invention.
    fn find_listed(&self, name: &str) -> Option<MailboxId> {
        self.find(name)
    }
    /// Takes the news; where the verdict is [`Verdict::Ask`] the question is already on its way to a source that can answer.
    fn observe(&self, mailbox: MailboxId, source: SourceId, news: News, now: Now) -> Verdict;
}

/// The row of a subscription in the store: durable name of one device at one mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionKey(pub i64);

/// A device as a notification names it (protocol.md §1.3, Recipient). The tracker holds one a device: every byte counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The subscription that this device came from.
    pub key: SubscriptionKey,
    /// `appId`, for example `com.microsoft.exchange.iphone`.
    ///
    /// Shared by all devices of the app; a `String` since the pointer to one takes half of what one to a `str` takes.
    pub app_id: Arc<String>,
    /// `deviceId`; APNs: 64 hex digits.
    pub device_id: DeviceId,
    /// `InstallationId`, where the device gave one; a `String` for the same reason.
    pub installation_id: Option<Box<String>>,
    /// `lastSubscriptionUpdate`.
    pub last_update: UnixMs,
    /// From then on nothing is sent to it.
    pub expires_at: UnixMs,
    /// Flag 32 of `SubscriptionOption`: wants to be woken for background sync.
    pub background_sync: bool,
}

/// One mailbox's newest count for the devices that do not show it yet (protocol.md §1.3).
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// Whose count.
    pub mailbox: MailboxId,
    /// `n` of the notification's id; grows by one per notification in a process.
    pub number: u64,
    /// `unseenEmailCount`.
    pub unseen: u32,
    /// `backgroundSyncType` 1: any live subscription of the mailbox wants it.
    pub background_sync: bool,
    /// The devices that differ; never empty.
    pub recipients: Vec<Recipient>,
    /// When the oldest change in it was observed: start of `change_to_ack`.
    pub changed_at: Moment,
    /// What the wall clock said when it was put in flight.
    pub taken_at: UnixMs,
}

/// What the relay said of one recipient that it did not take (protocol.md §1.5, report).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The device is no more: unsubscribe it.
    Gone,
    /// The sender's fault: put aside until the mailbox changes.
    Invalid,
    /// Send the newest count later.
    Throttled,
}

/// A recipient the relay did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Of which mailbox.
    pub mailbox: MailboxId,
    /// Which device.
    pub subscription: SubscriptionKey,
    /// Why.
    pub reason: Rejection,
}
