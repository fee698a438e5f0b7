//! Damage of the database: whatever was changed behind our back is refused, named, and never a part of what is stored.

use super::*;
use rusqlite::Connection;

/// A store with something in each table.
pub(super) fn full() -> (tempfile::TempDir, SqliteStore) {
    let (dir, store) = fresh();
    let many: Vec<_> = (0..20).map(|n| phone(&format!("u{n}"), "id", &format!("device-{n}"))).collect();
    store.add(&many).unwrap();
    let (certificate, key) = some_pair();
    store.add_certificate(certificate, key).unwrap();
    let config = AuthConfig { current: Some(certificate.thumbprint.clone()), ..AuthConfig::default() };
    assert!(store.replace_auth_config(&AuthConfig::default(), &config).unwrap());
    store.keep_auth_server(&auth_server("a.b", Some("{}"))).unwrap();
    let partner = PartnerApplication {
        name: "relay".to_owned(),
        application_id: "AAAA".to_owned(),
        realm: "fabrikam.com".to_owned(),
        metadata_url: None,
    };
    assert!(store.add_partner(&partner).unwrap());
    store.begin(NOW).unwrap();
    (dir, store)
}

/// Everything that a store can be asked.
fn read_all(store: &SqliteStore) -> Result<(), StoreError> {
    store.subscriptions(None)?;
    store.proxy()?;
    store.certificates()?;
    store.auth_config()?;
    store.auth_servers()?;
    store.partners()?;
    store.verify_rows()
}

/// What the rows of the damaged table are changed by, behind our back; which table is named.
const CHANGES: [(&str, &str); 22] = [
    ("UPDATE subscription SET app_id = 'other' WHERE key = 3", "table subscription"),
    ("UPDATE subscription SET expires_at_ms = 1 WHERE key = 3", "table subscription"),
    ("UPDATE subscription SET shown = NULL WHERE key = 3", "table subscription"),
    ("UPDATE subscription SET mailbox = CAST(x'ff41' AS TEXT) WHERE key = 3", "table subscription"),
    ("UPDATE subscription SET checksum = 0 WHERE key = 3", "table subscription"),
    ("UPDATE subscription SET key = 99 WHERE key = 3", "table subscription"),
    ("DELETE FROM subscription WHERE key = 3", "table subscription"),
    ("DELETE FROM subscription", "table subscription"),
    ("UPDATE total SET rows = rows - 1 WHERE name = 'subscription'", "table subscription"),
    ("DELETE FROM total WHERE name = 'subscription'", "table subscription"),
    ("UPDATE proxy SET is_enabled = TRUE", "table proxy"),
    ("DELETE FROM proxy", "table proxy"),
    ("DELETE FROM auth_config", "table auth_config"),
    ("UPDATE auth_config SET realm = 'other'", "table auth_config"),
    ("UPDATE certificate SET der = x'00'", "table certificate"),
    ("DELETE FROM process", "table process"),
    ("UPDATE auth_server SET document = x'7b7e'", "table auth_server"),
    ("DELETE FROM partner_application", "table partner_application"),
    ("UPDATE sqlite_sequence SET seq = 1 WHERE name = 'subscription'", "table sqlite_sequence"),
    ("DROP INDEX subscription_by_end", "table sqlite_schema"),
    ("DROP TABLE total", "total"),
    ("PRAGMA user_version = 5", "version 5"),
];

#[test]
fn whatever_was_changed_behind_our_back_is_refused_with_its_table() {
    for (change, named) in CHANGES {
        let (dir, store) = full();
        read_all(&store).unwrap();
        drop(store);
        let path = store_path(&dir.path().join("state"));
        let other = Connection::open(&path).unwrap();
        other.pragma_update(None, "foreign_keys", false).unwrap();
        other.execute_batch(change).unwrap();
        drop(other);
        let error = open(dir.path()).and_then(|store| read_all(&store)).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{change}: {error}");
        let text = error.to_string();
        assert!(text.contains(named) && text.contains("mailbadge restore"), "{change}: {text}");
    }
}

#[test]
fn an_index_that_gives_another_order_is_noticed() {
    let (dir, store) = full();
    drop(store);
    let path = store_path(&dir.path().join("state"));
    let bytes = fs::read(&path).unwrap();
    // The mailbox, and behind it what its index alone has: the other column of the index.
    let entry = b"u7id";
    let place = bytes.windows(entry.len()).rposition(|some| some == entry).unwrap();
    let mut changed = bytes.clone();
    changed[place + 1] = b'0';
    fs::write(&path, changed).unwrap();
    let store = open(dir.path()).unwrap();
    let named = |error: StoreError| assert!(error.to_string().contains("table subscription"), "{error}");
    match store.subscriptions(None) {
        Ok(_) => named(store.verify_trees().unwrap_err()),
        Err(error) => named(error),
    }
}

/// Found by a reader, it binds the writers, too.
#[test]
fn what_is_damaged_is_not_written_to() {
    let (dir, store) = full();
    let path = store_path(&dir.path().join("state"));
    Connection::open(&path).unwrap().execute("DELETE FROM subscription WHERE key = 3", []).unwrap();
    store.subscriptions(None).unwrap_err();
    let before = fs::read(&path).unwrap();
    let refused = [
        store.record_shown(&[(SubscriptionKey(4), Some(9))]).unwrap_err(),
        store.expire(UnixMs(u64::MAX)).unwrap_err(),
        store.begin(NOW).unwrap_err(),
        store.changed_elsewhere().unwrap_err(),
    ];
    assert!(refused.iter().all(|error| matches!(error, StoreError::Damaged { .. })), "{refused:?}");
    drop(store);
    assert!(before == fs::read(&path).unwrap(), "as it was");
}

/// What it is called, and how it writes to a row.
type Attempt<'a> = (&'a str, &'a dyn Fn(&SqliteStore) -> Result<(), StoreError>);

#[test]
fn a_damaged_row_is_never_written_over() {
    let change = "UPDATE subscription SET app_id = 'other' WHERE key = 3";
    let attempts: [Attempt; 4] = [
        ("shown", &|store| store.record_shown(&[(SubscriptionKey(3), Some(9))])),
        ("renewed", &|store| store.add(&[phone("u2", "id", "another")]).map(drop)),
        ("removed", &|store| store.remove(&[SubscriptionKey(3)]).map(drop)),
        ("expired", &|store| store.expire(UnixMs(u64::MAX)).map(drop)),
    ];
    for (name, attempt) in attempts {
        let (dir, store) = full();
        Connection::open(store_path(&dir.path().join("state"))).unwrap().execute(change, []).unwrap();
        let error = attempt(&store).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{name}: {error}");
    }
}

/// The state as a process leaves it that is killed before it folded the log in: three transactions are in it.
fn killed() -> tempfile::TempDir {
    let (dir, store) = full();
    let state = dir.path().join("state");
    let path = store_path(&state);
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM subscription;").unwrap();
    // A reader keeps the log.
    for count in 1..4 {
        store.record_shown(&[(SubscriptionKey(3), Some(count))]).unwrap();
    }
    let copy = tempfile::tempdir().unwrap();
    let to = copy.path().join("state");
    keys::private_dir(&to).unwrap();
    for name in ["mailbadge.db", "mailbadge.db-wal"] {
        fs::copy(state.join(name), to.join(name)).unwrap();
    }
    copy
}

#[test]
fn a_log_is_folded_in_and_refused_where_a_transaction_follows_a_damaged_one() {
    let (dir, store) = full();
    store.record_shown(&[(SubscriptionKey(3), Some(1))]).unwrap();
    let log = dir.path().join("state/mailbadge.db-wal");
    assert_eq!(fs::metadata(&log).unwrap().len(), 0, "nothing is left in it");

    let shown = |dir: &Path| -> Result<Option<u32>, StoreError> {
        let all = open(dir)?.subscriptions(None)?;
        Ok(all.iter().find(|one| one.key == SubscriptionKey(3)).unwrap().record.shown)
    };
    let log_of = |dir: &tempfile::TempDir| dir.path().join("state/mailbadge.db-wal");
    let whole = killed();
    let length = usize::try_from(fs::metadata(log_of(&whole)).unwrap().len()).unwrap();
    assert_eq!(shown(whole.path()).unwrap(), Some(3), "what a killed process left is read");
    for place in [0, 9, 17, 25, 32 + 5, 32 + 9, 32 + 20, 32 + 24 + 100] {
        let dir = killed();
        let mut bytes = fs::read(log_of(&dir)).unwrap();
        bytes[place] ^= 4;
        fs::write(log_of(&dir), &bytes).unwrap();
        for _ in ["first", "again"] {
            let error = shown(dir.path()).unwrap_err();
            assert!(error.to_string().contains("log is not what was written"), "byte {place}: {error}");
        }
        assert!(fs::read(log_of(&dir)).unwrap() == bytes, "left as it is");
    }
    // Power was lost while the last transaction was written.
    let dir = killed();
    fs::OpenOptions::new().write(true).open(log_of(&dir)).unwrap().set_len(length as u64 - 100).unwrap();
    assert_eq!(shown(dir.path()).unwrap(), Some(2));
}

/// What the damage is called, how it is done, what the error must name.
type Spoil<'a> = (&'a str, &'a dyn Fn(&Path), &'a str);

#[test]
fn what_is_not_a_sound_database_of_ours_is_refused_and_left_alone() {
    let foreign = |path: &Path| {
        let db = Connection::open(path).unwrap();
        db.execute_batch("CREATE TABLE t (x); PRAGMA user_version = 1;").unwrap();
    };
    let newer = |path: &Path| {
        let db = Connection::open(path).unwrap();
        db.execute_batch("CREATE TABLE of_tomorrow (x); PRAGMA user_version = 9;").unwrap();
    };
    let spoil: [Spoil; 5] = [
        ("empty", &|path| fs::write(path, "").unwrap(), "damaged"),
        ("text", &|path| fs::write(path, "not a database, but quite long ".repeat(99)).unwrap(), "damaged"),
        ("missing", &|path| fs::rename(path, path.with_extension("db-wal")).unwrap(), "damaged"),
        ("foreign", &|path| (fs::remove_file(path).unwrap(), foreign(path)).1, "damaged"),
        ("newer", &newer, "schema 9"),
    ];
    for (name, spoil, expected) in spoil {
        let (dir, store) = fresh();
        drop(store);
        let path = store_path(&dir.path().join("state"));
        spoil(&path);
        if path.exists() {
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        }
        let before = fs::read(&path).ok();
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("mailbadge.db"), "{name}: {error}");
        assert_eq!(fs::read(&path).ok(), before, "{name}");
    }
}

#[test]
fn a_page_of_rubbish_inside_is_found_by_verifying() {
    let (dir, store) = fresh();
    let many: Vec<_> = (0..200).map(|n| phone(&format!("u{n}"), "id", &format!("device-{n}"))).collect();
    store.add(&many).unwrap();
    store.verify_trees().unwrap();
    drop(store);
    let path = store_path(&dir.path().join("state"));
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 3 * 4096..end - 4096].fill(0x5a);
    fs::write(&path, &bytes).unwrap();
    let error = open(dir.path()).and_then(|store| store.verify_trees()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}
