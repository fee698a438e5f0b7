//! How single values are spelled: durations with units, addresses, socket modes, domains, GUIDs.

use crate::source::keys::ListenAddress;
use crate::source::kind::Kind;
use crate::source::registry::{self, KINDS};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// `None` where the text is not a spelling of a value.
type Parse<T> = dyn Fn(&str) -> Option<T>;

/// One way to spell a value as a text.
pub(super) struct Spelling<T> {
    /// What to say where it is something else: "a duration …".
    pub(super) expected: String,
    /// Reads it.
    pub(super) parse: Box<Parse<T>>,
}

/// Bytes of a Unix socket's path that Linux takes.
const SOCKET_PATH_MAX: usize = 107;

impl<T: 'static> Spelling<T> {
    fn new(expected: impl Into<String>, parse: impl Fn(&str) -> Option<T> + 'static) -> Self {
        Self { expected: expected.into(), parse: Box::new(parse) }
    }

    /// One of a few words.
    pub(super) fn choice(words: &'static [(&'static str, T)]) -> Self
    where
        T: Copy,
    {
        let names: Vec<_> = words.iter().map(|(name, _)| format!("{name:?}")).collect();
        Self::new(names.join(" or "), |text| {
            words.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
        })
    }
}

impl Spelling<String> {
    /// Any text but an empty one.
    pub(super) fn text() -> Self {
        Self::new("a text that is not empty", |text| (!text.trim().is_empty()).then(|| text.to_owned()))
    }

    /// A DNS domain, lower-cased.
    pub(super) fn domain() -> Self {
        Self::new("a DNS domain like \"fabrikam.com\"", |text| {
            is_dns_domain(text).then(|| text.to_ascii_lowercase())
        })
    }

    /// A GUID, lower-case and hyphenated.
    pub(super) fn guid() -> Self {
        Self::new("a GUID like \"00000002-0000-0ff1-ce00-000000000000\"", |text| {
            uuid::Uuid::try_parse(text).ok().map(|guid| guid.to_string())
        })
    }
}

impl Spelling<Duration> {
    /// A span of time with its unit.
    pub(super) fn duration(range: RangeInclusive<Duration>) -> Self {
        let write = humantime::format_duration;
        let expected =
            format!("a duration from {} to {}, like \"90s\"", write(*range.start()), write(*range.end()));
        Self::new(expected, move |text| {
            humantime::parse_duration(text).ok().filter(|span| range.contains(span))
        })
    }
}

impl Spelling<u32> {
    /// Permission bits of a socket, octal.
    pub(super) fn mode() -> Self {
        Self::new("permission bits in octal like \"0660\"", |text| {
            u32::from_str_radix(text, 8).ok().filter(|mode| text.len() >= 3 && *mode <= 0o777)
        })
    }
}

impl Spelling<ListenAddress> {
    /// A Unix path or `host:port`.
    pub(super) fn listen_address() -> Self {
        Self::new(
            "an absolute path of a Unix socket (107 bytes at most) or an address like \"127.0.0.1:9924\"",
            listen_address,
        )
    }
}

impl Spelling<PathBuf> {
    /// A Unix path.
    pub(super) fn socket_path() -> Self {
        Self::new("an absolute path of a Unix socket (107 bytes at most)", |text| {
            match listen_address(text) {
                Some(ListenAddress::Unix(path)) => Some(path),
                _ => None,
            }
        })
    }
}

impl Spelling<&'static Kind> {
    /// The name of a kind of source.
    pub(super) fn kind() -> Self {
        let names = KINDS.map(|kind| format!("{:?}", kind.name));
        Self::new(names.join(" or "), registry::find)
    }
}

impl Spelling<Option<ListenAddress>> {
    /// A Unix path, an address, or `off`.
    pub(super) fn listen_address_or_off() -> Self {
        let expected = "\"off\", an absolute path of a Unix socket (107 bytes at most) or an address like \"127.0.0.1:9925\"";
        Self::new(expected, |text| if text == "off" { Some(None) } else { listen_address(text).map(Some) })
    }

    /// A Unix path, a loopback address, or `off`.
    pub(super) fn loopback_address() -> Self {
        let expected = "\"off\", an absolute path of a Unix socket (107 bytes at most) or a loopback address like \"127.0.0.1:9924\"";
        Self::new(expected, |text| match listen_address(text) {
            _ if text == "off" => Some(None),
            Some(ListenAddress::Tcp(address)) if !address.ip().is_loopback() => None,
            address => address.map(Some),
        })
    }
}

fn listen_address(text: &str) -> Option<ListenAddress> {
    if text.starts_with('/') {
        return (text.len() <= SOCKET_PATH_MAX).then(|| ListenAddress::Unix(PathBuf::from(text)));
    }
    if let Some(port) = text.strip_prefix("localhost:") {
        let port = port.parse().ok()?;
        return Some(ListenAddress::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)));
    }
    text.parse().ok().map(ListenAddress::Tcp)
}

/// Whether this is a DNS domain of at least two labels (RFC 1035 §2.3.1, RFC 1123 §2.1).
pub fn is_dns_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_told_from_other_texts() {
        for good in ["fabrikam.com", "a.b", "xn--bcher-kva.example", "MAIL.Fabrikam.Com"] {
            assert!(is_dns_domain(good), "{good}");
        }
        let long = format!("{}.com", "a".repeat(64));
        for bad in
            ["", "localhost", ".com", "a..b", "a.b.", "-a.b", "a-.b", "a b.c", "https://a.b", "a.b/c", &long]
        {
            assert!(!is_dns_domain(bad), "{bad}");
        }
    }

    #[test]
    fn places_are_paths_or_addresses() {
        let tcp = |text: &str| Some(ListenAddress::Tcp(text.parse().unwrap()));
        let rows = [
            ("/run/mailbadge/dict.sock", Some(ListenAddress::Unix("/run/mailbadge/dict.sock".into()))),
            ("127.0.0.1:99", tcp("127.0.0.1:99")),
            ("localhost:99", tcp("127.0.0.1:99")),
            ("[::1]:99", tcp("[::1]:99")),
            ("dict.sock", None),
            ("127.0.0.1", None),
            ("localhost:x", None),
        ];
        for (text, expected) in rows {
            assert_eq!(listen_address(text), expected, "{text}");
        }
        assert!(listen_address(&format!("/{}", "a".repeat(106))).is_some());
        assert_eq!(listen_address(&format!("/{}", "a".repeat(107))), None);
        let admin = |text| (Spelling::loopback_address().parse)(text);
        assert_eq!(admin("off"), Some(None));
        assert_eq!(admin("192.0.2.1:99"), None);
        assert_eq!(admin("127.0.0.1:99"), Some(tcp("127.0.0.1:99")));
    }
}
