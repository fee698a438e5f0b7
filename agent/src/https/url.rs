//! An address that a token or a password may be sent to: https, or plain http to loopback.

use hyper::Uri;
use rustls_pki_types::ServerName;
use std::fmt;
use std::net::IpAddr;
use thiserror::Error;

/// The longest address that is taken.
const URL_CHARS_MAX: usize = 2048;

/// What is wrong with an address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{url:?}: {reason}")]
pub struct UrlError {
    /// The address as it was given, its beginning.
    pub url: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Where a request goes. One that exists may be connected to. Displayed whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    is_tls: bool,
    host: String,
    port: u16,
    path: String,
    query: Option<String>,
    server_name: ServerName<'static>,
}

impl Url {
    /// Reads an absolute address without user and fragment.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let refuse = |reason| UrlError { url: text.chars().take(200).collect(), reason };
        if text.len() > URL_CHARS_MAX || text.contains('#') {
            return Err(refuse("too long, or with a fragment"));
        }
        let uri: Uri = text.trim().parse().map_err(|_| refuse("not a URL"))?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refuse("neither https nor http")),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(refuse("it must not hold a user"));
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
            return Err(refuse("plain http is for loopback only, since secrets go there; use https"));
        }
        let query = uri.query().map(str::to_owned);
        Ok(Self { is_tls, host, port, path: uri.path().to_owned(), query, server_name })
    }

    /// The same with this path and no query.
    #[must_use]
    pub fn with_path(self, path: String) -> Self {
        Self { path, query: None, ..self }
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

    /// Path of the request, without its query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What follows the `?`.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Path and query as they stand in a request's first line.
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
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

    /// Whether both lead to the same server.
    pub fn is_same_server(&self, other: &Self) -> bool {
        (self.is_tls, &self.host, self.port) == (other.is_tls, &other.host, other.port)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.target())
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_it_is_called() {
        let cases = [
            (
                "https://sts.example/metadata/json/1/?realm=fabrikam.com",
                "/metadata/json/1/?realm=fabrikam.com",
            ),
            ("https://STS.example:443/T/tokens/OAuth/2", "/T/tokens/OAuth/2"),
            ("https://sts.example", "/"),
        ];
        for (text, target) in cases {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.target().as_str(), url.authority().as_str()), (target, "sts.example"));
            assert_eq!(url.to_string(), format!("https://sts.example{target}"));
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
        for (text, authority, host, port) in cases {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.authority().as_str(), url.host(), url.port()), (authority, host, port));
        }
    }

    #[test]
    fn addresses_that_could_leak_a_secret_or_lead_nowhere_are_refused() {
        let long = format!("https://h/{}", "x".repeat(URL_CHARS_MAX));
        let addresses = [
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
            "https://h/#x",
            "https://a b/",
            "https://h:99999/",
            "https://h:0/",
            "https://h:/",
            "https://-h-/",
            &long,
        ];
        for text in addresses {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }
}
