//! The way to the relay: drives the [`Flow`], sends what it asks for, hands it the answers. A further way out has a file
//! like this one, a machine, a lock and a waker of its own, and shares nothing with this one but tracker, notes and store
//! (adr/0042).

use super::Daemon;
use crate::flow::{Flow, Input, Output, Post};
use crate::forwarder::answer::Failure;
use crate::forwarder::driver::{self as forwarder, Bearer, Client};
use crate::forwarder::url::RelayUrl;
use crate::forwarder::wire::EMPTY_BATCH;
use crate::https::driver::Client as HttpsClient;
use crate::ledger::depart;
use crate::time::Now;
use crate::token::driver::{fetch_document, request_token};
use crate::token::exchange::TokenRequest;
use crate::token::keeper;
use crate::token::refresh::Fetch;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep_until;
use uuid::Uuid;

/// Results under way to the flow: a batch in flight or a token request each, so this many never wait.
const INPUTS_MAX: usize = 1024;

/// The relay that batches go to now.
#[derive(Clone)]
pub(super) struct Relay {
    pub(super) client: Client,
    /// A client of its own, so that no token waits behind batches.
    pub(super) token_service: HttpsClient,
    pub(super) url: Arc<RelayUrl>,
}

/// The relay's machine, where it sends to, and what wakes its loop.
pub(super) struct RelayWay {
    flow: Mutex<Flow>,
    /// `None` while the proxy is disabled.
    relay: Mutex<Option<Relay>>,
    wake: Arc<Notify>,
}

impl RelayWay {
    /// A way that leads nowhere yet.
    pub(super) fn new(flow: Flow, wake: Arc<Notify>) -> Self {
        Self { flow: Mutex::new(flow), relay: Mutex::default(), wake }
    }

    /// The machine, to look at or to set.
    pub(super) fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock()
    }

    /// The relay's host and port, as tokens name it.
    pub(super) fn authority(&self) -> Option<String> {
        self.relay.lock().as_ref().map(|relay| relay.url.authority())
    }

    /// Hands the machine what comes from elsewhere in the daemon, and wakes its loop.
    pub(super) fn handle(&self, input: Input, now: Now) {
        self.flow.lock().handle(input, now);
        self.wake.notify_one();
    }

    /// From now on batches go to this relay, or nowhere.
    pub(super) fn lead_to(&self, relay: Option<Relay>, settings: Option<keeper::Settings>, now: Now) {
        // Both under one lock: a token made for one relay must never go to another.
        let mut flow = self.flow.lock();
        *self.relay.lock() = relay;
        flow.handle(Input::Relay(settings), now);
        drop(flow);
        self.wake.notify_one();
    }

    /// What the machine wants done next, and the relay to do it with.
    fn next(&self, now: Now) -> Option<(Output, Option<Relay>)> {
        let mut flow = self.flow.lock();
        let output = flow.poll_output(now)?;
        Some((output, self.relay.lock().clone()))
    }

    /// Nothing in flight, and nothing ready that could go.
    pub(super) fn is_sent(&self) -> bool {
        let flow = self.flow.lock();
        let can_send = flow.trouble().is_none() && self.relay.lock().is_some();
        is_sent(flow.flying(), flow.is_idle(), can_send)
    }
}

/// What is in flight is waited for in any case; what is ready, only where it could go.
fn is_sent(flying: usize, is_idle: bool, can_send: bool) -> bool {
    flying == 0 && (is_idle || !can_send)
}

/// Runs until the daemon ends. Never waits for a request: each is a task of its own that reports back.
pub(super) async fn drive(daemon: Arc<Daemon>) {
    let (sender, mut inputs) = mpsc::channel(INPUTS_MAX);
    loop {
        step(&daemon, &sender);
        let timeout = daemon.relay.flow().poll_timeout(daemon.clock.now());
        let wake = async {
            match timeout {
                Some(moment) => sleep_until(daemon.clock.instant(moment).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(input) = inputs.recv() => {
                daemon.relay.flow().handle(input, daemon.clock.now());
            }
            () = daemon.relay.wake.notified() => {}
            () = wake => {}
            () = daemon.until_closed() => return,
        }
    }
}

/// Carries out everything the flow wants done now.
fn step(daemon: &Arc<Daemon>, sender: &mpsc::Sender<Input>) {
    while let Some((output, relay)) = daemon.relay.next(daemon.clock.now()) {
        match (output, relay) {
            (Output::Forget { mailbox, key }, _) => daemon.gone.push(mailbox, key),
            (Output::Sign(claims), _) => {
                let (daemon, sender) = (Arc::clone(daemon), sender.clone());
                tokio::task::spawn_blocking(move || {
                    let signed = daemon.sign(&claims);
                    report(&sender, Input::Signed(signed));
                });
            }
            (Output::AskChallenge, Some(relay)) => ask_challenge(relay, sender.clone()),
            (Output::Exchange(request), Some(relay)) => exchange(relay, *request, sender.clone()),
            (Output::Fetch(fetch), Some(relay)) => {
                tokio::spawn(Arc::clone(daemon).fetch(relay, fetch, sender.clone()));
            }
            (Output::Post(mut post), Some(relay)) => {
                let devices = std::mem::take(&mut post.devices);
                let noted = depart(&*daemon.notes, &devices, || send(relay, post, sender.clone()));
                daemon.troubles.doubt(noted.err().map(|error| error.to_string()));
            }
            (output, None) => {
                if let Some(input) = without_relay(output) {
                    report(sender, input);
                }
            }
        }
    }
}

/// What comes of an output where there is no relay to carry it to: nothing left, so that nothing can have arrived.
fn without_relay(output: Output) -> Option<Input> {
    let disabled = || Failure::Connect("the proxy is disabled".to_owned());
    match output {
        Output::AskChallenge => Some(Input::Challenged(Err(disabled()))),
        Output::Exchange(_) => Some(Input::Exchanged(Err(disabled()))),
        Output::Fetch(Fetch { name, .. }) => Some(Input::Fetched { name, is_good: false }),
        Output::Post(post) => Some(Input::Answered { attempt: post.attempt, outcome: Err(disabled()) }),
        Output::Forget { .. } | Output::Sign(_) => None,
    }
}

fn ask_challenge(relay: Relay, sender: mpsc::Sender<Input>) {
    let request_id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid();
    let body = Bytes::from_static(EMPTY_BATCH);
    tokio::spawn(async move {
        let outcome = relay.client.post(request(&relay, request_id, Bearer::Empty, body)).await;
        report(&sender, Input::Challenged(outcome));
    });
}

fn exchange(relay: Relay, request: TokenRequest, sender: mpsc::Sender<Input>) {
    tokio::spawn(async move {
        let outcome = request_token(&relay.token_service, &request).await;
        report(&sender, Input::Exchanged(outcome));
    });
}

fn send(relay: Relay, post: Post, sender: mpsc::Sender<Input>) {
    let Post { attempt, request_id, token, body, .. } = post;
    let bearer = token.map_or(Bearer::Empty, Bearer::Token);
    tokio::spawn(async move {
        let outcome = relay.client.post(request(&relay, request_id, bearer, body.into())).await;
        report(&sender, Input::Answered { attempt, outcome });
    });
}

fn request(relay: &Relay, request_id: Uuid, bearer: Bearer, body: Bytes) -> forwarder::Post {
    forwarder::Post { url: Arc::clone(&relay.url), request_id, bearer, is_probe: false, body }
}

/// The channel holds every task there can be; it is closed only when the daemon ends.
fn report(sender: &mpsc::Sender<Input>, input: Input) {
    if sender.try_send(input).is_err() {
        tracing::debug!("an answer came after the end");
    }
}

impl Daemon {
    /// Reads a token service's document and keeps it where it is a good one.
    async fn fetch(self: Arc<Self>, relay: Relay, fetch: Fetch, sender: mpsc::Sender<Input>) {
        let name = fetch.name.clone();
        let kept = match fetch_document(&relay.token_service, &fetch.url).await {
            Ok(document) => {
                let daemon = Arc::clone(&self);
                tokio::task::spawn_blocking(move || daemon.keep_document(fetch, &document))
                    .await
                    .unwrap_or_else(|error| Err(error.to_string()))
            }
            Err(error) => Err(error.to_string()),
        };
        let is_good = kept.is_ok();
        self.troubles.document(&name, kept.err());
        report(&sender, Input::Fetched { name, is_good });
    }

    fn keep_document(&self, fetch: Fetch, document: &[u8]) -> Result<(), String> {
        let now = self.clock.now().unix;
        self.ledger.lock().keep_document(fetch, document, now).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_waits_for_what_is_in_flight_and_for_what_could_go() {
        let rows = [
            (0, true, true, true),
            (0, false, true, false),
            (0, false, false, true),
            (1, true, true, false),
            (1, false, false, false),
        ];
        for (flying, is_idle, can_send, expected) in rows {
            assert_eq!(is_sent(flying, is_idle, can_send), expected, "{flying} {is_idle} {can_send}");
        }
    }

    #[test]
    fn without_a_relay_every_question_is_answered_as_one_that_never_left() {
        let challenged = without_relay(Output::AskChallenge);
        assert!(matches!(challenged, Some(Input::Challenged(Err(Failure::Connect(_))))));
        let fetch = Fetch { name: "MicrosoftSts".to_owned(), url: String::new() };
        let fetched = without_relay(Output::Fetch(fetch));
        assert!(matches!(fetched, Some(Input::Fetched { is_good: false, .. })));
    }
}
