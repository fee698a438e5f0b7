//! `/control/quirks`: oddities of the simulated IMAP server, for one mailbox or for all.

use super::mailboxes::no_store;
use super::{Answer, Body, Problem, Shared};
use crate::peers::mail_store::{AccountId, MailStore, Quirk, Quirks};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) async fn list(State(world): Shared) -> Answer {
    let Some(store) = &world.mail_store else { return Err(no_store()) };
    Ok(Json(view(&store.lock())))
}

/// A quirk to switch.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Switch {
    /// Its name.
    quirk: String,
    /// Whose; without it everyone's.
    mailbox: Option<String>,
    /// On unless told otherwise.
    #[serde(default = "yes")]
    on: bool,
}

const fn yes() -> bool {
    true
}

pub(super) async fn switch(State(world): Shared, Body(switch): Body<Switch>) -> Answer {
    let Some(store) = &world.mail_store else { return Err(no_store()) };
    let mut store = store.lock();
    apply(&mut store, &switch)?;
    Ok(Json(view(&store)))
}

fn apply(store: &mut MailStore, switch: &Switch) -> Result<(), Problem> {
    let quirk: Quirk = switch.quirk.parse().map_err(Problem::bad)?;
    let account = match &switch.mailbox {
        None => None,
        Some(name) => {
            let missing = || Problem::new(StatusCode::NOT_FOUND, format!("no mailbox {name}"));
            Some(store.find(name).ok_or_else(missing)?)
        }
    };
    store.set_quirk(account, quirk, switch.on);
    Ok(())
}

/// Names of the quirks of all mailboxes.
pub(in crate::serve) fn everywhere(store: &MailStore) -> Vec<&'static str> {
    names(store.everywhere())
}

fn names(quirks: Quirks) -> Vec<&'static str> {
    quirks.iter().map(Quirk::name).collect()
}

fn view(store: &MailStore) -> Value {
    let own = |account: AccountId| store.quirks_of_its_own(account);
    let odd = store.names().filter(|(account, _)| own(*account) != Quirks::default());
    let mailboxes: Vec<Value> =
        odd.map(|(account, name)| json!({ "name": &**name, "quirks": names(own(account)) })).collect();
    let known = Quirk::ALL.map(Quirk::name);
    json!({ "known": known, "everywhere": everywhere(store), "mailboxes": mailboxes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switch(quirk: &str, mailbox: Option<&str>, on: bool) -> Switch {
        Switch { quirk: quirk.to_owned(), mailbox: mailbox.map(str::to_owned), on }
    }

    #[test]
    fn quirks_are_switched_for_one_or_for_all_and_shown() {
        let mut store = MailStore::new(2, "");
        assert!(apply(&mut store, &switch("silent-drop", Some("user2"), true)).is_ok());
        assert!(apply(&mut store, &switch("auth-penalty", None, true)).is_ok());
        assert!(apply(&mut store, &switch("auth-penalty", Some("user9"), true)).is_err());
        assert!(apply(&mut store, &switch("no-such-quirk", None, true)).is_err());
        let shown = view(&store);
        assert_eq!(shown["everywhere"], json!(["auth-penalty"]));
        assert_eq!(shown["mailboxes"], json!([{ "name": "user2", "quirks": ["silent-drop"] }]));
        assert!(apply(&mut store, &switch("silent-drop", Some("user2"), false)).is_ok());
        assert_eq!(view(&store)["mailboxes"], json!([]));
    }
}
