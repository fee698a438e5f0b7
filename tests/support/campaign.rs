//! A scene of the fault campaign: an agent with its relay, its mail server and its users, whose badges are compared with
//! the truth.

use crate::cloud::{Cloud, ORGANIZATION};
use crate::host::{Host, badges};
use crate::process::try_until;
use crate::traffic::{Counted, Traffic};
use mailbadge::time::driver::Clock;
use mailbadge_sim::peers::mail_store::MailStore;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Mail processes that change mailboxes at the same time.
const PROCESSES: u64 = 2;
/// What was not told is found within this.
const SWEEP: &str = "sweep-interval = \"10s\"\n";
/// How long it may take until all badges are true: past the longest wait between two attempts, which is a minute.
pub const LIMIT: Duration = Duration::from_secs(150);

/// See the module.
pub struct Scene {
    /// Relay and devices.
    pub cloud: Cloud,
    /// The agent.
    pub host: Host,
    store: Arc<Mutex<MailStore>>,
    names: Vec<String>,
    /// Changes so far.
    pub counted: Counted,
}

impl Scene {
    /// Configured, subscribed, not started. The agent is told by dict and sweeps over IMAP.
    pub fn new(mailboxes: usize) -> Self {
        Self::with(Host::new(), mailboxes)
    }

    /// The same with this agent's folder.
    pub fn with(host: Host, mailboxes: usize) -> Self {
        let cloud = Cloud::start_with(Some(MailStore::new(mailboxes, ORGANIZATION)));
        Self::configured(cloud, host, Host::configure_with)
    }

    /// The same with a relay that takes a token service's tokens alone, which live so long.
    pub fn by_token_service(mailboxes: usize, token_life: Duration) -> Self {
        let cloud = Cloud::by_token_service(MailStore::new(mailboxes, ORGANIZATION), token_life);
        Self::configured(cloud, Host::new(), Host::configure_by_token_service)
    }

    fn configured(cloud: Cloud, host: Host, configure: fn(&Host, &Cloud, &str, &str)) -> Self {
        let (store, imap) = cloud.mail_store().expect("it was given one");
        let names: Vec<String> = store.lock().names().map(|(_, name)| name.to_string()).collect();
        let sources = host.dovecot_source() + &host.imap_source_at(imap, "sweep") + SWEEP;
        configure(&host, &cloud, "timeout = \"2s\"\nmax-hold = \"20ms\"", &sources);
        host.subscribe(&names);
        Self { cloud, host, store, names, counted: Counted::default() }
    }

    /// Users change their mailboxes until so many changes were made in all, while `fail` runs.
    pub fn meanwhile<T>(&mut self, changes: u64, fail: impl FnOnce(&mut Host, &Cloud, &Counted) -> T) -> T {
        let Self { cloud, host, store, counted, .. } = self;
        let most = counted.made.load(Ordering::Relaxed) + changes;
        let (socket, is_over) = (host.dict_socket(), AtomicBool::new(false));
        thread::scope(|scope| {
            for seed in 0..PROCESSES {
                let (store, socket, counted, is_over) = (Arc::clone(store), &socket, &*counted, &is_over);
                scope.spawn(move || Traffic::new(store, socket, seed).run(most, counted, is_over));
            }
            let done = fail(host, cloud, counted);
            let _ = try_until(LIMIT, || (counted.made.load(Ordering::Relaxed) >= most).then_some(()));
            is_over.store(true, Ordering::Relaxed);
            done
        })
    }

    /// One more change of each mailbox.
    pub fn touch_all(&self) {
        let mut store = self.store.lock();
        for name in &self.names {
            let account = store.find(name).expect("it is there");
            store.deliver(account);
        }
    }

    /// The count of a mailbox.
    pub fn truth(&self, name: &str) -> Option<u32> {
        let store = self.store.lock();
        store.find(name).and_then(|account| store.status(account)).map(|status| status.unseen)
    }

    /// Mailboxes by name.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn wrong(&self) -> Vec<String> {
        let is_wrong = |name: &&String| badges(&self.cloud, name) != [self.truth(name); 2];
        self.names.iter().filter(is_wrong).cloned().collect()
    }

    /// Waits until no badge is wrong; how long it took. Panics with those that are.
    pub fn all_true(&self, what: &str) -> Duration {
        let clock = Clock::start();
        if try_until(LIMIT, || self.wrong().is_empty().then_some(())).is_none() {
            let (wrong, status) = (self.wrong(), self.host.ask("/status"));
            panic!("{what}: badges of {wrong:?} are wrong\n{status}");
        }
        Duration::from_micros(clock.now().moment.micros())
    }
}
