//! What Dovecot's dict client sends (sources.md §2). However it is cut, it means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailbadge::source::dovecot::dict::{Conversation, Step};

fn heard<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Step {
    let (mut conversation, mut step) = (Conversation::new(), Step::default());
    pieces.for_each(|piece| conversation.handle(piece, &mut step));
    conversation.finish(&mut step);
    step
}

fuzz_target!(|bytes: &[u8]| {
    let whole = heard(std::iter::once(bytes));
    assert!(whole.replies.len() <= bytes.len(), "an answer is never longer than what it answers");
    let cut = heard(bytes.chunks(7));
    assert_eq!((whole.replies, whole.updates), (cut.replies, cut.updates));
    assert_eq!((whole.skipped, whole.is_hopeless), (cut.skipped, cut.is_hopeless));
});
