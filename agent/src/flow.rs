//! Tracker, batcher, forwarder and token joined into one machine without I/O.
//!
//! The daemon drives it with sockets and clocks, the simulation in virtual time. It is told what happened
//! ([`Input`]) and tells what to do ([`Output`]); everything about *when* and *whether* is decided in here, by the rooms
//! it joins. Call [`Flow::poll_output`] until it gives nothing, then wait for an input or [`Flow::poll_timeout`].

use crate::batcher::{Batcher, Departure};
use crate::counters::FlowCounters;
use crate::event::{MailboxId, Notification, Rejection, SubscriptionKey};
use crate::forwarder::answer::{Answer, Disposition, Failure, disposition, may_hide_acceptance};
use crate::forwarder::outbox::{self, Attempt, Group, LastBatch, NextBatch, Outbox, Settlement, Until};
use crate::forwarder::wire::{self, Stamp};
use crate::https::Response;
use crate::time::{ClockOffset, Moment, Now};
use crate::token;
use crate::token::choice::Configured;
use crate::token::claims::Claims;
use crate::token::exchange::TokenRequest;
use crate::token::keeper::{self, ChallengeAnswer, Keeper, TokenState};
use crate::token::refresh::{self, Fetch, Known, Refresh};
use crate::token::signer::SignedToken;
use crate::tracker::Tracker;
use secrecy::SecretString;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How long the relay may return no answer while counts wait before that is reported.
pub const SILENCE_MAX: Duration = Duration::from_mins(5);

/// What the flow keeps to; all of it can change while it runs.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Batches in flight and mailboxes in a batch.
    pub outbox: outbox::Settings,
    /// A change waits at most this long for others to share its batch.
    pub hold_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { outbox: outbox::Settings::default(), hold_max: Duration::from_secs(1) }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The proxy was enabled for a relay, or disabled.
    Relay(Option<keeper::Settings>),
    /// The signer holds another certificate from now on.
    CertificateChanged,
    /// The answer to [`Output::Post`].
    Answered {
        /// As it was given.
        attempt: Attempt,
        /// What the relay said, or why it said nothing.
        outcome: Result<Answer, Failure>,
    },
    /// The answer to [`Output::AskChallenge`].
    Challenged(Result<Answer, Failure>),
    /// The result of [`Output::Sign`].
    Signed(Result<SignedToken, String>),
    /// The answer to [`Output::Exchange`].
    Exchanged(Result<Response, Failure>),
    /// [`Output::Fetch`] is done: whether a good document came, of this token service. What it says comes as
    /// [`Input::Configured`].
    Fetched {
        /// Of which token service.
        name: String,
        /// Whether a good one came.
        is_good: bool,
    },
    /// What can be presented to the relay changed.
    Configured(Box<Configured>),
    /// These token services there are, with the age of their documents.
    TokenServices(Vec<Known>),
}

/// What to do.
#[derive(Debug)]
pub enum Output {
    /// POST a batch of nothing with an empty bearer token.
    AskChallenge,
    /// Sign these claims.
    Sign(Claims),
    /// Ask a token service for a token.
    Exchange(Box<TokenRequest>),
    /// Read the metadata document of a token service.
    Fetch(Fetch),
    /// POST a batch.
    Post(Post),
    /// The relay says that this device is no more: drop its subscription for good.
    Forget {
        /// Of which mailbox.
        mailbox: MailboxId,
        /// Which device.
        key: SubscriptionKey,
    },
}

/// A batch to be sent.
#[derive(Debug)]
pub struct Post {
    /// To hand back with the answer.
    pub attempt: Attempt,
    /// `client-request-id`.
    pub request_id: Uuid,
    /// `None`: an empty bearer token.
    pub token: Option<Arc<SecretString>>,
    /// The JSON of protocol.md §1.3.
    pub body: Vec<u8>,
    /// The devices in it: in doubt from now on until the answer.
    pub devices: Vec<SubscriptionKey>,
}

/// The way from ready mailboxes to acknowledgements.
pub struct Flow {
    tracker: Arc<Tracker>,
    counters: Arc<FlowCounters>,
    batcher: Batcher,
    outbox: Outbox,
    keeper: Option<Keeper>,
    refresh: Refresh,
    stamp: Stamp,
    seed: u64,
    gone: VecDeque<(MailboxId, SubscriptionKey)>,
    clock_offset_ms: Option<i64>,
    /// When the oldest request was sent since the relay's last answer.
    unanswered_since: Option<Moment>,
}

impl Flow {
    /// Disabled until [`Input::Relay`] names a relay. `stamp` is the start of the process in notification ids.
    pub fn new(
        settings: Settings,
        tracker: Arc<Tracker>,
        counters: Arc<FlowCounters>,
        stamp: Stamp,
        seed: u64,
    ) -> Self {
        Self {
            tracker,
            counters,
            batcher: Batcher::new(settings.hold_max),
            outbox: Outbox::new(settings.outbox, seed),
            keeper: None,
            refresh: Refresh::new(seed),
            stamp,
            seed,
            gone: VecDeque::new(),
            clock_offset_ms: None,
            unanswered_since: None,
        }
    }

    /// Changes limits; what is under way is left alone.
    pub fn set(&mut self, settings: Settings) {
        self.batcher.set(settings.hold_max);
        self.outbox.set(settings.outbox);
    }

    /// Takes what happened.
    pub fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::Relay(relay) => {
                self.unanswered_since = None;
                self.outbox.forgive();
                self.seed = self.seed.wrapping_add(1);
                self.keeper = relay.map(|settings| Keeper::new(settings, self.seed));
            }
            Input::CertificateChanged => self.tell_keeper(keeper::Input::CertificateChanged, now),
            Input::Configured(configured) => self.tell_keeper(keeper::Input::Configured(configured), now),
            Input::Signed(result) => self.tell_keeper(keeper::Input::Signed(result), now),
            Input::Exchanged(outcome) => self.exchanged(outcome, now),
            Input::Fetched { name, is_good } => {
                self.refresh.handle(now, refresh::Input::Fetched { name, is_good });
            }
            Input::TokenServices(all) => self.refresh.handle(now, refresh::Input::Known(all)),
            Input::Challenged(outcome) => {
                self.hear(&outcome);
                self.measure_clock(&outcome, now);
                let answer = outcome.map_err(|failure| failure.to_string()).map(|answer| ChallengeAnswer {
                    status: answer.status,
                    asked_wait: answer.asked_wait(now.unix),
                    www_authenticate: answer.www_authenticate,
                });
                self.tell_keeper(keeper::Input::Challenged(answer), now);
                self.miss_documents(now);
            }
            Input::Answered { attempt, outcome } => self.answered(attempt, &outcome, now),
        }
    }

    /// Logs why there is no token, or no newer one, when that changes.
    fn tell_keeper(&mut self, input: keeper::Input, now: Now) {
        let Some(keeper) = &mut self.keeper else { return };
        let before = keeper.error().cloned();
        keeper.handle(now, input);
        match (keeper.error(), before) {
            (Some(error), before) if before.as_ref().is_none_or(|before| !error.is_like(before)) => {
                tracing::warn!("token: {error}");
            }
            (None, Some(_)) => tracing::info!("token: got again"),
            _ => {}
        }
    }

    /// Where nothing that is known meets the challenge, a document that was never read may.
    fn miss_documents(&mut self, now: Now) {
        if self.token_error().is_some_and(token::Error::may_be_cured_by_documents) {
            self.refresh.handle(now, refresh::Input::Missed);
        }
    }

    fn exchanged(&mut self, outcome: Result<Response, Failure>, now: Now) {
        self.tell_keeper(keeper::Input::Exchanged(outcome), now);
        if let Some(token::Error::ServiceRefused { service, refusal }) = self.token_error()
            && refusal.puts_document_in_doubt()
        {
            let name = service.clone();
            self.refresh.handle(now, refresh::Input::Doubted(name));
        }
    }

    /// A token service whose token has a bad signature may have changed its keys, and what else its document says.
    fn doubt_issuer(&mut self, serial: u64, outcome: &Result<Answer, Failure>, now: Now) {
        let is_signature_bad = outcome.as_ref().is_ok_and(Answer::rejects_signature);
        let service = self.keeper.as_ref().and_then(|keeper| keeper.service_of(serial));
        if let Some(name) = service.filter(|_| is_signature_bad).map(str::to_owned) {
            self.refresh.handle(now, refresh::Input::Doubted(name));
        }
    }

    /// Any answer of the relay, whatever it says, ends its silence.
    fn hear(&mut self, outcome: &Result<Answer, Failure>) {
        if outcome.is_ok() {
            self.unanswered_since = None;
        }
    }

    fn answered(&mut self, attempt: Attempt, outcome: &Result<Answer, Failure>, now: Now) {
        self.hear(outcome);
        self.measure_clock(outcome, now);
        let Some(sent) = self.outbox.in_flight(attempt) else { return };
        let answer = disposition(outcome, &self.stamp, sent, now.unix);
        self.count_batch(&answer);
        let former_trouble = self.outbox.trouble().map(str::to_owned);
        let settlement = self.outbox.settle(attempt, answer, self.token_serial(now), now);
        self.log_trouble(former_trouble.as_deref(), now);
        if let Some((serial, www_authenticate)) = settlement.unauthorized.clone() {
            self.doubt_issuer(serial, outcome, now);
            let serial = (serial != 0).then_some(serial);
            self.tell_keeper(keeper::Input::Rejected { serial, www_authenticate }, now);
            self.miss_documents(now);
        }
        self.settle(settlement, may_hide_acceptance(outcome), now);
    }

    /// Logs what keeps batches from being sent, when it begins, when it becomes another, and when it is over.
    fn log_trouble(&self, former: Option<&str>, now: Now) {
        match (self.outbox.trouble(), former) {
            (Some(cause), former) if former != Some(cause) => {
                tracing::warn!("counts wait: relay: {cause}{}", self.waits_until(now));
            }
            (None, Some(_)) => tracing::info!("counts are sent again"),
            _ => {}
        }
    }

    fn settle(&mut self, settlement: Settlement, may_have_arrived: bool, now: Now) {
        let Settlement { acknowledged, rejected, refused, bad, .. } = settlement;
        self.count_recipients(&acknowledged, &rejected, &bad, now.moment);
        self.tracker.acknowledge(&acknowledged, &rejected, now);
        self.tracker.refuse(&refused, may_have_arrived, now);
        self.tracker.put_aside(&bad, now);
        for notification in &bad {
            tracing::warn!(
                number = notification.number,
                "the relay found a notification invalid; it waits until its mailbox changes"
            );
        }
        for line in rejected.iter().filter(|line| line.reason == Rejection::Gone) {
            self.tracker.unsubscribe(line.mailbox, line.subscription);
            self.gone.push_back((line.mailbox, line.subscription));
        }
    }

    /// What to do next; `None` until something happens or [`Flow::poll_timeout`] comes.
    pub fn poll_output(&mut self, now: Now) -> Option<Output> {
        if let Some((mailbox, key)) = self.gone.pop_front() {
            return Some(Output::Forget { mailbox, key });
        }
        self.tracker.wake(now);
        let keeper = self.keeper.as_mut()?;
        keeper.handle(now, keeper::Input::Wake);
        match keeper.poll_output() {
            Some(keeper::Output::AskChallenge) => {
                self.unanswered_since.get_or_insert(now.moment);
                return Some(Output::AskChallenge);
            }
            Some(keeper::Output::Sign(claims)) => return Some(Output::Sign(claims)),
            Some(keeper::Output::Exchange(request)) => return Some(Output::Exchange(request)),
            None => {}
        }
        self.refresh.handle(now, refresh::Input::Wake);
        if let Some(fetch) = self.refresh.poll_output() {
            return Some(Output::Fetch(fetch));
        }
        let (token, serial) = match keeper.state(now) {
            TokenState::Open => (None, 0),
            TokenState::Valid { serial, token, .. } => (Some(token), serial),
            TokenState::Waiting | TokenState::Failed { .. } => return None,
        };
        self.depart(token, serial, now).map(Output::Post)
    }

    fn depart(&mut self, token: Option<Arc<SecretString>>, serial: u64, now: Now) -> Option<Post> {
        loop {
            let (notifications, repeats) = match self.outbox.next_batch(now.moment) {
                NextBatch::Nothing => return None,
                NextBatch::Again(Group { mailboxes, repeats }) => {
                    (self.tracker.take_again(&mailboxes, now), repeats)
                }
                NextBatch::Fresh { max } => {
                    let decision = self.batcher.decide(self.tracker.ready(), max, now.moment);
                    if decision != Departure::Now {
                        return None;
                    }
                    (self.tracker.take(max, now), None)
                }
            };
            if !notifications.is_empty() {
                return Some(self.post(notifications, repeats, token, serial, now));
            }
        }
    }

    fn post(
        &mut self,
        notifications: Vec<Notification>,
        repeats: Option<Uuid>,
        token: Option<Arc<SecretString>>,
        serial: u64,
        now: Now,
    ) -> Post {
        self.batcher.departed(now.moment);
        self.unanswered_since.get_or_insert(now.moment);
        self.counters.batch_size.observe(notifications.len() as f64);
        let body = wire::batch(&self.stamp, &notifications);
        let devices =
            notifications.iter().flat_map(|n| &n.recipients).map(|recipient| recipient.key).collect();
        let departed = self.outbox.depart(notifications, repeats, serial, now.moment);
        Post { attempt: departed.attempt, request_id: departed.request_id, token, body, devices }
    }

    /// When to call [`Flow::poll_output`] again, if nothing happens before. What became due since the last call is due
    /// `now`: time passes between the two calls.
    pub fn poll_timeout(&self, now: Now) -> Option<Moment> {
        let keeper = self.keeper.as_ref()?;
        let departure = match keeper.state(now) {
            TokenState::Open | TokenState::Valid { .. } => self.departs_at(now.moment),
            // The keeper's own timer, or an answer to it, comes first.
            TokenState::Waiting | TokenState::Failed { .. } => None,
        };
        let timers =
            [keeper.poll_timeout(), self.refresh.poll_timeout(), departure, self.tracker.next_wake()];
        timers.into_iter().flatten().min()
    }

    /// When the next batch leaves, as far as time alone decides.
    fn departs_at(&self, now: Moment) -> Option<Moment> {
        let opens_at = self.outbox.opens_at(now)?;
        if self.outbox.has_group() {
            return Some(opens_at);
        }
        match self.batcher.decide(self.tracker.ready(), self.outbox.limit(), now) {
            Departure::Now => Some(opens_at),
            Departure::At(moment) => Some(moment.max(opens_at)),
            Departure::Never => None,
        }
    }

    /// The newest token's serial; 0 for the empty bearer token.
    fn token_serial(&self, now: Now) -> u64 {
        match self.keeper.as_ref().map(|keeper| keeper.state(now)) {
            Some(TokenState::Valid { serial, .. }) => serial,
            _ => 0,
        }
    }

    fn measure_clock(&mut self, outcome: &Result<Answer, Failure>, now: Now) {
        let Some(ms) = outcome.as_ref().ok().and_then(|answer| answer.clock_offset_ms(now.unix)) else {
            return;
        };
        let was_notable = self.clock_offset_ms.and_then(ClockOffset::notable).is_some();
        self.clock_offset_ms = Some(ms);
        match ClockOffset::notable(ms) {
            Some(offset) if !was_notable => {
                tracing::warn!("the relay's clock is {offset}, which breaks tokens; synchronize it (NTP)");
            }
            None if was_notable => tracing::info!("the relay's clock agrees with ours again"),
            _ => {}
        }
    }

    fn count_batch(&self, answer: &Disposition) {
        let counters = &self.counters;
        match answer {
            Disposition::Acknowledged { .. } => counters.batches_accepted.one(),
            Disposition::TooLarge { .. } | Disposition::Invalid { .. } => counters.batches_split.one(),
            Disposition::Halt { .. } => counters.batches_halted.one(),
            Disposition::Unauthorized { .. } | Disposition::Wait { .. } | Disposition::Retry { .. } => {
                counters.batches_retried.one();
            }
        }
    }

    fn count_recipients(
        &self,
        acknowledged: &[Notification],
        rejected: &[crate::event::Rejected],
        bad: &[Notification],
        now: Moment,
    ) {
        let counters = &self.counters;
        let recipients: usize = acknowledged.iter().map(|n| n.recipients.len()).sum();
        counters.acknowledged.add(recipients.saturating_sub(rejected.len()) as u64);
        counters.invalid.add(bad.iter().map(|n| n.recipients.len() as u64).sum());
        for line in rejected {
            match line.reason {
                Rejection::Gone => counters.gone.one(),
                Rejection::Invalid => counters.invalid.one(),
                Rejection::Throttled => counters.throttled.one(),
            }
        }
        for notification in acknowledged {
            counters.change_to_ack_seconds.observe(now.since(notification.changed_at).as_secs_f64());
        }
    }

    /// With what batches can go now; `None` while the proxy is disabled.
    pub fn token(&self, now: Now) -> Option<TokenState> {
        self.keeper.as_ref().map(|keeper| keeper.state(now))
    }

    /// Why the last attempt to get a token failed, also while an earlier one is still good.
    pub fn token_error(&self) -> Option<&token::Error> {
        self.keeper.as_ref()?.error()
    }

    /// Batches in flight.
    pub fn flying(&self) -> usize {
        self.outbox.flying()
    }

    /// Whether nothing is ready, in flight or waiting to be sent once more.
    pub fn is_idle(&self) -> bool {
        self.outbox.is_empty() && self.tracker.ready() == 0
    }

    /// Why batches do not flow freely, if so, and whether a person must look at it.
    pub fn trouble(&self) -> Option<(&str, bool)> {
        self.outbox.trouble().map(|cause| (cause, self.outbox.is_halted()))
    }

    /// Until when nothing is sent because of it.
    pub fn waits_until(&self, now: Now) -> Until {
        Until(self.outbox.waits_until(now.moment).map(|until| now.date_of(until)))
    }

    /// For how long the relay has returned no answer of any kind to what was sent, where that is longer than
    /// [`SILENCE_MAX`] and counts wait for it.
    pub fn silence(&self, now: Now) -> Option<Duration> {
        let silence = now.moment.since(self.unanswered_since?);
        (silence > SILENCE_MAX && !self.is_idle()).then_some(silence)
    }

    /// How the newest settled batch went.
    pub fn last_batch(&self) -> Option<&LastBatch> {
        self.outbox.last()
    }

    /// The relay's clock minus ours, milliseconds, where an answer told it.
    pub fn clock_offset_ms(&self) -> Option<i64> {
        self.clock_offset_ms
    }
}

#[cfg(test)]
mod tests;
