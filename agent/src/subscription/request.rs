//! What a device, or an administrator in its place, says when it subscribes, and what is wrong with it.

use super::DEFAULT_OPTION;
use super::NewSubscription;
use crate::event::mailbox_name::canonical;
use crate::time::UnixMs;
use serde::Deserialize;
use std::time::Duration;

/// `DeviceNotificationType` in its canonical spellings.
const DEVICE_TYPES: [&str; 5] = ["APNS", "GCM", "WNS", "WebApp", "PendingGet"];

/// Characters in a mailbox name, longest: what IMAP servers take.
const MAILBOX_MAX: usize = 1024;
/// Characters in an app, installation or subscription id, longest.
const ID_MAX: usize = 512;
/// Characters in a device id, longest: channel URIs of WNS have about 1,000.
const DEVICE_ID_MAX: usize = 4096;
/// Hex digits in an APNs device token (protocol.md §1.4).
const APNS_DIGITS: usize = 64;

/// One JSON object a device: `Mailbox` and the members of protocol.md §2.1. Other members are refused by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Request {
    /// The mailbox as the mail server spells it, but for the letter case of its domain.
    #[serde(default)]
    pub mailbox: String,
    /// `AppId`.
    #[serde(default)]
    pub app_id: String,
    /// `DeviceNotificationId`.
    #[serde(default)]
    pub device_notification_id: String,
    /// `DeviceNotificationType`, letter case aside.
    #[serde(default)]
    pub device_notification_type: String,
    /// `InboxUnreadCount`.
    #[serde(default)]
    pub inbox_unread_count: Option<i64>,
    /// `SubscriptionOption`.
    #[serde(default)]
    pub subscription_option: Option<i64>,
    /// `InstallationId`, a device's `X-OWA-DeviceId`.
    #[serde(default)]
    pub installation_id: Option<String>,
    /// `SubscriptionId`; composed where it is absent.
    #[serde(default)]
    pub subscription_id: Option<String>,
}

/// A member that is missing or makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// The member.
    pub field: &'static str,
    /// What is wrong with it and what was expected.
    pub reason: String,
}

/// `<X-OWA-Protocol>-<X-OWA-DeviceType>-<X-OWA-DeviceId>`, for example `MOWA-iPhone-DEV-A1`.
pub fn subscription_id(protocol: &str, device_type: &str, device_id: &str) -> String {
    format!("{protocol}-{device_type}-{device_id}")
}

impl Request {
    /// The record to keep, dated `now` and ending `expiration` later.
    pub fn checked(self, now: UnixMs, expiration: Duration) -> Result<NewSubscription, Invalid> {
        text("Mailbox", &self.mailbox, MAILBOX_MAX)?;
        text("AppId", &self.app_id, ID_MAX)?;
        text("DeviceNotificationId", &self.device_notification_id, DEVICE_ID_MAX)?;
        for (field, id) in
            [("InstallationId", &self.installation_id), ("SubscriptionId", &self.subscription_id)]
        {
            id.as_deref().map_or(Ok(()), |id| text(field, id, ID_MAX))?;
        }
        let device_type = device_type(&self.device_notification_type)?;
        if device_type == "APNS" {
            apns_token(&self.device_notification_id)?;
        }
        let shown = self.inbox_unread_count.map(|count| number("InboxUnreadCount", count)).transpose()?;
        let option =
            self.subscription_option.map_or(Ok(DEFAULT_OPTION), |it| number("SubscriptionOption", it))?;
        Ok(NewSubscription {
            subscription_id: self.id(device_type),
            mailbox: canonical(&self.mailbox).into_owned(),
            app_id: self.app_id,
            device_id: self.device_notification_id,
            device_type: device_type.to_owned(),
            installation_id: self.installation_id,
            option,
            shown,
            updated_at: now,
            expires_at: now.after(expiration),
        })
    }

    /// As a device of this app would have composed it; by its notification id where it gave no installation id.
    fn id(&self, device_type: &str) -> String {
        let device = match (self.app_id.rsplit('.').next(), device_type) {
            (Some("iphone"), _) => "iPhone",
            (Some("ipad"), _) => "iPad",
            (_, "GCM") => "Android",
            (_, other) => other,
        };
        let device_id = self.installation_id.as_deref().unwrap_or(&self.device_notification_id);
        self.subscription_id.clone().unwrap_or_else(|| subscription_id("MOWA", device, device_id))
    }
}

fn text(field: &'static str, value: &str, length_max: usize) -> Result<(), Invalid> {
    let reason = if value.trim().is_empty() {
        "is missing".to_owned()
    } else if value.chars().any(char::is_control) {
        "holds a control character".to_owned()
    } else if value.chars().count() > length_max {
        format!("is longer than {length_max} characters")
    } else {
        return Ok(());
    };
    Err(Invalid { field, reason })
}

fn device_type(given: &str) -> Result<&'static str, Invalid> {
    let known = DEVICE_TYPES.into_iter().find(|known| known.eq_ignore_ascii_case(given));
    known.ok_or_else(|| {
        let reason = format!("is {given:?}, expected one of {}", DEVICE_TYPES.join(", "));
        Invalid { field: "DeviceNotificationType", reason }
    })
}

fn apns_token(device_id: &str) -> Result<(), Invalid> {
    if device_id.len() == APNS_DIGITS && device_id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    let reason =
        format!("is not {APNS_DIGITS} hex digits, as APNS wants it; for another push service give its type");
    Err(Invalid { field: "DeviceNotificationId", reason })
}

fn number(field: &'static str, given: i64) -> Result<u32, Invalid> {
    let fits = i32::try_from(given).ok().and_then(|fits| u32::try_from(fits).ok());
    fits.ok_or_else(|| Invalid { field, reason: format!("is {given}, expected 0 to {}", i32::MAX) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_000_000);

    fn good() -> Request {
        Request {
            mailbox: "u1".to_owned(),
            app_id: "com.microsoft.exchange.iphone".to_owned(),
            device_notification_id: "0123456789abcDEF".repeat(4),
            device_notification_type: "apns".to_owned(),
            ..Request::default()
        }
    }

    #[test]
    fn a_record_has_the_defaults_of_the_protocol_and_ends_in_time() {
        let record = good().checked(NOW, Duration::from_hours(72)).unwrap();
        assert_eq!((record.device_type.as_str(), record.option, record.shown), ("APNS", 47, None));
        assert_eq!((record.updated_at, record.expires_at), (NOW, UnixMs(NOW.0 + 72 * 3_600_000)));
        assert_eq!(record.subscription_id, format!("MOWA-iPhone-{}", record.device_id));
    }

    #[test]
    fn a_mailbox_is_kept_with_its_domain_in_lower_case() {
        let request = Request { mailbox: "Kim@Fabrikam.COM".to_owned(), ..good() };
        assert_eq!(request.checked(NOW, Duration::ZERO).unwrap().mailbox, "Kim@fabrikam.com");
    }

    #[test]
    fn ids_are_composed_as_devices_compose_them() {
        let rows = [
            ("com.microsoft.exchange.iphone", "APNS", Some("DEV-A1"), None, "MOWA-iPhone-DEV-A1"),
            ("com.microsoft.exchange.ipad", "APNS", Some("DEV-A1"), None, "MOWA-iPad-DEV-A1"),
            ("com.microsoft.exchange.mowa", "GCM", Some("DEV-B2"), None, "MOWA-Android-DEV-B2"),
            ("com.example.app", "WNS", Some("DEV-C3"), None, "MOWA-WNS-DEV-C3"),
            ("com.example.app", "WNS", Some("DEV-C3"), Some("OWN-ID"), "OWN-ID"),
        ];
        for (app, kind, installation, id, expected) in rows {
            let request = Request {
                app_id: app.to_owned(),
                device_notification_type: kind.to_owned(),
                installation_id: installation.map(str::to_owned),
                subscription_id: id.map(str::to_owned),
                ..good()
            };
            assert_eq!(request.checked(NOW, Duration::ZERO).unwrap().subscription_id, expected);
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_member() {
        type Spoil = fn(&mut Request);
        let rows: [(&str, Spoil); 11] = [
            ("Mailbox", |it| it.mailbox.clear()),
            ("Mailbox", |it| it.mailbox = "u1\n".to_owned()),
            ("AppId", |it| it.app_id = "  ".to_owned()),
            ("AppId", |it| it.app_id = "a".repeat(ID_MAX + 1)),
            ("DeviceNotificationId", |it| it.device_notification_id.clear()),
            ("DeviceNotificationId", |it| it.device_notification_id = "ab".to_owned()),
            ("DeviceNotificationId", |it| it.device_notification_id = "g".repeat(64)),
            ("DeviceNotificationType", |it| it.device_notification_type = "FAX".to_owned()),
            ("InboxUnreadCount", |it| it.inbox_unread_count = Some(-1)),
            ("SubscriptionOption", |it| it.subscription_option = Some(1 << 40)),
            ("InstallationId", |it| it.installation_id = Some(String::new())),
        ];
        for (field, spoil) in rows {
            let mut request = good();
            spoil(&mut request);
            let error = request.clone().checked(NOW, Duration::ZERO).unwrap_err();
            assert_eq!(error.field, field, "{request:?}: {error}");
        }
    }

    #[test]
    fn json_members_are_the_protocols_and_no_others() {
        let line = r#"{"Mailbox":"u1","AppId":"a","DeviceNotificationId":"d","DeviceNotificationType":"GCM",
                       "InboxUnreadCount":0,"SubscriptionOption":1,"InstallationId":"i"}"#;
        let request: Request = serde_json::from_str(line).unwrap();
        let record = request.checked(NOW, Duration::ZERO).unwrap();
        assert_eq!((record.shown, record.option, record.installation_id.as_deref()), (Some(0), 1, Some("i")));
        let error = serde_json::from_str::<Request>(r#"{"UnreadCount":5}"#).unwrap_err().to_string();
        assert!(error.contains("UnreadCount") && error.contains("InboxUnreadCount"), "{error}");
    }
}
