//! `/control/devices`: what every icon shows; devices that are told whose inbox they show, or that they are gone.

use super::{Answer, Body, Problem, Shared, view};
use crate::peers::device::{App, Device, Devices};
use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

/// Devices of one answer, at most.
pub(in crate::serve) const PAGE_MAX: usize = 100_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Filter {
    app_id: Option<String>,
    device_id: Option<String>,
    mailbox: Option<String>,
    #[serde(default)]
    offset: usize,
    limit: Option<usize>,
}

pub(super) async fn list(State(world): Shared, Query(filter): Query<Filter>) -> Answer {
    let relay = world.relay.lock();
    let matches = |wanted: &Option<String>, is: Option<&str>| wanted.as_deref().is_none_or(|w| is == Some(w));
    let all = relay.devices.iter().filter(|device| {
        matches(&filter.app_id, Some(device.app.id()))
            && matches(&filter.device_id, Some(&device.id))
            && matches(&filter.mailbox, device.mailbox.as_deref())
    });
    let limit = filter.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX);
    let devices: Vec<Value> = all.skip(filter.offset).take(limit).map(view::device).collect();
    Ok(Json(json!({ "devices": devices, "known": relay.devices.len() })))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Put {
    app_id: String,
    device_id: String,
    mailbox: Option<String>,
    is_gone: Option<bool>,
}

/// Makes devices or changes them: one object, or a list of them of which all or none is taken.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(Put),
    Many(Vec<Put>),
}

pub(super) async fn put(State(world): Shared, Body(puts): Body<OneOrMany>) -> Answer {
    let puts = match puts {
        OneOrMany::One(put) => vec![put],
        OneOrMany::Many(puts) => puts,
    };
    let checked: Vec<(App, Put)> = puts.into_iter().map(check).collect::<Result<_, _>>()?;
    let mut relay = world.relay.lock();
    for (app, put) in &checked {
        let device = change(&mut relay.devices, *app, put);
        device.ok_or_else(|| Problem::bad("no room for another device"))?;
    }
    Ok(Json(json!({ "devices": checked.len() })))
}

fn check(put: Put) -> Result<(App, Put), Problem> {
    let app = App::find(&put.app_id).ok_or_else(|| {
        let known = App::ALL.map(App::id).join(", ");
        Problem::bad(format!("unknown appId {:?}; known are {known}", put.app_id))
    })?;
    if put.device_id.trim().is_empty() || !app.can_name(&put.device_id) {
        return Err(Problem::bad(format!("deviceId {:?} cannot be one of {}", put.device_id, put.app_id)));
    }
    Ok((app, put))
}

fn change<'a>(devices: &'a mut Devices, app: App, put: &Put) -> Option<&'a mut Device> {
    let device = devices.make(app, &put.device_id)?;
    if let Some(mailbox) = &put.mailbox {
        device.mailbox = Some(mailbox.as_str().into());
    }
    if let Some(is_gone) = put.is_gone {
        device.is_gone = is_gone;
    }
    Some(device)
}
