//! What must hold at each step (safety) and once faults have stopped (liveness), each by a name of its own. It looks at
//! requests as they stand on the wire, at icons, at log lines; broken expectations are collected, each with what was
//! expected and what was seen.

use super::haste::Haste;
use super::patience::{LOGINS_MAX, Logins, REFUSED_MAX, REFUSED_WITHIN, Recent, least_wait};
use super::reference::{Reference, Wrong};
use crate::peers::http::{Request, Response};
use crate::peers::jwt::decode;
use crate::peers::relay::batch::{Batch, Notification};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Broken expectations kept of one story, at most.
const BROKEN_MAX: usize = 20;
/// How the JSON of every token begins, in base64url: none may stand in a log.
const TOKEN_BEGINS: &str = "eyJ";

/// What is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// A device shows only counts that its mailbox had.
    OnlyCountsItHad,
    /// A device never goes back to a count from before the last it showed.
    NeverAnOlderCount,
    /// A device is in one batch in flight at most.
    OneInFlight,
    /// Nothing goes to a device that is not subscribed, has expired or belongs to another mailbox.
    NobodyElse,
    /// Ready mailboxes, batches, batches in flight: none over its limit.
    WithinLimits,
    /// No notification leaves without a token that has not expired yet.
    TokenAlways,
    /// Waits that the relay asked for and the protocol demands are kept.
    BackOffKept,
    /// Log-ins at the mail host back off.
    LoginsBackOff,
    /// No token, key or password stands in a log line.
    NoSecretLogged,
    /// Every live device shows the truth within the bound after the last fault.
    TruthInTheEnd,
    /// The agent knows that nothing is left to do.
    NothingBehind,
    /// What the agent believes of a mailbox is true, or it says that the mailbox is unknown.
    NothingUnknownInSilence,
    /// A process takes no device to show what the last one did not know it to show.
    DoubtOutlivesProcess,
    /// A mailbox in which the sweep found what no source reported is read again soon.
    HasteAfterCorrection,
    /// No connection is held for a mailbox that nobody subscribes to.
    NoConnectionOfNobody,
    /// The story comes to an end.
    Ends,
}

/// An expectation that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// Microseconds since the story began.
    pub at: u64,
    /// Which.
    pub check: Check,
    /// What should have been.
    pub expected: String,
    /// What was.
    pub seen: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, check, expected, seen } = self;
        write!(f, "{:>12.6} {check:?}: expected {expected}; seen {seen}", *at as f64 / 1e6)
    }
}

/// Limits that the agent is configured with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Mailboxes in a batch.
    pub batch_max: usize,
    /// Batches in flight.
    pub in_flight_max: usize,
    /// Mailboxes.
    pub mailboxes: usize,
    /// From a correction of the sweep until its mailbox is asked again.
    pub correction: Duration,
}

/// A request that is on its way or waits for its answer.
#[derive(Debug)]
struct Flight {
    /// Devices with the registration each had at departure.
    devices: Vec<(String, u64)>,
    notifications: usize,
}

/// Watches a story.
#[derive(Debug)]
pub struct Checker {
    /// What must be shown.
    pub reference: Reference,
    limits: Limits,
    secrets: Vec<String>,
    flights: BTreeMap<u64, Flight>,
    /// No batch before then.
    not_before: Duration,
    refused: Recent,
    logins: Logins,
    /// Since when the agent believes something wrong of a mailbox and does not name it.
    wrong_since: BTreeMap<usize, Duration>,
    /// Since when a connection is held for nobody.
    held_since: BTreeMap<usize, Duration>,
    haste: Haste,
    now: Duration,
    broken: Vec<Broken>,
}

impl Checker {
    /// Nothing happened yet. `secrets` must not be logged.
    pub fn new(limits: Limits, secrets: Vec<String>) -> Self {
        Self {
            reference: Reference::new(limits.mailboxes),
            limits,
            secrets,
            flights: BTreeMap::new(),
            not_before: Duration::ZERO,
            refused: Recent::default(),
            logins: Logins::default(),
            wrong_since: BTreeMap::new(),
            held_since: BTreeMap::new(),
            haste: Haste::default(),
            now: Duration::ZERO,
            broken: Vec::new(),
        }
    }

    /// Time passed; the mail host's wall clock says so many milliseconds since the epoch.
    pub fn time(&mut self, now: Duration, host_ms: u64) {
        self.now = now;
        self.reference.dated(host_ms);
    }

    /// Notes an expectation that does not hold.
    pub fn broken(&mut self, check: Check, expected: impl Into<String>, seen: impl Into<String>) {
        if self.broken.len() < BROKEN_MAX {
            let at = self.now.as_micros() as u64;
            self.broken.push(Broken { at, check, expected: expected.into(), seen: seen.into() });
        }
    }

    /// All that was broken.
    pub fn verdict(self) -> Vec<Broken> {
        self.broken
    }

    /// A batch leaves the mail host, whose wall clock says `host_ms` when it is truly `true_ms`; `flight` names it until
    /// its answer.
    pub fn departs(&mut self, flight: u64, request: &Request, host_ms: u64, true_ms: u64) {
        let batch = match Batch::read(&request.body) {
            Ok(batch) => batch,
            Err(error) => return self.broken(Check::WithinLimits, "a batch", error.to_string()),
        };
        let mut devices = Vec::new();
        for notification in &batch.notifications {
            self.notification(notification, host_ms, &mut devices);
        }
        let (count, Limits { batch_max, in_flight_max, .. }) = (batch.notifications.len(), self.limits);
        if count > batch_max || count == 0 {
            let expected = format!("1 to {batch_max} notifications");
            self.broken(Check::WithinLimits, expected, format!("a batch of {count}"));
        }
        if self.now < self.not_before {
            let expected = format!("no batch before {:.6}", self.not_before.as_secs_f64());
            self.broken(Check::BackOffKept, expected, format!("a batch of {count}"));
        }
        // A token that is new by either clock may be good: a host whose clock is wrong cannot tell.
        self.token(request, host_ms.min(true_ms));
        self.flights.insert(flight, Flight { devices, notifications: count });
        if self.flights.len() > in_flight_max {
            let seen = format!("{} batches in flight", self.flights.len());
            self.broken(Check::WithinLimits, format!("{in_flight_max} at most"), seen);
        }
    }

    /// All recipients of a notification belong to one mailbox, may be told, and are in no other flight.
    fn notification(
        &mut self,
        notification: &Notification<'_>,
        host_ms: u64,
        devices: &mut Vec<(String, u64)>,
    ) {
        let mut mailbox = None;
        for recipient in notification.recipients.iter().flatten() {
            let device = recipient.device_id.as_deref().unwrap_or_default();
            let own = self.reference.mailbox_of(device);
            if *mailbox.get_or_insert(own) != own {
                self.broken(Check::NobodyElse, "devices of one mailbox", format!("{device} among others"));
            }
            if !self.reference.may_be_told(device, host_ms) {
                self.broken(Check::NobodyElse, "only subscribed devices", format!("{device} is told"));
            }
            let mut flying = self.flights.values().flat_map(|flight| &flight.devices).chain(&*devices);
            if flying.any(|(name, _)| name == device) {
                self.broken(Check::OneInFlight, "one notification", format!("two of {device} in flight"));
            }
            let registration = self.reference.registration(device).unwrap_or(0);
            devices.push((device.to_owned(), registration));
        }
    }

    fn token(&mut self, request: &Request, now_ms: u64) {
        let authorization = request.header("authorization").unwrap_or_default();
        let token = authorization.split_once(' ').map_or("", |(_, token)| token.trim());
        let decoded = decode(token);
        let claim = |name: &str| decoded.as_ref().and_then(|it| it.claims.get(name)?.as_u64());
        let seen = match claim("exp") {
            None => "none",
            Some(expires) if expires * 1000 <= now_ms => "one that has expired",
            Some(_) => return,
        };
        self.broken(Check::TokenAlways, "a token that is valid", seen);
    }

    /// The answer to a batch reached the mail host; `None`: it gave up waiting, or the connection failed.
    pub fn answered(&mut self, flight: u64, answer: Option<&Response>) {
        let Some(flight) = self.flights.remove(&flight) else { return };
        let wait = least_wait(answer, flight.notifications);
        self.not_before = self.not_before.max(self.now + wait);
        let Some(answer) = answer else { return };
        if answer.status == 401 && self.refused.count(self.now, REFUSED_WITHIN) > REFUSED_MAX {
            let expected = format!("{REFUSED_MAX} refused tokens within {REFUSED_WITHIN:?}");
            self.broken(Check::BackOffKept, expected, "more");
        }
        if answer.status == 200 {
            self.told_gone(&flight, answer);
        }
    }

    fn told_gone(&mut self, flight: &Flight, answer: &Response) {
        let report: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        for line in report.get("rejected").and_then(Value::as_array).into_iter().flatten() {
            let text = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
            let sent = flight.devices.iter().find(|(device, _)| device == text("deviceId"));
            if let Some((device, registration)) = sent.filter(|_| text("reason") == "gone") {
                self.reference.told_gone(device, *registration);
            }
        }
    }

    /// The agent ended, well or not: nothing of it is in flight, and it need not remember what the relay asked for.
    pub fn ended(&mut self) {
        self.reference.agent_ended();
        self.flights.clear();
        self.not_before = Duration::ZERO;
        self.refused = Recent::default();
        self.logins.forget();
        self.wrong_since.clear();
        self.held_since.clear();
        self.haste.forget_all();
    }

    /// What the agent believes of a subscribed mailbox now, that has `truth` unseen messages; `is_named`: the agent says
    /// that it does not know. It may be wrong in silence for as long as `patience`.
    pub fn believes(
        &mut self,
        mailbox: usize,
        believed: Option<u32>,
        truth: u32,
        is_named: bool,
        patience: Duration,
    ) {
        if is_named || believed == Some(truth) {
            self.wrong_since.remove(&mailbox);
            return;
        }
        let since = *self.wrong_since.entry(mailbox).or_insert(self.now);
        if self.now.saturating_sub(since) > patience {
            self.wrong_since.remove(&mailbox);
            let expected = format!("{truth} unseen in mailbox {mailbox}, or its name among the unknown");
            let seen = format!("{believed:?} since {:.6}", since.as_secs_f64());
            self.broken(Check::NothingUnknownInSilence, expected, seen);
        }
    }

    /// A process started, and takes a device to show this; the last one ended when it knew it to show `known`.
    pub fn takes_for_shown(&mut self, device: &str, shown: u32, known: Option<u32>) {
        let known = known.map_or_else(|| "nobody knows what".to_owned(), |known| known.to_string());
        let expected = format!("{device} to show {known}, or to be in doubt");
        self.broken(Check::DoubtOutlivesProcess, expected, format!("{shown}"));
    }

    /// Whether a connection is held for a mailbox that nobody subscribes to. It may be for as long as `patience`.
    pub fn holds(&mut self, mailbox: usize, is_for_nobody: bool, patience: Duration) {
        if !is_for_nobody {
            self.held_since.remove(&mailbox);
            return;
        }
        let since = *self.held_since.entry(mailbox).or_insert(self.now);
        if self.now.saturating_sub(since) > patience {
            self.held_since.remove(&mailbox);
            let expected = format!("no connection for mailbox {mailbox}, to which nobody subscribes");
            self.broken(
                Check::NoConnectionOfNobody,
                expected,
                format!("one since {:.6}", since.as_secs_f64()),
            );
        }
    }

    /// Nobody subscribes to a mailbox: what is believed of it is no matter.
    pub fn is_no_matter(&mut self, mailbox: usize) {
        self.wrong_since.remove(&mailbox);
        self.haste.forget(mailbox);
    }

    /// The agent asks about a mailbox, or connects to read it; `is_sweep`: to find what no source reported.
    pub fn asks(&mut self, mailbox: usize, is_sweep: bool) {
        self.haste.asked(mailbox, is_sweep);
    }

    /// Another source has read a mailbox.
    pub fn read_elsewhere(&mut self, mailbox: usize) {
        self.haste.read_elsewhere(mailbox);
    }

    /// It has an answer; `is_news`: not what it believed before.
    pub fn is_answered(&mut self, mailbox: usize, is_news: bool) {
        self.haste.answered(mailbox, is_news, self.now);
    }

    /// A connection of this mailbox ended as the agent wished.
    pub fn visited(&mut self, mailbox: usize) {
        self.haste.visited(mailbox, self.now);
    }

    /// A mailbox that somebody subscribes to: the sweep may have corrected it, and asks again soon.
    pub fn is_waiting(&mut self, mailbox: usize) {
        let within = self.limits.correction;
        if let Some(since) = self.haste.overdue(mailbox, within, self.now) {
            let expected = format!("mailbox {mailbox} to be read again within {within:?}");
            let seen = format!("nothing since its correction at {:.6}", since.as_secs_f64());
            self.broken(Check::HasteAfterCorrection, expected, seen);
        }
    }

    /// A log-in of this mailbox worked.
    pub fn logged_in(&mut self, mailbox: usize) {
        self.logins.begun(mailbox, self.now);
    }

    /// A connection of this mailbox ended without the agent's wish, or could not be opened.
    pub fn lost(&mut self, mailbox: usize) {
        self.haste.forget_all();
        if self.logins.ended(mailbox, self.now) > LOGINS_MAX {
            let expected = format!("{LOGINS_MAX} short-lived log-ins a minute at most");
            self.broken(Check::LoginsBackOff, expected, format!("more of mailbox {mailbox}"));
        }
    }

    /// How much waits in the agent.
    pub fn ready(&mut self, ready: usize) {
        if ready > self.limits.mailboxes {
            let expected = format!("{} ready mailboxes at most", self.limits.mailboxes);
            self.broken(Check::WithinLimits, expected, format!("{ready}"));
        }
    }

    /// A line that was logged.
    pub fn logged(&mut self, line: &str) {
        let secret = self.secrets.iter().find(|secret| line.contains(secret.as_str()));
        if secret.is_some() || line.contains(TOKEN_BEGINS) {
            self.broken(Check::NoSecretLogged, "no secret", line.trim());
        }
    }

    /// What a device shows after something arrived at it.
    pub fn shows(&mut self, device: &str, badge: u32) {
        match self.reference.shows(device, badge) {
            Ok(()) => {}
            Err(Wrong::Older { since }) => {
                let expected = format!("{device} at one of {since:?}");
                self.broken(Check::NeverAnOlderCount, expected, format!("{badge}"));
            }
            Err(Wrong::Never { had }) => {
                let expected = format!("{device} at one of {had:?}");
                self.broken(Check::OnlyCountsItHad, expected, format!("{badge}"));
            }
        }
    }

    /// Whether every live device shows the truth now; `badge` tells what a device shows.
    pub fn is_true(&self, badge: impl Fn(&str) -> Option<u32>) -> bool {
        self.reference.live().all(|(device, truth)| badge(device) == Some(truth))
    }

    /// In the end every live device must show the truth.
    pub fn settled(&mut self, badge: impl Fn(&str) -> Option<u32>) {
        let wrong: Vec<(String, u32)> = self
            .reference
            .live()
            .filter(|(device, truth)| badge(device) != Some(*truth))
            .map(|(device, truth)| (device.to_owned(), truth))
            .collect();
        for (device, truth) in wrong {
            let seen = badge(&device).map_or_else(|| "nothing".to_owned(), |count| count.to_string());
            self.broken(Check::TruthInTheEnd, format!("{device} at {truth}"), seen);
        }
    }
}
