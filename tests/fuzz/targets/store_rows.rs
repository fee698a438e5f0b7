//! A database that was whole and in which bytes were changed: it is opened and all of it read, or refused. What is read is
//! what was stored. The input is a row of changes, each a place of 4 bytes and what is changed there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailbadge::store::{SqliteStore, Store, StoreError};
use mailbadge::subscription::{NewSubscription, Subscription};
use mailbadge::time::UnixMs;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

/// A state in a folder of its own.
struct Whole {
    state: PathBuf,
    bytes: Vec<u8>,
    subscriptions: Vec<Subscription>,
}

static WHOLE: LazyLock<Whole> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let state = folder.join(format!("mailbadge-store-rows-{}", std::process::id()));
    let store = SqliteStore::open_or_create(&state, UnixMs(1)).expect("an own folder");
    let one = |n: u32| NewSubscription {
        mailbox: format!("u{n}"),
        subscription_id: "id".to_owned(),
        app_id: "com.microsoft.exchange.mowa".to_owned(),
        device_id: format!("device-{n}"),
        device_type: "GCM".to_owned(),
        installation_id: None,
        option: 47,
        shown: Some(n),
        updated_at: UnixMs(1),
        expires_at: UnixMs(9),
    };
    store.add(&(0..20).map(one).collect::<Vec<_>>()).expect("they are new");
    let subscriptions = store.subscriptions(None).expect("they are there");
    let database = store.path().to_owned();
    drop(store);
    Whole { state, bytes: fs::read(database).expect("an own file"), subscriptions }
});

fn read(whole: &Whole) -> Result<(), StoreError> {
    let store = SqliteStore::open(&whole.state)?;
    let subscriptions = store.subscriptions(None)?;
    assert_eq!(subscriptions, whole.subscriptions);
    store.proxy()?;
    store.certificates()?;
    store.auth_config()?;
    store.auth_servers()?;
    store.partners()?;
    store.verify()
}

fuzz_target!(|changes: &[u8]| {
    let whole = &*WHOLE;
    let mut bytes = whole.bytes.clone();
    for change in changes.chunks_exact(5) {
        let place = u32::from_le_bytes([change[0], change[1], change[2], change[3]]) as usize % bytes.len();
        bytes[place] ^= change[4];
    }
    let database = whole.state.join("mailbadge.db");
    for end in ["db-wal", "db-shm"] {
        let _ = fs::remove_file(database.with_extension(end));
    }
    fs::write(&database, bytes).expect("an own file");
    let _ = read(whole);
});
