//! What the relay's answer, or the lack of one, means for the batch (protocol.md §1.5, §1.6): one pure
//! function.
//!
//! What is then done with a [`Disposition`] (attempts, back-off, halves) is the outbox's; how an answer is
//! got is the driver's.

pub use crate::https::{CONTENT_BYTES_MAX, Failure};

use super::wire::{Stamp, told_update};
use crate::event::{Notification, Recipient, Rejected, Rejection};
use crate::https::json::{self, member, rounded_up, without_mark};
use crate::https::{quote, retry_after};
use crate::time::UnixMs;
use bytes::Bytes;
use serde_json::{Map, Value};
use std::time::Duration;

/// The longest wait a relay can ask for.
pub const WAIT_MAX: Duration = Duration::from_hours(1);
/// How deep faults within faults are looked into.
const FAULT_DEPTH_MAX: usize = 4;

/// An answer of the relay, as far as anyone needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After` as it stands: seconds or a date (RFC 9110 §10.2.3).
    pub retry_after: Option<String>,
    /// Every `WWW-Authenticate` line.
    pub www_authenticate: Vec<String>,
    /// `x-ms-diagnostics` (protocol.md §5.6).
    pub diagnostics: Option<String>,
    /// The relay's clock, from `Date`, whole seconds.
    pub date: Option<UnixMs>,
    /// Whether `Preference-Applied` says that `content` is the report that was asked for.
    pub is_report: bool,
    /// The body's first [`CONTENT_BYTES_MAX`] bytes.
    pub content: Bytes,
    /// Whether the body was longer than `content`.
    pub is_cut: bool,
}

/// What the agent does with a batch after an answer (protocol.md §1.6). Every `cause` is one line for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The relay took the batch, except these recipients.
    Acknowledged {
        /// What the relay's report names; empty without a report.
        rejected: Vec<Rejected>,
    },
    /// Forget challenge and token, once; the answer brings the next challenge.
    Unauthorized {
        /// The answer's challenge, for the token keeper.
        www_authenticate: Vec<String>,
        /// With `x-ms-diagnostics`, where given.
        cause: String,
    },
    /// The relay named the wait itself: exactly that long.
    Wait {
        /// From now on; [`WAIT_MAX`] at most, never zero.
        exactly: Duration,
        /// Status and the relay's words.
        cause: String,
    },
    /// Passing trouble: again with exponential back-off.
    Retry {
        /// Status or failure.
        cause: String,
    },
    /// The batch is too large for the relay (413), or its report too large for us: send halves.
    TooLarge {
        /// Status and the relay's words.
        cause: String,
    },
    /// One notification in the batch is bad (400): find it by sending halves.
    Invalid {
        /// Status and the relay's words.
        cause: String,
    },
    /// Something a person must look at: again every 60 s, halted state visible.
    Halt {
        /// Status and the relay's words.
        cause: String,
    },
}

/// What `outcome` means for the batch of `sent`, whose ids begin with `stamp`; `now` is the agent's wall
/// clock.
pub fn disposition(
    outcome: &Result<Answer, Failure>,
    stamp: &Stamp,
    sent: &[Notification],
    now: UnixMs,
) -> Disposition {
    let answer = match outcome {
        Ok(answer) => answer,
        Err(failure) => return Disposition::Retry { cause: failure.to_string() },
    };
    if answer.status == 200 {
        return accepted(answer, stamp, sent);
    }
    let cause = answer.cause();
    if answer.status == 401 {
        return Disposition::Unauthorized { www_authenticate: answer.www_authenticate.clone(), cause };
    }
    let fault = Fault::read(&answer.content);
    if let Some(exactly) = answer.asked_wait(now) {
        return Disposition::Wait { exactly, cause };
    }
    match answer.status {
        _ if fault.can_retry => Disposition::Retry { cause },
        408 | 429 | 500 | 502 | 503 | 504 => Disposition::Retry { cause },
        413 => Disposition::TooLarge { cause },
        400 => Disposition::Invalid { cause },
        _ => Disposition::Halt { cause },
    }
}

impl Answer {
    /// How long the relay asks to be left alone: a fault's back-off, or `Retry-After` of a 429 or 503;
    /// [`WAIT_MAX`] at most.
    ///
    /// A wait of nothing is none: it is left to the back-off, lest a relay make us hammer it.
    pub fn asked_wait(&self, now: UnixMs) -> Option<Duration> {
        let of_fault = Fault::read(&self.content).back_off;
        let of_header = || match self.status {
            429 | 503 => {
                self.retry_after.as_deref().and_then(|text| retry_after(text, self.date.unwrap_or(now)))
            }
            _ => None,
        };
        of_fault.or_else(of_header).filter(|wait| !wait.is_zero()).map(|wait| wait.min(WAIT_MAX))
    }

    /// Whether a 401 says that the token's signature is bad, by its category (protocol.md §5.6), or does not say what.
    pub fn rejects_signature(&self) -> bool {
        let category = |text: &str| text.split(';').next().unwrap_or_default().trim() == "2000000";
        self.status == 401 && self.diagnostics.as_deref().is_none_or(category)
    }

    /// How far the relay's clock is ahead of ours, in milliseconds; negative where it is behind.
    pub fn clock_offset_ms(&self, now: UnixMs) -> Option<i64> {
        let signed = |time: UnixMs| i64::try_from(time.0).ok();
        signed(self.date?)?.checked_sub(signed(now)?)
    }

    /// Status, diagnostics and the fault's message in one line.
    pub fn cause(&self) -> String {
        let mut text = format!("relay answered {}", self.status);
        let message = Fault::read(&self.content).message;
        for part in [self.diagnostics.as_deref(), message.as_deref()].into_iter().flatten() {
            text.push_str(": ");
            text.push_str(&quote(part));
        }
        text
    }
}

/// A 200: everything is taken but what the report names.
fn accepted(answer: &Answer, stamp: &Stamp, sent: &[Notification]) -> Disposition {
    if answer.is_report && answer.is_cut && sent.len() > 1 {
        let cause = format!("report longer than {CONTENT_BYTES_MAX} bytes");
        return Disposition::TooLarge { cause };
    }
    // Only what the relay looked up can be gone: then it did not drop it for its age, whatever the clocks say.
    let (mut rejected, others): (Vec<_>, Vec<_>) =
        reported(&answer.content, stamp, sent).into_iter().partition(|line| line.reason == Rejection::Gone);
    for line in from_the_future(answer.date, sent).into_iter().chain(others) {
        if rejected.iter().all(|known| known.subscription != line.subscription) {
            rejected.push(line);
        }
    }
    Disposition::Acknowledged { rejected }
}

/// Those that the relay dropped because their subscriptions are younger than its clock (protocol.md §1.4): not they are
/// wrong but a clock is, so they are sent again until both agree.
fn from_the_future(date: Option<UnixMs>, sent: &[Notification]) -> Vec<Rejected> {
    let Some(date) = date else { return Vec::new() };
    let recipients = sent.iter().flat_map(|it| it.recipients.iter().map(move |recipient| (it, recipient)));
    let ahead = recipients.filter(|(notification, recipient)| told_update(notification, recipient) > date);
    let later = |(notification, recipient): (&Notification, &Recipient)| Rejected {
        mailbox: notification.mailbox,
        subscription: recipient.key,
        reason: Rejection::Throttled,
    };
    ahead.map(later).collect()
}

/// Which of the recipients in `sent` the report (protocol.md §1.5) names. Entries that name none of them, or no known
/// reason, are passed over, as is whatever else a 200 carries.
fn reported(content: &[u8], stamp: &Stamp, sent: &[Notification]) -> Vec<Rejected> {
    let Value::Object(report) = value_of(content) else { return Vec::new() };
    let entries = json::list(member(&report, "rejected")).iter().filter_map(Value::as_object);
    entries.filter_map(|entry| find(entry, stamp, sent)).collect()
}

fn find(entry: &Map<String, Value>, stamp: &Stamp, sent: &[Notification]) -> Option<Rejected> {
    let text = |name: &str| member(entry, name)?.as_str();
    let reason = match text("reason")?.trim().to_ascii_lowercase().as_str() {
        "gone" => Rejection::Gone,
        "invalid" => Rejection::Invalid,
        "throttled" => Rejection::Throttled,
        _ => return None,
    };
    let number = stamp.number_in(text("id")?)?;
    let (app_id, device_id) = (text("appId")?, text("deviceId")?);
    let notification = sent.iter().find(|notification| notification.number == number)?;
    let recipient = notification
        .recipients
        .iter()
        .find(|recipient| *recipient.app_id == *app_id && recipient.device_id == *device_id)?;
    Some(Rejected { mailbox: notification.mailbox, subscription: recipient.key, reason })
}

/// A body as JSON; null where it is none.
fn value_of(content: &[u8]) -> Value {
    serde_json::from_slice(without_mark(content)).unwrap_or_default()
}

/// A fault (protocol.md §1.5); members of another type than expected count as absent.
#[derive(Default)]
struct Fault {
    message: Option<String>,
    can_retry: bool,
    back_off: Option<Duration>,
}

impl Fault {
    /// Reads `content`, the outer fault's members before the inner one's. Whatever is no fault says nothing.
    fn read(content: &[u8]) -> Self {
        let value = value_of(content);
        let levels =
            std::iter::successors(value.as_object(), |fault| member(fault, "InnerFault")?.as_object());
        let levels: Vec<_> = levels.take(FAULT_DEPTH_MAX).collect();
        let members = |name| levels.iter().filter_map(move |fault| member(fault, name));
        let is_yes = |value: &Value| match value {
            Value::String(text) => text.trim().eq_ignore_ascii_case("true").then_some(true),
            value => value.as_bool(),
        };
        Self {
            message: members("Message").find_map(Value::as_str).map(str::to_owned),
            can_retry: members("CanRetry").find_map(is_yes).unwrap_or(false),
            back_off: members("BackOffTimeInMilliseconds").find_map(rounded_up).map(Duration::from_millis),
        }
    }
}

/// Whether the relay may have taken the batch although the outcome does not say so: the answer was lost, or something
/// between us and it, or inside it, failed.
pub fn may_hide_acceptance(outcome: &Result<Answer, Failure>) -> bool {
    match outcome {
        Ok(answer) => matches!(answer.status, 200..=399 | 408 | 500..=599),
        Err(Failure::Dns(_) | Failure::Connect(_) | Failure::Tls(_)) => false,
        Err(
            Failure::Timeout(_)
            | Failure::Write(_)
            | Failure::Read(_)
            | Failure::Flooded(_)
            | Failure::Closed(_),
        ) => true,
    }
}

#[cfg(test)]
mod tests;
