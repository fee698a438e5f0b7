//! A device's id at its push service, in as few bytes as it can be kept in. What makes a good id is `subscription`'s.

use std::fmt;

/// Digits of a device token of APNs.
const TOKEN_DIGITS: usize = 64;

/// `deviceId` (protocol.md §1.3), given back exactly as it came.
///
/// A million mailboxes have a million of them, most of them tokens of APNs: those take half the room of their digits.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceId(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    /// What 64 lower-case hex digits stand for.
    Token([u8; TOKEN_DIGITS / 2]),
    /// Any other id, as it is.
    Text(Box<str>),
}

impl DeviceId {
    /// Has `reader` look at the id as it came.
    pub fn read<T>(&self, reader: impl FnOnce(&str) -> T) -> T {
        match &self.0 {
            Form::Text(text) => reader(text),
            Form::Token(bytes) => {
                let mut digits = [0; TOKEN_DIGITS];
                hex::encode_to_slice(bytes, &mut digits).expect("each byte is two digits");
                reader(str::from_utf8(&digits).expect("digits are ASCII"))
            }
        }
    }
}

impl From<&str> for DeviceId {
    fn from(text: &str) -> Self {
        Self(token(text).map_or_else(|| Form::Text(text.into()), Form::Token))
    }
}

impl From<String> for DeviceId {
    fn from(text: String) -> Self {
        Self(token(&text).map_or_else(|| Form::Text(text.into()), Form::Token))
    }
}

fn token(text: &str) -> Option<[u8; TOKEN_DIGITS / 2]> {
    let mut bytes = [0; TOKEN_DIGITS / 2];
    let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    (is_lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

impl PartialEq<str> for DeviceId {
    fn eq(&self, other: &str) -> bool {
        self.read(|text| text == other)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read(|text| f.pad(text))
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read(|text| fmt::Debug::fmt(text, f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_tokens_of_apns_take_half_their_digits() {
        let token = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        let cases = [
            (token, true),
            (&"0".repeat(64), true),
            (&token.to_uppercase(), false),
            (&token[1..], false),
            (&format!("{token}00"), false),
            (&token.replace('f', "g"), false),
            ("reg-1", false),
            ("", false),
        ];
        for (text, is_token) in cases {
            let id = DeviceId::from(text);
            assert_eq!(matches!(id.0, Form::Token(_)), is_token, "{text}");
            assert_eq!((id.to_string().as_str(), id == *text), (text, true));
        }
    }

    proptest! {
        #[test]
        fn an_id_is_given_back_as_it_came(text in "[0-9a-f]{64}|[0-9A-Fa-f]{64}|[0-9a-f]{63,65}|.*", other in "[0-9a-f]{64}|.*") {
            let (id, another) = (DeviceId::from(text.as_str()), DeviceId::from(other.clone()));
            prop_assert_eq!(id.to_string(), text.as_str());
            prop_assert_eq!(id == another, text == other);
        }
    }
}
