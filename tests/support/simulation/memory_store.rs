//! What outlives an agent's process, in memory: the store, and the pages that notes of doubt are written on.
//!
//! Each call of the agent may be refused, or be the one in which its process is killed: then it was carried out, or it
//! was not. What was written and not forced to the disk, pages above all, is lost or torn where the machine loses power.
//! Which calls the agent makes in which order is its own affair: here its own ledger and notes make them.

use super::agent::signers;
use super::cloud::{AUTHORITY, ORGANIZATION};
use mailbadge::event::SubscriptionKey;
use mailbadge::identity::auth_config::AuthConfig;
use mailbadge::identity::certificate::StoredCertificate;
use mailbadge::identity::partner::{AuthServer, PartnerApplication};
use mailbadge::store::{Proxy, ProxyChange, Store, StoreError, UpsertOutcome};
use mailbadge::subscription::{Added, NewSubscription, Subscription};
use mailbadge::time::UnixMs;
use mailbadge_sim::world::Seed;
use parking_lot::{Mutex, MutexGuard};
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

mod memory_pages;

pub use memory_pages::MemoryPages;

/// While the disk fails, one call in so many is refused.
const REFUSED_OF: u8 = 8;

/// The disk of the agent's machine.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<Inner>>);

struct Inner {
    subscriptions: BTreeMap<SubscriptionKey, Subscription>,
    keys_given: i64,
    started_s: u64,
    auth_config: AuthConfig,
    /// Counts changes of the store.
    commits: u64,
    pages: BTreeMap<u64, Vec<u8>>,
    marker: Option<String>,
    /// The marker as it was last forced to the disk.
    synced_marker: Option<String>,
    boots: u32,
    faults: Faults,
}

/// What goes wrong now.
struct Faults {
    rng: fastrand::Rng,
    is_full: bool,
    is_failing: bool,
    /// The agent is killed in the call after so many more.
    kill_after: Option<u32>,
    /// The agent was killed, and the world has not buried it yet.
    is_killed: bool,
    refused: u64,
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Agent,
    CommandLine,
}

/// What comes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Refused,
    /// It was carried out, and nobody is left to be told.
    DoneAndKilled,
}

impl Faults {
    fn outcome(&mut self, caller: Caller, needs_room: bool) -> Outcome {
        if caller == Caller::Agent {
            if self.is_killed {
                return Outcome::Refused;
            }
            if self.kill_after == Some(0) {
                (self.kill_after, self.is_killed) = (None, true);
                return if self.rng.bool() { Outcome::DoneAndKilled } else { Outcome::Refused };
            }
            self.kill_after = self.kill_after.map(|calls| calls - 1);
        }
        let is_refused = needs_room && self.is_full || self.is_failing && self.rng.u8(0..REFUSED_OF) == 0;
        self.refused += u64::from(is_refused);
        if is_refused { Outcome::Refused } else { Outcome::Done }
    }
}

impl Disk {
    /// Empty, and all is well.
    pub fn new(seed: Seed) -> Self {
        let faults = Faults {
            rng: seed.stream("disk calls"),
            is_full: false,
            is_failing: false,
            kill_after: None,
            is_killed: false,
            refused: 0,
        };
        let current = signers().first().map(|signer| signer.certificate().thumbprint().to_string());
        Self(Arc::new(Mutex::new(Inner {
            subscriptions: BTreeMap::new(),
            keys_given: 0,
            started_s: 0,
            auth_config: AuthConfig { current, ..AuthConfig::default() },
            commits: 0,
            pages: BTreeMap::new(),
            marker: None,
            synced_marker: None,
            boots: 1,
            faults,
        })))
    }

    /// The store as a new process of the agent opens it.
    pub fn of_agent(&self) -> MemoryStore {
        MemoryStore::new(self.clone(), Caller::Agent)
    }

    /// The store as the command line opens it.
    pub fn of_command_line(&self) -> MemoryStore {
        MemoryStore::new(self.clone(), Caller::CommandLine)
    }

    /// The pages as a new process of the agent opens them.
    pub fn pages(&self) -> MemoryPages {
        MemoryPages::new(self.clone())
    }

    /// The id of the machine's boot.
    pub fn boot(&self) -> String {
        format!("boot {}", self.0.lock().boots)
    }

    /// All registrations, as they are stored.
    pub fn subscriptions(&self) -> Vec<Subscription> {
        self.0.lock().subscriptions.values().cloned().collect()
    }

    /// Nothing can be written, or again.
    pub fn set_full(&self, is_full: bool) {
        self.0.lock().faults.is_full = is_full;
    }

    /// Calls are refused now and then, or no more.
    pub fn set_failing(&self, is_failing: bool) {
        self.0.lock().faults.is_failing = is_failing;
    }

    /// The agent is killed in its call after `calls` more; `None`: in no call.
    pub fn kill_after(&self, calls: Option<u32>) {
        self.0.lock().faults.kill_after = calls;
    }

    /// Whether the agent was killed in a call.
    pub fn is_killed(&self) -> bool {
        self.0.lock().faults.is_killed
    }

    /// The process is no more; the next one may begin.
    pub fn bury(&self) {
        self.0.lock().faults.is_killed = false;
    }

    /// Calls that were refused so far.
    pub fn refused(&self) -> u64 {
        self.0.lock().faults.refused
    }

    /// The machine loses power: what was written and not forced to the disk is there, torn or lost.
    pub fn power_cut(&self) {
        let mut inner = self.0.lock();
        let Inner { pages, marker, synced_marker, boots, faults, .. } = &mut *inner;
        pages.retain(|_, bytes| {
            bytes.truncate(faults.rng.usize(0..=bytes.len()));
            faults.rng.bool()
        });
        if faults.rng.bool() {
            marker.clone_from(synced_marker);
        }
        synced_marker.clone_from(marker);
        *boots += 1;
    }

    /// A call that reads.
    fn read<T>(&self, caller: Caller, look: impl FnOnce(&Inner) -> T) -> Result<T, StoreError> {
        let mut inner = self.0.lock();
        match inner.faults.outcome(caller, false) {
            Outcome::Done => Ok(look(&inner)),
            Outcome::Refused | Outcome::DoneAndKilled => Err(refused()),
        }
    }

    /// A call that writes, all or nothing.
    fn write<T>(&self, caller: Caller, change: impl FnOnce(&mut Inner) -> T) -> Result<T, StoreError> {
        self.write_where(caller, |_| true, change)
    }

    /// A call that needs room on the disk only where `needs_room`.
    fn write_where<T>(
        &self,
        caller: Caller,
        needs_room: impl FnOnce(&Inner) -> bool,
        change: impl FnOnce(&mut Inner) -> T,
    ) -> Result<T, StoreError> {
        let mut inner: MutexGuard<'_, Inner> = self.0.lock();
        let needs_room = needs_room(&inner);
        match inner.faults.outcome(caller, needs_room) {
            Outcome::Done => Ok(change(&mut inner)),
            Outcome::Refused => Err(refused()),
            Outcome::DoneAndKilled => {
                change(&mut inner);
                Err(refused())
            }
        }
    }
}

fn refused() -> StoreError {
    StoreError::Io { path: "the disk of the story".into(), cause: io::Error::other("refused") }
}

/// The store of one process.
pub struct MemoryStore {
    disk: Disk,
    caller: Caller,
    own: Mutex<Own>,
}

/// What [`Store::changed_elsewhere`] compares.
#[derive(Default)]
struct Own {
    /// Changes made here.
    commits: u64,
    /// Changes made elsewhere, when last asked.
    elsewhere: u64,
}

impl MemoryStore {
    fn new(disk: Disk, caller: Caller) -> Self {
        let elsewhere = disk.0.lock().commits;
        Self { disk, caller, own: Mutex::new(Own { commits: 0, elsewhere }) }
    }

    fn commit<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> Result<T, StoreError> {
        self.commit_where(|_| true, change)
    }

    fn commit_where<T>(
        &self,
        needs_room: impl FnOnce(&Inner) -> bool,
        change: impl FnOnce(&mut Inner) -> T,
    ) -> Result<T, StoreError> {
        let done = self.disk.write_where(self.caller, needs_room, |inner| {
            inner.commits += 1;
            change(inner)
        })?;
        self.own.lock().commits += 1;
        Ok(done)
    }

    fn read<T>(&self, look: impl FnOnce(&Inner) -> T) -> Result<T, StoreError> {
        self.disk.read(self.caller, look)
    }
}

fn add_one(inner: &mut Inner, new: &NewSubscription) -> Added {
    let is_former = |old: &NewSubscription| {
        (&old.mailbox, &old.subscription_id) == (&new.mailbox, &new.subscription_id)
            || (&old.app_id, &old.device_id) == (&new.app_id, &new.device_id)
    };
    let former = inner.subscriptions.extract_if(.., |_, kept| is_former(&kept.record));
    let (mut replaced, mut record) = (Vec::new(), new.clone());
    for (key, kept) in former {
        replaced.push(key);
        record.shown = record.shown.filter(|shown| kept.record.shown == Some(*shown));
    }
    inner.keys_given += 1;
    let key = SubscriptionKey(inner.keys_given);
    inner.subscriptions.insert(key, Subscription { key, record });
    Added { key, replaced }
}

/// In the store's order: by mailbox, the newest first.
fn in_order(inner: &Inner, mailbox: Option<&str>) -> Vec<Subscription> {
    let of_mailbox = |kept: &&Subscription| mailbox.is_none_or(|mailbox| kept.record.mailbox == mailbox);
    let mut all: Vec<Subscription> = inner.subscriptions.values().filter(of_mailbox).cloned().collect();
    all.sort_by(|a, b| {
        let newest_first = (b.record.updated_at, b.key).cmp(&(a.record.updated_at, a.key));
        a.record.mailbox.cmp(&b.record.mailbox).then(newest_first)
    });
    all
}

impl Store for MemoryStore {
    fn add(&self, new: &[NewSubscription]) -> Result<Vec<Added>, StoreError> {
        self.commit(|inner| new.iter().map(|record| add_one(inner, record)).collect())
    }

    fn remove(&self, keys: &[SubscriptionKey]) -> Result<Vec<SubscriptionKey>, StoreError> {
        let remove = |inner: &mut Inner| {
            let there = keys.iter().copied().filter(|key| inner.subscriptions.remove(key).is_some());
            there.collect()
        };
        self.commit(remove)
    }

    fn subscriptions(&self, mailbox: Option<&str>) -> Result<Vec<Subscription>, StoreError> {
        self.read(|inner| in_order(inner, mailbox))
    }

    fn each_subscription(&self, see: &mut dyn FnMut(Subscription)) -> Result<(), StoreError> {
        self.read(|inner| in_order(inner, None).into_iter().for_each(see))
    }

    fn expire(&self, now: UnixMs) -> Result<Vec<SubscriptionKey>, StoreError> {
        let is_over = |kept: &Subscription| kept.record.expires_at <= now;
        self.commit_where(
            |inner| inner.subscriptions.values().any(is_over),
            |inner| inner.subscriptions.extract_if(.., |_, kept| is_over(kept)).map(|(key, _)| key).collect(),
        )
    }

    fn record_shown(&self, shown: &[(SubscriptionKey, Option<u32>)]) -> Result<(), StoreError> {
        self.commit(|inner| {
            for (key, count) in shown {
                if let Some(kept) = inner.subscriptions.get_mut(key) {
                    kept.record.shown = *count;
                }
            }
        })
    }

    fn proxy(&self) -> Result<Proxy, StoreError> {
        let proxy = Proxy {
            is_enabled: true,
            organization: Some(ORGANIZATION.to_owned()),
            uri: format!("https://{AUTHORITY}/PushNotifications"),
            guid: "00000000-0000-0000-0000-000000000001".to_owned(),
            created_at: UnixMs(0),
            changed_at: UnixMs(0),
        };
        self.read(|_| proxy)
    }

    fn change_proxy(&self, _change: &ProxyChange, _now: UnixMs) -> Result<Proxy, StoreError> {
        self.proxy()
    }

    fn certificates(&self) -> Result<Vec<StoredCertificate>, StoreError> {
        let certificates = signers().iter().map(|signer| StoredCertificate {
            thumbprint: signer.certificate().thumbprint().to_string(),
            friendly_name: signer.certificate().friendly_name().to_owned(),
            der: signer.certificate().der().to_vec(),
        });
        self.read(|_| certificates.collect())
    }

    fn add_certificate(
        &self,
        _certificate: &StoredCertificate,
        _key: &SecretString,
    ) -> Result<(), StoreError> {
        self.read(|_| ())
    }

    fn remove_certificate(&self, _thumbprint: &str) -> Result<bool, StoreError> {
        self.read(|_| false)
    }

    fn private_key(&self, thumbprint: &str) -> Result<SecretString, StoreError> {
        let is_first = signers()[0].certificate().thumbprint().to_string() == thumbprint;
        let pem = if is_first {
            include_str!("../../../fixtures/certificates/agent.key.pem")
        } else {
            include_str!("../../../fixtures/certificates/stranger.key.pem")
        };
        self.read(|_| SecretString::from(pem.to_owned()))
    }

    fn auth_config(&self) -> Result<AuthConfig, StoreError> {
        self.read(|inner| inner.auth_config.clone())
    }

    fn replace_auth_config(&self, before: &AuthConfig, after: &AuthConfig) -> Result<bool, StoreError> {
        self.commit(|inner| {
            let is_same = inner.auth_config == *before;
            if is_same {
                inner.auth_config = after.clone();
            }
            is_same
        })
    }

    fn begin(&self, now: UnixMs) -> Result<UnixMs, StoreError> {
        self.commit(|inner| {
            inner.started_s = now.seconds().max(inner.started_s + 1);
            UnixMs::from_seconds(inner.started_s)
        })
    }

    fn auth_servers(&self) -> Result<Vec<AuthServer>, StoreError> {
        self.read(|_| Vec::new())
    }

    fn keep_auth_server(&self, _server: &AuthServer) -> Result<UpsertOutcome, StoreError> {
        self.read(|_| UpsertOutcome::Unchanged)
    }

    fn keep_auth_document(
        &self,
        _of: &AuthServer,
        _document: &[u8],
        _at: UnixMs,
    ) -> Result<bool, StoreError> {
        self.read(|_| false)
    }

    fn remove_auth_server(&self, _name: &str) -> Result<bool, StoreError> {
        self.read(|_| false)
    }

    fn partners(&self) -> Result<Vec<PartnerApplication>, StoreError> {
        self.read(|_| Vec::new())
    }

    fn add_partner(&self, _partner: &PartnerApplication) -> Result<bool, StoreError> {
        self.read(|_| false)
    }

    fn remove_partner(&self, _name: &str) -> Result<bool, StoreError> {
        self.read(|_| false)
    }

    fn changed_elsewhere(&self) -> Result<bool, StoreError> {
        let commits = self.read(|inner| inner.commits)?;
        let mut own = self.own.lock();
        let elsewhere = commits - own.commits;
        Ok(std::mem::replace(&mut own.elsewhere, elsewhere) != elsewhere)
    }
}
