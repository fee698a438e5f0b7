//! The relay's address (protocol.md §1.1): from the configured base to the URL that batches are posted to.

use super::Error;
use crate::https::url::Url;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// What is appended to the base.
const SUFFIX: &str = "/service.svc/PublishOnPremNotifications";

/// Where batches are posted to. Displayed as the whole URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayUrl(Arc<Url>);

impl RelayUrl {
    /// The URL for a base such as `https://outlook.office365.com/PushNotifications`, with or without a slash
    /// at its end.
    pub fn parse(base: &str) -> Result<Self, Error> {
        let refuse =
            |reason: &str| Error::Url { base: base.chars().take(200).collect(), reason: reason.to_owned() };
        let url = Url::parse(base).map_err(|error| refuse(error.reason))?;
        if url.query().is_some() {
            return Err(refuse("it must not hold a query"));
        }
        let path = format!("{}{SUFFIX}", url.path().trim_end_matches('/'));
        Ok(Self(Arc::new(url.with_path(path))))
    }

    /// The same as an address like any other.
    pub fn url(&self) -> &Arc<Url> {
        &self.0
    }
}

impl Deref for RelayUrl {
    type Target = Url;

    fn deref(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
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
    fn bases_that_could_leak_a_token_or_lead_nowhere_are_refused() {
        for base in ["", "relay.example", "http://relay.example/", "https://user:secret@h/", "https://h/?a=b"]
        {
            let error = RelayUrl::parse(base).unwrap_err().to_string();
            assert!(error.contains("proxy enable --uri"), "{base}: {error}");
        }
    }
}
