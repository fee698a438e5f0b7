//! The relay's address (protocol.md §1.1): from the configured base to the URL that batches are posted to.
//!
//! A [`RelayUrl`] that exists may be connected to: a token goes out over https, or over http to loopback, and
//! nowhere else.

use super::Error;
use hyper::Uri;
use rustls_pki_types::ServerName;
use std::fmt;
use std::net::IpAddr;

/// What is appended to the base.
const SUFFIX: &str = "/service.svc/PublishOnPremNotifications";
/// The longest base that is taken.
const BASE_CHARS_MAX: usize = 2048;

/// Where batches are posted to. Displayed as the whole URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayUrl {
    is_tls: bool,
    host: String,
    port: u16,
    path: String,
    server_name: ServerName<'static>,
}

impl RelayUrl {
    /// The URL for a base such as `https://outlook.office365.com/PushNotifications`, with or without a slash
    /// at its end.
    pub fn parse(base: &str) -> Result<Self, Error> {
        let refuse =
            |reason: &str| Error::Url { base: base.chars().take(200).collect(), reason: reason.to_owned() };
        if base.len() > BASE_CHARS_MAX || base.contains('#') {
            return Err(refuse("too long, or with a fragment"));
        }
        let uri: Uri = base.trim().parse().map_err(|_| refuse("not a URL"))?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refuse("neither https nor http")),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if uri.query().is_some() || authority.contains('@') {
            return Err(refuse("it must hold neither a query nor a user"));
        }
        let default_port = if is_tls { 443 } else { 80 };
        let names_port = authority.len() > uri.host().unwrap_or_default().len();
        let port = if names_port { uri.port_u16().unwrap_or(0) } else { default_port };
        if port == 0 {
            return Err(refuse("no valid port"));
        }
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let unbracketed = host.trim_start_matches('[').trim_end_matches(']');
        let server_name =
            ServerName::try_from(unbracketed.to_owned()).map_err(|_| refuse("no valid host"))?;
        if !is_tls && !is_loopback(unbracketed) {
            return Err(refuse("plain http is for loopback only, since tokens go there; use https"));
        }
        let path = format!("{}{SUFFIX}", uri.path().trim_end_matches('/'));
        Ok(Self { is_tls, host, port, path, server_name })
    }

    /// Whether it is https.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The host as it is looked up: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path of the request.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whom the certificate must name.
    pub fn server_name(&self) -> &ServerName<'static> {
        &self.server_name
    }

    /// Host in lower case, with `:port` where that is not the scheme's default: as in the `Host` header and
    /// in audiences (protocol.md §5.1).
    pub fn authority(&self) -> String {
        match (self.is_tls, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_lead_to_urls() {
        let suffix = "service.svc/PublishOnPremNotifications";
        // The first two are V2 of protocol.md §7.
        let cases = [
            (
                "https://outlook.office365.com/PushNotifications",
                "https://outlook.office365.com/PushNotifications/",
            ),
            (
                "https://outlook.office365.com/PushNotifications/",
                "https://outlook.office365.com/PushNotifications/",
            ),
            ("https://h/x", "https://h/x/"),
            ("https://h", "https://h/"),
            ("https://h//", "https://h/"),
            (" HTTPS://Relay.Example:443/P ", "https://relay.example/P/"),
            ("https://relay.example:8443/P", "https://relay.example:8443/P/"),
            ("http://127.0.0.1:9000/P", "http://127.0.0.1:9000/P/"),
            ("http://localhost/P", "http://localhost/P/"),
            ("https://[2001:DB8::1]:8443/P", "https://[2001:db8::1]:8443/P/"),
            ("http://[::1]/P", "http://[::1]/P/"),
        ];
        for (base, expected) in cases {
            let url = RelayUrl::parse(base).unwrap();
            assert_eq!(url.to_string(), format!("{expected}{suffix}"), "{base}");
            assert_eq!(RelayUrl::parse(base).unwrap(), url);
        }
    }

    #[test]
    fn an_authority_names_only_a_port_that_is_not_the_default() {
        let cases = [
            ("https://Relay.Example/P", "relay.example", "relay.example", 443),
            ("https://relay.example:8443/P", "relay.example:8443", "relay.example", 8443),
            ("http://localhost:80", "localhost", "localhost", 80),
            ("https://[::1]:9/", "[::1]:9", "::1", 9),
        ];
        for (base, authority, host, port) in cases {
            let url = RelayUrl::parse(base).unwrap();
            assert_eq!((url.authority().as_str(), url.host(), url.port()), (authority, host, port));
        }
    }

    #[test]
    fn bases_that_could_leak_a_token_or_lead_nowhere_are_refused() {
        let long = format!("https://h/{}", "x".repeat(BASE_CHARS_MAX));
        let bases = [
            "",
            "relay.example",
            "/P",
            "ftp://h/",
            "http://relay.example/",
            "http://10.0.0.1/",
            "https://",
            "https:///x",
            "http://localhost.example/",
            "https://user:secret@h/",
            "https://h/?a=b",
            "https://h/#x",
            "https://a b/",
            "https://h:99999/",
            "https://h:0/",
            "https://h:/",
            "https://-h-/",
            &long,
        ];
        for base in bases {
            let error = RelayUrl::parse(base).unwrap_err().to_string();
            assert!(error.contains("proxy enable --uri"), "{base}: {error}");
        }
    }
}
