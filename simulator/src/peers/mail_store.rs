//! The simulated mail host's truth: accounts with their mailboxes, who may log in, which quirks are on, and who is
//! told of changes. Knows no protocol and no clock; sessions, control API, load and simulation all change it here.

mod login;
mod mailbox;
mod quirk;

pub use login::{Credentials, Master, Refusal};
pub use mailbox::{FlagChange, Flags, Mailbox, Message, Status};
pub use quirk::{Notifier, Quirk, Quirks, UnknownQuirk};

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// UIDVALIDITY of the first mailbox; each further one gets the next number.
const FIRST_UIDVALIDITY: u32 = 1_700_000_001;
/// Folders an account may have beside INBOX.
const FOLDERS_MAX: usize = 16;
/// Folder that every account has beside INBOX.
const TRASH: &str = "Trash";

/// An account's place in the store, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub u32);

/// A mailbox of an account: 0 is INBOX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderId(u8);

impl FolderId {
    /// INBOX.
    pub const INBOX: Self = Self(0);
}

/// What happened in the store: told at once, under the store's lock, to everyone who [`MailStore::subscribe`]d.
#[derive(Clone, Debug)]
pub enum Change {
    /// An INBOX changed; this is what STATUS says now.
    Inbox {
        /// Whose.
        account: AccountId,
        /// The account's name.
        name: Arc<str>,
        /// The count now.
        status: Status,
        /// The quirks that hold for it now.
        quirks: Quirks,
    },
    /// Quirks were switched, of one account or of all: sessions should look.
    Quirks(Option<AccountId>),
}

#[derive(Debug)]
struct Account {
    name: Arc<str>,
    inbox: Mailbox,
    folders: Vec<(Box<str>, Mailbox)>,
    quirks: Quirks,
    connections: u16,
    is_touched: bool,
    changes: u32,
}

type Observer = Box<dyn FnMut(&Change) + Send>;

/// Mailboxes of one simulated mail host. Share it as `Arc<parking_lot::Mutex<MailStore>>`.
pub struct MailStore {
    accounts: Vec<Account>,
    by_name: HashMap<Arc<str>, AccountId>,
    credentials: Credentials,
    everywhere: Quirks,
    penalty: login::Penalty,
    next_uidvalidity: u32,
    disconnects: u32,
    observers: Vec<Observer>,
}

impl MailStore {
    /// `count` accounts: `user1`, `user2` … or, with a domain, `u1@domain`, `u2@domain` …
    pub fn new(count: usize, domain: &str) -> Self {
        let name = |n| if domain.is_empty() { format!("user{n}") } else { format!("u{n}@{domain}") };
        Self::with_names((1..=count).map(name), Credentials::default())
    }

    /// Accounts of these names, duplicates left out.
    pub fn with_names(names: impl IntoIterator<Item = String>, credentials: Credentials) -> Self {
        let mut store = Self {
            accounts: Vec::new(),
            by_name: HashMap::new(),
            credentials,
            everywhere: Quirks::default(),
            penalty: login::Penalty::default(),
            next_uidvalidity: FIRST_UIDVALIDITY,
            disconnects: 0,
            observers: Vec::new(),
        };
        for name in names {
            store.add_account(&name);
        }
        store
    }

    /// The passwords that sessions check.
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Adds an account, or finds the one of that name.
    pub fn add_account(&mut self, name: &str) -> AccountId {
        if let Some(known) = self.find(name) {
            return known;
        }
        let id = AccountId(self.accounts.len() as u32);
        let name: Arc<str> = name.into();
        let inbox = Mailbox::new(self.take_uidvalidity());
        self.by_name.insert(Arc::clone(&name), id);
        self.accounts.push(Account {
            name,
            inbox,
            folders: Vec::new(),
            quirks: Quirks::default(),
            connections: 0,
            is_touched: false,
            changes: 0,
        });
        id
    }

    /// The account of this name, without regard to case as mail servers compare user names.
    pub fn find(&self, name: &str) -> Option<AccountId> {
        self.by_name.get(name).or_else(|| self.by_name.get(name.to_lowercase().as_str())).copied()
    }

    /// How many accounts there are; their ids are `0..count`.
    pub fn count(&self) -> usize {
        self.accounts.len()
    }

    /// All accounts with their names.
    pub fn names(&self) -> impl Iterator<Item = (AccountId, &Arc<str>)> {
        (0..).map(AccountId).zip(self.accounts.iter().map(|account| &account.name))
    }

    /// An account's name.
    pub fn name(&self, account: AccountId) -> Option<&Arc<str>> {
        self.account(account).map(|account| &account.name)
    }

    /// STATUS of an INBOX.
    pub fn status(&self, account: AccountId) -> Option<Status> {
        self.account(account).map(|account| account.inbox.status())
    }

    /// Messages of an INBOX by ascending uid.
    pub fn messages(&self, account: AccountId) -> &[Message] {
        self.account(account).map_or(&[], |account| account.inbox.messages())
    }

    /// Changes of this INBOX since the start, wrapping: a session that has seen this number is up to date.
    pub fn version(&self, account: AccountId) -> u32 {
        self.account(account).map_or(0, |account| account.changes)
    }

    /// Calls `observer` with every change from now on, under the store's lock: it must not wait.
    pub fn subscribe(&mut self, observer: impl FnMut(&Change) + Send + 'static) {
        self.observers.push(Box::new(observer));
    }

    /// A new unseen message in the INBOX; its uid.
    pub fn deliver(&mut self, account: AccountId) -> Option<u32> {
        self.append(account, FolderId::INBOX, Flags::NONE)
    }

    /// Adds a message with these flags; its uid.
    pub fn append(&mut self, account: AccountId, folder: FolderId, flags: Flags) -> Option<u32> {
        let mut uid = None;
        self.change(account, folder, |mailbox| {
            uid = Some(mailbox.append(flags));
            true
        });
        uid
    }

    /// Sets or clears `\Seen` of one message of the INBOX; says whether that changed anything.
    pub fn set_seen(&mut self, account: AccountId, uid: u32, is_seen: bool) -> bool {
        self.set_flag(account, uid, Flags::SEEN, is_seen)
    }

    /// Sets or clears a flag of one message of the INBOX; says whether that changed anything.
    pub fn set_flag(&mut self, account: AccountId, uid: u32, flag: Flags, is_set: bool) -> bool {
        let change = if is_set { FlagChange::Add(flag) } else { FlagChange::Remove(flag) };
        self.change(account, FolderId::INBOX, |mailbox| mailbox.store_one(uid, change))
    }

    /// Marks every message of the INBOX seen; says whether that changed anything.
    pub fn all_seen(&mut self, account: AccountId) -> bool {
        let change = FlagChange::Add(Flags::SEEN);
        self.change(account, FolderId::INBOX, |mailbox| mailbox.store(change, |_| true))
    }

    /// Removes one message of the INBOX, whatever its flags; says whether it was there.
    pub fn expunge(&mut self, account: AccountId, uid: u32) -> bool {
        self.change(account, FolderId::INBOX, |mailbox| {
            !mailbox.remove(|message| message.uid == uid).is_empty()
        })
    }

    /// Moves one message of the INBOX to `Trash`; its uid there.
    pub fn move_out(&mut self, account: AccountId, uid: u32) -> Option<u32> {
        let trash = self.folder(account, TRASH)?;
        let moved = self.move_messages(account, FolderId::INBOX, trash, |message| message.uid == uid);
        moved.first().map(|(_, new)| *new)
    }

    /// Moves one message of `Trash` back into the INBOX; its uid there.
    pub fn move_in(&mut self, account: AccountId, uid: u32) -> Option<u32> {
        let trash = self.folder(account, TRASH)?;
        let moved = self.move_messages(account, trash, FolderId::INBOX, |message| message.uid == uid);
        moved.first().map(|(_, new)| *new)
    }

    /// Moves what `chosen` picks; pairs of old and new uid (RFC 6851 §4.3).
    pub fn move_messages(
        &mut self,
        account: AccountId,
        from: FolderId,
        to: FolderId,
        chosen: impl Fn(&Message) -> bool,
    ) -> Vec<(u32, u32)> {
        if from == to || self.mailbox(account, to).is_none() {
            return Vec::new();
        }
        let mut gone = Vec::new();
        self.change(account, from, |mailbox| {
            gone = mailbox.remove(chosen);
            !gone.is_empty()
        });
        let mut pairs = Vec::with_capacity(gone.len());
        self.change(account, to, |mailbox| {
            pairs.extend(gone.iter().map(|message| (message.uid, mailbox.append(message.flags))));
            !pairs.is_empty()
        });
        pairs
    }

    /// Makes the INBOX look made anew: another UIDVALIDITY, uids from 1, HIGHESTMODSEQ 1.
    pub fn bump_uidvalidity(&mut self, account: AccountId) {
        let uidvalidity = self.take_uidvalidity();
        self.change(account, FolderId::INBOX, |mailbox| {
            mailbox.renumber(uidvalidity);
            true
        });
    }

    /// Makes the order of the INBOX go back: HIGHESTMODSEQ falls, UIDVALIDITY too where `is_validity`.
    pub fn order_goes_back(&mut self, account: AccountId, is_validity: bool) {
        self.change(account, FolderId::INBOX, |mailbox| {
            mailbox.order_goes_back(is_validity);
            true
        });
    }

    /// Switches a quirk of one account, or with `None` of the whole host. Those that act once act now.
    pub fn set_quirk(&mut self, account: Option<AccountId>, quirk: Quirk, on: bool) {
        let all = 0..self.count() as u32;
        match (quirk, account) {
            (Quirk::UidValidityBump, Some(account)) if on => self.bump_uidvalidity(account),
            (Quirk::UidValidityBump, None) if on => all.for_each(|n| self.bump_uidvalidity(AccountId(n))),
            (Quirk::OrderGoesBack, Some(account)) if on => self.order_goes_back(account, false),
            (Quirk::OrderGoesBack, None) if on => all.for_each(|n| self.order_goes_back(AccountId(n), false)),
            (Quirk::MassDisconnect, _) if on => self.disconnects += 1,
            _ if quirk.acts_once() => return,
            (_, None) => self.everywhere.set(quirk, on),
            (_, Some(id)) => {
                if let Some(account) = self.account_mut(id) {
                    account.quirks.set(quirk, on);
                }
            }
        }
        self.tell(&Change::Quirks(if quirk == Quirk::MassDisconnect { None } else { account }));
    }

    /// The quirks that hold for one account: its own and those of the whole host.
    pub fn quirks(&self, account: AccountId) -> Quirks {
        self.account(account).map_or(self.everywhere, |account| account.quirks.over(self.everywhere))
    }

    /// The quirks that were switched for this account alone.
    pub fn quirks_of_its_own(&self, account: AccountId) -> Quirks {
        self.account(account).map_or(Quirks::default(), |account| account.quirks)
    }

    /// The quirks of the whole host.
    pub const fn everywhere(&self) -> Quirks {
        self.everywhere
    }

    /// How often `mass-disconnect` was called for.
    pub const fn disconnects(&self) -> u32 {
        self.disconnects
    }

    /// The folder of this name, INBOX without regard to case. `Trash` is made when first asked for.
    pub fn folder(&mut self, account: AccountId, name: &str) -> Option<FolderId> {
        if name.eq_ignore_ascii_case("INBOX") {
            return self.account(account).map(|_| FolderId::INBOX);
        }
        let found = self.account(account)?.folders.iter().position(|(known, _)| **known == *name);
        match found {
            Some(place) => u8::try_from(place + 1).ok().map(FolderId),
            None if name == TRASH => self.create_folder(account, TRASH),
            None => None,
        }
    }

    /// Makes a folder; `None` where it is there already or there are too many.
    pub fn create_folder(&mut self, id: AccountId, name: &str) -> Option<FolderId> {
        let uidvalidity = self.take_uidvalidity();
        let account = self.account_mut(id)?;
        let is_known =
            name.eq_ignore_ascii_case("INBOX") || account.folders.iter().any(|(known, _)| **known == *name);
        if is_known || account.folders.len() >= FOLDERS_MAX {
            return None;
        }
        account.folders.push((name.into(), Mailbox::new(uidvalidity)));
        u8::try_from(account.folders.len()).ok().map(FolderId)
    }

    /// Names of an account's folders beside INBOX.
    pub fn folders(&self, account: AccountId) -> impl Iterator<Item = &str> {
        self.account(account).into_iter().flat_map(|account| account.folders.iter().map(|(name, _)| &**name))
    }

    /// A mailbox to read.
    pub fn mailbox(&self, account: AccountId, folder: FolderId) -> Option<&Mailbox> {
        let account = self.account(account)?;
        match folder.0.checked_sub(1) {
            None => Some(&account.inbox),
            Some(place) => account.folders.get(usize::from(place)).map(|(_, mailbox)| mailbox),
        }
    }

    /// Changes a mailbox; `edit` says whether it did, and where an INBOX changed everyone is told.
    pub fn change(
        &mut self,
        account: AccountId,
        folder: FolderId,
        edit: impl FnOnce(&mut Mailbox) -> bool,
    ) -> bool {
        let everywhere = self.everywhere;
        let Some(record) = self.account_mut(account) else { return false };
        let mailbox = match folder.0.checked_sub(1) {
            None => Some(&mut record.inbox),
            Some(place) => record.folders.get_mut(usize::from(place)).map(|(_, mailbox)| mailbox),
        };
        let is_changed = mailbox.is_some_and(edit);
        if is_changed && folder == FolderId::INBOX {
            record.changes = record.changes.wrapping_add(1);
            let (name, status) = (Arc::clone(&record.name), record.inbox.status());
            let change = Change::Inbox { account, name, status, quirks: record.quirks.over(everywhere) };
            self.tell(&change);
        }
        is_changed
    }

    /// Whether something has asked for this INBOX or put mail into it (quirk `inbox-missing-until-asked`).
    pub fn is_inbox_there(&self, account: AccountId) -> bool {
        !self.quirks(account).has(Quirk::InboxMissingUntilAsked)
            || self.account(account).is_some_and(|account| account.is_touched || account.changes > 0)
    }

    /// Something asked for this INBOX: now it is there.
    pub fn touch_inbox(&mut self, account: AccountId) {
        if let Some(account) = self.account_mut(account) {
            account.is_touched = true;
        }
    }

    fn account(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(id.0 as usize)
    }

    fn account_mut(&mut self, id: AccountId) -> Option<&mut Account> {
        self.accounts.get_mut(id.0 as usize)
    }

    fn take_uidvalidity(&mut self) -> u32 {
        let taken = self.next_uidvalidity;
        self.next_uidvalidity = taken.wrapping_add(1).max(1);
        taken
    }

    fn tell(&mut self, change: &Change) {
        for observer in &mut self.observers {
            observer(change);
        }
    }
}

impl fmt::Debug for MailStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailStore").field("accounts", &self.accounts.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
