//! To whom the admin endpoint answers by TCP: who names it by an address or as `localhost`. A page in a browser on this
//! host could have its own name lead here (DNS rebinding) and read the answers; then `Host` is that name.

use std::net::IpAddr;

/// Whether a request with this `Host` (RFC 9110 §7.2) is meant for us. HTTP/1.0 knows none.
pub(super) fn is_ours(host: Option<&[u8]>) -> bool {
    let Some(host) = host else { return true };
    let Some(name) = std::str::from_utf8(host).ok().and_then(name_of) else { return false };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// The name without its port; an IPv6 address without its brackets.
fn name_of(host: &str) -> Option<&str> {
    if let Some(rest) = host.strip_prefix('[') {
        return Some(rest.split_once(']')?.0);
    }
    Some(host.rsplit_once(':').map_or(host, |(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_ours() {
        for host in ["127.0.0.1", "127.0.0.1:9924", "[::1]:9924", "[::1]", "localhost", "LocalHost:80"] {
            assert!(is_ours(Some(host.as_bytes())), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9924",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[::1",
        ] {
            assert!(!is_ours(Some(host.as_bytes())), "{host}");
        }
        assert!(is_ours(None) && !is_ours(Some(b"\xff")));
    }
}
