//! Several sources for one mailbox, as stories: whatever the order of arrival, what is believed in the end is what the
//! last question would be answered with, and nothing stale stands without a question.

use super::*;

const CYRUS: SourceId = SourceId(2);
const FILES: SourceId = SourceId(3);

/// One thing said: by whom, with which count, UIDVALIDITY and MODSEQ (0: not said), when asked; what is made of it, and
/// which count is believed then.
type Said = (SourceId, (u32, u32, u64), Option<u64>, Verdict, u32);

#[track_caller]
fn check(story: &str, said: &[Said]) {
    let mut record = Record::default();
    for (step, (source, (unseen, validity, modseq), asked, verdict, believed)) in said.iter().enumerate() {
        // Ten milliseconds apart.
        let now = at(10 * (step as u64 + 1));
        let news = News::Reading(reading(*unseen, *validity, *modseq, *asked));
        assert_eq!(record.observe(*source, news, now), *verdict, "{story}, step {step}");
        assert_eq!(record.known().map(|known| known.unseen), Some(*believed), "{story}, step {step}");
    }
}

#[test]
fn dovecot_and_imap() {
    use Verdict::{Ask, Changed, Older, Unchanged};
    check(
        "dict is told first, IMAP agrees, an older commit comes late",
        &[
            (DICT, (1, 7, 10), None, Changed, 1),
            (DICT, (2, 7, 12), None, Changed, 2),
            (IMAP, (2, 7, 12), None, Unchanged, 2),
            (DICT, (3, 7, 11), None, Older, 2),
            (IMAP, (0, 7, 13), None, Changed, 0),
        ],
    );
    check(
        "a change behind Dovecot's back is found by the sweep, with the same MODSEQ",
        &[(DICT, (3, 7, 10), None, Changed, 3), (IMAP, (2, 7, 10), Some(15), Changed, 2)],
    );
    check(
        "an answer that crosses an event",
        &[
            (DICT, (3, 7, 10), None, Changed, 3),
            (DICT, (4, 7, 11), None, Changed, 4),
            (IMAP, (3, 7, 10), Some(15), Older, 4),
            (IMAP, (5, 7, 12), Some(15), Changed, 5),
        ],
    );
    check(
        "a plugin whose value has no MODSEQ",
        &[
            (DICT, (3, 0, 0), None, Changed, 3),
            (IMAP, (2, 7, 10), Some(5), Ask, 3),
            (IMAP, (3, 7, 11), Some(20), Unchanged, 3),
        ],
    );
}

#[test]
fn cyrus_and_imap() {
    use Verdict::{Ask, Changed, Unchanged};
    check(
        "all seen comes without MODSEQ, while the sweep's answer from before it is on its way",
        &[
            (CYRUS, (3, 7, 31), None, Changed, 3),
            (CYRUS, (0, 7, 0), None, Changed, 0),
            (IMAP, (3, 7, 40), Some(15), Ask, 0),
            (IMAP, (0, 7, 42), Some(30), Unchanged, 0),
            (CYRUS, (1, 7, 43), None, Changed, 1),
        ],
    );
    check(
        "an event without MODSEQ comes late, after the answer that knows more",
        &[
            (CYRUS, (1, 7, 31), None, Changed, 1),
            (IMAP, (2, 7, 35), Some(10), Changed, 2),
            (CYRUS, (0, 7, 0), None, Ask, 2),
            (IMAP, (2, 7, 35), Some(30), Unchanged, 2),
        ],
    );
    check(
        "events alone: arrival orders where MODSEQ is missing",
        &[
            (CYRUS, (1, 7, 31), None, Changed, 1),
            (CYRUS, (0, 7, 0), None, Changed, 0),
            (CYRUS, (2, 7, 44), None, Changed, 2),
        ],
    );
}

#[test]
fn files_beside_others() {
    use Verdict::{Ask, Changed, Older, Unchanged};
    check(
        "the files are quicker than Dovecot's word, and then agree with it",
        &[
            (DICT, (3, 7, 10), None, Changed, 3),
            (FILES, (4, 0, 0), Some(15), Changed, 4),
            (DICT, (4, 7, 11), None, Unchanged, 4),
            (DICT, (3, 7, 12), None, Changed, 3),
            (FILES, (3, 0, 0), Some(45), Unchanged, 3),
            (DICT, (2, 7, 13), None, Changed, 2),
        ],
    );
    check(
        "two changes at once: Dovecot's word of the first one comes after the files of the second",
        &[
            (DICT, (3, 7, 10), None, Changed, 3),
            (FILES, (5, 0, 0), Some(15), Changed, 5),
            (DICT, (4, 7, 11), None, Ask, 5),
            (FILES, (5, 0, 0), Some(35), Unchanged, 5),
            (DICT, (2, 7, 9), None, Older, 5),
        ],
    );
    check(
        "files that were read before the event are asked again",
        &[
            (DICT, (3, 7, 10), None, Changed, 3),
            (DICT, (2, 7, 11), None, Changed, 2),
            (FILES, (3, 0, 0), Some(15), Ask, 2),
            (FILES, (2, 0, 0), Some(35), Unchanged, 2),
        ],
    );
    check(
        "IMAP sweeps beside the files",
        &[
            (FILES, (3, 0, 0), Some(5), Changed, 3),
            (IMAP, (3, 7, 10), Some(15), Unchanged, 3),
            (FILES, (4, 0, 0), Some(25), Changed, 4),
            (IMAP, (3, 7, 10), Some(28), Ask, 4),
            (IMAP, (4, 7, 11), Some(45), Unchanged, 4),
        ],
    );
}

#[test]
fn a_mailbox_that_was_made_anew_is_believed_by_the_first_answer_whether_it_names_its_uidvalidity_or_not() {
    use Verdict::{Ask, Changed};
    check(
        "IMAP answers",
        &[
            (DICT, (3, 7, 10), None, Changed, 3),
            (DICT, (0, 8, 1), None, Ask, 3),
            (IMAP, (0, 8, 1), Some(20), Changed, 0),
            (DICT, (1, 8, 2), None, Changed, 1),
        ],
    );
    check(
        "files answer, and name none",
        &[
            (DICT, (3, 7, 10), None, Changed, 3),
            (DICT, (0, 8, 1), None, Ask, 3),
            (FILES, (0, 0, 0), Some(20), Changed, 0),
            (DICT, (1, 8, 2), None, Ask, 0),
            (FILES, (1, 0, 0), Some(40), Changed, 1),
        ],
    );
    check(
        "nobody can be asked: the next event is believed",
        &[
            (DICT, (3, 7, 10), None, Changed, 3),
            (DICT, (0, 8, 1), None, Ask, 3),
            (DICT, (1, 8, 2), None, Changed, 1),
            (DICT, (0, 8, 1), None, Verdict::Older, 1),
        ],
    );
}
