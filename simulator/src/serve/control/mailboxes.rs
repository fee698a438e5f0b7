//! `/control/mailboxes`: the mail host's inboxes, and what people do in them.

use super::{Answer, Body, Problem, Shared, view};
use crate::peers::mail_store::{AccountId, Flags, MailStore};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

/// Mailboxes of one answer, at most.
const PAGE_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Slice {
    #[serde(default)]
    offset: usize,
    limit: Option<usize>,
}

pub(super) async fn list(State(world): Shared, Query(slice): Query<Slice>) -> Answer {
    let Some(store) = &world.mail_store else { return Err(no_store()) };
    let store = store.lock();
    let mailboxes = some(&store, slice.offset, slice.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX));
    Ok(Json(json!({ "mailboxes": mailboxes, "count": store.count() })))
}

/// Mailboxes in their order.
pub(in crate::serve) fn some(store: &MailStore, offset: usize, limit: usize) -> Vec<Value> {
    let accounts = (offset..store.count()).take(limit);
    accounts.filter_map(|n| view::mailbox(store, AccountId(n as u32))).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Without it the message that a person would take.
    uid: Option<u32>,
}

pub(super) async fn act(
    State(world): Shared,
    Path((name, action)): Path<(String, String)>,
    Body(which): Body<Which>,
) -> Answer {
    let Some(store) = &world.mail_store else { return Err(no_store()) };
    let mut store = store.lock();
    let account = store.find(&name);
    let account = account.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("no mailbox {name}")))?;
    let changed = perform(&mut store, account, &action, which.uid)?;
    let mailbox = view::mailbox(&store, account);
    Ok(Json(json!({ "mailbox": mailbox, "uid": changed })))
}

/// Does it; the uid that changed, where one did.
fn perform(
    store: &mut MailStore,
    account: AccountId,
    action: &str,
    uid: Option<u32>,
) -> Result<Option<u32>, Problem> {
    let newest = |store: &MailStore, is_seen| {
        let mut messages = store.messages(account).iter().rev();
        uid.or_else(|| messages.find(|m| m.flags.contains(Flags::SEEN) == is_seen).map(|m| m.uid))
    };
    let last = |store: &MailStore| store.messages(account).last().map(|message| message.uid);
    let done = |uid: Option<u32>, is_changed: bool| Ok(uid.filter(|_| is_changed));
    match action {
        "deliver" => Ok(store.deliver(account)),
        "read" | "unread" => {
            let uid = newest(store, action == "unread");
            let is_changed = uid.is_some_and(|uid| store.set_seen(account, uid, action == "read"));
            done(uid, is_changed)
        }
        "delete" => {
            let uid = uid.or_else(|| newest(store, false)).or_else(|| last(store));
            let is_changed = uid.is_some_and(|uid| store.expunge(account, uid));
            done(uid, is_changed)
        }
        "all-seen" => {
            store.all_seen(account);
            Ok(None)
        }
        _ => Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!("unknown action {action:?}; deliver, read, unread, delete and all-seen are known"),
        )),
    }
}

pub(super) fn no_store() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no mail host here; start with --mail-store N")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_changes_the_count_as_its_name_says() {
        let mut store = MailStore::new(1, "");
        let account = AccountId(0);
        let steps = [
            ("deliver", None, 1),
            ("deliver", None, 2),
            ("read", None, 1),
            ("read", Some(1), 0),
            ("unread", Some(1), 1),
            ("deliver", None, 2),
            ("delete", None, 1),
            ("all-seen", None, 0),
            ("delete", None, 0),
            ("delete", Some(77), 0),
        ];
        for (action, uid, unseen) in steps {
            assert!(perform(&mut store, account, action, uid).is_ok(), "{action}");
            assert_eq!(store.status(account).map(|status| status.unseen), Some(unseen), "{action} {uid:?}");
        }
        assert!(perform(&mut store, account, "burn", None).is_err());
    }
}
