//! What the client says first in each SASL mechanism, in base64 as AUTHENTICATE carries it (RFC 9051 §6.2.2). All of it
//! is secret and wiped when dropped.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// PLAIN (RFC 4616 §2). No part may hold a NUL.
pub(super) fn plain(authorization: &str, user: &str, password: &str) -> Zeroizing<String> {
    encoded(&[authorization, "\0", user, "\0", password])
}

/// XOAUTH2, as Google and Microsoft describe it.
pub(super) fn xoauth2(user: &str, token: &SecretString) -> Zeroizing<String> {
    encoded(&["user=", user, "\x01auth=Bearer ", token.expose_secret(), "\x01\x01"])
}

/// OAUTHBEARER (RFC 7628 §3.1); `=` and `,` in a name are written as RFC 5801 §4 says.
pub(super) fn oauthbearer(user: &str, host: &str, port: u16, token: &SecretString) -> Zeroizing<String> {
    let user = user.replace('=', "=3D").replace(',', "=2C");
    let place = format!("\x01host={host}\x01port={port}");
    encoded(&["n,a=", &user, ",", &place, "\x01auth=Bearer ", token.expose_secret(), "\x01\x01"])
}

/// Whether a name can stand in these forms: no character that ends a field.
pub(super) fn is_plain_text(name: &str) -> bool {
    !name.chars().any(char::is_control)
}

fn encoded(parts: &[&str]) -> Zeroizing<String> {
    // Joined at once: a text that grows leaves copies behind.
    Zeroizing::new(STANDARD.encode(&*Zeroizing::new(parts.concat())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mechanism_says_what_its_description_shows() {
        let decoded = |text: &str| String::from_utf8(STANDARD.decode(text).unwrap()).unwrap();
        let token = SecretString::from("vF9dft4qmT");
        assert_eq!(decoded(&plain("u1", "agent", "secret")), "u1\0agent\0secret");
        // The example of Google's description.
        assert_eq!(
            decoded(&xoauth2("someuser@example.com", &token)),
            "user=someuser@example.com\x01auth=Bearer vF9dft4qmT\x01\x01"
        );
        // RFC 7628 §4.1, and a name that must be escaped.
        assert_eq!(
            decoded(&oauthbearer("user@example.com", "server.example.com", 143, &token)),
            "n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmT\x01\x01"
        );
        assert!(decoded(&oauthbearer("a=b,c", "h", 1, &token)).starts_with("n,a=a=3Db=2Cc,\x01"));
        assert!(!is_plain_text("u\x011") && is_plain_text("u1"));
    }
}
