//! What it means for a person that relay or token service could not be reached.

use super::{Component, Trouble};
use crate::https::url::Url;
use crate::https::{Failure, NO_AUTHORITY};

/// Whom a probe spoke to.
pub(super) struct Peer<'a> {
    /// `relay`, or which token service.
    who: String,
    host: &'a str,
    /// Host and port.
    place: String,
    /// What shows its address.
    shown_by: &'static str,
    /// What changes its address.
    set_by: &'static str,
    /// Whose fault it is where it is neither the network's nor TLS'.
    own: Component,
}

impl<'a> Peer<'a> {
    pub(super) fn relay(url: &'a Url) -> Self {
        Self {
            who: String::from("relay"),
            host: url.host(),
            place: format!("{} port {}", url.host(), url.port()),
            shown_by: "mailbadge proxy show",
            set_by: "mailbadge proxy enable",
            own: Component::Relay,
        }
    }

    pub(super) fn token_service(name: &str, authority: &'a str) -> Self {
        Self {
            who: format!("token service {name}"),
            host: authority.rsplit_once(':').map_or(authority, |(host, _)| host),
            place: authority.to_owned(),
            shown_by: "mailbadge auth server list",
            set_by: "mailbadge auth server set",
            own: Component::Authentication,
        }
    }
}

/// By what went wrong on the way to `peer`.
pub(super) fn of_failure(failure: &Failure, peer: &Peer) -> Trouble {
    let Peer { who, host, place, shown_by, own, .. } = peer;
    let (component, advice) = match failure {
        Failure::Dns(_) => (
            Component::Networking,
            format!("Check the name of the {who}, {host}, in `{shown_by}`, and this machine's DNS."),
        ),
        Failure::Connect(_) => (
            Component::Networking,
            format!(
                "Check that the {who} runs and that this machine may reach {place}: firewall, route, port."
            ),
        ),
        Failure::Timeout(_) => (
            Component::Networking,
            format!(
                "{place} does not answer in time: look for a firewall that drops packets, or an overloaded {who}."
            ),
        ),
        Failure::Tls(text) => (Component::Trust, trust_advice(text, peer)),
        Failure::Write(_) | Failure::Read(_) | Failure::Flooded(_) | Failure::Closed(_) => (
            *own,
            format!(
                "{place} ends the connection instead of answering: look into the log of the {who}, and for a \
                 gateway on the way."
            ),
        ),
    };
    Trouble { component, advice, exception: failure.to_string(), may_be_cured_by_documents: false }
}

/// By rustls' own words for what it found in the certificate.
fn trust_advice(text: &str, peer: &Peer) -> String {
    let Peer { who, host, place, set_by, .. } = peer;
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    // A CA that was made anew under its former name is one that signs badly.
    if says(&[NO_AUTHORITY]) {
        "Install the system's CA certificates, or set relay.ca-file.".to_owned()
    } else if says(&["UnknownIssuer", "BadSignature", "CaUsedAsEndEntity"]) {
        format!(
            "The certificate of {host} comes from a CA that is not trusted here: \
             put that CA's present certificate into relay.ca-file."
        )
    } else if says(&["not valid for name", "NotValidForName"]) {
        format!(
            "The certificate of {host} is for another name: correct the address with `{set_by}`, \
             or the certificate of the {who}."
        )
    } else if says(&["expired", "Expired", "not valid yet", "NotValidYet"]) {
        format!(
            "The certificate of {host} is not valid at this time: check this machine's clock, \
             then renew the certificate of the {who}."
        )
    } else {
        format!(
            "{place} does not speak the TLS that is expected: check host and port, \
             and whether something on the way intercepts TLS."
        )
    }
}
