//! A relay's `WWW-Authenticate` lines (protocol.md §5.3).
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailbadge::token::challenge::{Challenge, ISSUERS_MAX};

fuzz_target!(|text: &str| {
    let lines: Vec<&str> = text.split('\n').collect();
    let Some(challenge) = Challenge::parse(&lines) else { return };
    assert!(text.to_ascii_lowercase().contains("bearer"));
    assert!(challenge.issuers.len() <= ISSUERS_MAX);
    assert!(challenge.issuers.iter().all(|issuer| !issuer.id.is_empty()));
});
