//! The agent's readers of what Dovecot and Cyrus tell against the simulator's writers, under each quirk of sources.md §7
//! that is theirs: what the tracker believes in the end is the truth, and what would be believed without the
//! countermeasure is not. Pure machines, no sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

use mailbadge::event::{MailboxId, News, Reading, SourceId};
use mailbadge::source::cyrus::notify;
use mailbadge::source::dovecot::dict::{Conversation, Step};
use mailbadge::source::names::{Names, Spelling};
use mailbadge::source::pending::{Pending, Update};
use mailbadge::time::{Moment, Now, UnixMs};
use mailbadge::tracker::Tracker;
use mailbadge::tracker::record::Record;
use mailbadge_sim::peers::cyrus_client::{self, CyrusClient, Hierarchy};
use mailbadge_sim::peers::dovecot_client::{self, Dialect, DovecotClient, Input, Output};
use mailbadge_sim::peers::mail_store::{AccountId, MailStore};
use std::time::Duration;

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
            tracker.enroll(&names.mailbox(name).as_ref().into()).unwrap();
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
    let settings = dovecot_client::Settings { dialect, is_out_of_order };
    let mut pairs: Vec<_> = (0..connections as u64)
        .map(|at| (DovecotClient::new(settings, seed + at), Conversation::new()))
        .collect();
    let mut clock = Duration::ZERO;
    for token in 0..CHANGES {
        let account = scene.change();
        let (name, status) =
            (scene.store.name(account).unwrap().clone(), scene.store.status(account).unwrap());
        let at = account.0 as usize % connections;
        let (client, conversation) = pairs.get_mut(at).unwrap();
        client.handle(clock, Input::Changed { user: &name, status, token });
        let updates = converse(client, conversation, clock);
        scene.take(updates);
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
