//! What every store must keep, and what SQLite's must refuse.

mod backup;
mod damage;

use super::*;
use crate::identity::auth_config::NextCertificate;
use crate::identity::issue::self_signed;
use secrecy::ExposeSecret;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::LazyLock;

const NOW: UnixMs = UnixMs(1_767_268_500_000);

fn open(dir: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open_or_create(&dir.join("state"), NOW)
}

fn fresh() -> (tempfile::TempDir, SqliteStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    (dir, store)
}

fn phone(mailbox: &str, id: &str, device: &str) -> NewSubscription {
    NewSubscription {
        mailbox: mailbox.to_owned(),
        subscription_id: id.to_owned(),
        app_id: "com.microsoft.exchange.mowa".to_owned(),
        device_id: device.to_owned(),
        device_type: "GCM".to_owned(),
        installation_id: Some(format!("DEV-{device}")),
        option: 47,
        shown: Some(5),
        updated_at: NOW,
        expires_at: UnixMs(NOW.0 + 1000),
    }
}

fn devices(store: &dyn Store) -> Vec<(String, String)> {
    let all = store.subscriptions(None).unwrap();
    all.into_iter().map(|one| (one.record.mailbox, one.record.device_id)).collect()
}

#[test]
fn subscriptions_seen_one_by_one_are_those_of_all_mailboxes_in_their_order() {
    let (_dir, store) = fresh();
    store.add(&[phone("u2", "A", "a"), phone("u1", "A", "b"), phone("u1", "B", "c")]).unwrap();
    let mut one_by_one = Vec::new();
    store.each_subscription(&mut |kept| one_by_one.push(kept)).unwrap();
    assert_eq!(one_by_one.len(), 3);
    assert_eq!(one_by_one, store.subscriptions(None).unwrap());
}

#[test]
fn a_subscription_comes_back_as_it_was_added() {
    let (dir, store) = fresh();
    let mut plain = phone("u2", "MOWA-Android-B", "b");
    (plain.installation_id, plain.shown) = (None, None);
    let new = [phone("u1", "MOWA-Android-A", "a"), plain];
    let added = store.add(&new).unwrap();
    drop(store);
    let kept = open(dir.path()).unwrap().subscriptions(None).unwrap();
    let expected: Vec<_> =
        added.iter().zip(new).map(|(added, record)| Subscription { key: added.key, record }).collect();
    assert_eq!(kept, expected);
}

#[test]
fn the_same_id_or_the_same_device_replaces_the_former_registration() {
    // What is added after ("u1", "id-a", "a") and ("u1", "id-b", "b"), which of the two it replaces, who is left.
    type Row = (&'static str, &'static str, &'static str, &'static [usize], &'static [&'static str]);
    let rows: [Row; 5] = [
        ("u1", "id-a", "a", &[0], &["u1 a", "u1 b"]),
        ("u1", "id-a", "new", &[0], &["u1 b", "u1 new"]),
        ("u2", "id-a", "a", &[0], &["u1 b", "u2 a"]),
        ("u2", "id-a", "c", &[], &["u1 a", "u1 b", "u2 c"]),
        ("u1", "id-a", "b", &[0, 1], &["u1 b"]),
    ];
    for (mailbox, id, device, replaced, left) in rows {
        let (_dir, store) = fresh();
        let first = store.add(&[phone("u1", "id-a", "a"), phone("u1", "id-b", "b")]).unwrap();
        let mut done = store.add(&[phone(mailbox, id, device)]).unwrap().remove(0);
        done.replaced.sort_unstable();
        let expected: Vec<_> = replaced.iter().map(|&index| first[index].key).collect();
        assert_eq!(done.replaced, expected, "{mailbox} {id} {device}");
        assert!(first.iter().all(|one| one.key != done.key), "a renewed registration has a key of its own");
        let mut kept: Vec<_> =
            devices(&store).iter().map(|(mailbox, device)| format!("{mailbox} {device}")).collect();
        kept.sort_unstable();
        assert_eq!(kept, left, "{mailbox} {id} {device}");
    }
}

#[test]
fn a_count_written_behind_does_not_mark_a_renewed_registration() {
    let (_dir, store) = fresh();
    let before = store.add(&[phone("u1", "id", "a")]).unwrap()[0].key;
    let after = store.add(&[phone("u1", "id", "a")]).unwrap()[0].key;
    store.record_shown(&[(before, Some(99))]).unwrap();
    assert_eq!(store.subscriptions(None).unwrap()[0].record.shown, Some(5));
    store.record_shown(&[(after, Some(7))]).unwrap();
    assert_eq!(store.subscriptions(None).unwrap()[0].record.shown, Some(7));
    store.record_shown(&[(after, None)]).unwrap();
    assert_eq!(store.subscriptions(None).unwrap()[0].record.shown, None);
}

#[test]
fn removing_and_expiring_tell_what_was_there() {
    let (_dir, store) = fresh();
    let mut late = phone("u2", "id", "late");
    late.expires_at = UnixMs(NOW.0 + 5000);
    let added = store.add(&[phone("u1", "id", "a"), late]).unwrap();
    assert_eq!(store.expire(UnixMs(NOW.0 + 999)).unwrap(), []);
    assert_eq!(store.expire(UnixMs(NOW.0 + 1000)).unwrap(), [added[0].key]);
    assert_eq!(store.remove(&[added[0].key, added[1].key]).unwrap(), [added[1].key]);
    assert_eq!(devices(&store), []);
}

#[test]
fn a_mailbox_is_listed_alone_and_its_newest_first() {
    let (_dir, store) = fresh();
    let mut newer = phone("u1", "id-2", "newer");
    newer.updated_at = UnixMs(NOW.0 + 1);
    store.add(&[phone("u1", "id-1", "older"), newer, phone("u2", "id", "other")]).unwrap();
    let of_one: Vec<_> =
        store.subscriptions(Some("u1")).unwrap().into_iter().map(|one| one.record.device_id).collect();
    assert_eq!(of_one, ["newer", "older"]);
    assert_eq!(store.subscriptions(Some("nobody")).unwrap(), []);
}

#[test]
fn the_proxy_keeps_what_a_change_does_not_name() {
    let (_dir, store) = fresh();
    let first = store.proxy().unwrap();
    assert_eq!((first.is_enabled, first.uri.as_str(), first.organization), (false, DEFAULT_PROXY_URI, None));
    assert_eq!((first.created_at, first.changed_at), (NOW, NOW));
    let later = UnixMs(NOW.0 + 1);
    let enable = ProxyChange {
        is_enabled: Some(true),
        organization: Some("fabrikam.com".to_owned()),
        uri: Some("https://relay.example/PushNotifications".to_owned()),
    };
    let enabled = store.change_proxy(&enable, later).unwrap();
    let disable = ProxyChange { is_enabled: Some(false), ..ProxyChange::default() };
    let disabled = store.change_proxy(&disable, UnixMs(NOW.0 + 2)).unwrap();
    assert_eq!(
        (disabled.is_enabled, &disabled.uri, &disabled.organization),
        (false, &enabled.uri, &enabled.organization)
    );
    assert_eq!((disabled.guid, disabled.created_at), (first.guid, NOW));
    let same = store.change_proxy(&disable, UnixMs(NOW.0 + 3)).unwrap();
    assert_eq!(same.changed_at, UnixMs(NOW.0 + 2), "nothing changed, so nothing is dated anew");
}

fn certificate(thumbprint: &str) -> StoredCertificate {
    StoredCertificate {
        thumbprint: thumbprint.to_owned(),
        friendly_name: "OAuth".to_owned(),
        der: vec![48, 0],
    }
}

/// A certificate with its key.
fn pair() -> (StoredCertificate, SecretString) {
    let (certificate, key) = self_signed("fabrikam.com", NOW).unwrap();
    let stored = StoredCertificate {
        thumbprint: certificate.thumbprint().to_string(),
        friendly_name: "OAuth".to_owned(),
        der: certificate.der().to_vec(),
    };
    (stored, key.to_pkcs8_pem().unwrap())
}

/// One that was made before.
fn some_pair() -> &'static (StoredCertificate, SecretString) {
    static PAIR: LazyLock<(StoredCertificate, SecretString)> = LazyLock::new(pair);
    &PAIR
}

#[test]
fn certificates_are_kept_with_their_keys() {
    let (dir, store) = fresh();
    let pairs = [pair(), pair()];
    for (certificate, key) in &pairs {
        store.add_certificate(certificate, key).unwrap();
    }
    drop(store);
    let store = open(dir.path()).unwrap();
    assert_eq!(store.certificates().unwrap(), [pairs[0].0.clone(), pairs[1].0.clone()]);
    let name = &pairs[0].0.thumbprint;
    assert_eq!(store.private_key(name).unwrap().expose_secret(), pairs[0].1.expose_secret());
    assert!(matches!(store.private_key("../mailbadge").unwrap_err(), StoreError::NoCertificate { .. }));
    let key = dir.path().join(format!("state/certificates/{name}.key"));
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(store.private_key(name).unwrap_err(), StoreError::Permission(_)));
}

/// Changed numbers, another certificate's key, no text, nothing.
#[test]
fn a_key_that_is_not_what_was_written_is_refused() {
    let (dir, store) = fresh();
    let ((certificate, key), (_, other)) = (pair(), pair());
    store.add_certificate(&certificate, &key).unwrap();
    let path = dir.path().join(format!("state/certificates/{}.key", certificate.thumbprint));
    let whole = key.expose_secret().as_bytes();
    let refused = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        let error = store.private_key(&certificate.thumbprint).unwrap_err();
        assert!(matches!(error, StoreError::DamagedKey { .. }), "{what}: {error}");
        assert!(error.to_string().contains("mailbadge restore"), "{what}: {error}");
    };
    refused(other.expose_secret().as_bytes(), "another");
    refused(&[0xff; 100], "no text");
    refused(b"", "nothing");
    refused(&whole[..whole.len() / 2], "a half");
    for place in (28..whole.len() - 28).step_by(37) {
        let mut changed = whole.to_vec();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        refused(&changed, &format!("byte {place}"));
    }
}

#[test]
fn the_auth_config_is_replaced_whole_unless_somebody_else_was_faster() {
    let (dir, store) = fresh();
    let empty = store.auth_config().unwrap();
    assert_eq!(empty, AuthConfig::default());
    for name in ["AA", "BB"] {
        store.add_certificate(&certificate(name), &SecretString::from("key")).unwrap();
    }
    let full = AuthConfig {
        service_name: Some("a".to_owned()),
        realm: Some("fabrikam.com".to_owned()),
        current: Some("AA".to_owned()),
        previous: Some("AA".to_owned()),
        next: Some(NextCertificate { thumbprint: "BB".to_owned(), effective_at: NOW }),
    };
    assert!(store.replace_auth_config(&empty, &full).unwrap());
    assert!(!store.replace_auth_config(&empty, &AuthConfig::default()).unwrap(), "what it rests on is gone");
    assert!(store.remove_certificate("BB").is_err(), "it is in use");
    let unknown = AuthConfig { previous: Some("CC".to_owned()), ..full.clone() };
    let error = store.replace_auth_config(&full, &unknown).unwrap_err();
    assert!(matches!(&error, StoreError::NoCertificate { thumbprint } if thumbprint == "CC"), "{error}");
    drop(store);
    let store = open(dir.path()).unwrap();
    assert_eq!(store.auth_config().unwrap(), full);
    assert!(store.replace_auth_config(&full, &AuthConfig::default()).unwrap());
    assert_eq!(store.auth_config().unwrap(), AuthConfig::default());
    assert!(store.remove_certificate("BB").unwrap());
    assert!(!dir.path().join("state/certificates/BB.key").exists());
    assert!(!store.remove_certificate("BB").unwrap());
}

fn auth_server(realm: &str, document: Option<&str>) -> AuthServer {
    AuthServer {
        name: "MicrosoftSts".to_owned(),
        metadata_url: format!("https://sts.example/metadata/json/1/?realm={realm}"),
        document: document.map(|text| text.as_bytes().to_vec()),
        fetched_at: document.map(|_| NOW),
    }
}

#[test]
fn an_auth_server_is_created_corrected_or_left() {
    let (_dir, store) = fresh();
    // What is kept, what that changed, what is kept of its document.
    let rows = [
        (auth_server("a.b", None), UpsertOutcome::Created, None),
        (auth_server("a.b", Some("one")), UpsertOutcome::Unchanged, Some("one")),
        (auth_server("a.b", None), UpsertOutcome::Unchanged, Some("one")),
        (auth_server("c.d", None), UpsertOutcome::Corrected, None),
        (auth_server("a.b", Some("two")), UpsertOutcome::Corrected, Some("two")),
    ];
    for (server, expected, document) in rows {
        assert_eq!(store.keep_auth_server(&server).unwrap(), expected, "{server:?}");
        let kept = AuthServer { document: None, fetched_at: None, ..server };
        let dated = document.map(|text| (text.as_bytes().to_vec(), NOW)).unzip();
        assert_eq!(
            store.auth_servers().unwrap(),
            [AuthServer { document: dated.0, fetched_at: dated.1, ..kept }]
        );
    }
    let shouted = AuthServer { name: "MICROSOFTSTS".to_owned(), ..auth_server("a.b", None) };
    assert_eq!(store.keep_auth_server(&shouted).unwrap(), UpsertOutcome::Unchanged);
    assert_eq!(store.auth_servers().unwrap().len(), 1, "names differ in more than case");
    assert!(store.remove_auth_server("microsoftsts").unwrap());
    assert!(!store.remove_auth_server("MicrosoftSts").unwrap());
}

#[test]
fn a_document_is_kept_for_the_url_it_came_from_alone() {
    let (_dir, store) = fresh();
    let asked = auth_server("a.b", None);
    assert!(!store.keep_auth_document(&asked, b"{}", NOW).unwrap(), "there is none yet");
    store.keep_auth_server(&asked).unwrap();
    assert!(store.keep_auth_document(&asked, b"{}", NOW).unwrap());
    assert_eq!(store.auth_servers().unwrap(), [auth_server("a.b", Some("{}"))]);
    store.keep_auth_server(&auth_server("c.d", None)).unwrap();
    assert!(!store.keep_auth_document(&asked, b"{}", NOW).unwrap(), "the URL was corrected");
    assert_eq!(store.auth_servers().unwrap(), [auth_server("c.d", None)]);
}

#[test]
fn partners_have_names_and_principals_of_their_own() {
    let (_dir, store) = fresh();
    let partner = |name: &str, application_id: &str, realm: &str| PartnerApplication {
        name: name.to_owned(),
        application_id: application_id.to_owned(),
        realm: realm.to_owned(),
        metadata_url: None,
    };
    // Whether it is added after those before it.
    let rows = [
        (partner("relay", "AAAA", "fabrikam.com"), true),
        (partner("RELAY", "bbbb", "fabrikam.com"), false),
        (partner("other", "aaaa", "Fabrikam.com"), false),
        (partner("any", "aaaa", ""), true),
    ];
    for (partner, is_added) in &rows {
        assert_eq!(store.add_partner(partner).unwrap(), *is_added, "{partner:?}");
    }
    assert_eq!(store.partners().unwrap(), [rows[3].0.clone(), rows[0].0.clone()]);
    assert!(store.remove_partner("Relay").unwrap());
    assert!(!store.remove_partner("relay").unwrap());
}

#[test]
fn a_database_of_version_1_is_brought_up_to_date_with_all_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    keys::private_dir(&state).unwrap();
    let path = store_path(&state);
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../../../fixtures/store/version-1.sql")).unwrap();
    drop(old);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let (current, previous) =
        ("B058EA2A1F123CB0AA54B4B6E47A6173EA06E46D", "D81DD085CB3A0892C52F1C026B8EFA8265C7EDBD");
    for turn in ["first opened", "opened again"] {
        let store = open(dir.path()).unwrap();
        store.verify_rows().and_then(|()| store.verify_trees()).unwrap();
        let expected = AuthConfig {
            current: Some(current.to_owned()),
            previous: Some(previous.to_owned()),
            ..AuthConfig::default()
        };
        assert_eq!(store.auth_config().unwrap(), expected, "{turn}");
        let certificates: Vec<_> =
            store.certificates().unwrap().into_iter().map(|it| (it.thumbprint, it.der.len())).collect();
        assert_eq!(certificates, [(previous.to_owned(), 759), (current.to_owned(), 759)], "{turn}");
        let servers = store.auth_servers().unwrap();
        assert_eq!((servers.len(), servers[0].document.as_ref()), (1, None), "{turn}");
        assert!(servers[0].metadata_url.ends_with("?realm=fabrikam.com"), "{turn}");
        assert_eq!(store.partners().unwrap(), [], "{turn}");
        assert_eq!(store.proxy().unwrap().uri, "https://relay.example/PushNotifications", "{turn}");
        let phones = store.subscriptions(None).unwrap();
        assert_eq!(phones.iter().map(|it| it.record.shown).collect::<Vec<_>>(), [Some(3), None], "{turn}");
    }
}

/// Its writes would have no checksums.
#[test]
fn an_older_database_is_not_brought_up_to_date_under_a_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    keys::private_dir(&state).unwrap();
    let old = rusqlite::Connection::open(store_path(&state)).unwrap();
    schema::make_old(&old, 3);
    old.execute("INSERT INTO proxy VALUES (1, FALSE, NULL, 'u', 'g', 0, 0)", []).unwrap();
    drop(old);
    fs::set_permissions(store_path(&state), Permissions::from_mode(0o600)).unwrap();
    let lock = fs::File::create(state.join(DAEMON_LOCK)).unwrap();
    lock.try_lock().unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::OlderDaemon { .. }), "{error}");
    drop(lock);
    open(dir.path()).unwrap().verify().unwrap();
}

#[test]
fn a_database_from_before_names_its_mailboxes_with_domains_in_lower_case() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    keys::private_dir(&state).unwrap();
    let path = store_path(&state);
    let old = rusqlite::Connection::open(&path).unwrap();
    schema::make_old(&old, 2);
    old.execute("INSERT INTO proxy VALUES (1, FALSE, NULL, 'u', 'g', 0, 0)", []).unwrap();
    let names = [
        ("Kim@Fabrikam.COM", "id-1", 1),
        ("Kim@fabrikam.com", "id-1", 2),
        ("kim@FABRIKAM.com", "id-1", 3),
        ("\"A@B\"@C.D", "id-1", 4),
        ("Kim", "id-1", 5),
        ("KIM", "id-1", 6),
        ("Kim@Fabrikam.com", "id-2", 7),
    ];
    for (mailbox, id, at) in names {
        let row =
            "INSERT INTO subscription (mailbox, subscription_id, app_id, device_id, device_type, option,
                   updated_at_ms, expires_at_ms) VALUES (?1, ?2, 'app', ?3, 'GCM', 47, ?3, 9)";
        old.execute(row, rusqlite::params![mailbox, id, at]).unwrap();
    }
    drop(old);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let store = open(dir.path()).unwrap();
    let expected = [
        ("\"A@B\"@c.d", "4"),
        ("KIM", "6"),
        ("Kim", "5"),
        ("Kim@fabrikam.com", "7"),
        ("Kim@fabrikam.com", "2"),
        ("kim@fabrikam.com", "3"),
    ];
    let expected: Vec<_> = expected.into_iter().map(|(name, id)| (name.to_owned(), id.to_owned())).collect();
    assert_eq!(devices(&store), expected);
}

#[test]
fn another_process_is_noticed_once_and_ones_own_writing_never() {
    let (dir, store) = fresh();
    let other = open(dir.path()).unwrap();
    assert!(!store.changed_elsewhere().unwrap());
    store.add(&[phone("u1", "id", "a")]).unwrap();
    assert!(!store.changed_elsewhere().unwrap());
    other.add(&[phone("u2", "id", "b")]).unwrap();
    assert!(store.changed_elsewhere().unwrap());
    assert!(!store.changed_elsewhere().unwrap());
}

#[test]
fn state_is_its_owners_alone() {
    let (dir, store) = fresh();
    store.add(&[phone("u1", "id", "a")]).unwrap();
    let state = dir.path().join("state");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    let names: Vec<_> = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(names.len() >= 2, "{names:?}");
    for file in &names {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    drop(store);
    for (path, open_mode) in [(store_path(&state), 0o640), (state.clone(), 0o750)] {
        let closed = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, Permissions::from_mode(open_mode)).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::Permission(_)), "{error}");
        assert!(error.to_string().contains("chmod"), "{error}");
        fs::set_permissions(&path, closed).unwrap();
    }
    assert!(open(dir.path()).is_ok());
}

fn store_path(state: &Path) -> PathBuf {
    state.join("mailbadge.db")
}

#[test]
fn first_starts_at_the_same_time_agree_on_one_database() {
    let dir = tempfile::tempdir().unwrap();
    let guids: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> =
            (0..4).map(|_| scope.spawn(|| open(dir.path()).unwrap().proxy().unwrap().guid)).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(guids.iter().all(|guid| *guid == guids[0]), "{guids:?}");
}

#[test]
fn each_process_starts_later_than_the_last_even_when_the_clock_went_back() {
    let (_dir, store) = fresh();
    let first = store.begin(NOW).unwrap();
    assert_eq!(first.seconds(), NOW.seconds());
    assert_eq!(store.begin(NOW).unwrap().seconds(), NOW.seconds() + 1, "two starts in one second");
    assert_eq!(store.begin(UnixMs(0)).unwrap().seconds(), NOW.seconds() + 2, "a clock set back");
}
