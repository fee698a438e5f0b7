//! Requests on their way to the relay, and what comes back.

use super::super::agent::BATCH_MAX;
use super::super::cloud::{AUTHORITY, TIMEOUT};
use super::{Event, World, micros};
use bytes::Bytes;
use mailbadge::event::SubscriptionKey;
use mailbadge::flow::{Input, Post};
use mailbadge::forwarder::answer::{Answer, Failure};
use mailbadge::forwarder::outbox::Attempt;
use mailbadge_sim::peers::device::Device;
use mailbadge_sim::peers::http::Request;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The number of a copy that the network made: nobody waits for its answer.
const NOBODYS: u64 = 0;

impl World {
    pub(super) fn post(&mut self, post: Post) {
        self.story.batches += 1;
        let subscribed: BTreeSet<SubscriptionKey> = self.disk.subscriptions.keys().copied().collect();
        self.checker.departs(self.now, &post, &subscribed, BATCH_MAX * self.plan.devices);
        self.disk.note(&post.devices);
        self.save_soon();
        self.send(Some(post.attempt), post.token, post.body.into());
    }

    /// A request leaves; if nothing comes back, the client gives up after its time-out.
    pub(super) fn send(&mut self, attempt: Option<Attempt>, token: Option<Arc<SecretString>>, body: Bytes) {
        let bearer =
            token.map_or_else(|| "Bearer".to_owned(), |token| format!("Bearer {}", token.expose_secret()));
        let mut headers = vec![("Authorization".to_owned(), bearer)];
        if self.plan.is_reporting {
            headers.push(("Prefer".to_owned(), "return=representation".to_owned()));
        }
        let request = Rc::new(Request {
            method: "POST".to_owned(),
            authority: AUTHORITY.to_owned(),
            path: "/PushNotifications/service.svc/PublishOnPremNotifications".to_owned(),
            headers,
            body,
            ..Request::default()
        });
        self.requests += 1;
        let flight = self.requests;
        self.waiting.insert(flight, attempt);
        let passage = self.cloud.send();
        if let Some(wait) = passage.arrives_after {
            self.after(wait, Event::Arrives { flight, request: Rc::clone(&request) });
            if let Some(wait) = passage.again_after {
                self.after(wait, Event::Arrives { flight: NOBODYS, request });
            }
        }
        let outcome = Err(Failure::Timeout("no answer".to_owned()));
        self.after(TIMEOUT, Event::Answered { flight, outcome });
    }

    pub(super) fn arrive(&mut self, flight: u64, request: &Request) {
        let wall = self.wall();
        let answer = self.cloud.arrive(request, wall);
        let changed: Vec<(String, Option<u32>)> =
            self.cloud.devices().changed_since(self.devices_version).map(shown).collect();
        self.devices_version = self.cloud.devices().version();
        for (device, badge) in changed {
            let number: usize = device.trim_start_matches("reg-").parse().unwrap_or(0);
            if let Some(badge) = badge {
                self.checker.shows(self.now, &device, number % self.plan.mailboxes, badge);
            }
        }
        if let Some((wait, outcome)) = answer {
            self.after(wait, Event::Answered { flight, outcome });
        }
    }

    pub(super) fn answered(&mut self, flight: u64, outcome: Result<Answer, Failure>) {
        let Some(attempt) = self.waiting.remove(&flight) else { return };
        if let Some(wait) = outcome.as_ref().ok().and_then(asked_wait) {
            self.checker.asked_to_wait(self.now + micros(wait));
        }
        let now = self.clock();
        match attempt {
            Some(attempt) => {
                self.checker.landed(attempt);
                self.save_soon();
                self.tell_flow(Input::Answered { attempt, outcome }, now);
            }
            None => self.tell_flow(Input::Challenged(outcome), now),
        }
    }
}

fn shown(device: &Device) -> (String, Option<u32>) {
    (device.id.to_string(), device.badge())
}

/// How long an answer asks to be left alone: protocol.md §1.6 read once more, apart from the agent's own reading.
fn asked_wait(answer: &Answer) -> Option<Duration> {
    let content = String::from_utf8_lossy(&answer.content);
    let after_name = content.split("\"BackOffTimeInMilliseconds\":").nth(1);
    let digits = after_name.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    let of_fault = digits.and_then(|digits| digits.parse().ok()).map(Duration::from_millis);
    let is_overloaded = matches!(answer.status, 429 | 503);
    let seconds = answer.retry_after.as_deref().filter(|_| is_overloaded).and_then(|text| text.parse().ok());
    of_fault.or(seconds.map(Duration::from_secs))
}
