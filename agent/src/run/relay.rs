//! Drives the [`Flow`](crate::flow::Flow): sends what it says, tells it what came back.

use super::Daemon;
use crate::flow::{Input, Output, Post};
use crate::forwarder::answer::Failure;
use crate::forwarder::driver::{self as forwarder, Bearer, Client};
use crate::forwarder::url::RelayUrl;
use crate::forwarder::wire::EMPTY_BATCH;
use crate::https::driver::Client as HttpsClient;
use crate::ledger::depart;
use crate::token::driver::{fetch_document, request_token};
use crate::token::exchange::TokenRequest;
use crate::token::refresh::Fetch;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::mpsc;
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

/// Runs until the daemon ends. Never waits for a request: each is a task of its own that reports back.
pub(super) async fn drive(daemon: Arc<Daemon>) {
    let (sender, mut inputs) = mpsc::channel(INPUTS_MAX);
    loop {
        step(&daemon, &sender);
        let timeout = daemon.flow.lock().poll_timeout(daemon.clock.now());
        let wake = async {
            match timeout {
                Some(moment) => sleep_until(daemon.clock.instant(moment).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(input) = inputs.recv() => {
                daemon.flow.lock().handle(input, daemon.clock.now());
            }
            () = daemon.wake_relay.notified() => {}
            () = wake => {}
            () = daemon.until_closed() => return,
        }
    }
}

/// Carries out everything the flow wants done now.
fn step(daemon: &Arc<Daemon>, sender: &mpsc::Sender<Input>) {
    loop {
        // Both under one lock: a token made for one relay must never go to another.
        let (output, relay) = {
            let mut flow = daemon.flow.lock();
            (flow.poll_output(daemon.clock.now()), daemon.relay.lock().clone())
        };
        let Some(output) = output else { return };
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
    fn without_a_relay_every_question_is_answered_as_one_that_never_left() {
        let challenged = without_relay(Output::AskChallenge);
        assert!(matches!(challenged, Some(Input::Challenged(Err(Failure::Connect(_))))));
        let fetch = Fetch { name: "MicrosoftSts".to_owned(), url: String::new() };
        let fetched = without_relay(Output::Fetch(fetch));
        assert!(matches!(fetched, Some(Input::Fetched { is_good: false, .. })));
    }
}
