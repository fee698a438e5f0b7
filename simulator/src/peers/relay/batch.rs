//! A batch as the relay reads it, and what in it is invalid (protocol.md §1.3, §1.4). Delivers nothing itself.

use crate::peers::device::App;
use crate::peers::tenant::is_guid;
use crate::peers::unix_time::UnixMicros;
use serde::{Deserialize, Deserializer, Serialize, de};
use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

/// The app id of a probe's recipient (protocol.md §4).
pub const PROBE_APP_ID: &str = "MonitoringProbeAppId";

/// The body of a POST. Members that are not known are ignored.
#[derive(Debug, Deserialize)]
pub struct Batch<'a> {
    /// One element per mailbox and count.
    #[serde(borrow)]
    pub notifications: Vec<Notification<'a>>,
}

/// A string, borrowed from the body where JSON did not escape it.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// One mailbox's count for its devices.
#[derive(Debug, Deserialize)]
pub struct Notification<'a> {
    /// `yyyyMMdd-HHmmss-<n>`; may be missing.
    #[serde(borrow, default)]
    pub id: Option<Text<'a>>,
    /// Required.
    #[serde(borrow, default)]
    pub payload: Option<Payload<'a>>,
    /// Required, one at least.
    #[serde(borrow, default)]
    pub recipients: Option<Vec<Recipient<'a>>>,
}

/// What is told.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Payload<'a> {
    /// 0 none, 1 email.
    #[serde(default)]
    pub background_sync_type: Option<i32>,
    /// A probe: kept, not delivered.
    #[serde(default)]
    pub is_monitoring: Option<bool>,
    /// Empty or a GUID; never used, the tenant is the token's.
    #[serde(borrow, default)]
    pub tenant_id: Option<Text<'a>>,
    /// The badge.
    #[serde(default)]
    pub unseen_email_count: Option<i32>,
}

/// One device.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recipient<'a> {
    /// The app.
    #[serde(borrow, default)]
    pub app_id: Option<Text<'a>>,
    /// The device.
    #[serde(borrow, default)]
    pub device_id: Option<Text<'a>>,
    /// When the device subscribed last.
    #[serde(default)]
    pub last_subscription_update: Option<JsonDate>,
}

impl<'a> Batch<'a> {
    /// Reads a body. The error says where it went wrong and holds nothing of the body's strings.
    pub fn read(body: &'a [u8]) -> Result<Self, Unreadable> {
        serde_json::from_slice(body)
            .map_err(|error| Unreadable { line: error.line(), column: error.column() })
    }

    /// How many recipients there are.
    pub fn recipients(&self) -> usize {
        self.notifications.iter().filter_map(|n| n.recipients.as_ref()).map(Vec::len).sum()
    }
}

/// The whole body cannot be read: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the batch could not be read at line {line} column {column}")]
pub struct Unreadable {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
}

/// `\/Date(1704110400000)\/`, UTC milliseconds, with an optional offset that changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonDate(pub i64);

impl JsonDate {
    /// Reads the form above after JSON's unescaping.
    pub fn parse(text: &str) -> Option<Self> {
        let inner = text.strip_prefix("/Date(")?.strip_suffix(")/")?;
        let sign_at = inner.char_indices().skip(1).find(|(_, c)| matches!(c, '+' | '-')).map(|(at, _)| at);
        let (number, offset) = inner.split_at_checked(sign_at.unwrap_or(inner.len()))?;
        let is_offset =
            offset.is_empty() || (offset.len() == 5 && offset.bytes().skip(1).all(|b| b.is_ascii_digit()));
        let is_number = !number.starts_with('+');
        (is_offset && is_number).then(|| number.parse().ok().map(Self)).flatten()
    }

    fn is_after(self, now: UnixMicros) -> bool {
        u64::try_from(self.0).is_ok_and(|ms| ms > now.ms())
    }
}

impl<'de> Deserialize<'de> for JsonDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Reads the string where it lies: there is one for each recipient.
        struct Reader;
        impl de::Visitor<'_> for Reader {
            type Value = JsonDate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a date of the form /Date(ms)/")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<JsonDate, E> {
                JsonDate::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Other("text"), &self))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

/// Why a notification or a recipient was dropped (protocol.md §1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drop {
    /// `recipients` missing or empty.
    NoRecipients,
    /// `payload` missing.
    NoPayload,
    /// No count though background sync is asked for.
    NoCount,
    /// A negative count.
    NegativeCount,
    /// `tenantId` neither empty nor a GUID.
    TenantId,
    /// `appId` blank.
    AppBlank,
    /// An app that the relay does not know.
    AppUnknown,
    /// `deviceId` blank.
    DeviceBlank,
    /// Not an id that the app's platform gives out.
    DeviceId,
    /// `lastSubscriptionUpdate` in the future.
    FutureSubscription,
    /// The device is gone.
    Gone,
    /// The device's own budget is spent, or the relay has no room for one more.
    Throttled,
}

/// A notification without fault: count and devices still to be looked at one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Valid {
    /// The badge, where there is one.
    pub count: Option<u32>,
    /// A probe.
    pub is_monitoring: bool,
}

impl Notification<'_> {
    /// What is wrong with it apart from its recipients.
    pub fn check(&self) -> Result<Valid, Drop> {
        if self.recipients.as_ref().is_none_or(Vec::is_empty) {
            return Err(Drop::NoRecipients);
        }
        let payload = self.payload.as_ref().ok_or(Drop::NoPayload)?;
        let tenant = payload.tenant_id.as_deref().unwrap_or("");
        if !tenant.is_empty() && !is_guid(tenant) {
            return Err(Drop::TenantId);
        }
        let wants_sync = payload.background_sync_type.unwrap_or(0) != 0;
        let count = match payload.unseen_email_count {
            None if wants_sync => return Err(Drop::NoCount),
            None => None,
            Some(count) => Some(u32::try_from(count).map_err(|_| Drop::NegativeCount)?),
        };
        Ok(Valid { count, is_monitoring: payload.is_monitoring.unwrap_or(false) })
    }
}

impl Recipient<'_> {
    /// The device that it names, or what is wrong with it.
    pub fn check(&self, now: UnixMicros) -> Result<(App, &str), Drop> {
        let app = self.app_id.as_deref().unwrap_or("");
        let device = self.device_id.as_deref().unwrap_or("");
        if app.trim().is_empty() {
            return Err(Drop::AppBlank);
        }
        if device.trim().is_empty() {
            return Err(Drop::DeviceBlank);
        }
        if self.last_subscription_update.is_some_and(|date| date.is_after(now)) {
            return Err(Drop::FutureSubscription);
        }
        let app = App::find(app).ok_or(Drop::AppUnknown)?;
        if !app.can_name(device) {
            return Err(Drop::DeviceId);
        }
        Ok((app, device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_one_form_and_the_offset_changes_nothing() {
        let cases = [
            ("/Date(1704110400000)/", Some(1_704_110_400_000)),
            ("/Date(1704110400000+0100)/", Some(1_704_110_400_000)),
            ("/Date(1704110400000-0730)/", Some(1_704_110_400_000)),
            ("/Date(-5)/", Some(-5)),
            ("/Date(-5+0000)/", Some(-5)),
            ("/Date(+5)/", None),
            ("/Date()/", None),
            ("/Date(5+1)/", None),
            ("/Date(5+01:00)/", None),
            ("/Date(99999999999999999999)/", None),
            ("/Date(é)/", None),
            ("2024-01-01T12:00:00Z", None),
        ];
        for (text, expected) in cases {
            assert_eq!(JsonDate::parse(text), expected.map(JsonDate), "{text}");
        }
    }

    #[test]
    fn an_unreadable_batch_is_told_by_place_alone() {
        let error = Batch::read(br#"{"notifications":[{"id":7}]}"#).expect_err("an id is a string");
        assert_eq!(error.to_string(), "the batch could not be read at line 1 column 25");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, text: String) {
            let _ = Batch::read(&bytes);
            let _ = JsonDate::parse(&text);
            let _ = JsonDate::parse(&format!("/Date({text})/"));
        }
    }
}
