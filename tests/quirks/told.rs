//! The agent under each quirk of sources.md §7 that is of a server which tells. Pure machines first: what the tracker
//! believes in the end is the truth, and what would be believed without the countermeasure is not. Then a running agent
//! beside a running simulator in which quirks are switched. `told_unarmed.rs` shows what they do to a reader that knows
//! nothing of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

use mailbadge::event::{MailboxId, News, Reading, SourceId};
use mailbadge::source::cyrus::notify;
use mailbadge::source::dovecot::dict::{Conversation, Step};
use mailbadge::source::names::{Names, Spelling};
use mailbadge::source::pending::{Pending, Update};
use mailbadge::time::{Moment, Now, UnixMs};
use mailbadge::tracker::Tracker;
use mailbadge::tracker::record::Record;
use mailbadge_sim::client::Call;
use mailbadge_sim::peers::cyrus_client::{self, CyrusClient, Hierarchy};
use mailbadge_sim::peers::dovecot_client::{self, Dialect, DovecotClient, Input, Output};
use mailbadge_sim::peers::mail_store::{AccountId, MailStore, Notifier, Quirk};
use mailbadge_sim::serve::notifiers::{DictAddress, Options};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use support::cloud::{Cloud, ORGANIZATION};
use support::host::{Host, badges};
use support::wait_until;

/// Changes in one story.
const CHANGES: u64 = 200;
/// Stories of each kind.
const SEEDS: u64 = 20;
/// Mailboxes, `user1` to this number.
const MAILBOXES: u32 = 4;

const EVENTS: SourceId = SourceId(0);
const SWEEP: SourceId = SourceId(1);

/// A mail host, and what the agent believes of it.
struct Scene {
    store: MailStore,
    tracker: Tracker,
    names: Names,
    /// The same believed by a reader that takes what arrives last.
    last_arrived: Vec<Option<u32>>,
    random: fastrand::Rng,
    micros: u64,
}

impl Scene {
    fn new(domain: &str, names: Names, seed: u64) -> Self {
        let store = MailStore::new(MAILBOXES as usize, domain);
        let tracker = Tracker::default();
        for (_, name) in store.names() {
            tracker.enroll(&names.mailbox(name)).unwrap();
        }
        let last_arrived = vec![None; MAILBOXES as usize];
        Self { store, tracker, names, last_arrived, random: fastrand::Rng::with_seed(seed), micros: 0 }
    }

    fn now(&mut self) -> Now {
        self.micros += 10;
        Now { moment: Moment::from_micros(self.micros), unix: UnixMs(0) }
    }

    /// Somebody does something to some mailbox.
    fn change(&mut self) -> AccountId {
        let account = AccountId(self.random.u32(0..MAILBOXES));
        let uids: Vec<u32> = self.store.messages(account).iter().map(|message| message.uid).collect();
        match (self.random.u8(0..5), self.random.choice(&uids).copied()) {
            (1, Some(uid)) => drop(self.store.set_seen(account, uid, true)),
            (2, Some(uid)) => drop(self.store.set_seen(account, uid, false)),
            (3, Some(uid)) => drop(self.store.expunge(account, uid)),
            (4, Some(_)) => drop(self.store.all_seen(account)),
            _ => drop(self.store.deliver(account)),
        }
        account
    }

    /// What arrived goes through the table that stands before the tracker, as in the agent.
    fn take(&mut self, updates: Vec<Update>) {
        let mut pending = Pending::new(MAILBOXES as usize);
        for update in updates {
            let now = self.now();
            let mailbox = self.tracker.find(&self.names.mailbox(&update.user)).expect("a user of this host");
            *self.last_arrived.get_mut(mailbox.0 as usize).unwrap() = Some(update.reading.unseen);
            assert!(pending.put(update, now));
            // The hand-on thread is sometimes late.
            if self.random.bool() {
                self.hand_on(&mut pending);
            }
        }
        self.hand_on(&mut pending);
    }

    fn hand_on(&self, pending: &mut Pending) {
        for (user, waiting) in pending.take() {
            let mailbox = self.tracker.find(&self.names.mailbox(&user)).expect("a user of this host");
            for (reading, now) in waiting.before.into_iter().chain([waiting.newest]) {
                self.tracker.observe(mailbox, EVENTS, News::Reading(reading), now);
            }
        }
    }

    /// A sweep reads every mailbox.
    fn sweep(&mut self) {
        for id in 0..MAILBOXES {
            let asked = self.now();
            let unseen = self.truth(id);
            let reading = Reading { unseen, uid_validity: None, modseq: None, asked_at: Some(asked.moment) };
            let now = self.now();
            self.tracker.observe(MailboxId(id), SWEEP, News::Reading(reading), now);
        }
    }

    fn truth(&self, id: u32) -> u32 {
        self.store.status(AccountId(id)).unwrap().unseen
    }

    /// Mailboxes of which something else than the truth is believed.
    fn wrong(&self) -> usize {
        let believed = |id: u32| self.tracker.inspect(MailboxId(id), Record::known).flatten();
        // What was never told of is no matter of these stories.
        (0..MAILBOXES).filter(|id| believed(*id).is_some_and(|known| known.unseen != self.truth(*id))).count()
    }

    fn wrong_by_arrival(&self) -> usize {
        let last = |id: u32| self.last_arrived.get(id as usize).copied().flatten();
        (0..MAILBOXES).filter(|id| last(*id).is_some_and(|unseen| unseen != self.truth(*id))).count()
    }
}

/// A story told by Dovecot: wrong mailboxes in the end, and those of a reader by arrival alone.
fn dovecot(dialect: Dialect, is_out_of_order: bool, seed: u64) -> (usize, usize) {
    let mut scene = Scene::new("", Names::default(), seed);
    // With the oldest dialect a connection is one user's.
    let connections = if dialect == Dialect::V2 { MAILBOXES as usize } else { 1 };
    let settings =
        dovecot_client::Settings { dialect, is_out_of_order, ..dovecot_client::Settings::default() };
    let mut pairs: Vec<_> = (0..connections as u64)
        .map(|at| (DovecotClient::new(settings, seed + at), Conversation::new()))
        .collect();
    let mut clock = Duration::ZERO;
    for token in 0..CHANGES {
        let account = scene.change();
        let (name, status) =
            (scene.store.name(account).unwrap().clone(), scene.store.status(account).unwrap());
        let at = account.0 as usize % connections;
        pairs.get_mut(at).unwrap().0.handle(clock, Input::Changed { user: &name, status, token });
        for (client, conversation) in &mut pairs {
            client.handle(clock, Input::Timeout);
            let updates = converse(client, conversation, clock);
            scene.take(updates);
        }
        clock += Duration::from_millis(1);
    }
    for (client, conversation) in &mut pairs {
        if let Some(until) = client.poll_timeout() {
            client.handle(until, Input::Timeout);
        }
        let updates = converse(client, conversation, clock);
        assert_eq!(client.outstanding(), 0, "every commit is answered");
        scene.take(updates);
    }
    (scene.wrong(), scene.wrong_by_arrival())
}

/// Bytes to and fro until both are silent; what was committed.
fn converse(client: &mut DovecotClient, conversation: &mut Conversation, clock: Duration) -> Vec<Update> {
    let mut updates = Vec::new();
    while let Some(output) = client.poll_output() {
        match output {
            Output::Send(bytes) => {
                let mut step = Step::default();
                conversation.handle(&bytes, &mut step);
                assert_eq!(step.skipped, 0, "{}", bytes.escape_ascii());
                client.handle(clock, Input::Bytes(&step.replies));
                updates.append(&mut step.updates);
            }
            Output::Committed { .. } => {}
            Output::Broken(why) => panic!("{why}"),
        }
    }
    updates
}

#[test]
fn every_dialect_of_the_dict_is_understood() {
    for dialect in ["dict-v2", "dict-v3", "dict-v4"] {
        for seed in 0..SEEDS {
            let (wrong, _) = dovecot(dialect.parse().unwrap(), false, seed);
            assert_eq!(wrong, 0, "{dialect}, seed {seed}");
        }
    }
}

#[test]
fn dict_out_of_order_leaves_the_newest_count_and_would_not_by_arrival() {
    let mut wrong_by_arrival = 0;
    for dialect in [Dialect::V2, Dialect::V3, Dialect::V4] {
        for seed in 0..SEEDS {
            let (wrong, by_arrival) = dovecot(dialect, true, seed);
            assert_eq!(wrong, 0, "{dialect:?}, seed {seed}");
            wrong_by_arrival += by_arrival;
        }
    }
    assert!(wrong_by_arrival > 0, "nothing was overtaken at the end of any story: this shows nothing");
}

/// A story told by Cyrus: the scene in the end, and how many datagrams were not understood.
fn cyrus(hierarchy: Hierarchy, is_lossy: bool, seed: u64) -> Scene {
    // Cyrus knows local parts, the agent whole addresses.
    let names = Names { spelling: Spelling::LocalPart, domain: "fabrikam.com".into(), is_lowered: false };
    let mut scene = Scene::new("", names, seed);
    let mut client = CyrusClient::new(cyrus_client::Settings { hierarchy, is_lossy }, seed);
    for _ in 0..CHANGES {
        let account = scene.change();
        let (name, status) =
            (scene.store.name(account).unwrap().clone(), scene.store.status(account).unwrap());
        client.changed(&name, status);
        let mut updates = Vec::new();
        while let Some(datagram) = client.poll_output() {
            match notify::read(&datagram) {
                Ok(update) => updates.push(update),
                Err(why) => assert!(why.is_ordinary(), "{why}: {}", datagram.escape_ascii()),
            }
        }
        scene.take(updates);
    }
    scene
}

#[test]
fn cyrus_is_understood_in_both_spellings() {
    for hierarchy in [Hierarchy::Slash, Hierarchy::Dot] {
        for seed in 0..SEEDS {
            assert_eq!(cyrus(hierarchy, false, seed).wrong(), 0, "{hierarchy:?}, seed {seed}");
        }
    }
}

#[test]
fn cyrus_lost_datagrams_are_found_by_the_sweep_and_by_nothing_else() {
    let mut wrong_before = 0;
    for seed in 0..SEEDS {
        let mut scene = cyrus(Hierarchy::Slash, true, seed);
        wrong_before += scene.wrong();
        scene.sweep();
        assert_eq!(scene.wrong(), 0, "seed {seed}");
    }
    assert!(wrong_before > 0, "no last datagram was lost in any story: this shows nothing");
}

/// How long a running agent may take; far above what it takes.
const LIMIT: Duration = Duration::from_secs(30);
/// Rounds in which a datagram of three is lost: that none is happens once in ten million times.
const ROUNDS_MAX: usize = 40;

/// A running simulator that tells, and a running agent that it tells.
struct Live {
    cloud: Cloud,
    host: Host,
    store: Arc<Mutex<MailStore>>,
    imap: SocketAddr,
    names: Vec<String>,
    random: fastrand::Rng,
}

impl Live {
    fn start(tell: impl FnOnce(&Host) -> Options, source: impl FnOnce(&Host) -> String) -> Self {
        let mut host = Host::new();
        let cloud = Cloud::start_telling(MailStore::new(MAILBOXES as usize, ORGANIZATION), tell(&host));
        let (store, imap) = cloud.mail_store().unwrap();
        let names: Vec<String> = store.lock().names().map(|(_, name)| name.to_string()).collect();
        host.configure(&cloud, &source(&host));
        host.subscribe(&names);
        host.start();
        Self { cloud, host, store, imap, names, random: fastrand::Rng::with_seed(1) }
    }

    fn name(&self, number: usize) -> &str {
        self.names.get(number).unwrap()
    }

    fn switch(&self, quirk: Quirk, mailbox: Option<&str>, is_on: bool) -> Value {
        let switch = json!({ "quirk": quirk.name(), "mailbox": mailbox, "on": is_on });
        self.cloud.control(Call::post("/control/quirks", &switch))
    }

    fn deliver(&self, number: u32) {
        self.store.lock().deliver(AccountId(number)).unwrap();
    }

    /// Something happens in every mailbox, again and again and faster than it can be told.
    fn burst(&mut self) {
        for turn in 0..10 * MAILBOXES {
            let account = AccountId(turn % MAILBOXES);
            let mut store = self.store.lock();
            if self.random.u8(0..3) == 0 {
                store.all_seen(account);
            } else {
                store.deliver(account).unwrap();
            }
        }
    }

    fn is_true(&self, number: u32) -> bool {
        let unseen = self.store.lock().status(AccountId(number)).unwrap().unseen;
        badges(&self.cloud, self.name(number as usize)) == [Some(unseen); 2]
    }

    /// Waits until the agent was told of everything; then icons show what it believes of that.
    fn wait_told(&self, teller: &str) {
        let figure =
            |shown: &Value, name| shown.pointer(&format!("/tellers/{teller}/{name}")).cloned().unwrap();
        wait_until("everything is told", LIMIT, || {
            let shown = self.cloud.control(Call::get("/control/quirks"));
            (figure(&shown, "told") == figure(&shown, "changes")).then_some(())
        });
        self.wait_acknowledged();
    }

    fn wait_true(&self, what: &str) {
        for number in 0..MAILBOXES {
            let what = format!("{what}: {} is true", self.name(number as usize));
            wait_until(&what, LIMIT, || self.is_true(number).then_some(()));
        }
    }

    /// What the agent knows of is on the icons.
    fn wait_acknowledged(&self) {
        let is_done = || self.host.ask("/metrics").contains("mailbadge_behind 0").then_some(());
        wait_until("nothing is behind", LIMIT, is_done);
    }
}

#[test]
fn quirks_of_the_dict_are_switched_while_all_runs_and_every_badge_is_true() {
    let dict = |host: &Host| Options { dict: Some(DictAddress::Unix(host.dict_socket())), cyrus: None };
    let mut live = Live::start(dict, Host::dovecot_source);
    for quirk in Quirk::ALL.into_iter().filter(|quirk| quirk.notifier() == Some(Notifier::Dict)) {
        for mailbox in [Some(live.name(0).to_owned()), None] {
            let shown = live.switch(quirk, mailbox.as_deref(), true);
            assert!(shown.to_string().contains(&format!("[\"{quirk}\"]")), "{shown}");
            live.burst();
            live.wait_told("dict");
            live.wait_true(&format!("{quirk} of {mailbox:?}"));
            live.switch(quirk, mailbox.as_deref(), false);
        }
    }
    live.host.kill();
    live.host.start();
    live.burst();
    live.wait_true("after the agent was killed and started again");
    let shown = live.cloud.control(Call::get("/control/quirks"));
    let dict = shown.pointer("/tellers/dict").unwrap();
    assert_eq!((dict.get("lost"), dict.get("trouble")), (Some(&json!(0)), Some(&Value::Null)), "{dict}");
    // The icon is right before the answer that says so has arrived.
    live.wait_acknowledged();
}

#[test]
fn datagrams_that_cyrus_loses_leave_a_badge_wrong_until_there_is_a_sweep() {
    let cyrus = |host: &Host| Options { dict: None, cyrus: Some(host.cyrus_socket()) };
    let live = Live::start(cyrus, Host::cyrus_source);
    live.switch(Quirk::CyrusLostDatagrams, Some(live.name(0)), true);
    // The second mailbox's datagrams are not lost, and come after those of the first.
    let is_lost = || {
        live.deliver(0);
        live.deliver(1);
        wait_until("the second is true", LIMIT, || live.is_true(1).then_some(()));
        live.wait_acknowledged();
        !live.is_true(0)
    };
    assert!((0..ROUNDS_MAX).any(|_| is_lost()), "no datagram was lost: this shows nothing");

    let sweep = live.host.imap_source_at(live.imap, "sweep") + "sweep-interval = \"1s\"\n";
    live.host.write_configuration(&live.cloud, "", &(live.host.cyrus_source() + &sweep));
    live.host.signal("HUP");
    wait_until("the sweep found it", LIMIT, || live.is_true(0).then_some(()));
    for _ in 0..4 {
        live.deliver(0);
        wait_until("the first is true", LIMIT, || live.is_true(0).then_some(()));
    }
}
