//! A token service's answer (protocol.md §5.5). The first byte chooses the status.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailbadge::https::Response;
use mailbadge::time::UnixMs;
use mailbadge::token::exchange::read;

const STATUSES: [u16; 8] = [200, 200, 200, 400, 401, 429, 500, 503];

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, content)) = bytes.split_first() else { return };
    let answer = Response {
        status: STATUSES[usize::from(*choice) % STATUSES.len()],
        content: content.to_vec().into(),
        ..Response::default()
    };
    if let Err(refusal) = read(&answer, UnixMs::from_seconds(1_795_420_860)) {
        assert!(!refusal.to_string().contains(['\n', '\r']), "it is one line");
    }
});
