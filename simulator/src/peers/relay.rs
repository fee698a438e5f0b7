//! The relay: takes batches of counts from agents and brings them to devices (protocol.md §1, §5.6, §6).
//!
//! This file holds the way of one request through it. What a token must be is in [`token_check`], what a batch must be
//! in [`batch`], how much may be sent in [`budget`], which documents trust comes from in [`documents`], what is remembered
//! in [`record`]. No socket, no clock.

pub mod batch;
pub mod budget;
pub mod documents;
pub mod record;
pub mod token_check;

use super::device::{Delivery, Devices, Stamp};
use super::fault::{Act, Faults, fault_answer};
use super::http::{Exchange, Request, Response};
use super::jwt::{CLOCK_SKEW, SignatureFault, decode};
pub use super::principal::EXCHANGE_APPLICATION_ID;
use super::tenant::{TenantError, Tenants};
use super::unix_time::UnixMicros;
use batch::{Batch, Drop, Notification, Recipient, Unreadable};
use budget::Budgets;
use documents::Documents;
use record::{BatchRecord, Outcome, Record};
use std::time::Duration;
use token_check::{Category, Refusal, TokenCheck};

/// Requests are routed by what their path ends with, without regard to case.
pub const PUBLISH_SUFFIX: &str = "/service.svc/PublishOnPremNotifications";
/// The header that marks a probe, and its value (protocol.md §4).
pub const PROBE_HEADER: (&str, &str) = ("x-probetype", "X-MS-ClientAccess-LocalProbe");
/// Longest `client-request-id` that is echoed, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// Which limits it keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// None but tenants' own budgets.
    #[default]
    Open,
    /// Those of protocol.md §6.
    Office365,
}

/// How a relay is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The application id that tokens must be for.
    pub application_id: String,
    /// `authorization_uri` of the challenge.
    pub authorization_uri: Option<String>,
    /// Longest body, in bytes; longer gets 413.
    pub body_bytes_max: usize,
    /// Which limits it keeps.
    pub profile: Profile,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            application_id: EXCHANGE_APPLICATION_ID.to_owned(),
            authorization_uri: None,
            body_bytes_max: 4 * 1024 * 1024,
            profile: Profile::Open,
        }
    }
}

/// The relay. Everything it has may be looked at and changed at run time.
pub struct Relay {
    settings: Settings,
    rng: fastrand::Rng,
    /// Whom it trusts.
    pub tenants: Tenants,
    /// Where its counts arrive.
    pub devices: Devices,
    /// What goes wrong.
    pub faults: Faults,
    /// What it saw.
    pub record: Record,
    /// Documents that trust is read from.
    pub documents: Documents,
    budgets: Budgets,
    /// While the request at hand is handled: every device says that it is gone.
    are_devices_gone: bool,
    /// While the request at hand is handled: how far clocks may differ.
    tolerance: Duration,
}

impl Relay {
    /// A relay that trusts nobody yet. The seed decides which requests a fault hits.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            rng: fastrand::Rng::with_seed(seed),
            tenants: Tenants::default(),
            devices: Devices::default(),
            faults: Faults::default(),
            record: Record::default(),
            documents: Documents::default(),
            budgets: Budgets::default(),
            are_devices_gone: false,
            tolerance: CLOCK_SKEW,
        }
    }

    /// How it is set up.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The answer to a request, as if no fault were on.
    pub fn handle(&mut self, now: UnixMicros, request: &Request) -> Response {
        let response = self.route(now, request, &Batch::read(&request.body));
        finish(response, now, request)
    }

    /// The answer to a request and how it travels, faults included.
    pub fn exchange(&mut self, now: UnixMicros, request: &Request) -> Exchange {
        self.exchange_read(now, request, &Batch::read(&request.body))
    }

    /// The same where the body was read before: so that a server need not read it under its lock.
    pub fn exchange_read(
        &mut self,
        now: UnixMicros,
        request: &Request,
        batch: &Result<Batch<'_>, Unreadable>,
    ) -> Exchange {
        let plan = self.faults.plan(now, &mut self.rng);
        let shown = now.shifted_ms(plan.clock_offset_ms);
        self.are_devices_gone = plan.are_devices_gone;
        self.tolerance = plan.tolerance();
        let response = plan.answer(|act| match act {
            Act::Handle => self.route(shown, request, batch),
            // What a relay says that has not heard of a new certificate.
            Act::Refuse => self.unauthorized(Some(&SignatureFault::Unknown.into())),
        });
        (self.are_devices_gone, self.tolerance) = (false, CLOCK_SKEW);
        self.record.count_status(response.status);
        Exchange { response: finish(response, shown, request), delay: plan.delay, wire: plan.wire }
    }

    /// URL of a metadata document that is to be fetched now, for [`Relay::take_document`].
    pub fn due_document(&mut self, now: UnixMicros) -> Option<&str> {
        self.documents.follow(&self.tenants, now);
        self.documents.due(now)
    }

    /// A metadata document as it came, or why it did not.
    pub fn take_document(&mut self, now: UnixMicros, url: &str, read: Result<&[u8], String>) {
        let outcome =
            read.and_then(|bytes| self.tenants.take_document(url, bytes).map_err(|error| error.to_string()));
        self.documents.note(url, outcome, now);
    }

    /// Has the documents of a tenant read again. Tells their URLs.
    pub fn refresh_documents(&mut self, now: UnixMicros, realm: &str) -> Result<Vec<String>, TenantError> {
        self.documents.follow(&self.tenants, now);
        let tenant = self.tenants.find(realm).ok_or_else(|| TenantError::Unknown(realm.to_owned()))?;
        let urls: Vec<String> = tenant.metadata_urls().map(str::to_owned).collect();
        for url in &urls {
            self.documents.ask(url, now);
        }
        Ok(urls)
    }

    fn route(
        &mut self,
        now: UnixMicros,
        request: &Request,
        batch: &Result<Batch<'_>, Unreadable>,
    ) -> Response {
        if !ends_with_ignoring_case(&request.path, PUBLISH_SUFFIX) {
            return Response::empty(404);
        }
        if !request.method.eq_ignore_ascii_case("POST") {
            return Response::empty(405).and("allow", "POST");
        }
        if request.body.len() > self.settings.body_bytes_max {
            return Response::with_body(413, "text/plain", "body too large");
        }
        let Some(token) = bearer(request) else {
            return self.unauthorized(None);
        };
        match self.tenant_of(now, token, &request.authority) {
            Ok((tenant, token_number)) => self.publish(now, request, batch, &tenant, token_number),
            Err(Refusal { category: Category::NotAppOnly, .. }) => Response::empty(403),
            Err(refusal) => self.unauthorized(Some(&refusal)),
        }
    }

    /// The tenant that a token speaks for, and the token's number in the record.
    fn tenant_of(
        &mut self,
        now: UnixMicros,
        token: &str,
        authority: &str,
    ) -> Result<(String, Option<u64>), Refusal> {
        let generation = self.tenants.generation();
        let authority = super::http::plain_authority(authority);
        if let Some(known) = self.record.known_token(token, authority, generation, now, self.tolerance) {
            return Ok(known);
        }
        let check = TokenCheck {
            own_application_id: &self.settings.application_id,
            tenants: &self.tenants,
            authority,
            now,
            tolerance: self.tolerance,
        };
        let decoded = decode(token);
        let verdict = check.check_decoded(token, decoded.as_ref());
        if verdict.as_ref().is_err_and(|refusal| refusal.category == Category::InvalidSignature)
            && let Some(url) = check.document(decoded.as_ref()).map(str::to_owned)
        {
            self.documents.doubt(&url, now);
        }
        let number = self.record.take_token(token, decoded, verdict.clone(), generation, now);
        verdict.map(|accepted| (accepted.tenant, number))
    }

    fn publish(
        &mut self,
        now: UnixMicros,
        request: &Request,
        batch: &Result<Batch<'_>, Unreadable>,
        tenant: &str,
        token_number: Option<u64>,
    ) -> Response {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                self.record.unreadable += 1;
                return Response::with_body(400, "text/plain", error.to_string());
            }
        };
        let limit = self.tenants.find(tenant).and_then(|tenant| tenant.notifications_per_minute);
        if let Err(wait) = self.budgets.spend(tenant, limit, batch.notifications.len(), now) {
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            return fault_answer(403, "tenant over budget", false, Some(wait_ms));
        }
        let is_probe = request.header(PROBE_HEADER.0).is_some_and(|v| v.eq_ignore_ascii_case(PROBE_HEADER.1));
        let outcome = self.deliver(now, batch, is_probe);
        let report = wants_report(request).then(|| outcome.report());
        self.record.push(BatchRecord::new(now, request, tenant, token_number, batch, &outcome));
        match report {
            Some(report) => Response::with_body(200, "application/json", report)
                .and("preference-applied", "return=representation"),
            None => Response::empty(200),
        }
    }

    fn deliver(&mut self, now: UnixMicros, batch: &Batch<'_>, is_probe: bool) -> Outcome {
        let mut outcome = Outcome::default();
        for notification in &batch.notifications {
            match notification.check() {
                Ok(valid) if valid.is_monitoring || is_probe => {
                    outcome.is_probe = true;
                    outcome.accepted += notification.recipients.as_ref().map_or(0, Vec::len);
                }
                Ok(valid) => self.deliver_one(now, notification, valid.count, &mut outcome),
                Err(drop) => {
                    self.record.count_drop(drop);
                    outcome.refuse_all(notification, drop);
                }
            }
        }
        outcome
    }

    fn deliver_one(
        &mut self,
        now: UnixMicros,
        notification: &Notification<'_>,
        count: Option<u32>,
        outcome: &mut Outcome,
    ) {
        let stamp = notification.id.as_deref().and_then(Stamp::parse);
        for recipient in notification.recipients.iter().flatten() {
            match self.deliver_to(now, recipient, stamp, count) {
                Ok(()) => outcome.accepted += 1,
                Err(drop) => {
                    self.record.count_drop(drop);
                    outcome.refuse(notification, recipient, drop);
                }
            }
        }
    }

    fn deliver_to(
        &mut self,
        now: UnixMicros,
        recipient: &Recipient<'_>,
        stamp: Option<Stamp>,
        count: Option<u32>,
    ) -> Result<(), Drop> {
        let (app, id) = recipient.check(now)?;
        if self.are_devices_gone {
            return Err(Drop::Gone);
        }
        if self.settings.profile == Profile::Office365 && !self.budgets.device_may(app, id, now) {
            // Over its budget a device is skipped in silence.
            self.record.count_drop(Drop::Throttled);
            return Ok(());
        }
        match self.devices.deliver(app, id, stamp, count, now) {
            Some(Delivery::Arrived(arrival)) => {
                self.record.count_arrival(arrival);
                Ok(())
            }
            Some(Delivery::Gone) => {
                if self.settings.profile == Profile::Office365 {
                    self.budgets.mute(app, id, now);
                }
                Err(Drop::Gone)
            }
            None => Err(Drop::Throttled),
        }
    }

    /// 401 with the challenge of protocol.md §5.3.
    fn unauthorized(&self, refusal: Option<&Refusal>) -> Response {
        let mut challenge = format!(
            "Bearer client_id=\"{}\", trusted_issuers=\"{}\"",
            self.settings.application_id,
            self.tenants.trusted_issuers()
        );
        if let Some(uri) = &self.settings.authorization_uri {
            challenge.extend([", authorization_uri=\"", uri, "\""]);
        }
        let Some(refusal) = refusal else {
            return Response::empty(401).and("www-authenticate", challenge);
        };
        challenge.push_str(", error=\"invalid_token\"");
        let (code, name) = (refusal.category.code(), refusal.category.name());
        let diagnostics = format!("{code};reason=\"{}\";error_category=\"{name}\"", refusal.reason);
        Response::empty(401).and("www-authenticate", challenge).and("x-ms-diagnostics", diagnostics)
    }
}

/// Headers that every answer has.
fn finish(response: Response, now: UnixMicros, request: &Request) -> Response {
    let response = response.and("date", now.http_date());
    let wants_echo =
        request.header("return-client-request-id").is_some_and(|v| v.eq_ignore_ascii_case("true"));
    match request.header("client-request-id") {
        Some(id) if wants_echo && is_plain_id(id) => response.and("client-request-id", id),
        _ => response,
    }
}

/// What may be echoed without a second thought.
fn is_plain_id(id: &str) -> bool {
    id.len() <= REQUEST_ID_BYTES_MAX && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// The token of `Authorization: Bearer <token>`; `None` where there is none.
fn bearer(request: &Request) -> Option<&str> {
    let (scheme, token) = request.header("authorization")?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// `Prefer: return=representation`, alone or among others (RFC 7240 §2).
fn wants_report(request: &Request) -> bool {
    let preferences = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("prefer"));
    let is_ours = |preference: &str| {
        let (name, value) = preference.split(';').next().unwrap_or("").split_once('=').unwrap_or_default();
        name.trim().eq_ignore_ascii_case("return") && value.trim().trim_matches('"') == "representation"
    };
    preferences.flat_map(|(_, value)| value.split(',')).any(is_ours)
}

fn ends_with_ignoring_case(path: &str, suffix: &str) -> bool {
    let from = path.len().checked_sub(suffix.len());
    from.and_then(|from| path.get(from..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

#[cfg(test)]
mod tests;
