//! The probe (protocol.md §4): one real POST on the way that batches go, and what its outcome says to a
//! person.
//!
//! Reading the state it needs and printing the report is the command's.

use super::answer::{Answer, Failure};
use super::driver::{Bearer, Post};
use super::url::RelayUrl;
use super::wire::{self, EMPTY_BATCH, Stamp};
use crate::time::{Now, UnixMs};
use crate::token;
use crate::token::keeper::{self, ChallengeAnswer, Input, Keeper, Output, TokenState};
use crate::token::signer::Signer;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// From then on a difference between the clocks is named: it breaks tokens (protocol.md §5.8).
pub const CLOCK_OFFSET_MS_MAX: u64 = 2 * 60 * 1000;

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
pub struct Report {
    /// `None`: it succeeded.
    pub trouble: Option<Trouble>,
    /// How far the relay's clock is ahead of this machine's, where the relay told; negative where it is
    /// behind.
    pub clock_offset_ms: Option<i64>,
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
}

impl Report {
    /// The probe could not even be tried.
    pub fn configuration(error: &impl fmt::Display) -> Self {
        let advice = String::from("Correct what is named below; nothing was sent.");
        let trouble = Trouble { component: Component::Configuration, advice, exception: error.to_string() };
        Self { trouble: Some(trouble), clock_offset_ms: None }
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

    /// What to say of the clocks, where they differ by more than [`CLOCK_OFFSET_MS_MAX`]. Also worth saying
    /// after a success.
    pub fn clock_advice(&self) -> Option<String> {
        let offset = self.clock_offset_ms.filter(|offset| offset.unsigned_abs() > CLOCK_OFFSET_MS_MAX)?;
        let side = if offset > 0 { "ahead of" } else { "behind" };
        let minutes = offset.unsigned_abs() / 60_000;
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
    /// Asks for the challenge, signs, posts the probe. `post` is the client's, `clock` reads both clocks.
    pub async fn run(
        &self,
        post: impl AsyncFn(Post) -> Result<Answer, Failure>,
        clock: impl Fn() -> Now,
    ) -> Report {
        let mut offset = None;
        let trouble = self.steps(&post, &clock, &mut offset).await.err();
        Report { trouble, clock_offset_ms: offset }
    }

    async fn steps(
        &self,
        post: &impl AsyncFn(Post) -> Result<Answer, Failure>,
        clock: &impl Fn() -> Now,
        offset: &mut Option<i64>,
    ) -> Result<(), Trouble> {
        let asked = post(self.post(Bearer::Empty, Bytes::from_static(EMPTY_BATCH))).await;
        let asked = asked.map_err(|failure| self.of_failure(&failure))?;
        let now = clock();
        *offset = asked.clock_offset_ms(now.unix);
        let bearer = self.bearer(&asked, now)?;
        let body = wire::probe(&Stamp::new(now.unix), earlier_of_both(now.unix, *offset));
        let answer = post(self.post(bearer, Bytes::from(body))).await;
        let answer = answer.map_err(|failure| self.of_failure(&failure))?;
        self.of_answer(&answer)
    }

    fn post(&self, bearer: Bearer, body: Bytes) -> Post {
        Post { url: Arc::clone(&self.url), request_id: self.request_id, bearer, is_probe: true, body }
    }

    /// The token that the relay's challenge calls for, by the daemon's own keeper.
    fn bearer(&self, asked: &Answer, now: Now) -> Result<Bearer, Trouble> {
        let mut keeper = Keeper::new(self.token.clone(), 0);
        keeper.handle(now, Input::Wake);
        let challenge = ChallengeAnswer {
            status: asked.status,
            www_authenticate: asked.www_authenticate.clone(),
            asked_wait: None,
        };
        keeper.handle(now, Input::Challenged(Ok(challenge)));
        while let Some(output) = keeper.poll_output() {
            if let Output::Sign(claims) = output {
                let signed = self.signer.sign(&claims).map_err(|error| of_token_error(&error, asked))?;
                keeper.handle(now, Input::Signed(Ok(signed)));
            }
        }
        match keeper.state(now) {
            TokenState::Open => Ok(Bearer::Empty),
            TokenState::Valid { token, .. } => Ok(Bearer::Token(token)),
            TokenState::Failed { error, .. } => Err(of_token_error(&error, asked)),
            TokenState::Waiting => Err(of_token_error(&token::Error::NoChallenge, asked)),
        }
    }

    fn of_failure(&self, failure: &Failure) -> Trouble {
        let (component, advice) = match failure {
            Failure::Dns(_) => (
                Component::Networking,
                format!(
                    "Check the relay's name, {}, in `mailbadge proxy show`, and this machine's DNS.",
                    self.url.host()
                ),
            ),
            Failure::Connect(_) => (
                Component::Networking,
                format!(
                    "Check that the relay runs and that this machine may reach {}: firewall, route, port.",
                    self.where_to()
                ),
            ),
            Failure::Timeout(_) => (
                Component::Networking,
                format!(
                    "{} does not answer in time: look for a firewall that drops packets, or an overloaded \
                     relay.",
                    self.where_to()
                ),
            ),
            Failure::Tls(text) => (Component::Trust, self.trust_advice(text)),
            Failure::Write(_) | Failure::Read(_) | Failure::Closed(_) => (
                Component::Relay,
                format!(
                    "{} ends the connection instead of answering: look into the relay's log, and for a \
                     gateway on the way.",
                    self.where_to()
                ),
            ),
        };
        Trouble { component, advice, exception: failure.to_string() }
    }

    fn where_to(&self) -> String {
        format!("{} port {}", self.url.host(), self.url.port())
    }

    /// By rustls' own words for what it found in the certificate.
    fn trust_advice(&self, text: &str) -> String {
        let host = self.url.host();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        // A CA that was made anew under its former name is one that signs badly.
        if says(&["UnknownIssuer", "BadSignature", "CaUsedAsEndEntity"]) {
            format!(
                "The certificate of {host} comes from a CA that is not trusted here: \
                 put that CA's present certificate into relay.ca-file."
            )
        } else if says(&["not valid for name", "NotValidForName"]) {
            format!(
                "The certificate of {host} is for another name: correct the Uri with `mailbadge proxy enable`, \
                 or the relay's certificate."
            )
        } else if says(&["expired", "Expired", "not valid yet", "NotValidYet"]) {
            format!(
                "The certificate of {host} is not valid at this time: check this machine's clock, \
                 then renew the relay's certificate."
            )
        } else {
            format!(
                "{} does not speak the TLS that is expected: check host and port, \
                 and whether something on the way intercepts TLS.",
                self.where_to()
            )
        }
    }

    fn of_answer(&self, answer: &Answer) -> Result<(), Trouble> {
        let (component, advice) = match answer.status {
            200..=299 => return Ok(()),
            401 => (
                Component::Authentication,
                self.refusal_advice(answer.diagnostics.as_deref().unwrap_or_default()),
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
        Err(Trouble { component, advice, exception: answer.cause() })
    }

    /// By the category in `x-ms-diagnostics` (protocol.md §5.6).
    fn refusal_advice(&self, diagnostics: &str) -> String {
        let thumbprint = self.signer.certificate().thumbprint();
        match diagnostics.split(';').next().unwrap_or_default().trim() {
            "2000000" | "2000009" => format!(
                "The relay does not know the certificate {thumbprint} as ours: register it there (`mailbadge \
                 certificate export` writes it)."
            ),
            "2000002" => {
                String::from("The relay finds the token outside its lifetime: compare both machines' clocks.")
            }
            "2000003" => format!(
                "The relay finds the token made for another host or realm: check that it knows itself as {}, \
                 and the organization.",
                self.url.authority()
            ),
            "2000004" => format!(
                "The relay knows no tenant for the organization {}: correct it with `mailbadge proxy enable \
                 --organization`, or create it there.",
                self.token.configured.organization
            ),
            _ => format!(
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
        token::Error::Unexpected(403) => {
            (Component::Authentication, "The relay refuses before it even asks for a token.")
        }
        token::Error::Unexpected(_) => (
            Component::Relay,
            "This is no relay, or one in trouble: check the Uri with `mailbadge proxy show`, and the relay's \
             log.",
        ),
        _ => (Component::Authentication, "Relay and agent do not agree on whose tokens count; see below."),
    };
    let exception = match error {
        token::Error::Unexpected(_) => format!("{error} ({})", asked.cause()),
        _ => error.to_string(),
    };
    Trouble { component, advice: advice.to_owned(), exception }
}

/// A relay drops what was subscribed in its future: a probe is dated by whichever clock is behind.
fn earlier_of_both(now: UnixMs, offset: Option<i64>) -> UnixMs {
    let behind_ms = offset.filter(|offset| *offset < 0).map_or(0, i64::unsigned_abs);
    UnixMs(now.0.saturating_sub(behind_ms))
}

#[cfg(test)]
mod tests;
