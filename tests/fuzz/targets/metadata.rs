//! An authentication metadata document, to the agent and to the relay (protocol.md §5.4). What the agent takes and writes
//! again says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailbadge::identity::metadata::Document;
use mailbadge_sim::peers::metadata::Published;
use mailbadge_sim::peers::tenant::IssuerKind;

fuzz_target!(|bytes: &[u8]| {
    for kind in IssuerKind::ALL {
        let _ = Published::read(bytes, kind);
    }
    let Ok(document) = Document::read(bytes) else { return };
    let _ = document.token_service();
    let again = Document::read(&document.write()).expect("what was written is a document");
    assert_eq!(again.issuer, document.issuer);
    assert_eq!(again.certificates, document.certificates);
});
