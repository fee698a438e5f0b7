//! A backup that was whole and in which bytes were changed: it is restored with all that was stored, or refused. The input
//! is a row of changes, each a place of 4 bytes and what is changed there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailbadge::identity::certificate::{Certificate, StoredCertificate};
use mailbadge::identity::key::PrivateKey;
use mailbadge::store::{Contents, SqliteStore, Store};
use mailbadge::time::UnixMs;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

/// A backup in a folder of its own.
struct Whole {
    file: PathBuf,
    bytes: Vec<u8>,
    contents: Contents,
}

static WHOLE: LazyLock<Whole> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let state = folder.join(format!("mailbadge-backup-file-{}", std::process::id()));
    let store = SqliteStore::open_or_create(&state, UnixMs(1)).expect("an own folder");
    let certificate = include_str!("../../../fixtures/certificates/expired.cert.pem");
    let certificate = Certificate::from_pem(certificate, "OAuth").expect("a fixture");
    let key = PrivateKey::from_pem(include_str!("../../../fixtures/certificates/expired.key.pem"));
    let key = key.and_then(|key| key.to_pkcs8_pem()).expect("a fixture");
    let kept = StoredCertificate {
        thumbprint: certificate.thumbprint().to_string(),
        friendly_name: "OAuth".to_owned(),
        der: certificate.der().to_vec(),
    };
    store.add_certificate(&kept, &key).expect("it is new");
    let file = state.join("backup");
    fs::write(&file, "").expect("an own folder");
    let contents = store.back_up(&file).expect("it is whole");
    Whole { bytes: fs::read(&file).expect("an own file"), file, contents }
});

fuzz_target!(|changes: &[u8]| {
    let whole = &*WHOLE;
    let mut bytes = whole.bytes.clone();
    for change in changes.chunks_exact(5) {
        let place = u32::from_le_bytes([change[0], change[1], change[2], change[3]]) as usize % bytes.len();
        bytes[place] ^= change[4];
    }
    fs::write(&whole.file, bytes).expect("an own file");
    if let Ok(contents) = SqliteStore::verify_backup(&whole.file) {
        assert_eq!(contents, whole.contents);
    }
});
