//! Damage of the state's files: each is refused with a remedy or changes nothing, whether it is found by a command, at a
//! start, or by a daemon that runs.

use mailbadge::event::SubscriptionKey;
use mailbadge::identity::auth_config::AuthConfig;
use mailbadge::identity::certificate::StoredCertificate;
use mailbadge::identity::issue::self_signed;
use mailbadge::identity::partner::{AuthServer, PartnerApplication};
use mailbadge::ledger::{Ledger, start};
use mailbadge::store::doubt::Doubt;
use mailbadge::store::notes::Notes;
use mailbadge::store::{SqliteStore, Store, StoreError};
use mailbadge::subscription::NewSubscription;
use mailbadge::time::driver::Clock;
use mailbadge::tracker::Tracker;
use mailbadge_sim::peers::mail_store::{AccountId, MailStore};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use support::cloud::{Cloud, ORGANIZATION};
use support::command_line::{Ended, Host as Commands};
use support::host::{Host, badges};
use support::process::wait_until;

/// Longest wait for a thing to happen on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
/// Where the damages come from.
const SEED: u64 = 11;
/// Damages in a daily run, and with `MAILBADGE_LONG=1`.
const DAMAGES: [usize; 2] = [60, 1000];
/// Bytes changed at one place, at most.
const BYTES_MAX: usize = 64;

/// Every command that reads the state.
const COMMANDS: [&str; 7] = [
    "subscription list",
    "subscription list --mailbox u7@fabrikam.com",
    "proxy show",
    "certificate list",
    "auth config show",
    "auth server list",
    "auth partner list",
];

/// A state as a killed daemon leaves it: 20 subscriptions, a certificate, an auth server, a partner, three notes.
fn write_state(state: &Path, clock: Clock) {
    let now = clock.now().unix;
    let store = SqliteStore::open_or_create(state, now).expect("an own folder");
    let one = |n: u32| NewSubscription {
        mailbox: format!("u{n}@fabrikam.com"),
        subscription_id: format!("phone-{n}"),
        app_id: "com.microsoft.exchange.iphone".to_owned(),
        device_id: format!("{n:0>64}"),
        device_type: "APNS".to_owned(),
        installation_id: n.is_multiple_of(2).then(|| format!("installation-{n}")),
        option: 47,
        shown: (!n.is_multiple_of(3)).then_some(n),
        updated_at: now,
        expires_at: now.after(Duration::from_hours(72)),
    };
    let added = store.add(&(0..20).map(one).collect::<Vec<_>>()).expect("they are new");
    let (certificate, key) = self_signed(ORGANIZATION, now).expect("it can be made");
    let kept = StoredCertificate {
        thumbprint: certificate.thumbprint().to_string(),
        friendly_name: certificate.friendly_name().to_owned(),
        der: certificate.der().to_vec(),
    };
    store.add_certificate(&kept, &key.to_pkcs8_pem().expect("a key")).expect("it is new");
    let config = AuthConfig { current: Some(kept.thumbprint), ..AuthConfig::default() };
    assert!(store.replace_auth_config(&AuthConfig::default(), &config).expect("it is kept"));
    let server = AuthServer {
        name: "MicrosoftSts".to_owned(),
        metadata_url: "https://sts.example/metadata/json/1".to_owned(),
        document: None,
        fetched_at: None,
    };
    store.keep_auth_server(&server).expect("it is new");
    let partner = PartnerApplication {
        name: "relay".to_owned(),
        application_id: "00000002-0000-0ff1-ce00-000000000000".to_owned(),
        realm: ORGANIZATION.to_owned(),
        metadata_url: None,
    };
    assert!(store.add_partner(&partner).expect("it is new"));
    let notes = Doubt::open(state).expect("an own folder");
    start(&store, &notes, now).expect("nothing is in doubt");
    let in_doubt: Vec<SubscriptionKey> = added.iter().skip(4).step_by(5).map(|one| one.key).collect();
    notes.note(&in_doubt).expect("there is room");
}

/// What the next daemon would send from: what each device shows, and with which certificate it signs.
#[derive(Debug, PartialEq, Eq)]
struct Begun {
    shown: BTreeMap<SubscriptionKey, Option<u32>>,
    devices: u64,
    is_enabled: bool,
    signer: Option<String>,
}

/// Begins as the daemon does. Why it would not, or not sign, is an error.
fn begin(state: &Path, clock: Clock) -> Result<Begun, String> {
    let failed = |error: StoreError| error.to_string();
    let store = Arc::new(SqliteStore::open(state).map_err(failed)?);
    store.verify().map_err(failed)?;
    let notes: Arc<dyn Notes> = Arc::new(Doubt::open(state).map_err(failed)?);
    start(&*store, &*notes, clock.now().unix).map_err(failed)?;
    let mut ledger = Ledger::new(Arc::<SqliteStore>::clone(&store), notes, Arc::new(Tracker::default()));
    ledger.tick(clock.now(), &mut |_, _| ()).map_err(failed)?;
    let snapshot = ledger.snapshot();
    if let Some(trouble) = snapshot.identity.current_trouble {
        return Err(trouble);
    }
    let all = store.subscriptions(None).map_err(failed)?;
    Ok(Begun {
        shown: all.into_iter().map(|one| (one.key, one.record.shown)).collect(),
        devices: snapshot.devices,
        is_enabled: snapshot.proxy.is_some_and(|proxy| proxy.is_enabled),
        signer: ledger.signer().map(|signer| signer.certificate().thumbprint().to_string()),
    })
}

impl Begun {
    /// Whether this is `whole`, or sends more because it knows of more devices less.
    fn is_as_good_as(&self, whole: &Self) -> bool {
        let is_known_less = |(key, shown): (&SubscriptionKey, &Option<u32>)| {
            whole.shown.get(key).is_some_and(|known| shown == known || shown.is_none())
        };
        self.shown.len() == whole.shown.len()
            && self.shown.iter().all(is_known_less)
            && (self.devices, self.is_enabled, &self.signer)
                == (whole.devices, whole.is_enabled, &whole.signer)
    }
}

/// A whole state, and what is made of it.
struct Original {
    host: Commands,
    clock: Clock,
    files: Vec<(PathBuf, Vec<u8>)>,
    printed: Vec<String>,
    begun: Begun,
}

/// What became of a damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Refused,
    Harmless,
    /// All counts are sent anew.
    Doubted,
}

impl Original {
    fn new() -> Self {
        let (host, clock) = (Commands::new(), Clock::start());
        let state = host.path("state");
        write_state(&state, clock);
        let mut files = Vec::new();
        let mut folders = vec![state.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("an own folder") {
                let path = entry.expect("it can be read").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push((path.clone(), fs::read(&path).expect("an own file")));
                }
            }
        }
        files.sort();
        let begun = begin(&state, clock).expect("it is whole");
        let mut original = Self { host, clock, files, printed: Vec::new(), begun };
        original.put_back();
        original.printed = COMMANDS.iter().map(|line| original.print(line)).collect();
        original
    }

    /// What a command prints of the whole state.
    fn print(&self, line: &str) -> String {
        let ended = self.host.run(&format!("{line} --json"));
        assert_eq!(ended.code, 0, "{line}: {}", ended.err);
        ended.out
    }

    /// The whole state, and nothing else.
    fn put_back(&self) {
        let state = self.host.path("state");
        for entry in fs::read_dir(&state).expect("an own folder") {
            let path = entry.expect("it can be read").path();
            if !path.is_dir() {
                fs::remove_file(path).expect("an own file");
            }
        }
        for (path, bytes) in &self.files {
            support::host::write_private(path, bytes);
        }
    }

    /// What becomes of this damage; an error where nobody would notice.
    fn fate(&self) -> Result<Fate, String> {
        let mut fate = Fate::Harmless;
        for (line, whole) in COMMANDS.iter().zip(&self.printed) {
            let ended = self.host.run(&format!("{line} --json"));
            if is_refused(&ended) {
                fate = Fate::Refused;
            } else if ended.code != 0 || ended.out != *whole {
                return Err(format!("{line}: exit {}: {}{}", ended.code, ended.out, ended.err));
            }
        }
        match begin(&self.host.path("state"), self.clock) {
            Err(error) if has_remedy(&error) => Ok(Fate::Refused),
            Err(error) => Err(format!("no remedy: {error}")),
            Ok(begun) if begun == self.begun => Ok(fate),
            Ok(begun) if begun.is_as_good_as(&self.begun) => {
                Ok(if fate == Fate::Refused { fate } else { Fate::Doubted })
            }
            Ok(begun) => Err(format!("it would begin with {begun:?}")),
        }
    }
}

fn is_refused(ended: &Ended) -> bool {
    (ended.code == 74 || ended.code == 77) && ended.out.is_empty() && has_remedy(&ended.err)
}

fn has_remedy(text: &str) -> bool {
    ["mailbadge restore", "chmod", "mailbadge setup"].iter().any(|remedy| text.contains(remedy))
}

/// Changes some bytes at one place, or cuts the end off; says what it did. Half of the places are in use: most of a small
/// database is free.
fn damage(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) -> String {
    let mut place = random.usize(..bytes.len());
    if random.bool() {
        let used = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(place, _)| place);
        place = random.choice(used.collect::<Vec<usize>>()).expect("no file is all zeros");
    }
    if random.u8(..5) == 0 {
        bytes.truncate(place);
        return format!("cut off at {place}");
    }
    let count = random.usize(1..=BYTES_MAX).min(bytes.len() - place);
    for byte in bytes.iter_mut().skip(place).take(count) {
        *byte ^= random.u8(1..);
    }
    format!("{count} bytes changed at {place}")
}

#[test]
fn random_damage_of_the_state_is_refused_or_harmless() {
    let original = Original::new();
    let is_long = std::env::var_os("MAILBADGE_LONG").is_some();
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut table: BTreeMap<(&str, Fate), usize> = BTreeMap::new();
    let mut silent = String::new();
    let [daily, long] = DAMAGES;
    for number in 0..if is_long { long } else { daily } {
        original.put_back();
        let is_database = |path: &Path| path.ends_with("mailbadge.db");
        let wants_database = random.u8(..10) < 7;
        let sort =
            |(path, bytes): &&(PathBuf, Vec<u8>)| is_database(path) == wants_database && !bytes.is_empty();
        let (path, bytes) =
            random.choice(original.files.iter().filter(sort).collect::<Vec<_>>()).expect("there are both");
        let mut bytes = bytes.clone();
        let what = damage(&mut bytes, &mut random);
        support::host::write_private(path, &bytes);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = if path.extension().is_some_and(|end| end == "key") { "key" } else { name };
        match original.fate() {
            Ok(fate) => *table.entry((name, fate)).or_default() += 1,
            Err(why) => {
                let _ = writeln!(silent, "damage {number} of {name}, {what}: {why}");
            }
        }
    }
    let mut text = String::new();
    for ((name, fate), count) in &table {
        let _ = writeln!(text, "{name}: {count} {fate:?}");
    }
    println!("{text}");
    assert!(silent.is_empty(), "{text}{silent}");
}

/// A daemon that watched one mailbox and was stopped; its store.
fn scene() -> (Cloud, Host, String, PathBuf) {
    let cloud = Cloud::start_with(Some(MailStore::new(1, ORGANIZATION)));
    let (store, imap) = cloud.mail_store().expect("it was given one");
    let name = store.lock().name(AccountId(0)).expect("its name").to_string();
    let mut host = Host::new();
    host.configure(&cloud, &host.imap_source_at(imap, "notify"));
    host.subscribe(std::slice::from_ref(&name));
    host.start();
    let database = host.folder().join("state/mailbadge.db");
    (cloud, host, name, database)
}

/// Changes the app of the mailbox's subscriptions behind everybody's back.
fn change_apps(database: &Path) {
    let mut bytes = fs::read(database).expect("own folder");
    let app = b"com.microsoft.exchange.iphone";
    let places = bytes.windows(app.len()).enumerate().filter(|(_, some)| some == app);
    let places: Vec<usize> = places.map(|(place, _)| place).collect();
    assert!(!places.is_empty(), "it is in the table, and in an index");
    for place in places {
        *bytes.get_mut(place).expect("it was found there") = b'x';
    }
    // Into the same file: another in its place would be noticed for that.
    fs::write(database, bytes).expect("own folder");
}

#[test]
fn a_daemon_does_not_start_on_a_damaged_database() {
    let (_cloud, mut host, _, database) = scene();
    host.stop();
    change_apps(&database);
    let before = fs::read(&database).expect("own folder");
    let refused = host.start_in_vain();
    assert!(refused.contains("table subscription: a row is not what was stored"), "{refused}");
    assert!(refused.contains("mailbadge restore --replace FILE"), "{refused}");
    assert!(before == fs::read(&database).expect("own folder"), "it was left as it is");
    let doctor = host.command(&["doctor"]).expect_err("it is ill").to_string();
    assert!(doctor.contains("exit status: 69"), "{doctor}");
}

#[test]
fn a_running_daemon_that_meets_damage_goes_on_from_memory_and_stores_nothing() {
    let (cloud, mut host, name, database) = scene();
    let (store, _) = cloud.mail_store().expect("it was given one");
    let badge = |expected: u32| {
        wait_until("the badge is true", LIMIT, || {
            (badges(&cloud, &name) == [Some(expected); 2]).then_some(())
        });
    };
    store.lock().deliver(AccountId(0)).expect("it takes messages");
    badge(1);
    host.command(&["status"]).expect("the daemon runs");
    wait_until("what devices show is stored", LIMIT, || {
        let list = host.command(&["subscription", "list", "--json"]).expect("it is whole");
        (list.matches("\"InboxUnreadCount\": 1").count() == 2).then_some(())
    });
    change_apps(&database);
    let partner = ["auth", "partner", "add", "--application-id", "00000002-0000-0ff1-ce00-000000000000"];
    host.command(&[&partner[..], &["--realm", ORGANIZATION]].concat()).expect("another table");
    let answer = wait_until("the daemon is not ready any more", LIMIT, || {
        Some(host.ask("/readyz")).filter(|answer| answer.starts_with("HTTP/1.1 503"))
    });
    assert!(answer.contains("table subscription: a row is not what was stored"), "{answer}");
    assert!(answer.contains("goes on from memory, and stores nothing"), "{answer}");
    let before = fs::read(&database).expect("own folder");
    store.lock().deliver(AccountId(0)).expect("it takes messages");
    badge(2);
    host.signal("TERM");
    let said = host.ends_by_itself();
    assert!(said.contains("damaged"), "{said}");
    assert!(before == fs::read(&database).expect("own folder"), "nothing was written");
    assert!(host.folder().join("state/doubt.whole").exists(), "what is in doubt stays in doubt");
}

#[test]
fn a_backup_made_beside_a_daemon_is_restored_after_it() {
    let (cloud, mut host, name, database) = scene();
    let (store, _) = cloud.mail_store().expect("it was given one");
    let printed = host.command(&["backup", "state.backup", "--json"]).expect("a new file");
    let printed: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!((&printed["Subscriptions"], &printed["PrivateKeys"]), (&2.into(), &1.into()));
    let sum = Command::new("sha256sum").arg(host.folder().join("state.backup")).output().expect("coreutils");
    assert!(String::from_utf8_lossy(&sum.stdout).starts_with(printed["Sha256"].as_str().expect("a text")));
    let again = host.command(&["backup", "state.backup"]).expect_err("it is there").to_string();
    assert!(again.contains("exit status: 64") && again.contains("--force"), "{again}");
    host.command(&["backup", "state.backup", "--force"]).expect("it is ours");
    let beside = host.command(&["restore", "state.backup", "--replace"]).expect_err("it runs").to_string();
    assert!(beside.contains("exit status: 69") && beside.contains("stop it first"), "{beside}");
    host.stop();
    change_apps(&database);
    let occupied = host.command(&["restore", "state.backup"]).expect_err("one is there").to_string();
    assert!(occupied.contains("exit status: 64") && occupied.contains("--replace"), "{occupied}");
    host.command(&["restore", "state.backup", "--replace"]).expect("it is whole");
    store.lock().deliver(AccountId(0)).expect("it takes messages");
    host.start();
    wait_until("the badge is true", LIMIT, || (badges(&cloud, &name) == [Some(1); 2]).then_some(()));
    host.stop();
    fs::remove_dir_all(host.folder().join("state")).expect("own folder");
    host.command(&["restore", "state.backup"]).expect("there is nothing");
    host.start();
    host.stop();
}
