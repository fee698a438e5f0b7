//! A datagram of Cyrus's notify socket (sources.md §3).
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailbadge::source::cyrus::notify::read;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(update) = read(bytes) {
        assert!(!update.user.is_empty());
    }
});
