//! Asking a token service (protocol.md §5.5, RFC 7523 §2.1): the request as a form, and what an answer means.
//!
//! Pure; when a token service is asked is the `keeper`'s, how is the `driver`'s.

use super::signer::SignedToken;
use crate::https::json::Members;
use crate::https::url::Url;
use crate::https::{self, Response};
use crate::identity::principal::Audience;
use crate::time::{ClockOffset, UnixMs};
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use zeroize::Zeroizing;

/// `grant_type` of a token request, as Exchange spells RFC 7523's.
pub const GRANT_TYPE: &str = "http://oauth.net/grant_type/jwt/1.0/bearer";
/// The longest token that is taken: no relay reads a longer one (protocol.md §5.6, 1).
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// The longest life that a token is believed to have.
pub const LIFE_MAX: Duration = Duration::from_hours(7 * 24);
/// The shortest life that a token is believed to have: one that is over by our clock has come from a clock that is behind,
/// or to one that is ahead, and whose is wrong the relay says.
pub const LIFE_MIN: Duration = Duration::from_secs(30);
/// How long a token is believed to live of which nothing is said: `expires_in` is no more than recommended (RFC 6749
/// §5.1), and a relay says when it has enough of a token.
pub const LIFE_UNTOLD: Duration = Duration::from_mins(5);
/// The longest wait that a token service can ask for.
pub const WAIT_MAX: Duration = Duration::from_hours(1);

/// What is to be asked of a token service.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// The name that the token service was given here.
    pub service: String,
    /// Where it issues tokens.
    pub endpoint: Arc<Url>,
    /// For whom the token shall be.
    pub resource: Audience,
    /// Who asks.
    pub assertion: SignedToken,
}

impl TokenRequest {
    /// The body, `application/x-www-form-urlencoded`.
    pub fn form(&self) -> SecretString {
        let (assertion, resource) = (self.assertion.token.expose_secret(), self.resource.to_string());
        // At most three bytes for each: no copy of the assertion is left behind by growing.
        let size = 3 * (GRANT_TYPE.len() + assertion.len() + resource.len()) + 64;
        let mut form = String::with_capacity(size);
        for (name, value) in [("grant_type", GRANT_TYPE), ("assertion", assertion), ("resource", &resource)] {
            form.push_str(if form.is_empty() { "" } else { "&" });
            form.push_str(name);
            form.push('=');
            encode(value, &mut form);
        }
        SecretString::from(form)
    }
}

/// Percent-encoded but for what RFC 3986 §2.3 leaves as it is.
fn encode(text: &str, form: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            form.push(char::from(byte));
        } else {
            let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0').to_ascii_uppercase();
            form.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// Which of the things that can be wrong is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It does not know the certificate that signed the assertion.
    Certificate,
    /// It does not know the application in that tenant.
    Application,
    /// The assertion is for somebody else.
    Audience,
    /// The assertion is outside its lifetime.
    Clock,
    /// It knows no such tenant.
    Tenant,
    /// It does not know the relay in that tenant.
    Resource,
    /// Passing trouble of its own.
    Unavailable,
    /// This is no token endpoint.
    NoEndpoint,
    /// It answered what is no token.
    Answer,
    /// Something else.
    Other,
}

impl Cause {
    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Certificate => {
                "it does not know this host's certificate: register it there, `mailbadge auth credential` shows it"
            }
            Self::Application => {
                "it does not know this application in that tenant: check auth.application-id, and register it there with this \
                 host's certificate, `mailbadge auth credential` shows it"
            }
            Self::Audience => {
                "it is not whom the assertion names: have its document read again, `mailbadge auth server list --refresh`"
            }
            Self::Clock => {
                "it finds the assertion outside its lifetime: synchronize this machine's clock (NTP)"
            }
            Self::Tenant => {
                "it knows no such tenant: check the realm in the metadata URL, `mailbadge auth server list`"
            }
            Self::Resource => {
                "it does not know the relay in that tenant: check the Uri, `mailbadge proxy show`, or register the \
                 relay's host there"
            }
            Self::Unavailable => "it has trouble of its own; this is tried again",
            Self::NoEndpoint => {
                "there is no token endpoint: have its document read again, `mailbadge auth server list --refresh`"
            }
            Self::Answer => "its answer is of no use: look for what stands between",
            Self::Other => "look at what it says",
        }
    }
}

/// A token service that gave no token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Refusal {
    /// What is wrong.
    pub cause: Cause,
    /// HTTP status.
    pub status: u16,
    /// `error` and `error_description`, or what else it said; one line.
    pub words: String,
    /// How long it asked to be left alone, [`WAIT_MAX`] at most.
    pub asked_wait: Option<Duration>,
    /// How far its clock is ahead of ours, in milliseconds, where it told.
    pub clock_offset_ms: Option<i64>,
}

impl Refusal {
    /// Whether its metadata document may have changed since it was read.
    pub fn puts_document_in_doubt(&self) -> bool {
        matches!(self.cause, Cause::Audience | Cause::NoEndpoint)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answered {}", self.status)?;
        if !self.words.is_empty() {
            write!(f, " ({})", self.words)?;
        }
        if let Some(offset) = self.clock_offset_ms.and_then(ClockOffset::notable) {
            write!(f, ", its clock {offset}")?;
        }
        write!(f, "; {}", self.cause.advice())
    }
}

/// The token in an answer, its end on our clock, or why there is none. `now` is when the answer came.
pub fn read(answer: &Response, now: UnixMs) -> Result<SignedToken, Refusal> {
    let content = Members::read(&answer.content);
    if answer.status == 200 {
        return token(content.as_ref(), now)
            .map_err(|words| refusal(answer, Cause::Answer, words.to_owned(), now));
    }
    let member = |name: &str| content.as_ref().and_then(|content| content.text(name)).unwrap_or_default();
    let (error, description) = (member("error"), member("error_description"));
    let words = [error.as_str(), description.as_str()].map(https::quote).join(": ");
    let words = words.trim_matches([':', ' ']).to_owned();
    Err(refusal(answer, cause(answer.status, &error, &description), words, now))
}

fn refusal(answer: &Response, cause: Cause, words: String, now: UnixMs) -> Refusal {
    let date = answer.date();
    let signed = |time: UnixMs| i64::try_from(time.0).ok();
    let wait = answer.header("retry-after");
    let wait = wait.and_then(|text| https::retry_after(&text, date.unwrap_or(now)));
    Refusal {
        cause,
        status: answer.status,
        words,
        asked_wait: wait.filter(|wait| !wait.is_zero()).map(|wait| wait.min(WAIT_MAX)),
        clock_offset_ms: date.and_then(signed).zip(signed(now)).map(|(theirs, ours)| theirs - ours),
    }
}

/// The token of a 200; numbers may stand in quotes.
fn token(content: Option<&Members>, now: UnixMs) -> Result<SignedToken, &'static str> {
    let text = content.filter(|content| content.has("access_token"));
    let text = text.and_then(|content| content.text("access_token")).map(Zeroizing::new).unwrap_or_default();
    if text.is_empty() || text.len() > TOKEN_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("no access_token that a header can carry");
    }
    let kind = content.and_then(|content| content.text("token_type"));
    if kind.is_some_and(|kind| !kind.trim().eq_ignore_ascii_case("bearer")) {
        return Err("a token_type other than Bearer");
    }
    let number = |name: &str| content.and_then(|content| content.rounded_up(name));
    let told = number("expires_in").filter(|seconds| *seconds > 0).map(Duration::from_secs);
    // The end that stands in the token itself, by the service's clock: what is over there is refused sooner or later.
    let end = number("expires_on").map(|at| Duration::from_secs(at.saturating_sub(now.seconds())));
    let life = match (told, end) {
        (Some(told), Some(end)) => told.min(end.max(LIFE_MIN)),
        (Some(told), None) => told,
        (None, Some(end)) => end.max(LIFE_MIN),
        (None, None) => LIFE_UNTOLD,
    };
    let expires = now.after(life.min(LIFE_MAX));
    Ok(SignedToken { token: Arc::new(SecretString::from(text.as_str())), expires })
}

/// By RFC 6749 §5.2, RFC 8707 §2 and the numbers that Microsoft's token service puts into its descriptions.
fn cause(status: u16, error: &str, description: &str) -> Cause {
    let by_number = match aadsts(description) {
        Some(700_027 | 50_012 | 7_000_215) => Some(Cause::Certificate),
        Some(700_016 | 70_001) => Some(Cause::Application),
        Some(700_023) => Some(Cause::Audience),
        Some(700_024) => Some(Cause::Clock),
        Some(90_002) => Some(Cause::Tenant),
        Some(500_011 | 50_001) => Some(Cause::Resource),
        _ => None,
    };
    let by_name = match error {
        "invalid_client" => Cause::Certificate,
        "unauthorized_client" => Cause::Application,
        "invalid_grant" => of_grant(description),
        "invalid_resource" | "invalid_target" => Cause::Resource,
        "temporarily_unavailable" | "server_error" => Cause::Unavailable,
        _ => match status {
            408 | 429 | 500..=599 => Cause::Unavailable,
            200..=299 => Cause::Answer,
            300..=399 | 404 | 405 | 410 => Cause::NoEndpoint,
            _ => Cause::Other,
        },
    };
    by_number.unwrap_or(by_name)
}

/// `invalid_grant` says only that something is wrong with the assertion; the description says what.
fn of_grant(description: &str) -> Cause {
    let description = description.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| description.contains(word));
    if says(&["audience", "aud "]) {
        Cause::Audience
    } else if says(&["tenant"]) {
        Cause::Tenant
    } else if says(&["expired", "lifetime", "time range", "not yet valid", "not valid before", "clock"]) {
        Cause::Clock
    } else if says(&["signature", "certificate", "key "]) {
        Cause::Certificate
    } else {
        Cause::Other
    }
}

/// The number of a description like `AADSTS700027: …`.
fn aadsts(description: &str) -> Option<u32> {
    let (_, after) = description.split_once("AADSTS")?;
    let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests;
