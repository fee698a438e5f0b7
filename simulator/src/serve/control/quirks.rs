//! `/control/quirks`: oddities of the simulated mail host, for one mailbox or for all.

use super::mailboxes::no_store;
use super::{Answer, Body, Problem, Shared};
use crate::peers::mail_store::{AccountId, MailStore, Notifier, Quirk, Quirks};
use crate::serve::World;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) async fn list(State(world): Shared) -> Answer {
    let Some(store) = &world.mail_store else { return Err(no_store()) };
    Ok(Json(with_notifiers(view(&store.lock()), &world)))
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
    apply(&mut store, &switch, |notifier| world.notifiers.has(notifier))?;
    Ok(Json(with_notifiers(view(&store), &world)))
}

fn apply(store: &mut MailStore, switch: &Switch, is_there: impl Fn(Notifier) -> bool) -> Result<(), Problem> {
    let quirk: Quirk = switch.quirk.parse().map_err(Problem::bad)?;
    if let Some(notifier) = quirk.notifier().filter(|notifier| switch.on && !is_there(*notifier)) {
        let error = format!("nobody is told of changes that way here; start with {}", option_of(notifier));
        return Err(Problem::new(StatusCode::CONFLICT, error));
    }
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

/// What `serve` must be started with for it to be there.
const fn option_of(notifier: Notifier) -> &'static str {
    match notifier {
        Notifier::Dict => "--tell-dict PATH",
        Notifier::Cyrus => "--tell-cyrus PATH",
    }
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
    json!({ "known": known.as_slice(), "everywhere": everywhere(store), "mailboxes": mailboxes })
}

/// The same with how those fare who are told.
fn with_notifiers(mut view: Value, world: &World) -> Value {
    if let Some(view) = view.as_object_mut() {
        view.insert("tellers".to_owned(), world.notifiers.view());
    }
    view
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
        assert!(apply(&mut store, &switch("silent-drop", Some("user2"), true), |_| false).is_ok());
        assert!(apply(&mut store, &switch("auth-penalty", None, true), |_| false).is_ok());
        assert!(apply(&mut store, &switch("auth-penalty", Some("user9"), true), |_| false).is_err());
        assert!(apply(&mut store, &switch("no-such-quirk", None, true), |_| false).is_err());
        let shown = view(&store);
        assert_eq!(shown["everywhere"], json!(["auth-penalty"]));
        assert_eq!(shown["mailboxes"], json!([{ "name": "user2", "quirks": ["silent-drop"] }]));
        assert!(apply(&mut store, &switch("silent-drop", Some("user2"), false), |_| false).is_ok());
        assert_eq!(view(&store)["mailboxes"], json!([]));
    }
    #[test]
    fn a_quirk_of_what_is_told_needs_somebody_to_tell_and_names_the_option() {
        let mut store = MailStore::new(2, "");
        let is_dict = |notifier| notifier == Notifier::Dict;
        assert!(apply(&mut store, &switch("dict-v2", Some("user1"), true), is_dict).is_ok());
        assert!(apply(&mut store, &switch("dict-v4", Some("user1"), true), is_dict).is_ok());
        assert_eq!(view(&store)["mailboxes"], json!([{ "name": "user1", "quirks": ["dict-v4"] }]));
        let refused = apply(&mut store, &switch("cyrus-lost-datagrams", None, true), is_dict).err();
        let refused = refused.expect("nobody hears Cyrus");
        assert_eq!(refused.status, StatusCode::CONFLICT);
        assert!(refused.error.contains("--tell-cyrus"), "{}", refused.error);
        // What is off may be switched off.
        assert!(apply(&mut store, &switch("cyrus-lost-datagrams", None, false), is_dict).is_ok());
        let unknown = apply(&mut store, &switch("dict-v5", None, true), is_dict).expect_err("no such one");
        assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
        for quirk in Quirk::ALL {
            assert!(unknown.error.contains(quirk.name()), "{quirk} is not listed");
        }
    }
}
