//! `/control/events`: what changes, as Server-Sent Events, so that the page need not ask.
//!
//! Nothing is queued: ten times a second each watcher is sent what differs from what it was sent last. A slow one is
//! sent less often and misses nothing but numbers that were overwritten.

use super::control::view;
use super::control::{faults, quirks, record, token_service};
use super::{World, clock};
use crate::peers::fault::Peer;
use crate::peers::mail_store::AccountId;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// How often it is looked for changes.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// After so long without one a comment keeps the connection alive.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Batches sent at once; older ones can be had from `/control/notifications`.
const BATCHES_AT_ONCE: usize = 20;
/// Events under way to one watcher.
const UNDER_WAY_MAX: usize = 16;

/// Begins a stream.
pub(super) async fn stream(State(world): State<Arc<World>>) -> impl IntoResponse {
    let (sender, receiver) = mpsc::channel(UNDER_WAY_MAX);
    tokio::spawn(watch(world, sender));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::new(ChannelBody(receiver)))
}

async fn watch(world: Arc<World>, sender: mpsc::Sender<Bytes>) {
    let mut sent = SentVersions::default();
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut quiet_since = clock::now();
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = sender.closed() => return,
        }
        let mut events = sent.catch_up(&world);
        if events.is_empty() && clock::now().since(quiet_since) > SILENCE_MAX {
            events.push(":\n\n".to_owned());
        }
        for event in events {
            quiet_since = clock::now();
            if sender.send(event.into()).await.is_err() {
                return;
            }
        }
    }
}

/// What one watcher was sent.
#[derive(Default)]
struct SentVersions {
    devices: u64,
    batches: u64,
    mailboxes: Vec<u32>,
    /// Compared whole: it is small and rarely changes.
    relay: Value,
}

impl SentVersions {
    fn catch_up(&mut self, world: &World) -> Vec<String> {
        let mut events = Vec::new();
        let mut tell = |name: &str, value: &Value| events.push(format!("event: {name}\ndata: {value}\n\n"));
        if let Some(changed) = self.devices(world) {
            tell("devices", &changed);
        }
        if let Some(changed) = self.mailboxes(world) {
            tell("mailboxes", &changed);
        }
        if let Some(changed) = self.batches(world) {
            tell("batches", &changed);
        }
        if let Some(changed) = self.relay(world) {
            tell("relay", &changed);
        }
        events
    }

    fn devices(&mut self, world: &World) -> Option<Value> {
        let relay = world.relay.lock();
        let version = relay.devices.version();
        if version == self.devices {
            return None;
        }
        let shown = relay.devices.iter().take(record::DEVICES_SHOWN);
        let changed: Vec<Value> = shown.filter(|d| d.version > self.devices).map(view::device).collect();
        self.devices = version;
        (!changed.is_empty()).then(|| changed.into())
    }

    fn mailboxes(&mut self, world: &World) -> Option<Value> {
        let store = world.mail_store.as_ref()?.lock();
        let count = store.count().min(record::MAILBOXES_SHOWN);
        let mut changed = Vec::new();
        for n in 0..count {
            let account = AccountId(n as u32);
            let version = store.version(account);
            match self.mailboxes.get_mut(n) {
                Some(sent) if *sent == version => continue,
                Some(sent) => *sent = version,
                None => self.mailboxes.push(version),
            }
            changed.extend(view::mailbox(&store, account));
        }
        (!changed.is_empty()).then(|| changed.into())
    }

    fn batches(&mut self, world: &World) -> Option<Value> {
        let mut batches: Vec<_> = world.relay.lock().record.batches_after(self.batches).cloned().collect();
        self.batches = batches.last()?.number;
        let from = batches.len().saturating_sub(BATCHES_AT_ONCE);
        let newest = batches.split_off(from);
        let shown = newest.iter().map(|batch| view::batch(batch, record::NOTIFICATIONS_SHOWN));
        Some(shown.collect::<Vec<Value>>().into())
    }

    fn relay(&mut self, world: &World) -> Option<Value> {
        let quirks = world.mail_store.as_ref().map(|store| quirks::everywhere(&store.lock()));
        let mut now = json!({
            "isUp": world.is_up(Peer::Relay),
            "tokenService": token_service::state(world),
            "figures": record::all_totals(world),
            "quirks": quirks.unwrap_or_default(),
        });
        if let Some(now) = now.as_object_mut() {
            let relay = world.relay.lock();
            now.insert("tokens".to_owned(), record::tokens_of(&relay, record::TOKENS_SHOWN).into());
            now.insert("tenants".to_owned(), record::all_tenants(&relay).into());
        }
        if let (Some(now), Value::Object(faults)) = (now.as_object_mut(), faults::all(world)) {
            now.extend(faults);
        }
        if now == self.relay {
            return None;
        }
        self.relay.clone_from(&now);
        Some(now)
    }
}

/// A body that is what comes through a channel.
struct ChannelBody(mpsc::Receiver<Bytes>);

impl hyper::body::Body for ChannelBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(hyper::body::Frame::data(bytes))))
    }
}
