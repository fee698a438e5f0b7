//! Which name is which mailbox. One mailbox has one entry, whatever the letter case of its domain, and of its local part
//! where a source says that its server's names have none.

use super::Full;
use crate::event::MailboxId;
use crate::event::mailbox_name::{canonical, folded};
use dashmap::DashMap;
use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The names of all mailboxes.
#[derive(Default)]
pub(super) struct Register {
    mailboxes: DashMap<Box<str>, MailboxId, foldhash::fast::RandomState>,
    /// How those were spelled whose key is spelled otherwise: few, and a server that heeds case must be asked so.
    spelled: Mutex<HashMap<MailboxId, Box<str>>>,
    folds_case: AtomicBool,
}

impl Register {
    /// The mailbox of this name.
    pub(super) fn find(&self, name: &str) -> Option<MailboxId> {
        self.mailboxes.get(&*self.key(name)).map(|id| *id)
    }

    /// The mailbox of this name, or the one that `new` gives it.
    pub(super) fn enter(
        &self,
        name: &str,
        new: impl FnOnce() -> Result<MailboxId, Full>,
    ) -> Result<MailboxId, Full> {
        let (key, name) = (self.key(name), canonical(name));
        let entry = self.mailboxes.entry((*key).into());
        if let dashmap::Entry::Occupied(found) = &entry {
            return Ok(*found.get());
        }
        let id = new()?;
        if key != name {
            self.spelled.lock().insert(id, name.into());
        }
        entry.insert(id);
        Ok(id)
    }

    /// These mailboxes have no name any more. Walks all names.
    pub(super) fn remove(&self, mailboxes: &[MailboxId]) {
        if mailboxes.is_empty() {
            return;
        }
        let gone: HashSet<MailboxId> = mailboxes.iter().copied().collect();
        self.mailboxes.retain(|_, mailbox| !gone.contains(mailbox));
        self.spelled.lock().retain(|mailbox, _| !gone.contains(mailbox));
    }

    /// How many have a name.
    pub(super) fn len(&self) -> usize {
        self.mailboxes.len()
    }

    /// All names as they were first spelled, by the mailboxes' places.
    pub(super) fn all(&self) -> Vec<(MailboxId, Arc<str>)> {
        let keys = self.mailboxes.iter().map(|entry| (*entry.value(), Arc::from(&**entry.key())));
        let mut all: Vec<(MailboxId, Arc<str>)> = keys.collect();
        let spelled = self.spelled.lock();
        for (mailbox, name) in &mut all {
            if let Some(other) = spelled.get(mailbox) {
                *name = Arc::from(&**other);
            }
        }
        all.sort_unstable_by_key(|(mailbox, _)| *mailbox);
        all
    }

    /// The names of these mailboxes, in the same order. Walks all names.
    pub(super) fn of(&self, mailboxes: &[MailboxId]) -> Vec<Arc<str>> {
        let wanted: HashSet<MailboxId> = mailboxes.iter().copied().collect();
        let entries = self.mailboxes.iter().filter(|entry| wanted.contains(entry.value()));
        let mut names: HashMap<MailboxId, Arc<str>> =
            entries.map(|entry| (*entry.value(), Arc::from(&**entry.key()))).collect();
        let spelled = self.spelled.lock();
        for (mailbox, name) in &mut names {
            if let Some(other) = spelled.get(mailbox) {
                *name = Arc::from(&**other);
            }
        }
        mailboxes.iter().filter_map(|mailbox| names.get(mailbox).cloned()).collect()
    }

    /// From now on letter case tells no mailboxes apart, or does. True where that is a change: then all names are
    /// forgotten, since mailboxes may have become one, or two.
    pub(super) fn fold_case(&self, folds_case: bool) -> bool {
        if self.folds_case.swap(folds_case, Ordering::AcqRel) == folds_case {
            return false;
        }
        self.mailboxes.clear();
        self.spelled.lock().clear();
        true
    }

    fn key<'a>(&self, name: &'a str) -> Cow<'a, str> {
        if self.folds_case.load(Ordering::Acquire) { folded(name) } else { canonical(name) }
    }
}
