//! Backups: whole or not at all, and a store that was restored from one knows of nobody what he shows.

use super::damage::full;
use super::*;

fn state(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("state")
}

/// A backup of a full store, in the same folder.
fn backed_up() -> (tempfile::TempDir, SqliteStore, PathBuf) {
    let (dir, store) = full();
    let file = dir.path().join("backup");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let contents = store.back_up(&file).unwrap();
    let expected =
        Contents { subscriptions: 20, certificates: 1, private_keys: 1, auth_servers: 1, partners: 1 };
    assert_eq!(contents, expected);
    (dir, store, file)
}

#[test]
fn a_backup_brings_all_back_but_what_devices_show() {
    let (dir, store, file) = backed_up();
    let thumbprint = store.certificates().unwrap()[0].thumbprint.clone();
    let elsewhere = tempfile::tempdir().unwrap();
    let (contents, former) = SqliteStore::restore(&state(&elsewhere), &file, None).unwrap();
    assert_eq!((contents.subscriptions, former), (20, None));
    let restored = open(elsewhere.path()).unwrap();
    restored.verify().unwrap();
    let mut expected = store.subscriptions(None).unwrap();
    for one in &mut expected {
        one.record.shown = None;
    }
    assert_eq!(restored.subscriptions(None).unwrap(), expected);
    assert_eq!(restored.proxy().unwrap(), store.proxy().unwrap());
    assert_eq!(restored.auth_config().unwrap(), store.auth_config().unwrap());
    assert_eq!(restored.auth_servers().unwrap(), store.auth_servers().unwrap());
    assert_eq!(restored.partners().unwrap(), store.partners().unwrap());
    let key = |store: &SqliteStore| store.private_key(&thumbprint).unwrap().expose_secret().to_owned();
    assert_eq!(key(&restored), key(&store));
    let bytes = fs::read(store_path(&state(&elsewhere))).unwrap();
    let secret = key(&store);
    assert!(!bytes.windows(64).any(|some| some == &secret.as_bytes()[100..164]), "the database holds no key");
    drop(dir);
}

#[test]
fn a_database_that_is_there_is_moved_aside_with_its_log() {
    let (dir, store, file) = backed_up();
    store.add(&[phone("late", "id", "late")]).unwrap();
    let occupied = SqliteStore::restore(&state(&dir), &file, None).unwrap_err();
    assert!(matches!(occupied, StoreError::Occupied { .. }), "{occupied}");
    assert_eq!(store.subscriptions(None).unwrap().len(), 21);
    drop(store);
    fs::write(state(&dir).join("doubt-7"), "x").unwrap();
    fs::write(state(&dir).join("doubt.whole"), "x").unwrap();
    fs::write(state(&dir).join("mailbadge.db-wal"), "the former one's").unwrap();
    let (_, former) = SqliteStore::restore(&state(&dir), &file, Some("replaced-2026")).unwrap();
    let former = former.unwrap();
    assert_eq!(former, state(&dir).join("mailbadge.db.replaced-2026"));
    assert!(former.exists() && state(&dir).join("mailbadge.db.replaced-2026-wal").exists());
    let restored = open(dir.path()).unwrap();
    assert_eq!(restored.subscriptions(None).unwrap().len(), 20);
    let names: Vec<_> = fs::read_dir(state(&dir)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with("doubt")), "{names:?}");
}

#[test]
fn what_is_no_whole_backup_is_refused_and_nothing_is_changed() {
    let (dir, store, file) = backed_up();
    let whole = fs::read(&file).unwrap();
    let mut spoiled: Vec<(String, Vec<u8>)> = vec![
        ("nothing".to_owned(), Vec::new()),
        ("text".to_owned(), b"no database, but a long text".repeat(99)),
        ("a half".to_owned(), whole[..whole.len() / 2].to_vec()),
        ("a database".to_owned(), fs::read(store.path()).unwrap()),
    ];
    for place in (100..whole.len()).step_by(whole.len() / 50) {
        let mut changed = whole.clone();
        for byte in changed[place..].iter_mut().take(8) {
            *byte ^= 0x55;
        }
        spoiled.push((format!("byte {place}"), changed));
    }
    let before = fs::read(store.path()).unwrap();
    let all = store.subscriptions(None).unwrap();
    drop(store);
    for (what, bytes) in spoiled {
        fs::write(&file, &bytes).unwrap();
        match SqliteStore::restore(&state(&dir), &file, Some("aside")) {
            Err(error) => {
                assert!(matches!(error, StoreError::NoBackup { .. }), "{what}: {error}");
                assert!(fs::read(store_path(&state(&dir))).unwrap() == before, "{what}");
            }
            // On a page that is free, or in a reserved place of one.
            Ok((_, former)) => {
                let restored = open(dir.path()).unwrap();
                let same = restored.subscriptions(None).unwrap();
                assert!(same.iter().zip(&all).all(|(one, other)| one.key == other.key), "{what}");
                drop(restored);
                fs::rename(former.unwrap(), store_path(&state(&dir))).unwrap();
            }
        }
        let names = fs::read_dir(state(&dir)).unwrap().count();
        assert_eq!(names, 2, "{what}: nothing is left beside");
    }
}
