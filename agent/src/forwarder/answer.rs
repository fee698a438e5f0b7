//! What the relay's answer, or the lack of one, means for the batch (protocol.md §1.5, §1.6): one pure
//! function.
//!
//! What is then done with a [`Disposition`] (attempts, back-off, halves) is the outbox's; how an answer is
//! got is the driver's.

pub use crate::https::{CONTENT_BYTES_MAX, Failure};

use super::wire::{Stamp, told_update};
use crate::event::{Notification, Recipient, Rejected, Rejection};
use crate::https::{quote, retry_after, whole};
use crate::time::UnixMs;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
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

/// The report's members (protocol.md §1.5) that matter here; whatever else a 200 carries is no report.
#[derive(Deserialize)]
struct Report {
    rejected: Vec<Value>,
}

#[derive(Deserialize)]
struct ReportedRecipient<'a> {
    id: &'a str,
    #[serde(rename = "appId")]
    app_id: &'a str,
    #[serde(rename = "deviceId")]
    device_id: &'a str,
    reason: &'a str,
}

/// Which of the recipients in `sent` the report names. Entries that name none of them, or no known reason,
/// are passed over.
fn reported(content: &[u8], stamp: &Stamp, sent: &[Notification]) -> Vec<Rejected> {
    let Ok(report) = serde_json::from_slice::<Report>(content) else { return Vec::new() };
    let entries = report.rejected.iter().filter_map(|entry| ReportedRecipient::deserialize(entry).ok());
    entries.filter_map(|entry| find(&entry, stamp, sent)).collect()
}

fn find(entry: &ReportedRecipient<'_>, stamp: &Stamp, sent: &[Notification]) -> Option<Rejected> {
    let reason = match entry.reason {
        "gone" => Rejection::Gone,
        "invalid" => Rejection::Invalid,
        "throttled" => Rejection::Throttled,
        _ => return None,
    };
    let number = stamp.number_in(entry.id)?;
    let notification = sent.iter().find(|notification| notification.number == number)?;
    let recipient = notification
        .recipients
        .iter()
        .find(|recipient| *recipient.app_id == *entry.app_id && recipient.device_id == *entry.device_id)?;
    Some(Rejected { mailbox: notification.mailbox, subscription: recipient.key, reason })
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
        let value: Value = serde_json::from_slice(content).unwrap_or_default();
        let levels = std::iter::successors(Some(&value), |fault| fault.get("InnerFault"));
        let levels: Vec<&Value> = levels.take(FAULT_DEPTH_MAX).collect();
        let first = |name: &str| levels.iter().find_map(|fault| fault.get(name));
        Self {
            message: first("Message").and_then(Value::as_str).map(str::to_owned),
            can_retry: first("CanRetry").and_then(Value::as_bool).unwrap_or(false),
            back_off: first("BackOffTimeInMilliseconds").and_then(milliseconds),
        }
    }
}

/// A wait as a fault has it, fractions rounded up; a negative one is none.
fn milliseconds(value: &Value) -> Option<Duration> {
    let number = value.as_number()?;
    whole(&number.to_string()).map(Duration::from_millis)
}

#[cfg(test)]
mod tests;
