//! The agent's rooms in one process's life: tracker, ledger, flow, roster. Its IMAP connections are the mail host's other ends.

use super::cloud::{AUTHORITY, EXCHANGE, ORGANIZATION};
use super::memory_store::Disk;
use super::{Plan, bound};
use mailbadge::counters::{FlowCounters, SourceCounters};
use mailbadge::event::{MailboxId, News, Reading, Recipient, SourceId, SubscriptionKey, Verdict};
use mailbadge::flow::{Flow, Input, Settings};
use mailbadge::forwarder::outbox;
use mailbadge::forwarder::wire::Stamp;
use mailbadge::identity::certificate::Certificate;
use mailbadge::identity::key::PrivateKey;
use mailbadge::identity::principal::Principal;
use mailbadge::ledger::{self, Gone, Ledger, Output};
use mailbadge::source::imap::roster::{self, Roster};
use mailbadge::source::imap::traits::Traits;
use mailbadge::source::imap::{self, Login, Watch};
use mailbadge::store::Store;
use mailbadge::store::doubt::Doubt;
use mailbadge::store::notes::Notes;
use mailbadge::time::{Moment, Now};
use mailbadge::token::choice::{AuthServer, Configured};
use mailbadge::token::claims::Claims;
use mailbadge::token::keeper;
use mailbadge::token::signer::{SignedToken, Signer};
use mailbadge::tracker::Tracker;
use mailbadge::tracker::assurance::Terms;
use mailbadge::tracker::record::Record;
use mailbadge_sim::play::Telling;
use secrecy::SecretString;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Mailboxes in a batch, at most: small, so that full batches are met.
pub const BATCH_MAX: usize = 3;
/// Batches in flight, at most.
pub const CONCURRENCY: usize = 2;
/// The password of its master user at the mail host.
pub const PASSWORD: &str = "master-secret";
/// The source that events come from.
pub const EVENTS: SourceId = SourceId(0);
/// The IMAP source.
pub const IMAP: SourceId = SourceId(1);
/// The source that reads more cheaply than IMAP.
pub const ELSEWHERE: SourceId = SourceId(2);

/// A process of the agent.
pub struct Agent {
    /// The table.
    pub tracker: Arc<Tracker>,
    /// The way to the relay.
    pub flow: Flow,
    /// Wakes the relay loop, as `run/relay.rs` is woken: nothing else does but its timer.
    is_woken: Arc<AtomicBool>,
    /// Until when the relay loop sleeps, unless it is woken.
    pub sleeps_until: Option<Moment>,
    /// The IMAP source's pure half.
    pub roster: Roster,
    /// Settings of its sessions.
    pub imap: Arc<imap::Settings>,
    /// What its sessions learned of their server.
    pub traits: Arc<Traits>,
    /// Keeps the tracker in step with the store.
    ledger: Ledger,
    /// What is in doubt.
    pub notes: Arc<dyn Notes>,
    /// Devices that the relay called gone.
    pub gone: Arc<Gone>,
    /// Of its tokens for the relay.
    keeper: keeper::Settings,
    /// What its connections count.
    pub counters: SourceCounters,
    /// When the process started.
    started: Moment,
}

/// The two certificates that the agent takes turns with, and who signs with each.
pub fn signers() -> &'static [Signer; 2] {
    static SIGNERS: OnceLock<[Signer; 2]> = OnceLock::new();
    SIGNERS.get_or_init(|| {
        let own = |pem, key| {
            let certificate =
                Certificate::from_pem(pem, "Exchange S2S OAuth").expect("the fixture is a certificate");
            Signer::new(certificate, PrivateKey::from_pem(key).expect("the fixture is a key"))
        };
        [
            own(
                include_str!("../../../fixtures/certificates/agent.cert.pem"),
                include_str!("../../../fixtures/certificates/agent.key.pem"),
            ),
            own(
                include_str!("../../../fixtures/certificates/stranger.cert.pem"),
                include_str!("../../../fixtures/certificates/stranger.key.pem"),
            ),
        ]
    })
}

impl Agent {
    /// A process starts with what the disk holds; `None` where the disk does not let it.
    pub fn start(
        plan: &Plan,
        disk: &Disk,
        auth_servers: Vec<AuthServer>,
        names: &[Arc<str>],
        seed: u64,
        now: Now,
    ) -> Option<Self> {
        let tracker = Arc::new(Tracker::default());
        let outbox = outbox::Settings { concurrency: CONCURRENCY, batch_max: BATCH_MAX };
        let settings = Settings { outbox, hold_max: Duration::from_secs(1) };
        let store: Arc<dyn Store> = Arc::new(disk.of_agent());
        let notes: Arc<dyn Notes> = Arc::new(Doubt::on(disk.pages(), &disk.boot()).ok()?);
        let is_woken = Arc::new(AtomicBool::new(true));
        let wake = Arc::clone(&is_woken);
        tracker.on_ready(BATCH_MAX, move || wake.store(true, Ordering::Relaxed));
        let started = ledger::start(&*store, &*notes, now.unix).ok()?;
        let counters = Arc::new(FlowCounters::default());
        let flow = Flow::new(settings, Arc::clone(&tracker), counters, Stamp::new(started), seed);
        let ledger = Ledger::new(store, Arc::clone(&notes), Arc::clone(&tracker));
        for name in names {
            tracker.enroll(name).expect("a handful fits");
        }
        let imap = Arc::new(imap_settings(plan.telling));
        let mut agent = Self {
            tracker,
            flow,
            is_woken,
            sleeps_until: None,
            roster: Roster::new(&imap, seed),
            imap,
            traits: Arc::new(Traits::default()),
            gone: ledger.gone(),
            ledger,
            notes,
            keeper: keeper_settings(plan, auth_servers),
            counters: SourceCounters::default(),
            started: now.moment,
        };
        agent.tick(now);
        Some(agent)
    }

    /// The ledger looks. Where its store fails it looks again at its next tick.
    pub fn tick(&mut self, now: Now) {
        let Self { ledger, roster, flow, keeper, is_woken, .. } = self;
        let mut tell_flow = |input| {
            flow.handle(input, now);
            is_woken.store(true, Ordering::Relaxed);
        };
        let carry = &mut |_: &Ledger, output| match output {
            Output::Watch(mailbox, name) => roster.handle(now, roster::Input::Watch(mailbox, name)),
            Output::Unwatch(mailbox) => roster.handle(now, roster::Input::Unwatch(mailbox)),
            Output::ProxyChanged => tell_flow(Input::Relay(Some(keeper.clone()))),
            Output::SignerChanged => tell_flow(Input::CertificateChanged),
            // What the agent knows of token services it learns when it starts.
            Output::TokenServicesChanged | Output::CredentialsChanged => {}
        };
        if let Err(error) = ledger.tick(now, carry) {
            tracing::error!("{error}");
        }
    }

    /// The relay loop takes something up.
    pub fn tell_flow(&mut self, input: Input, now: Now) {
        self.flow.handle(input, now);
        self.is_woken.store(true, Ordering::Relaxed);
    }

    /// Whether the relay loop was woken since it was last asked, or its timer is due.
    pub fn is_relay_loop_awake(&self, now: Now) -> bool {
        let is_due = self.sleeps_until.is_some_and(|at| at <= now.moment);
        self.is_woken.swap(false, Ordering::Relaxed) || is_due
    }

    /// A clean end. What the store refuses then is in doubt at the next start.
    pub fn end(&mut self) {
        if let Err(error) = self.ledger.end() {
            tracing::error!("{error}");
        }
    }

    /// Signs with the certificate that the store names.
    pub fn sign(&self, claims: &Claims) -> Result<SignedToken, String> {
        ledger::sign(self.ledger.signer().as_deref(), claims)
    }

    /// What it knows its devices to show: key, device id, count.
    pub fn shown(&self) -> Vec<(SubscriptionKey, String, Option<u32>)> {
        let of = |mailbox: MailboxId| {
            let each = |(it, shown): (&Recipient, _)| (it.key, it.device_id.to_string(), shown);
            let look = |record: &Record| record.devices().map(each).collect();
            self.tracker.inspect(mailbox, look).unwrap_or_default()
        };
        let all: BTreeSet<MailboxId> = self.tracker.devices().into_values().collect();
        all.into_iter().flat_map(|mailbox| -> Vec<_> { of(mailbox) }).collect()
    }

    /// Mailboxes whose count it does not know, as `status` and `/readyz` name them.
    pub fn unknown(&self, now: Now) -> Vec<MailboxId> {
        let sweep = self.imap.sweep_interval;
        let terms = Terms { sweep, login_rate: Some(self.imap.login_rate), since: self.started };
        self.tracker.census(Some(&terms), now).listed_unknown
    }

    /// Takes a reading of the source that is cheaper than IMAP, which is spared reading the mailbox itself.
    pub fn observe_elsewhere(&mut self, mailbox: MailboxId, reading: Reading, now: Now) {
        self.observe(mailbox, ELSEWHERE, News::Reading(reading), now);
        self.roster.handle(now, roster::Input::ReadElsewhere(mailbox));
    }

    /// Takes news, and asks where the tracker wants to know more.
    pub fn observe(&mut self, mailbox: MailboxId, source: SourceId, news: News, now: Now) -> Verdict {
        let verdict = self.tracker.observe(mailbox, source, news, now);
        if verdict == Verdict::Ask {
            self.roster.handle(now, roster::Input::Ask(mailbox));
        }
        verdict
    }
}

/// The agent's number for a mailbox: they are enrolled in order.
pub fn mailbox(number: usize) -> MailboxId {
    MailboxId(u32::try_from(number).unwrap_or(u32::MAX))
}

fn keeper_settings(plan: &Plan, auth_servers: Vec<AuthServer>) -> keeper::Settings {
    keeper::Settings {
        configured: Configured {
            own: Principal::new(EXCHANGE, ORGANIZATION),
            organization: ORGANIZATION.to_owned(),
            relay_authority: AUTHORITY.to_owned(),
            auth_servers,
            partners: Vec::new(),
        },
        may_delegate: false,
        lifetime: plan.token_life,
    }
}

fn imap_settings(telling: Telling) -> imap::Settings {
    let password = SecretString::from(PASSWORD.to_owned());
    let login = Login::Master { user: "agent".to_owned(), separator: "*".to_owned(), password };
    let mut settings = imap::Settings::new("simulated", "mail.example", login);
    settings.watch = match telling {
        Telling::Notify => Watch::Notify,
        Telling::Idle => Watch::Idle,
        Telling::Poll => Watch::Poll,
        Telling::Events => Watch::SweepOnly,
    };
    settings.sweep_interval = bound::SWEEP;
    settings.rearm_interval = bound::REARM;
    settings.poll_interval = bound::POLL;
    settings
}
