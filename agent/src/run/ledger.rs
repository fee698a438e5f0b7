//! Keeps tracker and store in step: who is subscribed, what devices show, the proxy, who the host is in tokens.
//!
//! The store is shared with the command line. Its calls block for a disk's time, so [`Ledger::tick`] runs on a thread
//! where that harms nobody.

use super::desk::Desk;
use super::identity::{self, Identity, IdentityShown};
use crate::config::Trust;
use crate::event::{MailboxId, SubscriptionKey};
use crate::identity::partner::AuthServer;
use crate::store::doubt::Doubt;
use crate::store::{Proxy, Store, StoreError};
use crate::subscription::{Choice, Considered};
use crate::time::{Moment, Now, UnixMs};
use crate::token::refresh::{Fetch, Known};
use crate::tracker::Tracker;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Mailboxes stored in one transaction, at most.
const MAILBOXES_PER_COMMIT: usize = 10_000;
/// How often expired subscriptions are looked for.
const EXPIRE_EVERY: Duration = Duration::from_mins(1);

/// What a tick found changed.
#[derive(Default)]
pub(super) struct Changed {
    pub(super) proxy: bool,
    pub(super) identity: identity::Changed,
    pub(super) trust: bool,
}

/// The daemon's side of the store.
pub(super) struct Ledger {
    store: Arc<dyn Store>,
    tracker: Arc<Tracker>,
    desk: Arc<Desk>,
    doubt: Arc<Mutex<Doubt>>,
    /// Mailboxes without devices are watched, too.
    watches_all: bool,
    pub(super) proxy: Option<Proxy>,
    pub(super) identity: Identity,
    pub(super) trust: Trust,
    /// What was found changed and not told yet, since the store failed in between.
    changed: Changed,
    expired_at: Option<Moment>,
    is_stale: bool,
}

impl Ledger {
    pub(super) fn new(
        store: Arc<dyn Store>,
        tracker: Arc<Tracker>,
        desk: Arc<Desk>,
        doubt: Arc<Mutex<Doubt>>,
    ) -> Self {
        Self {
            identity: Identity::new(Arc::clone(&store)),
            store,
            tracker,
            desk,
            doubt,
            watches_all: false,
            proxy: None,
            trust: Trust::default(),
            changed: Changed::default(),
            expired_at: None,
            is_stale: true,
        }
    }

    /// Stores what moved, takes in what the command line changed, and lets the next certificate sign on its date.
    pub(super) fn tick(&mut self, now: Now) -> Result<Changed, StoreError> {
        self.save()?;
        self.take_up_found();
        let is_due = self.expired_at.is_none_or(|at| now.moment.since(at) >= EXPIRE_EVERY);
        if is_due {
            self.expired_at = Some(now.moment);
            self.is_stale |= !self.store.expire(now.unix)?.is_empty();
        }
        let is_retry = self.identity.is_worth_a_retry(now);
        self.is_stale |= self.store.changed_elsewhere()? || is_retry;
        if self.is_stale {
            self.read_subscriptions(now)?;
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
        Ok(std::mem::take(&mut self.changed))
    }

    /// Stores what devices show. A new page of notes begins first; what was unsaved then covers all that the older
    /// pages say, so that they can go, however much moves meanwhile.
    pub(super) fn save(&mut self) -> Result<(), StoreError> {
        let mut left = self.tracker.unsaved();
        if left == 0 {
            return Ok(());
        }
        self.doubt.lock().turn()?;
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
        self.doubt.lock().settle()
    }

    /// Compares the store with the tracker, which alone remembers who is subscribed: a second list of all devices would
    /// cost as much as half of their records. A device that the relay calls gone meanwhile is back until the next tick.
    fn read_subscriptions(&self, now: Now) -> Result<(), StoreError> {
        let mut known = self.tracker.devices();
        let mut choice = Choice::new(now.unix);
        self.store.each_subscription(&mut |kept| {
            let new = choice.consider(kept).filter(|one| known.remove(&one.recipient.key).is_none());
            if let Some(one) = new {
                self.enroll(one, now);
            }
        })?;
        for (key, mailbox) in known {
            self.forget(mailbox, key);
        }
        Ok(())
    }

    fn enroll(&self, one: Considered, now: Now) {
        match self.tracker.enroll(&one.mailbox) {
            Ok(mailbox) => {
                self.tracker.subscribe(mailbox, one.recipient, one.shown, now);
                self.desk.watch(mailbox, &one.mailbox.into());
            }
            Err(full) => tracing::error!(%full, "a subscription is left out"),
        }
    }

    /// Watches mailboxes that sources told of and nobody subscribes to.
    fn take_up_found(&self) {
        for name in self.desk.take_found() {
            match self.tracker.enroll(&name) {
                Ok(mailbox) if self.watches_all => self.desk.watch(mailbox, &name.into()),
                Ok(_) => {}
                Err(full) => {
                    return tracing::error!(%full, "mailboxes that nobody subscribes to are left out");
                }
            }
        }
    }

    /// Whether letter case tells no mailboxes apart, from now on. Where that is a change all mailboxes are let go, and
    /// the next tick enrolls them anew: two may have become one, or one two.
    pub(super) fn fold_case(&mut self, folds_case: bool) -> Result<(), StoreError> {
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
            self.desk.unwatch(mailbox);
        }
        self.is_stale = true;
        Ok(())
    }

    /// Whether mailboxes without devices are watched as well, from now on.
    pub(super) fn watch_all(&mut self, watches_all: bool) {
        self.desk.watch_all(watches_all);
        if std::mem::replace(&mut self.watches_all, watches_all) == watches_all {
            return;
        }
        for (mailbox, name) in self.tracker.names() {
            if self.tracker.has_devices(mailbox) {
                continue;
            }
            if watches_all {
                self.desk.watch(mailbox, &name);
            } else {
                self.desk.unwatch(mailbox);
            }
        }
    }

    fn forget(&self, mailbox: MailboxId, key: SubscriptionKey) {
        self.tracker.unsubscribe(mailbox, key);
        if !self.watches_all && !self.tracker.has_devices(mailbox) {
            self.desk.unwatch(mailbox);
        }
    }

    /// Drops subscriptions for good whose devices the relay called gone.
    pub(super) fn drop_gone(&self, gone: &[(MailboxId, SubscriptionKey)]) -> Result<(), StoreError> {
        self.store.remove(&gone.iter().map(|(_, key)| *key).collect::<Vec<_>>())?;
        for (mailbox, key) in gone {
            self.forget(*mailbox, *key);
        }
        Ok(())
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

    /// Keeps a token service's document that came from its URL now; the next tick reads it back.
    pub(super) fn keep_document(
        &mut self,
        fetch: Fetch,
        document: &[u8],
        at: UnixMs,
    ) -> Result<(), StoreError> {
        let Fetch { name, url } = fetch;
        let of = AuthServer { name, metadata_url: url, document: None, fetched_at: None };
        self.store.keep_auth_document(&of, document, at)?;
        self.is_stale = true;
        Ok(())
    }

    /// Mailboxes that are to be watched.
    pub(super) fn watched(&self) -> Vec<(MailboxId, Arc<str>)> {
        let mut all = self.tracker.names();
        all.retain(|(mailbox, _)| self.watches_all || self.tracker.has_devices(*mailbox));
        all
    }

    /// What the outside is told.
    pub(super) fn shown(&self) -> LedgerShown {
        let subscribed = self.tracker.subscribed();
        LedgerShown {
            subscribed: subscribed.mailboxes as u64,
            devices: subscribed.devices as u64,
            proxy: self.proxy.clone(),
            identity: self.identity.shown(),
            token_services: self.trust.known(),
        }
    }
}

/// What the outside is told of the ledger.
#[derive(Clone, Default)]
pub(super) struct LedgerShown {
    /// Mailboxes with subscriptions.
    pub(super) subscribed: u64,
    /// Subscriptions.
    pub(super) devices: u64,
    pub(super) proxy: Option<Proxy>,
    pub(super) identity: IdentityShown,
    pub(super) token_services: Vec<Known>,
}
