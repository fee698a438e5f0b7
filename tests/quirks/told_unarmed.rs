//! What each quirk of those that tell (sources.md §7) does to a reader that knows nothing of it: the same changes, once
//! told with the quirk and once without. `told.rs` shows that the agent does better.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

use mailbadge::event::{News, Reading, SourceId};
use mailbadge::source::cyrus::notify;
use mailbadge::source::dovecot::dict::{Conversation, Step};
use mailbadge::source::pending::Update;
use mailbadge::time::{Moment, Now, UnixMs};
use mailbadge::tracker::Tracker;
use mailbadge::tracker::record::Record;
use mailbadge_sim::peers::cyrus_client::{self, CyrusClient};
use mailbadge_sim::peers::dovecot_client::{Dialect, DovecotClient, Input, Output, Settings};
use mailbadge_sim::peers::mail_store::{AccountId, MailStore, Notifier, Quirk};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Changes in one story.
const CHANGES: u64 = 100;
/// Stories of each kind.
const SEEDS: u64 = 20;
const MAILBOXES: u32 = 3;
const EVENTS: SourceId = SourceId(0);

/// A reader that believes what it understands.
trait Reader {
    /// Bytes of one connection, or a datagram; gives what it answers.
    fn hear(&mut self, connection: usize, bytes: &[u8]) -> Vec<u8>;
    /// The count that it believes.
    fn believed(&self, user: &str) -> Option<u32>;
}

/// A dict server as it would be written for one Dovecot.
struct WrittenFor {
    dialect: Dialect,
    greets: bool,
    /// Of each connection: the user of its hello, and of each transaction its user and what it sets.
    hellos: HashMap<usize, String>,
    open: HashMap<(usize, String), (String, u32)>,
    believed: HashMap<String, u32>,
}

impl WrittenFor {
    fn new(dialect: Dialect) -> Self {
        let (hellos, open, believed) = Default::default();
        Self { dialect, greets: false, hellos, open, believed }
    }

    /// The line after its first letter.
    fn obey(&mut self, connection: usize, letter: char, rest: &str) -> String {
        let (id, tail) = rest.split_once('\t').unwrap_or((rest, ""));
        let place = (connection, id.to_owned());
        match letter {
            'H' => {
                self.hellos.insert(connection, rest.split('\t').nth(3).unwrap_or_default().to_owned());
                if self.greets { "O0\n".to_owned() } else { String::new() }
            }
            'B' => {
                let user = match self.dialect {
                    Dialect::V2 => self.hellos.get(&connection).cloned().unwrap_or_default(),
                    Dialect::V3 => tail.to_owned(),
                    Dialect::V4 => tail.split_once('\t').unwrap_or_default().0.to_owned(),
                };
                self.open.insert(place, (user, 0));
                String::new()
            }
            'S' => {
                let digits = tail.split("\"unseen\":").nth(1).unwrap();
                let unseen = digits.split(',').next().unwrap().parse().unwrap();
                self.open.get_mut(&place).unwrap().1 = unseen;
                String::new()
            }
            'C' => {
                let (user, unseen) = self.open.remove(&place).unwrap();
                self.believed.insert(user, unseen);
                format!("O{id}\n")
            }
            other => panic!("Dovecot says {other}"),
        }
    }
}

impl Reader for WrittenFor {
    fn hear(&mut self, connection: usize, bytes: &[u8]) -> Vec<u8> {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let answers = text.lines().map(|line| {
            let (letter, rest) = line.split_at(1);
            self.obey(connection, letter.chars().next().unwrap(), rest)
        });
        answers.collect::<String>().into_bytes()
    }

    fn believed(&self, user: &str) -> Option<u32> {
        self.believed.get(user).copied()
    }
}

/// The agent's own readers and tracker, with or without the numbers that order what they read.
struct Agent {
    tracker: Tracker,
    conversations: Vec<Conversation>,
    is_ordered: bool,
    micros: u64,
}

impl Agent {
    fn new(is_ordered: bool) -> Self {
        let tracker = Tracker::default();
        for (_, name) in MailStore::new(MAILBOXES as usize, "fabrikam.com").names() {
            tracker.enroll(name).unwrap();
        }
        let conversations = (0..MAILBOXES).map(|_| Conversation::new()).collect();
        Self { tracker, conversations, is_ordered, micros: 0 }
    }

    fn take(&mut self, update: &Update) {
        self.micros += 10;
        let now = Now { moment: Moment::from_micros(self.micros), unix: UnixMs(0) };
        let modseq = update.reading.modseq.filter(|_| self.is_ordered);
        let mailbox = self.tracker.find(&update.user).unwrap();
        self.tracker.observe(mailbox, EVENTS, News::Reading(Reading { modseq, ..update.reading }), now);
    }
}

impl Reader for Agent {
    fn hear(&mut self, connection: usize, bytes: &[u8]) -> Vec<u8> {
        if bytes.starts_with(b"mailbadge\0EVENT") {
            if let Ok(update) = notify::read(bytes) {
                self.take(&update);
            }
            return Vec::new();
        }
        let mut step = Step::default();
        self.conversations.get_mut(connection).unwrap().handle(bytes, &mut step);
        for update in &step.updates {
            self.take(update);
        }
        step.replies
    }

    fn believed(&self, user: &str) -> Option<u32> {
        let mailbox = self.tracker.find(user)?;
        self.tracker.inspect(mailbox, Record::known)?.map(|known| known.unseen)
    }
}

/// A mail host in which somebody does something.
struct Host {
    store: MailStore,
    random: fastrand::Rng,
}

impl Host {
    fn new(quirk: Option<Quirk>, seed: u64) -> Self {
        let mut store = MailStore::new(MAILBOXES as usize, "fabrikam.com");
        if let Some(quirk) = quirk {
            store.set_quirk(None, quirk, true);
        }
        Self { store, random: fastrand::Rng::with_seed(seed) }
    }

    fn change(&mut self) -> (AccountId, Arc<str>) {
        let account = AccountId(self.random.u32(0..MAILBOXES));
        if self.random.u8(0..4) == 0 {
            self.store.all_seen(account);
        }
        self.store.deliver(account).unwrap();
        (account, self.store.name(account).unwrap().clone())
    }

    /// Mailboxes of which the reader believes something else than the truth, or nothing.
    fn wrong(&self, reader: &dyn Reader) -> usize {
        let is_wrong = |(account, name): &(AccountId, &Arc<str>)| {
            reader.believed(name) != self.store.status(*account).map(|status| status.unseen)
        };
        self.store.names().filter(is_wrong).count()
    }
}

/// A connection of Dovecot for each mailbox tells the reader; gives how many counts are wrong in the end, or what Dovecot
/// did not bear.
fn told_by_dovecot(quirk: Option<Quirk>, seed: u64, reader: &mut dyn Reader) -> Result<usize, String> {
    let mut host = Host::new(quirk, seed);
    let settings = |account| {
        let quirks = host.store.quirks(account);
        let is_out_of_order = quirks.has(Quirk::DictOutOfOrder);
        let is_in_capitals = quirks.has(Quirk::DictDomainInCapitals);
        Settings { dialect: Dialect::of(quirks), is_out_of_order, is_in_capitals, ..Settings::default() }
    };
    let mut clients: Vec<DovecotClient> =
        (0..MAILBOXES).map(|n| DovecotClient::new(settings(AccountId(n)), seed + u64::from(n))).collect();
    let mut now = Duration::ZERO;
    for token in 0..CHANGES {
        let (account, user) = host.change();
        let status = host.store.status(account).unwrap();
        let client = clients.get_mut(account.0 as usize).unwrap();
        client.handle(now, Input::Changed { user: &user, status, token });
        for (at, client) in clients.iter_mut().enumerate() {
            client.handle(now, Input::Timeout);
            talk(client, at, now, reader)?;
        }
        now += Duration::from_millis(1);
    }
    now += Duration::from_secs(1);
    for (at, client) in clients.iter_mut().enumerate() {
        client.handle(now, Input::Timeout);
        talk(client, at, now, reader)?;
    }
    Ok(host.wrong(reader))
}

/// Bytes to and fro until both are silent.
fn talk(
    client: &mut DovecotClient,
    connection: usize,
    now: Duration,
    reader: &mut dyn Reader,
) -> Result<(), String> {
    while let Some(output) = client.poll_output() {
        match output {
            Output::Send(bytes) => {
                let answer = reader.hear(connection, &bytes);
                client.handle(now, Input::Bytes(&answer));
            }
            Output::Committed { .. } => {}
            Output::Broken(why) => return Err(why),
        }
    }
    Ok(())
}

/// The same by Cyrus.
fn told_by_cyrus(quirk: Option<Quirk>, seed: u64, reader: &mut dyn Reader) -> usize {
    let mut host = Host::new(quirk, seed);
    let mut client = CyrusClient::new(cyrus_client::Settings::default(), seed);
    for _ in 0..CHANGES {
        let (account, user) = host.change();
        client.set_lossy(host.store.quirks(account).has(Quirk::CyrusLostDatagrams));
        client.changed(&user, host.store.status(account).unwrap());
        while let Some(datagram) = client.poll_output() {
            reader.hear(0, &datagram);
        }
    }
    host.wrong(reader)
}

/// Whether a reader without the countermeasure is right in the end of every story.
fn is_right(quirk: Quirk, is_on: bool) -> bool {
    let written_for = |dialect, own: Quirk| {
        let quirk = if is_on { quirk } else { own };
        let told = |seed| told_by_dovecot(Some(quirk), seed, &mut WrittenFor::new(dialect));
        (0..SEEDS).all(|seed| told(seed) == Ok(0))
    };
    let quirk_if_on = Some(quirk).filter(|_| is_on);
    match quirk {
        // It was written for one version of Dovecot; another one is installed. Or it compares names letter by letter.
        Quirk::DictV2 | Quirk::DictV4 | Quirk::DictDomainInCapitals => {
            written_for(Dialect::V3, Quirk::DictV3)
        }
        Quirk::DictV3 => written_for(Dialect::V2, Quirk::DictV2),
        // It believes what arrives last.
        Quirk::DictOutOfOrder => {
            (0..SEEDS).all(|seed| told_by_dovecot(quirk_if_on, seed, &mut Agent::new(false)) == Ok(0))
        }
        // It never sweeps.
        Quirk::CyrusLostDatagrams => {
            (0..SEEDS).all(|seed| told_by_cyrus(quirk_if_on, seed, &mut Agent::new(true)) == 0)
        }
        _ => panic!("{quirk} is none of those that tell"),
    }
}

#[test]
fn a_reader_that_knows_nothing_of_a_quirk_is_wrong_because_of_it() {
    let mut failures = Vec::new();
    for quirk in Quirk::ALL.into_iter().filter(|quirk| quirk.notifier().is_some()) {
        if !is_right(quirk, false) {
            failures.push(format!("{quirk}: it is wrong without the quirk as well"));
        }
        if is_right(quirk, true) {
            failures.push(format!("{quirk}: it is right nevertheless"));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn with_what_the_agent_does_the_same_stories_end_well() {
    for quirk in Quirk::ALL.into_iter().filter(|quirk| quirk.notifier() == Some(Notifier::Dict)) {
        for seed in 0..SEEDS {
            let outcome = told_by_dovecot(Some(quirk), seed, &mut Agent::new(true));
            assert_eq!(outcome, Ok(0), "{quirk}, seed {seed}");
        }
    }
}

#[test]
fn a_dict_server_that_answers_the_hello_is_not_borne_whatever_is_spoken() {
    for (quirk, dialect) in
        [(Quirk::DictV2, Dialect::V2), (Quirk::DictV3, Dialect::V3), (Quirk::DictV4, Dialect::V4)]
    {
        for greets in [false, true] {
            let mut reader = WrittenFor { greets, ..WrittenFor::new(dialect) };
            let outcome = told_by_dovecot(Some(quirk), 1, &mut reader);
            let is_broken = outcome.is_err_and(|why| why.contains("invalid commit reply"));
            assert_eq!(is_broken, greets, "{quirk}");
        }
    }
}
