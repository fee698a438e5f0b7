//! Keeps tracker and store in step: who is subscribed, what devices show, the proxy, who the host is in tokens.
//!
//! The order on which "nothing lost" rests lives here: [`start`](start::start) takes over what the last process left,
//! [`depart`] notes a batch before it leaves, [`Ledger::tick`] stores what devices show and only then throws the notes
//! away, [`Ledger::end`] closes them. The store is shared with the command line, which [`Ledger::tick`] notices.
//!
//! No files, no clock, no sources: what is to be done elsewhere comes out as an [`Output`], handed to the caller one by
//! one, since a list of a million mailboxes to be watched would cost as much as their records. The calls wait for the
//! store, so that the daemon makes them on a thread that may wait for a disk; the simulation makes the same calls.

mod start;
mod identity;
mod trust;
mod reported;
#[cfg(test)]
mod tests;

pub use identity::{IdentitySnapshot, sign};
pub use reported::{REPORTED_KEPT, REPORTED_MAX, Reported};
pub use start::start;
pub use trust::Trust;

use crate::event::{MailboxId, SubscriptionKey};
use crate::identity::auth_config::AuthConfig;
use crate::identity::metadata::Document;
use crate::identity::partner::AuthServer;
use crate::store::notes::Notes;
use crate::store::{Proxy, Store, StoreError};
use crate::subscription::{Considered, RecipientFilter};
use crate::time::{Moment, Now, UnixMs};
use crate::token::refresh::{Fetch, Known};
use crate::token::signer::Signer;
use crate::tracker::Tracker;
use identity::Identity;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Mailboxes stored in one transaction, at most.
const MAILBOXES_PER_COMMIT: usize = 10_000;
/// How often expired subscriptions are looked for.
const EXPIRE_EVERY: Duration = Duration::from_mins(1);

/// What is to be done outside of the ledger. What it is about can be read from the ledger that hands it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Sources watch the mailbox of this name from now on.
    Watch(MailboxId, Arc<str>),
    /// Sources need not watch this mailbox any more.
    Unwatch(MailboxId),
    /// The token services, or the age of what is known of them, changed.
    TokenServicesChanged,
    /// The proxy changed, and with it perhaps what can be presented to its relay.
    ProxyChanged,
    /// What can be presented to the relay changed: a token service, a partner or the host's name; the proxy did not.
    CredentialsChanged,
    /// Another certificate signs.
    SignerChanged,
}

/// Names that sources found and nobody knew.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// By which mail servers list their users.
    pub listed: HashSet<Box<str>>,
    /// That came with an event, and are perhaps nobody's.
    pub reported: HashSet<Box<str>>,
}

/// Carries out outputs as they come. It must not call the store.
pub type Carry<'a> = dyn FnMut(&Ledger, Output) + 'a;

/// What was found changed and not handed out yet, since the store failed in between.
#[derive(Default)]
struct Changed {
    proxy: bool,
    identity: identity::Changed,
    trust: bool,
}

/// Devices that the relay called gone, until their subscriptions are dropped; bounded by the devices there are. Apart
/// from the [`Ledger`], which may be waiting for the disk.
#[derive(Debug, Default)]
pub struct Gone(Mutex<Vec<(MailboxId, SubscriptionKey)>>);

impl Gone {
    /// The relay called this device gone.
    pub fn push(&self, mailbox: MailboxId, key: SubscriptionKey) {
        self.0.lock().push((mailbox, key));
    }
}

/// Notes who is about to be sent a batch, then lets it leave. It leaves without its note, too: then everyone is in doubt
/// after a kill. Returns what noting came to.
pub fn depart(
    notes: &dyn Notes,
    devices: &[SubscriptionKey],
    leave: impl FnOnce(),
) -> Result<(), StoreError> {
    let outcome = notes.note(devices);
    leave();
    outcome
}

/// Why a document was not kept.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// It is none of a token service.
    #[error("{url} is no token service's {reason}")]
    Unusable {
        /// Where it came from.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The agent's side of the store.
pub struct Ledger {
    store: Arc<dyn Store>,
    notes: Arc<dyn Notes>,
    tracker: Arc<Tracker>,
    gone: Arc<Gone>,
    reported: Arc<Reported>,
    /// Mailboxes without devices are watched, too.
    watches_all: bool,
    proxy: Option<Proxy>,
    identity: Identity,
    trust: Trust,
    changed: Changed,
    expired_at: Option<Moment>,
    is_stale: bool,
}

impl Ledger {
    /// Of an agent that [`start`] let begin. Nothing is read before the first [`Ledger::tick`].
    pub fn new(store: Arc<dyn Store>, notes: Arc<dyn Notes>, tracker: Arc<Tracker>) -> Self {
        Self {
            identity: Identity::new(Arc::clone(&store)),
            store,
            notes,
            tracker,
            gone: Arc::default(),
            reported: Arc::default(),
            watches_all: false,
            proxy: None,
            trust: Trust::default(),
            changed: Changed::default(),
            expired_at: None,
            is_stale: true,
        }
    }

    /// Where devices that the relay calls gone are left for the next [`Ledger::tick`].
    pub fn gone(&self) -> Arc<Gone> {
        Arc::clone(&self.gone)
    }

    /// The same, with the mailboxes that only sources know shared with who hears of them.
    #[must_use]
    pub fn sharing(self, reported: Arc<Reported>) -> Self {
        Self { reported, ..self }
    }

    /// Takes in what the command line changed, lets the next certificate sign on its date, and stores what moved. In this
    /// order: a device that subscribed anew is in doubt by the note of its former key, which is thrown away last.
    pub fn tick(&mut self, now: Now, carry: &mut Carry) -> Result<(), StoreError> {
        self.drop_gone(carry)?;
        self.forget_reported(now.moment, carry);
        let is_due = self.expired_at.is_none_or(|at| now.moment.since(at) >= EXPIRE_EVERY);
        if is_due {
            self.is_stale |= !self.store.expire(now.unix)?.is_empty();
            self.expired_at = Some(now.moment);
        }
        let is_retry = self.identity.is_worth_a_retry(now);
        self.is_stale |= self.store.changed_elsewhere()? || is_retry;
        if self.is_stale {
            self.read_subscriptions(now, carry)?;
            self.changed.proxy |= self.read_proxy()?;
            self.read_identity()?;
            self.changed.trust |= self.read_trust()?;
        }
        if self.identity.publish_what_is_due(now, is_retry)? {
            self.read_identity()?;
        }
        if self.is_stale || is_due {
            self.identity.warn(now.unix);
        }
        self.is_stale = false;
        self.hand_out_changes(carry);
        self.save().map(drop)
    }

    /// What a changed proxy calls for covers what changed credentials do.
    fn hand_out_changes(&mut self, carry: &mut Carry) {
        let Changed { proxy, identity, trust } = std::mem::take(&mut self.changed);
        let due = [
            (trust, Output::TokenServicesChanged),
            (proxy, Output::ProxyChanged),
            (!proxy && (trust || identity.name), Output::CredentialsChanged),
            (identity.signer, Output::SignerChanged),
        ];
        for (_, output) in due.into_iter().filter(|(is_due, _)| *is_due) {
            carry(self, output);
        }
    }

    /// Stores what devices show. A new page of notes begins first; what was unsaved then covers all that the older
    /// pages say, so that they can go, however much moves meanwhile. They stay where the command line has written since it
    /// was last read: then a device that subscribed anew may be noted by its former key alone. False where they stay.
    fn save(&mut self) -> Result<bool, StoreError> {
        let mut left = self.tracker.unsaved();
        if left == 0 {
            return Ok(true);
        }
        self.notes.turn()?;
        left = left.max(self.tracker.unsaved());
        while left > 0 {
            let count = left.min(MAILBOXES_PER_COMMIT);
            left -= count;
            let rows = self.tracker.take_unsaved(count);
            let shown: Vec<(SubscriptionKey, Option<u32>)> =
                rows.iter().map(|(_, key, shown)| (*key, *shown)).collect();
            if let Err(error) = self.store.record_shown(&shown) {
                self.tracker.not_saved(&rows);
                return Err(error);
            }
        }
        if self.store.changed_elsewhere()? {
            self.is_stale = true;
            return Ok(false);
        }
        self.notes.settle()?;
        Ok(true)
    }

    /// Compares the store with the tracker, which alone remembers who is subscribed: a second list of all devices would
    /// cost as much as half of their records. A device that the relay calls gone meanwhile is back until the next tick.
    fn read_subscriptions(&self, now: Now, carry: &mut Carry) -> Result<(), StoreError> {
        let mut known = self.tracker.devices();
        let mut filter = RecipientFilter::new(now.unix);
        self.store.each_subscription(&mut |kept| {
            let new = filter.consider(kept).filter(|one| known.remove(&one.recipient.key).is_none());
            if let Some(one) = new {
                self.enroll(one, now, carry);
            }
        })?;
        for (key, mailbox) in known {
            self.forget(mailbox, key, carry);
        }
        Ok(())
    }

    fn enroll(&self, one: Considered, now: Now, carry: &mut Carry) {
        match self.tracker.enroll(&one.mailbox) {
            Ok(mailbox) => {
                self.reported.is_known(mailbox);
                self.tracker.subscribe(mailbox, one.recipient, one.shown, now);
                carry(self, Output::Watch(mailbox, one.mailbox.into()));
            }
            Err(full) => tracing::error!(%full, "a subscription is left out"),
        }
    }

    /// Has mailboxes watched that sources found and nobody subscribes to; of those that were only reported, as many as
    /// there is room for.
    pub fn found(&self, found: Found, now: Moment, carry: &mut Carry) {
        let Found { listed, reported } = found;
        for name in listed {
            if let Some(mailbox) = self.enroll_found(name, carry) {
                self.reported.is_known(mailbox);
            }
        }
        let (mut room, mut left_out) = (self.reported.count_room(self.tracker.named()), 0);
        for name in reported {
            // Its subscription, or another spelling of it, may have come first.
            if self.tracker.find(&name).is_some() {
                continue;
            }
            if room == 0 {
                left_out += 1;
            } else if let Some(mailbox) = self.enroll_found(name, carry) {
                self.reported.add(mailbox, now);
                room -= 1;
            }
        }
        self.reported.leave_out(left_out);
        self.reported.count_room(self.tracker.named());
    }

    fn enroll_found(&self, name: Box<str>, carry: &mut Carry) -> Option<MailboxId> {
        match self.tracker.enroll(&name) {
            Ok(mailbox) => {
                if self.watches_all {
                    carry(self, Output::Watch(mailbox, name.into()));
                }
                Some(mailbox)
            }
            Err(full) => {
                tracing::error!(%full, "a mailbox that nobody subscribes to is left out");
                None
            }
        }
    }

    /// Forgets mailboxes that were only reported, and not for long.
    fn forget_reported(&self, now: Moment, carry: &mut Carry) {
        let heard_at = |mailbox| self.tracker.inspect(mailbox, |record| Some(record.known()?.at)).flatten();
        let due = self.reported.due(now, heard_at);
        let forgotten = self.tracker.forget(&due, now);
        self.reported.forgotten(&forgotten);
        for mailbox in forgotten {
            carry(self, Output::Unwatch(mailbox));
        }
        self.tracker.release(now);
    }

    /// Whether letter case tells no mailboxes apart, from now on. Where that is a change all mailboxes are let go, and
    /// the next tick enrolls them anew: two may have become one, or one two.
    pub fn fold_case(&mut self, folds_case: bool, carry: &mut Carry) -> Result<(), StoreError> {
        // What devices show would be lost with their records.
        self.save()?;
        let (names, devices) = (self.tracker.names(), self.tracker.devices());
        if !self.tracker.fold_case(folds_case) {
            return Ok(());
        }
        for (key, mailbox) in devices {
            self.tracker.unsubscribe(mailbox, key);
        }
        for (mailbox, _) in names {
            carry(self, Output::Unwatch(mailbox));
        }
        self.is_stale = true;
        Ok(())
    }

    /// Whether mailboxes without devices are watched as well, from now on.
    pub fn watch_all(&mut self, watches_all: bool, carry: &mut Carry) {
        if std::mem::replace(&mut self.watches_all, watches_all) == watches_all {
            return;
        }
        for (mailbox, name) in self.tracker.names() {
            if self.tracker.has_devices(mailbox) {
                continue;
            }
            let output = if watches_all { Output::Watch(mailbox, name) } else { Output::Unwatch(mailbox) };
            carry(self, output);
        }
    }

    fn forget(&self, mailbox: MailboxId, key: SubscriptionKey, carry: &mut Carry) {
        self.tracker.unsubscribe(mailbox, key);
        if !self.watches_all && !self.tracker.has_devices(mailbox) {
            carry(self, Output::Unwatch(mailbox));
        }
    }

    /// Drops subscriptions for good whose devices the relay called gone.
    fn drop_gone(&self, carry: &mut Carry) -> Result<(), StoreError> {
        let gone = self.gone.0.lock().clone();
        if gone.is_empty() {
            return Ok(());
        }
        self.store.remove(&gone.iter().map(|(_, key)| *key).collect::<Vec<_>>())?;
        for (mailbox, key) in &gone {
            self.forget(*mailbox, *key, carry);
        }
        self.gone.0.lock().drain(..gone.len());
        Ok(())
    }

    /// A clean end: what devices show is stored once more, and nothing but that is in doubt at the next start.
    pub fn end(&mut self) -> Result<(), StoreError> {
        // Where the store refuses, the notes stay, even with nothing to be stored.
        self.is_stale |= self.store.changed_elsewhere()?;
        if self.save()? { self.notes.close() } else { Ok(()) }
    }

    fn read_proxy(&mut self) -> Result<bool, StoreError> {
        let proxy = Some(self.store.proxy()?);
        let is_changed = self.proxy != proxy;
        self.proxy = proxy;
        Ok(is_changed)
    }

    fn read_identity(&mut self) -> Result<(), StoreError> {
        let changed = self.identity.read()?;
        self.changed.identity.signer |= changed.signer;
        self.changed.identity.name |= changed.name;
        Ok(())
    }

    fn read_trust(&mut self) -> Result<bool, StoreError> {
        let trust = Trust::read(&*self.store)?;
        let is_changed = self.trust != trust;
        self.trust = trust;
        Ok(is_changed)
    }

    /// Keeps what came from a token service's URL now, where it is its document; the next tick reads it back.
    pub fn keep_document(&mut self, fetch: Fetch, document: &[u8], at: UnixMs) -> Result<(), NotKept> {
        let Fetch { name, url } = fetch;
        let read = Document::read(document).and_then(|document| document.token_service());
        if let Err(error) = read {
            return Err(NotKept::Unusable { url, reason: error.to_string() });
        }
        let of = AuthServer { name, metadata_url: url, document: None, fetched_at: None };
        self.store.keep_auth_document(&of, document, at)?;
        self.is_stale = true;
        Ok(())
    }

    /// Whom the host trusts, as last read.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The proxy's state, once it was read.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// Who the host is in tokens, as last read.
    pub fn auth_config(&self) -> &AuthConfig {
        self.identity.config()
    }

    /// Who signs, if anybody can.
    pub fn signer(&self) -> Option<Arc<Signer>> {
        self.identity.signer()
    }

    /// Mailboxes that are to be watched.
    pub fn watched(&self) -> Vec<(MailboxId, Arc<str>)> {
        let mut all = self.tracker.names();
        all.retain(|(mailbox, _)| self.watches_all || self.tracker.has_devices(*mailbox));
        all
    }

    /// What it holds now.
    pub fn snapshot(&self) -> LedgerSnapshot {
        let subscribed = self.tracker.subscribed();
        LedgerSnapshot {
            subscribed: subscribed.mailboxes as u64,
            devices: subscribed.devices as u64,
            reported: self.reported.counts(),
            proxy: self.proxy.clone(),
            identity: self.identity.snapshot(),
            token_services: self.trust.known(),
        }
    }
}

/// What the ledger holds, as `/status` and `/metrics` show it.
#[derive(Clone, Default)]
pub struct LedgerSnapshot {
    /// Mailboxes with subscriptions.
    pub subscribed: u64,
    /// Subscriptions.
    pub devices: u64,
    /// Mailboxes that are only reported, and how often the name of one more was left out.
    pub reported: (usize, u64),
    /// The proxy's state, once it was read.
    pub proxy: Option<Proxy>,
    /// Who signs, and when that ends.
    pub identity: IdentitySnapshot,
    /// The token services with the age of what is known of them.
    pub token_services: Vec<Known>,
}
