//! A relay's answer to a batch (protocol.md §1.5, §1.6): status, `Retry-After` in the first line, then the body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailbadge::forwarder::answer::{Answer, Disposition, WAIT_MAX, disposition};
use mailbadge::forwarder::wire::Stamp;
use mailbadge::time::UnixMs;

const STATUSES: [u16; 12] = [200, 200, 202, 301, 400, 401, 403, 408, 413, 429, 500, 503];

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (header, content) = rest.split_at(end);
    let now = UnixMs::from_seconds(1_795_420_860);
    let answer = Answer {
        status: STATUSES[usize::from(*choice) % STATUSES.len()],
        retry_after: (end > 0).then(|| String::from_utf8_lossy(header).into_owned()),
        is_report: choice % 2 == 1,
        content: content.to_vec().into(),
        ..Answer::default()
    };
    if let Disposition::Wait { exactly, .. } = disposition(&Ok(answer), &Stamp::new(now), &[], now) {
        assert!(!exactly.is_zero() && exactly <= WAIT_MAX);
    }
});
