//! A batch as bytes (protocol.md §1.3): written straight into one buffer, since a batch is most of what the
//! agent ever sends.
//!
//! Which notifications stand in a batch, and what an answer to it means, is decided elsewhere.

use crate::event::{Notification, Recipient};
use crate::time::UnixMs;
use std::fmt;
use std::time::Duration;
use time::OffsetDateTime;
use time::macros::format_description;

/// The batch that asks for a challenge: no notification, since the relay discards what comes with an empty
/// bearer token.
pub const EMPTY_BATCH: &[u8] = br#"{"notifications":[]}"#;
/// `appId` of the probe's only recipient (protocol.md §4).
pub const PROBE_APP_ID: &str = "MonitoringProbeAppId";
/// `deviceId` of the probe's only recipient.
pub const PROBE_DEVICE_ID: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// No subscription is told to be younger than this. A relay whose clock is behind ours takes a younger one for one from
/// the future and drops it, without a word where it does not report (protocol.md §1.4); tokens let clocks differ by as
/// much (§5.6, 8).
const AGE_TOLD_MIN: Duration = Duration::from_mins(5);
/// About what a recipient takes, with its share of the notification: for taking memory once.
const RECIPIENT_BYTES: usize = 384;

/// The start of the process as it stands in front of each notification's id: `yyyyMMdd-HHmmss`, UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(String);

impl Stamp {
    /// The stamp of a process that started then; dates that no calendar holds count as the epoch.
    pub fn new(started: UnixMs) -> Self {
        let seconds = i64::try_from(started.seconds()).unwrap_or(0);
        let date = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let format = format_description!("[year][month][day]-[hour][minute][second]");
        Self(date.format(format).unwrap_or_else(|_| String::from("19700101-000000")))
    }

    /// The number of a notification of this process from its id, `None` where the id is another's.
    pub fn number_in(&self, id: &str) -> Option<u64> {
        id.strip_prefix(self.0.as_str())?.strip_prefix('-')?.parse().ok()
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A batch of these notifications as JSON, in their order.
pub fn batch(stamp: &Stamp, notifications: &[Notification]) -> Vec<u8> {
    let recipients: usize = notifications.iter().map(|notification| notification.recipients.len()).sum();
    let mut out = Vec::with_capacity(EMPTY_BATCH.len() + recipients * RECIPIENT_BYTES);
    out.extend_from_slice(br#"{"notifications":["#);
    for (place, notification) in notifications.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write_notification(&mut out, stamp, notification);
    }
    out.extend_from_slice(b"]}");
    out
}

/// The probe's batch (protocol.md §4), made at `now`.
pub fn probe(stamp: &Stamp, now: UnixMs) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(br#"{"notifications":[{"id":""#);
    write_id(&mut out, stamp, 1);
    out.extend_from_slice(
        br#"","payload":{"isMonitoring":true,"tenantId":"","unseenEmailCount":1},"recipients":[{"appId":""#,
    );
    out.extend_from_slice(PROBE_APP_ID.as_bytes());
    out.extend_from_slice(br#"","deviceId":""#);
    out.extend_from_slice(PROBE_DEVICE_ID.as_bytes());
    write_last_update(&mut out, now);
    out.extend_from_slice(b"}]}]}");
    out
}

/// `lastSubscriptionUpdate` as the notification tells it.
pub fn told_update(notification: &Notification, recipient: &Recipient) -> UnixMs {
    let tolerated = u64::try_from(AGE_TOLD_MIN.as_millis()).unwrap_or(u64::MAX);
    recipient.last_update.min(UnixMs(notification.taken_at.0.saturating_sub(tolerated)))
}

fn write_notification(out: &mut Vec<u8>, stamp: &Stamp, notification: &Notification) {
    out.extend_from_slice(br#"{"id":""#);
    write_id(out, stamp, notification.number);
    out.extend_from_slice(br#"","payload":{"#);
    if notification.background_sync {
        out.extend_from_slice(br#""backgroundSyncType":1,"#);
    }
    // Zero is written as well: it clears a badge.
    out.extend_from_slice(br#""tenantId":"","unseenEmailCount":"#);
    // The count is an int32 there.
    write_number(out, notification.unseen.min(i32::MAX.unsigned_abs()).into());
    out.extend_from_slice(br#"},"recipients":["#);
    for (place, recipient) in notification.recipients.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write_recipient(out, recipient, told_update(notification, recipient));
    }
    out.extend_from_slice(b"]}");
}

fn write_recipient(out: &mut Vec<u8>, recipient: &Recipient, last_update: UnixMs) {
    out.extend_from_slice(br#"{"appId":""#);
    write_text(out, &recipient.app_id);
    out.extend_from_slice(br#"","deviceId":""#);
    recipient.device_id.read(|id| write_text(out, id));
    if let Some(installation_id) = &recipient.installation_id {
        out.extend_from_slice(br#"","InstallationId":""#);
        write_text(out, installation_id);
    }
    write_last_update(out, last_update);
    out.push(b'}');
}

/// Ends the text before it, and writes the date as the relay's JSON library does: `"\/Date(ms)\/"`.
fn write_last_update(out: &mut Vec<u8>, at: UnixMs) {
    out.extend_from_slice(br#"","lastSubscriptionUpdate":"\/Date("#);
    write_number(out, at.0);
    out.extend_from_slice(br#")\/""#);
}

fn write_id(out: &mut Vec<u8>, stamp: &Stamp, number: u64) {
    out.extend_from_slice(stamp.0.as_bytes());
    out.push(b'-');
    write_number(out, number);
}

fn write_number(out: &mut Vec<u8>, mut number: u64) {
    // 20 digits hold every u64.
    let mut digits = [0; 20];
    let mut count = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        count += 1;
        if number == 0 {
            break;
        }
    }
    out.extend(digits.iter().skip(digits.len() - count));
}

/// What stands between the quotes of a JSON text (RFC 8259 §7).
fn write_text(out: &mut Vec<u8>, text: &str) {
    let is_plain = text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    if is_plain {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend([b'\\', char as u8]),
            '\0'..='\x1f' => out.extend(format!("\\u{:04x}", u32::from(char)).bytes()),
            _ => out.extend(char.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{MailboxId, SubscriptionKey};
    use crate::time::Moment;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const STARTED: UnixMs = UnixMs(1_767_268_500_000);

    fn recipient(app: &str, device: &str, installation: Option<&str>, updated: u64) -> Recipient {
        Recipient {
            key: SubscriptionKey(1),
            app_id: app.to_owned().into(),
            device_id: device.into(),
            installation_id: installation.map(|id| Box::new(id.to_owned())),
            last_update: UnixMs(updated),
            expires_at: UnixMs(u64::MAX),
            background_sync: false,
        }
    }

    fn notification(number: u64, unseen: u32, syncs: bool, recipients: Vec<Recipient>) -> Notification {
        let mailbox = MailboxId(7);
        Notification {
            mailbox,
            number,
            unseen,
            background_sync: syncs,
            recipients,
            changed_at: Moment::START,
            taken_at: UnixMs(u64::MAX),
        }
    }

    #[test]
    fn the_sample_of_the_protocol_is_written_byte_for_byte() {
        let device = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        let phone = recipient("com.microsoft.exchange.iphone", device, Some("DEV-A1"), 1_767_268_500_000);
        let web = recipient("com.microsoft.exchange.mowa", "reg-1", None, 1_767_268_501_000);
        let written = batch(
            &Stamp::new(STARTED),
            &[notification(41, 3, true, vec![phone]), notification(42, 0, false, vec![web])],
        );
        let expected = concat!(
            r#"{"notifications":[{"id":"20260101-115500-41","payload":{"backgroundSyncType":1,"tenantId":"","unseenEmailCount":3},"#,
            r#""recipients":[{"appId":"com.microsoft.exchange.iphone","deviceId":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff","#,
            r#""InstallationId":"DEV-A1","lastSubscriptionUpdate":"\/Date(1767268500000)\/"}]},"#,
            r#"{"id":"20260101-115500-42","payload":{"tenantId":"","unseenEmailCount":0},"#,
            r#""recipients":[{"appId":"com.microsoft.exchange.mowa","deviceId":"reg-1","lastSubscriptionUpdate":"\/Date(1767268501000)\/"}]}]}"#,
        );
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }

    #[test]
    fn an_empty_batch_is_the_one_that_asks_for_a_challenge() {
        assert_eq!(batch(&Stamp::new(STARTED), &[]), EMPTY_BATCH);
    }

    #[test]
    fn the_probe_is_written_as_the_protocol_has_it() {
        let written: Value = serde_json::from_slice(&probe(&Stamp::new(STARTED), STARTED)).unwrap();
        let expected = json!({"notifications": [{
            "id": "20260101-115500-1",
            "payload": {"isMonitoring": true, "tenantId": "", "unseenEmailCount": 1},
            "recipients": [{
                "appId": "MonitoringProbeAppId",
                "deviceId": "0".repeat(64),
                "lastSubscriptionUpdate": "/Date(1767268500000)/",
            }],
        }]});
        assert_eq!(written, expected);
    }

    #[test]
    fn an_id_is_recognized_as_this_process_own() {
        let stamp = Stamp::new(STARTED);
        let cases = [
            ("20260101-115500-42", Some(42)),
            ("20260101-115501-42", None),
            ("20260101-115500", None),
            ("20260101-115500-", None),
            ("20260101-115500-x", None),
            ("", None),
        ];
        for (id, expected) in cases {
            assert_eq!(stamp.number_in(id), expected, "{id}");
        }
    }

    #[test]
    fn stamps_beyond_the_calendar_are_stamps_all_the_same() {
        assert_eq!(Stamp::new(UnixMs(u64::MAX)).to_string(), "19700101-000000");
        assert_eq!(Stamp::new(UnixMs(0)).to_string(), "19700101-000000");
    }

    #[test]
    fn counts_beyond_an_int32_are_written_as_its_greatest() {
        let written = batch(
            &Stamp::new(STARTED),
            &[notification(1, u32::MAX, false, vec![recipient("a", "d", None, 0)])],
        );
        assert!(String::from_utf8(written).unwrap().contains(r#""unseenEmailCount":2147483647}"#));
    }

    prop_compose! {
        fn any_recipient()(app in ".*", device in ".*", installation in proptest::option::of(".*"), updated: u64) -> Recipient {
            recipient(&app, &device, installation.as_deref(), updated)
        }
    }

    prop_compose! {
        fn any_notification()(
            number: u64,
            unseen in 0..i32::MAX.unsigned_abs(),
            syncs: bool,
            recipients in proptest::collection::vec(any_recipient(), 1..4),
        ) -> Notification {
            notification(number, unseen, syncs, recipients)
        }
    }

    /// The same batch by another hand, serde_json's.
    fn expected(notifications: &[Notification]) -> Value {
        let recipient = |recipient: &Recipient| {
            let mut value = json!({
                "appId": &*recipient.app_id,
                "deviceId": recipient.device_id.to_string(),
                "lastSubscriptionUpdate": format!("/Date({})/", recipient.last_update.0),
            });
            if let Some(id) = &recipient.installation_id {
                value["InstallationId"] = json!(id);
            }
            value
        };
        let notification = |notification: &Notification| {
            let mut payload = json!({"tenantId": "", "unseenEmailCount": notification.unseen});
            if notification.background_sync {
                payload["backgroundSyncType"] = json!(1);
            }
            json!({
                "id": format!("20260101-115500-{}", notification.number),
                "payload": payload,
                "recipients": notification.recipients.iter().map(recipient).collect::<Vec<_>>(),
            })
        };
        json!({"notifications": notifications.iter().map(notification).collect::<Vec<_>>()})
    }

    proptest! {
        #[test]
        fn whatever_is_written_reads_as_what_was_meant(notifications in proptest::collection::vec(any_notification(), 0..4)) {
            let written: Value = serde_json::from_slice(&batch(&Stamp::new(STARTED), &notifications)).unwrap();
            prop_assert_eq!(written, expected(&notifications));
        }
    }
}
