//! An answer of doveadm's HTTP API, the same wherever it is cut (sources.md §2.1). The first byte says where.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailbadge::source::doveadm::answer::{AnswerPart, Reader};

fn read(pieces: [&[u8]; 2]) -> (Vec<AnswerPart>, bool, bool) {
    let (mut reader, mut all) = (Reader::default(), Vec::new());
    let is_taken = pieces.iter().all(|piece| reader.read(piece, |said| all.push(said)).is_ok());
    (all, is_taken, reader.is_over())
}

fuzz_target!(|bytes: &[u8]| {
    let Some((at, answer)) = bytes.split_first() else { return };
    let whole = read([answer, &[]]);
    assert_eq!(whole, read(answer.split_at(usize::from(*at).min(answer.len())).into()));
});
