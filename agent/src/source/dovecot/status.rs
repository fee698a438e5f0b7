//! The value that `notify_status_value` makes: JSON of a mailbox's STATUS, to a [`Reading`].

use crate::event::{ModSeq, Reading, UidValidity};
use crate::https::json::Members;
use std::num::{NonZeroU32, NonZeroU64};

/// The members we know, as the packaged configuration writes them; `messages`, `uidnext` and any other are the
/// administrator's to send or not.
#[derive(serde::Deserialize)]
struct Status {
    unseen: u32,
    uidvalidity: Option<u32>,
    modseq: Option<u64>,
}

/// Reads the JSON of sources.md §2. Without `unseen` it is no reading; a missing or zero `uidvalidity` or `modseq`
/// is unknown (the plugin's own default value has neither), as is one that cannot be read: a variable that a version of
/// Dovecot does not know becomes text that is no JSON.
pub(super) fn reading(value: &[u8]) -> Option<Reading> {
    let status = match serde_json::from_slice(value) {
        Ok(status) => status,
        Err(_) => odd(value)?,
    };
    Some(Reading {
        unseen: status.unseen,
        uid_validity: status.uidvalidity.and_then(NonZeroU32::new).map(UidValidity),
        modseq: status.modseq.and_then(NonZeroU64::new).map(ModSeq),
        asked_at: None,
    })
}

/// What was configured in another way than the packaged one, member by member.
fn odd(value: &[u8]) -> Option<Status> {
    let members = Members::read(value)?;
    let small = |name| members.number(name).and_then(|number| u32::try_from(number).ok());
    Some(Status {
        unseen: small("unseen")?,
        uidvalidity: small("uidvalidity"),
        modseq: members.number("modseq"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_with_whatever_members_they_have() {
        /// unseen, uidvalidity, modseq.
        type Found = (u32, Option<u32>, Option<u64>);
        let cases: &[(&str, Option<Found>)] = &[
            (
                r#"{"messages":1,"unseen":1,"uidnext":2,"uidvalidity":1795424325,"modseq":2}"#,
                Some((1, Some(1_795_424_325), Some(2))),
            ),
            (r#"{"messages":5,"unseen":3}"#, Some((3, None, None))),
            (r#"{"unseen":3,"uidvalidity":0,"modseq":0}"#, Some((3, None, None))),
            (r#"{"unseen":3,"modseq":null,"guid":"x"}"#, Some((3, None, None))),
            (
                r#"{"unseen":4294967295,"modseq":18446744073709551615}"#,
                Some((u32::MAX, None, Some(u64::MAX))),
            ),
            (r#"{"messages":5}"#, None),
            (r#"{"unseen":-1}"#, None),
            (r#"{"unseen":"3"}"#, Some((3, None, None))),
            (r#"{"UNSEEN": 3.0, "uidvalidity": "7", "modseq": "8"}"#, Some((3, Some(7), Some(8)))),
            (r#"{"unseen":3,"uidvalidity":-1,"modseq":[]}"#, Some((3, None, None))),
            (
                r#"{"unseen":3,"modseq":UNSUPPORTED_VARIABLE_highest,"uidvalidity":7}"#,
                Some((3, Some(7), None)),
            ),
            (r#"{"modseq":,"unseen":3}"#, Some((3, None, None))),
            (r#"{"unseen":4294967296}"#, None),
            (r#"{"unseen":1,"unseen":2}"#, Some((2, None, None))),
            (r#"{"unseen":UNSUPPORTED_VARIABLE_unsen}"#, None),
            ("3", None),
            ("", None),
        ];
        for (value, expected) in cases {
            let found = reading(value.as_bytes())
                .map(|r| (r.unseen, r.uid_validity.map(|v| v.0.get()), r.modseq.map(|m| m.0.get())));
            assert_eq!(found, *expected, "{value}");
        }
    }
}
