//! JSON as other programs write it, read for the members that are needed: what stands beside them, and how it is
//! spelled, decides nothing. Used for all that comes from mail servers, relays and token services.

use super::whole;
use serde_json::{Map, Value};

/// The mark of byte order that some programs put before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Whole numbers that a float holds exactly end here.
const EXACT_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

/// An object's members. Where the whole is no JSON, since one value in it is none, the others are found by their names.
#[derive(Clone, Debug, PartialEq)]
pub enum Members {
    /// It is JSON.
    Whole(Map<String, Value>),
    /// It looks like an object and is none.
    Broken(String),
}

impl Members {
    /// Reads a text; `None` where it is nothing like an object.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(without_mark(bytes));
        match serde_json::from_str(&text) {
            Ok(Value::Object(members)) => Some(Self::Whole(members)),
            Ok(_) => None,
            Err(_) => text.trim_start().starts_with('{').then(|| Self::Broken(text.into_owned())),
        }
    }

    /// A number of seconds or the like, a fraction rounded up.
    pub fn rounded_up(&self, name: &str) -> Option<u64> {
        match self {
            Self::Whole(members) => rounded_up(member(members, name)?),
            Self::Broken(_) => self.number(name),
        }
    }

    /// A whole number, bare or in quotes.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self {
            Self::Whole(members) => whole_number(member(members, name)?),
            Self::Broken(text) => agreed(values(text, name).filter_map(bare_number)),
        }
    }

    /// A text; a number counts as its digits.
    pub fn text(&self, name: &str) -> Option<String> {
        match self {
            Self::Whole(members) => match member(members, name)? {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            },
            Self::Broken(text) => agreed(values(text, name).filter_map(quoted_text)),
        }
    }

    /// Whether there is such a member, null aside.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Whole(members) => member(members, name).is_some(),
            Self::Broken(text) => values(text, name).any(|value| !value.starts_with("null")),
        }
    }
}

/// The text behind a mark of byte order.
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// A member by its name in any letter case; one that is null is none.
pub fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let exact = object.get(name).filter(|value| !value.is_null());
    let is_meant = |(key, value): &(&String, &Value)| key.eq_ignore_ascii_case(name) && !value.is_null();
    exact.or_else(|| object.iter().find(is_meant).map(|(_, value)| value))
}

/// A whole number however it is written: `3`, `3.0`, `"3"`.
pub fn whole_number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| {
            let float = number.as_f64()?;
            (float.fract() == 0.0 && (0.0..EXACT_FLOAT_MAX).contains(&float)).then_some(float as u64)
        }),
        Value::String(text) => digits(text.trim()),
        _ => None,
    }
}

/// A number that need not be whole, rounded up, bare or in quotes: `4.5` is 5.
pub fn rounded_up(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => whole_number(value).or_else(|| whole(&number.to_string())),
        Value::String(text) => whole(text.trim()),
        _ => None,
    }
}

/// A list however it is written: one that is none counts as its only entry, a missing one as empty.
pub fn list(value: Option<&Value>) -> &[Value] {
    match value {
        Some(Value::Array(entries)) => entries,
        Some(Value::Null) | None => &[],
        Some(single) => std::slice::from_ref(single),
    }
}

fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// What follows each `"name":` of a text.
fn values<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let key = format!("\"{name}\"");
    let is_key = move |at: &usize| {
        let found = text.get(*at..*at + key.len()).is_some_and(|found| found.eq_ignore_ascii_case(&key));
        found && !text.get(..*at).is_some_and(|before| before.ends_with('\\'))
    };
    let length = name.len() + 2;
    text.match_indices('"').map(|(at, _)| at).filter(is_key).filter_map(move |at| {
        let value = text.get(at + length..)?.trim_start().strip_prefix(':')?;
        Some(value.trim_start())
    })
}

/// Digits, in quotes or not, with an end: a text that was cut off may have cut its last number, too.
fn bare_number(value: &str) -> Option<u64> {
    let inside = value.strip_prefix('"').unwrap_or(value).trim_start();
    let end = inside.find(|char: char| !char.is_ascii_digit())?;
    let (number, after) = inside.split_at(end);
    let is_ended = after.starts_with([',', '}', ']', '"']) || after.starts_with(char::is_whitespace);
    digits(number).filter(|_| is_ended)
}

fn quoted_text(value: &str) -> Option<String> {
    let mut texts = serde_json::Deserializer::from_str(value).into_iter::<String>();
    texts.next()?.ok()
}

/// The one value that all agree on.
fn agreed<T: PartialEq>(mut found: impl Iterator<Item = T>) -> Option<T> {
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_is_read_whatever_stands_beside_it() {
        let cases = [
            (r#"{"unseen":3}"#, Some(3)),
            ("\u{feff} {\"UNSEEN\" : \"3\" , \"x\":[{}]}", Some(3)),
            (r#"{"unseen":3.0}"#, Some(3)),
            (r#"{"unseen":null,"Unseen":3}"#, Some(3)),
            (r#"{"x":UNSUPPORTED,"unseen":3,"y":}"#, Some(3)),
            (r#"{"x":"not"closed","unseen":"3"}"#, Some(3)),
            (r#"{"x":"\"unseen\":9","y":bad,"unseen":3}"#, Some(3)),
            ("{\"x\":\"\u{fffd}\",\"unseen\":3,", Some(3)),
            (r#"{"unseen":UNSUPPORTED,"x":3}"#, None),
            (r#"{"unseen":3,"x":bad,"old":{"unseen":4}}"#, None),
            (r#"{"x":bad,"unseen":3"#, None),
            (r#"{"x":bad,"unseen":3x}"#, None),
            (r#"{"x":bad,"unseen":-3}"#, None),
            (r#"{"unseen":-3}"#, None),
            (r#"{"unseen":3.5}"#, None),
            (r#"{"unseen":"3 "}"#, Some(3)),
            (r#"{"unseen":[3]}"#, None),
            (r#"{"unseen":99999999999999999999}"#, None),
            ("[3]", None),
            ("unseen:3", None),
        ];
        for (text, expected) in cases {
            let found = Members::read(text.as_bytes()).and_then(|members| members.number("unseen"));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_text_is_read_whatever_stands_beside_it() {
        let cases = [
            (r#"{"uri":"a\"b"}"#, Some("a\"b")),
            (r#"{"URI":7}"#, Some("7")),
            (r#"{"x":bad,"uri": "a\"b", "y":1}"#, Some("a\"b")),
            (r#"{"x":bad,"uri":"cut"#, None),
            (r#"{"uri":{}}"#, None),
        ];
        for (text, expected) in cases {
            let found = Members::read(text.as_bytes()).and_then(|members| members.text("uri"));
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        let latin = Members::read(b"{\"subject\":\"\xe9\",\"uri\":\"x\"}").expect("an object");
        assert_eq!(latin.text("uri").as_deref(), Some("x"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, text in "\\{[\"a:,\\\\ é3}\\]n]{0,40}") {
            for members in [Members::read(&bytes), Members::read(text.as_bytes())].into_iter().flatten() {
                let _ = (members.number("a"), members.text("a"), members.has("a"));
            }
        }
    }
}
