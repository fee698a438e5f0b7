//! What the relay saw: batches, tokens, counts. Bounded, for people and tests to look at; nothing is decided from it,
//! except that a token which was verified once need not be verified again.

use super::batch::{Batch, Drop, Notification, Recipient};
use super::token_check::{Accepted, Refusal};
use crate::peers::device::Arrival;
use crate::peers::http::Request;
use crate::peers::jwt::{Decoded, TOKEN_BYTES_MAX};
use crate::peers::unix_time::UnixMicros;
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

/// Batches kept, at most.
pub const BATCHES_MAX: usize = 1024;
/// Their bodies together, in bytes, at most.
pub const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Tokens kept, at most.
pub const TOKENS_MAX: usize = 256;

/// A batch that was taken.
#[derive(Clone, Debug)]
pub struct BatchRecord {
    /// From 1.
    pub number: u64,
    /// When it was taken, by the relay's clock.
    pub at: UnixMicros,
    /// `client-request-id`.
    pub request_id: String,
    /// Of the token.
    pub tenant: String,
    /// The token's number in the record.
    pub token: Option<u64>,
    /// How many notifications it held.
    pub notifications: usize,
    /// How many recipients were taken.
    pub accepted: usize,
    /// How many were not.
    pub rejected: usize,
    /// Whether it was a probe, and so brought to no device.
    pub is_probe: bool,
    /// As it came.
    pub body: Bytes,
}

impl BatchRecord {
    pub(super) fn new(
        now: UnixMicros,
        request: &Request,
        tenant: &str,
        token: Option<u64>,
        batch: &Batch<'_>,
        outcome: &Outcome,
    ) -> Self {
        let request_id = request.header("client-request-id").unwrap_or("");
        Self {
            number: 0,
            at: now,
            request_id: request_id.chars().take(super::REQUEST_ID_BYTES_MAX).collect(),
            tenant: tenant.to_owned(),
            token,
            notifications: batch.notifications.len(),
            accepted: outcome.accepted,
            rejected: outcome.rejected.len(),
            is_probe: outcome.is_probe,
            body: request.body.clone(),
        }
    }
}

/// What became of a batch's recipients.
#[derive(Debug, Default, Serialize)]
pub(super) struct Outcome {
    pub(super) accepted: usize,
    pub(super) rejected: Vec<Rejected>,
    #[serde(skip)]
    pub(super) is_probe: bool,
}

impl Outcome {
    /// The report of protocol.md §1.5.
    pub(super) fn report(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings are JSON")
    }

    pub(super) fn refuse_all(&mut self, notification: &Notification<'_>, drop: Drop) {
        for recipient in notification.recipients.iter().flatten() {
            self.refuse(notification, recipient, drop);
        }
    }

    pub(super) fn refuse(&mut self, notification: &Notification<'_>, recipient: &Recipient<'_>, drop: Drop) {
        let owned = |text: &Option<super::batch::Text<'_>>| text.as_deref().unwrap_or("").to_owned();
        let reason = match drop {
            Drop::Gone => "gone",
            Drop::Throttled => "throttled",
            _ => "invalid",
        };
        self.rejected.push(Rejected {
            id: owned(&notification.id),
            app_id: owned(&recipient.app_id),
            device_id: owned(&recipient.device_id),
            reason,
        });
    }
}

/// One recipient that was not taken (protocol.md §1.5, report).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rejected {
    id: String,
    app_id: String,
    device_id: String,
    reason: &'static str,
}

/// A token that was shown to the relay.
#[derive(Clone, Debug)]
pub struct SeenToken {
    /// From 1.
    pub number: u64,
    /// First seen.
    pub first_seen: UnixMicros,
    /// Last seen.
    pub last_seen: UnixMicros,
    /// How often.
    pub uses: u64,
    /// Header and claims, where it could be decoded; nested tokens are left out.
    pub decoded: Option<Decoded>,
    /// What the relay said.
    pub verdict: Result<Accepted, Refusal>,
    generation: u64,
}

/// Numbers that only grow.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Batches taken.
    pub batches: u64,
    /// Probes among them.
    pub probes: u64,
    /// Notifications in them.
    pub notifications: u64,
    /// Icons that changed.
    pub shown: u64,
    /// Counts that an icon showed already.
    pub repeated: u64,
    /// Counts that were not newer than what an icon showed.
    pub stale: u64,
}

/// Everything that is remembered.
#[derive(Debug, Default)]
pub struct Record {
    batches: VecDeque<BatchRecord>,
    batch_bytes: usize,
    tokens: HashMap<Box<str>, SeenToken>,
    tokens_seen: u64,
    statuses: BTreeMap<u16, u64>,
    drops: BTreeMap<Drop, u64>,
    totals: Totals,
    /// Bodies that could not be read.
    pub unreadable: u64,
}

impl Record {
    /// Batches after this number, oldest first.
    pub fn batches_after(&self, number: u64) -> impl Iterator<Item = &BatchRecord> {
        self.batches.iter().skip_while(move |batch| batch.number <= number)
    }

    /// Tokens, in the order they came.
    pub fn tokens(&self) -> Vec<&SeenToken> {
        let mut tokens: Vec<&SeenToken> = self.tokens.values().collect();
        tokens.sort_by_key(|token| token.number);
        tokens
    }

    /// How often each status was answered.
    pub const fn statuses(&self) -> &BTreeMap<u16, u64> {
        &self.statuses
    }

    /// How many notifications and recipients were dropped, by reason.
    pub const fn drops(&self) -> &BTreeMap<Drop, u64> {
        &self.drops
    }

    /// Numbers that only grow.
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    pub(super) fn count_status(&mut self, status: u16) {
        *self.statuses.entry(status).or_default() += 1;
    }

    pub(super) fn count_drop(&mut self, drop: Drop) {
        *self.drops.entry(drop).or_default() += 1;
    }

    pub(super) fn count_arrival(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Shown => self.totals.shown += 1,
            Arrival::Repeated => self.totals.repeated += 1,
            Arrival::Stale => self.totals.stale += 1,
            Arrival::NoCount => {}
        }
    }

    pub(super) fn push(&mut self, mut batch: BatchRecord) {
        self.totals.batches += 1;
        self.totals.probes += u64::from(batch.is_probe);
        self.totals.notifications += batch.notifications as u64;
        batch.number = self.totals.batches;
        self.batch_bytes += batch.body.len();
        self.batches.push_back(batch);
        while self.batches.len() > BATCHES_MAX || self.batch_bytes > BATCH_BYTES_MAX {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.batch_bytes -= oldest.body.len();
        }
    }

    /// Tenant and number of a token that was verified before and still holds.
    pub(super) fn known_token(
        &mut self,
        token: &str,
        authority: &str,
        generation: u64,
        now: UnixMicros,
        tolerance: Duration,
    ) -> Option<(String, Option<u64>)> {
        let seen = self.tokens.get_mut(token)?;
        let accepted = seen.verdict.as_ref().ok()?;
        if seen.generation != generation || !accepted.holds(authority, now, tolerance) {
            return None;
        }
        seen.uses += 1;
        seen.last_seen = now;
        Some((accepted.tenant.clone(), Some(seen.number)))
    }

    /// Remembers what was said of a token. `None` where it is too long to be kept.
    pub(super) fn take_token(
        &mut self,
        token: &str,
        decoded: Option<Decoded>,
        verdict: Result<Accepted, Refusal>,
        generation: u64,
        now: UnixMicros,
    ) -> Option<u64> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        if let Some(seen) = self.tokens.get_mut(token) {
            (seen.verdict, seen.generation, seen.last_seen) = (verdict, generation, now);
            seen.uses += 1;
            return Some(seen.number);
        }
        if self.tokens.len() >= TOKENS_MAX {
            let oldest = self.tokens.iter().min_by_key(|(_, seen)| (seen.last_seen, seen.number));
            let oldest = oldest.map(|(token, _)| token.clone());
            oldest.and_then(|token| self.tokens.remove(&token));
        }
        self.tokens_seen += 1;
        let seen = SeenToken {
            number: self.tokens_seen,
            first_seen: now,
            last_seen: now,
            uses: 1,
            decoded: decoded.map(without_nested),
            verdict,
            generation,
        };
        self.tokens.insert(token.into(), seen);
        Some(self.tokens_seen)
    }
}

/// A token inside a token has a signature too.
fn without_nested(mut decoded: Decoded) -> Decoded {
    for value in decoded.claims.values_mut() {
        if value.as_str().is_some_and(|text| text.starts_with("eyJ")) {
            *value = Value::String("(a token)".to_owned());
        }
    }
    decoded
}
