//! The probe (protocol.md §4): one real POST on the way that batches go, and what its outcome says to a
//! person.
//!
//! Reading the state it needs and printing the report is the command's.

mod peer;

use super::answer::{Answer, Failure};
use super::driver::{Bearer, Post};
use super::url::RelayUrl;
use super::wire::{self, EMPTY_BATCH, Stamp};
use crate::https::Response;
use crate::time::{ClockOffset, Now, UnixMs};
use crate::token;
use crate::token::choice::Issuer;
use crate::token::exchange::TokenRequest;
use crate::token::keeper::{self, ChallengeAnswer};
use crate::token::mint::{Minted, mint};
use crate::token::signer::Signer;
use bytes::Bytes;
use peer::{Peer, of_failure};
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// Where the trouble lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// What is configured here.
    Configuration,
    /// Names, addresses, connections, time-outs.
    Networking,
    /// The relay's TLS certificate.
    Trust,
    /// Tokens and what the relay makes of them.
    Authentication,
    /// Everything else that the relay answers.
    Relay,
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeReport {
    /// `None`: it succeeded.
    pub trouble: Option<Trouble>,
    /// How far the relay's clock is ahead of this machine's, where the relay told; negative where it is
    /// behind.
    pub clock_offset_ms: Option<i64>,
    /// Who issued the token that it went with, and by which row of protocol.md §5.3, where there was one.
    pub issuer: Option<String>,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Where.
    pub component: Component,
    /// What to do about it: a sentence or two.
    pub advice: String,
    /// The failure in its own words, one line.
    pub exception: String,
    /// Whether token services' documents might help that were never read.
    pub may_be_cured_by_documents: bool,
}

impl ProbeReport {
    /// The probe could not even be tried.
    pub fn configuration(error: &impl fmt::Display) -> Self {
        let advice = String::from("Correct what is named below; nothing was sent.");
        let trouble = Trouble {
            component: Component::Configuration,
            advice,
            exception: error.to_string(),
            may_be_cured_by_documents: false,
        };
        Self { trouble: Some(trouble), clock_offset_ms: None, issuer: None }
    }

    /// `ResultType`, as the help page shows it.
    pub fn result_type(&self) -> &'static str {
        if self.trouble.is_none() { "Succeeded" } else { "Failed" }
    }

    /// `Error`: component and advice, empty where it succeeded; the clocks' difference where that matters.
    pub fn error(&self) -> String {
        let trouble =
            self.trouble.as_ref().map(|trouble| format!("{}: {}", trouble.component, trouble.advice));
        let parts: Vec<String> = trouble.into_iter().chain(self.clock_advice()).collect();
        parts.join(" ")
    }

    /// `Exception`: the failure in its own words, empty where it succeeded.
    pub fn exception(&self) -> &str {
        self.trouble.as_ref().map_or("", |trouble| &trouble.exception)
    }

    /// What to say of the clocks, where they differ so much that it matters. Also worth saying after a success.
    pub fn clock_advice(&self) -> Option<String> {
        let offset = self.clock_offset_ms.and_then(ClockOffset::notable)?;
        let side = if offset.is_ahead() { "ahead of" } else { "behind" };
        let minutes = offset.size().as_secs() / 60;
        Some(format!(
            "The relay's clock is {minutes} min {side} this machine's, which breaks tokens: synchronize the \
             clock (NTP)."
        ))
    }
}

/// What a probe needs.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The relay.
    pub url: Arc<RelayUrl>,
    /// `client-request-id` of its POST with a token.
    pub request_id: Uuid,
    /// As the daemon has them.
    pub token: keeper::Settings,
    /// As the daemon has it.
    pub signer: Signer,
}

impl Probe {
    /// Asks for the challenge, gets a token, posts the probe. `post` is the client's, `exchange` the token service's
    /// driver, `clock` reads both clocks.
    pub async fn run(
        &self,
        post: impl AsyncFn(Post) -> Result<Answer, Failure>,
        exchange: impl AsyncFn(TokenRequest) -> Result<Response, Failure>,
        clock: impl Fn() -> Now,
    ) -> ProbeReport {
        let mut report = ProbeReport { trouble: None, clock_offset_ms: None, issuer: None };
        report.trouble = self.steps(&post, &exchange, &clock, &mut report).await.err();
        report
    }

    async fn steps(
        &self,
        post: &impl AsyncFn(Post) -> Result<Answer, Failure>,
        exchange: &impl AsyncFn(TokenRequest) -> Result<Response, Failure>,
        clock: &impl Fn() -> Now,
        report: &mut ProbeReport,
    ) -> Result<(), Trouble> {
        let asked = post(self.post(Bearer::Empty, Bytes::from_static(EMPTY_BATCH))).await;
        let asked = asked.map_err(|failure| of_failure(&failure, &Peer::relay(&self.url)))?;
        report.clock_offset_ms = asked.clock_offset_ms(clock().unix);
        let challenge = ChallengeAnswer {
            status: asked.status,
            www_authenticate: asked.www_authenticate.clone(),
            asked_wait: None,
        };
        let minted = mint(&self.token, &self.signer, challenge, exchange, clock).await;
        let minted = minted.map_err(|error| of_token_error(&error, &asked))?;
        report.issuer = minted.as_ref().map(|minted| minted.choice.to_string());
        let bearer = minted.as_ref().map_or(Bearer::Empty, |minted| Bearer::Token(Arc::clone(&minted.token)));
        let now = clock().unix;
        let body = wire::probe(&Stamp::new(now), earlier_of_both(now, report.clock_offset_ms));
        let answer = post(self.post(bearer, Bytes::from(body))).await;
        let answer = answer.map_err(|failure| of_failure(&failure, &Peer::relay(&self.url)))?;
        self.of_answer(&answer, minted.as_ref())
    }

    fn post(&self, bearer: Bearer, body: Bytes) -> Post {
        Post { url: Arc::clone(&self.url), request_id: self.request_id, bearer, is_probe: true, body }
    }

    fn of_answer(&self, answer: &Answer, minted: Option<&Minted>) -> Result<(), Trouble> {
        let (component, advice) = match answer.status {
            200..=299 => return Ok(()),
            401 => (
                Component::Authentication,
                self.refusal_advice(answer.diagnostics.as_deref().unwrap_or_default(), minted),
            ),
            403 => (
                Component::Authentication,
                String::from(
                    "The relay knows who calls and forbids it: look at what it says below, and at the \
                     tenant's budget and permissions.",
                ),
            ),
            300..=399 => (
                Component::Relay,
                format!(
                    "The relay redirects, which is never followed with a token: give the final address with \
                     `mailbadge proxy enable --uri`, now {}.",
                    self.url
                ),
            ),
            404 | 405 => (
                Component::Relay,
                format!(
                    "There is no relay at {}: correct the Uri with `mailbadge proxy enable --uri`.",
                    self.url
                ),
            ),
            429 | 503 => {
                (Component::Relay, String::from("The relay is overloaded or throttles: try again later."))
            }
            _ => (
                Component::Relay,
                String::from("The relay has trouble of its own: look into its log, try again later."),
            ),
        };
        Err(Trouble { component, advice, exception: answer.cause(), may_be_cured_by_documents: false })
    }

    /// By the category in `x-ms-diagnostics` (protocol.md §5.6).
    fn refusal_advice(&self, diagnostics: &str, minted: Option<&Minted>) -> String {
        let thumbprint = self.signer.certificate().thumbprint();
        let service = minted.and_then(|minted| match &minted.choice.issuer {
            Issuer::Own => None,
            Issuer::Service { name, service, .. } => Some((name, &service.principal)),
        });
        match (diagnostics.split(';').next().unwrap_or_default().trim(), service) {
            ("2000000" | "2000009", Some((name, _))) => format!(
                "The relay does not know the key that token service {name} signs with: have the relay read that \
                 service's metadata document again."
            ),
            ("2000000" | "2000009", None) => format!(
                "The relay does not know the certificate {thumbprint} as ours: register it there (`mailbadge \
                 certificate export` writes it)."
            ),
            ("2000002", _) => {
                String::from("The relay finds the token outside its lifetime: compare both machines' clocks.")
            }
            ("2000003", _) => format!(
                "The relay finds the token made for another host or realm: check that it knows itself as {}, \
                 and the organization.",
                self.url.authority()
            ),
            ("2000004", _) => format!(
                "The relay knows no tenant for the organization {}: correct it with `mailbadge proxy enable \
                 --organization`, or create it there.",
                self.token.configured.organization
            ),
            (_, Some((name, principal))) => format!(
                "The relay does not accept a token of token service {name} ({principal}): check that it trusts that \
                 one, and knows {} there.",
                self.token.configured.own.id
            ),
            (_, None) => format!(
                "The relay does not accept {}: check auth.application-id and auth.realm, and that the relay \
                 trusts them with certificate {thumbprint}.",
                self.token.configured.own
            ),
        }
    }
}

fn of_token_error(error: &token::Error, asked: &Answer) -> Trouble {
    let (component, advice) = match error {
        token::Error::Signing(_) => (Component::Configuration, "The certificate cannot sign; see below."),
        token::Error::NoTenant { .. } => {
            (Component::Configuration, "The token service is not told which tenant this is; see below.")
        }
        token::Error::Unexpected(403) => {
            (Component::Authentication, "The relay refuses before it even asks for a token.")
        }
        token::Error::Unexpected(_) => (
            Component::Relay,
            "This is no relay, or one in trouble: check the Uri with `mailbadge proxy show`, and the relay's \
             log.",
        ),
        token::Error::ServiceUnreachable { service, authority, failure } => {
            let found = of_failure(failure, &Peer::token_service(service, authority));
            return Trouble { exception: error.to_string(), ..found };
        }
        token::Error::ServiceRefused { service, refusal } => {
            let advice = format!("Token service {service} gives no token: {}.", refusal.cause.advice());
            return Trouble {
                component: Component::Authentication,
                advice,
                exception: error.to_string(),
                may_be_cured_by_documents: false,
            };
        }
        _ => (Component::Authentication, "Relay and agent do not agree on whose tokens count; see below."),
    };
    let may_be_cured_by_documents = error.may_be_cured_by_documents();
    let exception = match error {
        token::Error::Unexpected(_) => format!("{error} ({})", asked.cause()),
        _ => error.to_string(),
    };
    Trouble { component, advice: advice.to_owned(), exception, may_be_cured_by_documents }
}

/// A relay drops what was subscribed in its future: a probe is dated by whichever clock is behind.
fn earlier_of_both(now: UnixMs, offset: Option<i64>) -> UnixMs {
    let behind_ms = offset.filter(|offset| *offset < 0).map_or(0, i64::unsigned_abs);
    UnixMs(now.0.saturating_sub(behind_ms))
}

#[cfg(test)]
mod tests;
