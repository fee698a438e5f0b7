//! Requests on their way to the relay, and what comes back.

use super::super::agent::Agent;
use super::super::cloud::{AUTHORITY, Passage, TIMEOUT, answer};
use super::super::tokens;
use super::{Event, Waiting, World, log};
use bytes::Bytes;
use mailbadge::event::SubscriptionKey;
use mailbadge::flow::{Input, Post};
use mailbadge::forwarder::answer::Failure;
use mailbadge::ledger::depart;
use mailbadge_sim::peers::device::Device;
use mailbadge_sim::peers::http::{Request, Response};
use secrecy::{ExposeSecret, SecretString};
use std::rc::Rc;
use std::sync::Arc;

impl World {
    pub(super) fn post(&mut self, mut post: Post) {
        let Some(notes) = self.agent.as_ref().map(|agent| Arc::clone(&agent.notes)) else { return };
        let devices = std::mem::take(&mut post.devices);
        if let Err(error) = depart(&*notes, &devices, || self.leave(post, &devices)) {
            tracing::error!("{error}");
        }
        self.tick_soon();
        self.bury();
    }

    /// A batch leaves, if its process lives.
    fn leave(&mut self, post: Post, devices: &[SubscriptionKey]) {
        if self.disk.is_killed() {
            self.unsent.extend_from_slice(devices);
            return;
        }
        let all = self.agent.as_ref().map(Agent::shown).unwrap_or_default();
        let told = all.into_iter().filter(|(key, ..)| devices.contains(key)).map(|(_, id, _)| id);
        self.told.extend(told);
        self.report.batches += 1;
        let request = self.request(post.token, post.body.into());
        log::tell(|| format!("a batch: {}", String::from_utf8_lossy(&request.body)));
        let (host, date) = (self.clock.host_date().ms(), self.clock.date().ms());
        self.checker.departs(self.requests + 1, &request, host, date);
        self.send(Waiting::Batch(post.attempt), request);
    }

    /// A request leaves; if nothing comes back, the client gives up after its time-out.
    pub(super) fn send(&mut self, waiting: Waiting, request: Request) {
        let request = Rc::new(request);
        self.requests += 1;
        let flight = self.requests;
        self.waiting.insert(flight, waiting);
        match self.cloud.send(request.body.len()) {
            Passage::Lost => {}
            Passage::Cut(wait) => {
                let outcome = Err(Failure::Write("cut".to_owned()));
                self.after(wait, Event::Answered { flight, outcome });
            }
            Passage::Arrives(wait, again_after) => {
                self.after(wait, Event::Arrives { flight, is_copy: false, request: Rc::clone(&request) });
                if let Some(later) = again_after {
                    self.after(wait + later, Event::Arrives { flight, is_copy: true, request });
                }
            }
        }
        let outcome = Err(Failure::Timeout("no answer".to_owned()));
        self.after(TIMEOUT, Event::Answered { flight, outcome });
    }

    pub(super) fn request(&self, token: Option<Arc<SecretString>>, body: Bytes) -> Request {
        let bearer =
            token.map_or_else(|| "Bearer".to_owned(), |token| format!("Bearer {}", token.expose_secret()));
        let mut headers = vec![("Authorization".to_owned(), bearer)];
        if self.plan.is_reporting {
            headers.push(("Prefer".to_owned(), "return=representation".to_owned()));
        }
        Request {
            method: "POST".to_owned(),
            authority: AUTHORITY.to_owned(),
            path: "/PushNotifications/service.svc/PublishOnPremNotifications".to_owned(),
            headers,
            body,
            ..Request::default()
        }
    }

    pub(super) fn arrive(&mut self, flight: u64, is_copy: bool, request: &Request) {
        if is_copy && self.refused.contains(&flight) {
            return;
        }
        let answer = self.cloud.arrive(request, self.clock.date());
        let changed: Vec<(String, Option<u32>)> =
            self.cloud.devices().changed_since(self.devices_version).map(shown).collect();
        self.devices_version = self.cloud.devices().version();
        for (device, badge) in changed {
            if let Some(badge) = badge {
                log::tell(|| format!("{device} shows {badge}"));
                self.checker.shows(&device, badge);
            }
        }
        let is_refused = match &answer {
            Some((_, Ok(response))) => response.status != 200,
            Some((_, Err(failure))) => matches!(failure, Failure::Connect(_)),
            None => false,
        };
        if is_refused {
            self.refused.insert(flight);
        }
        if let Some((wait, outcome)) = answer.filter(|_| !is_copy) {
            self.after(wait, Event::Answered { flight, outcome });
        }
    }

    pub(super) fn answered(&mut self, flight: u64, outcome: &Result<Response, Failure>) {
        let Some(waiting) = self.waiting.remove(&flight) else { return };
        log::tell(|| format!("answer to {waiting:?}: {}", described(outcome)));
        let now = self.now();
        let answered = || outcome.as_ref().map(answer).map_err(Clone::clone);
        match waiting {
            Waiting::Batch(attempt) => {
                self.checker.answered(flight, outcome.as_ref().ok());
                self.tick_soon();
                self.tell_flow(Input::Answered { attempt, outcome: answered() }, now);
            }
            Waiting::Challenge => self.tell_flow(Input::Challenged(answered()), now),
            Waiting::Token => {
                let outcome = outcome.as_ref().map(tokens::response).map_err(Clone::clone);
                self.tell_flow(Input::Exchanged(outcome), now);
            }
        }
    }
}

/// Without its body, which may hold a token.
fn described(outcome: &Result<Response, Failure>) -> String {
    match outcome {
        Ok(answer) => format!("{} {}", answer.status, answer.header("x-ms-diagnostics").unwrap_or_default()),
        Err(failure) => failure.to_string(),
    }
}

fn shown(device: &Device) -> (String, Option<u32>) {
    (device.id.to_string(), device.badge())
}
