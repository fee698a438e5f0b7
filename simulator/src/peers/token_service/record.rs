//! What the token service was asked and what it issued: bounded, for people and tests to look at. No token is kept, only
//! what stood in it.

use super::request::Refusal;
use crate::peers::unix_time::UnixMicros;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};

/// Requests kept, at most.
pub const REQUESTS_MAX: usize = 256;

/// A token request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRequest {
    /// From 1.
    pub number: u64,
    /// When it came, by the token service's clock.
    #[serde(rename = "atMicros")]
    pub at: UnixMicros,
    /// The claims of its assertion, where they could be read.
    pub assertion: Option<Value>,
    /// What was issued.
    #[serde(flatten)]
    pub issued: Option<Issued>,
    /// Or why nothing was.
    pub refused: Option<Refusal>,
}

/// A token that was issued, without its signature.
#[derive(Clone, Debug, Serialize)]
pub struct Issued {
    /// The tenant's GUID.
    pub tenant: String,
    /// The JOSE header.
    pub header: Value,
    /// The claims.
    pub claims: Value,
}

/// Everything that is remembered.
#[derive(Debug, Default)]
pub struct Record {
    requests: VecDeque<TokenRequest>,
    count: u64,
    issued: u64,
    statuses: BTreeMap<u16, u64>,
    documents: u64,
}

impl Record {
    /// The newest requests, oldest of them first.
    pub fn requests(&self) -> impl ExactSizeIterator<Item = &TokenRequest> {
        self.requests.iter()
    }

    /// How many tokens were issued.
    pub const fn issued(&self) -> u64 {
        self.issued
    }

    /// How often a metadata document was read.
    pub const fn documents(&self) -> u64 {
        self.documents
    }

    /// How often each status was answered.
    pub const fn statuses(&self) -> &BTreeMap<u16, u64> {
        &self.statuses
    }

    pub(super) fn count_status(&mut self, status: u16) {
        *self.statuses.entry(status).or_default() += 1;
    }

    pub(super) const fn count_document(&mut self) {
        self.documents += 1;
    }

    pub(super) fn push(
        &mut self,
        at: UnixMicros,
        assertion: Option<Value>,
        outcome: Result<Issued, Refusal>,
    ) {
        self.count += 1;
        self.issued += u64::from(outcome.is_ok());
        let (issued, refused) = match outcome {
            Ok(issued) => (Some(issued), None),
            Err(refusal) => (None, Some(refusal)),
        };
        self.requests.push_back(TokenRequest { number: self.count, at, assertion, issued, refused });
        if self.requests.len() > REQUESTS_MAX {
            self.requests.pop_front();
        }
    }
}
