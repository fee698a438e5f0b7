//! A token request as a form (protocol.md §5.5), and how a refusal is told (RFC 6749 §5.2).

use crate::peers::http::{Request, Response};
use crate::peers::unix_time::UnixMicros;
use serde::Serialize;
use serde_json::json;
use std::borrow::Cow;

/// Both spellings of the grant: of the draft that Exchange speaks, and of RFC 7523 §2.1.
pub const GRANT_TYPES: [&str; 2] =
    ["http://oauth.net/grant_type/jwt/1.0/bearer", "urn:ietf:params:oauth:grant-type:jwt-bearer"];
/// A form has so many fields at most.
const FIELDS_MAX: usize = 32;

/// The values of `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Error {
    /// Something is missing, twice, or not a form.
    InvalidRequest,
    /// Another grant.
    UnsupportedGrantType,
    /// Nobody is known who signed so.
    InvalidClient,
    /// The assertion is not for here or now.
    InvalidGrant,
    /// What the token shall be for is not known.
    InvalidResource,
}

impl Error {
    const fn status(self) -> u16 {
        match self {
            Self::InvalidClient => 401,
            _ => 400,
        }
    }
}

/// A request that got no token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// For programs.
    pub error: Error,
    /// The number after `AADSTS`.
    pub code: u32,
    /// For people: what is wrong and what would be right.
    pub reason: String,
}

impl Refusal {
    pub(super) fn new(error: Error, code: u32, reason: impl Into<String>) -> Self {
        Self { error, code, reason: reason.into() }
    }

    /// As it is answered.
    pub(super) fn response(&self, now: UnixMicros) -> Response {
        let body = json!({
            "error": self.error,
            "error_description": format!("AADSTS{}: {} Timestamp: {}", self.code, self.reason, now.http_date()),
            "error_codes": [self.code],
        });
        Response::with_body(self.error.status(), "application/json; charset=utf-8", body.to_string())
    }
}

/// What a client asks for.
#[derive(Debug, Default)]
pub(super) struct Form<'a> {
    pub(super) assertion: Cow<'a, str>,
    pub(super) resource: Cow<'a, str>,
}

impl<'a> Form<'a> {
    /// Reads a request's body; unknown fields do no harm.
    pub(super) fn read(request: &'a Request) -> Result<Self, Refusal> {
        let content_type = request.header("content-type").and_then(|value| value.split(';').next());
        if !content_type.is_some_and(|t| t.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")) {
            let reason = "The body must be application/x-www-form-urlencoded.";
            return Err(Refusal::new(Error::InvalidRequest, 900_144, reason));
        }
        let mut fields = form_urlencoded::parse(&request.body);
        let fields: Vec<(Cow<'a, str>, Cow<'a, str>)> = fields.by_ref().take(FIELDS_MAX).collect();
        let grant_type = only(&fields, "grant_type")?;
        if !GRANT_TYPES.contains(&grant_type.as_ref()) {
            let reason = format!("The grant_type must be {} or {}.", GRANT_TYPES[0], GRANT_TYPES[1]);
            return Err(Refusal::new(Error::UnsupportedGrantType, 70_003, reason));
        }
        Ok(Self { assertion: only(&fields, "assertion")?, resource: only(&fields, "resource")? })
    }
}

/// The one value of a field (RFC 6749 §3.2: no parameter twice, none empty).
fn only<'a>(fields: &[(Cow<'a, str>, Cow<'a, str>)], name: &str) -> Result<Cow<'a, str>, Refusal> {
    let mut values = fields.iter().filter(|(field, value)| field == name && !value.is_empty());
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Ok(value.clone()),
        (Some(_), Some(_)) => {
            let reason = format!("The request body contains the parameter '{name}' more than once.");
            Err(Refusal::new(Error::InvalidRequest, 900_144, reason))
        }
        (None, _) => {
            let reason = format!("The request body must contain the following parameter: '{name}'.");
            Err(Refusal::new(Error::InvalidRequest, 900_144, reason))
        }
    }
}
