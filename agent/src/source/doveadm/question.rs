//! What doveadm is asked: `mailboxStatus` of INBOX, of all users or of some by name (sources.md §2.1).

use crate::event::MailboxId;
use serde_json::{Value, json};
use std::sync::Arc;

/// What is wanted of each INBOX.
const FIELDS: [&str; 3] = ["unseen", "uidvalidity", "highestmodseq"];
/// Tag of the question about everyone.
const EVERYONE: &str = "everyone";

/// The body that asks of every user there is.
pub fn of_everyone() -> String {
    json!([["mailboxStatus", parameters("allUsers", &json!(true)), EVERYONE]]).to_string()
}

/// The body that asks of these users, each by a command of its own, so that one that fails costs the others nothing.
pub fn of_these(users: &[(MailboxId, Arc<str>)]) -> String {
    let command = |(mailbox, user): &(MailboxId, Arc<str>)| {
        json!(["mailboxStatus", parameters("user", &json!(**user)), mailbox.0.to_string()])
    };
    Value::Array(users.iter().map(command).collect()).to_string()
}

/// The mailbox that a response with this tag is about.
pub fn mailbox(tag: &str) -> Option<MailboxId> {
    tag.parse().ok().map(MailboxId)
}

fn parameters(whose: &str, value: &Value) -> Value {
    json!({ whose: value, "mailboxMask": ["INBOX"], "field": FIELDS })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_spelled_as_doveadm_takes_them() {
        let everyone: Value = serde_json::from_str(&of_everyone()).unwrap();
        let fields = json!(["unseen", "uidvalidity", "highestmodseq"]);
        let expected = json!([["mailboxStatus", {"allUsers": true, "mailboxMask": ["INBOX"], "field": fields}, "everyone"]]);
        assert_eq!(everyone, expected);
        let users = [(MailboxId(7), "u1".into()), (MailboxId(9), "o\"dd\\".into())];
        let these: Value = serde_json::from_str(&of_these(&users)).unwrap();
        let expected = json!([
            ["mailboxStatus", {"user": "u1", "mailboxMask": ["INBOX"], "field": fields}, "7"],
            ["mailboxStatus", {"user": "o\"dd\\", "mailboxMask": ["INBOX"], "field": fields}, "9"],
        ]);
        assert_eq!(these, expected);
        assert_eq!((mailbox("9"), mailbox(EVERYONE)), (Some(MailboxId(9)), None));
    }
}
