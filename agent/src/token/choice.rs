//! Which token a challenge calls for (protocol.md §5.3): a pure function of the challenge and of what is
//! configured.

use super::Error;
use super::challenge::Challenge;
use crate::identity::principal::{Audience, Principal, Realm};

/// What the agent can present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// Its own application id and realm.
    pub own: Principal,
    /// The organization's domain: the audience's realm where the challenge names none.
    pub organization: String,
    /// Host of the relay, with `:port` where that is not the scheme's default.
    pub relay_authority: String,
}

/// The token that the relay will take.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// One that the agent signs itself.
    SelfIssued {
        /// For whom.
        audience: Audience,
    },
}

/// Chooses by the rows of protocol.md §5.3 in their order. An issuer that is offered but not configured here,
/// such as a token service, is passed over and named in the error.
pub fn choose(challenge: &Challenge, configured: &Configured) -> Result<Choice, Error> {
    if challenge.client_id.is_empty() {
        return Err(Error::NoClientId);
    }
    if challenge.issuers.contains(&configured.own) {
        return Ok(Choice::SelfIssued { audience: audience(challenge, configured) });
    }
    Err(Error::NotTrusted { offered: offered(challenge), configured: configured.own.to_string() })
}

fn audience(challenge: &Challenge, configured: &Configured) -> Audience {
    let realm = challenge.realm.clone().filter(|realm| !realm.is_empty());
    Audience {
        id: challenge.client_id.clone(),
        authority: configured.relay_authority.clone(),
        realm: realm.unwrap_or_else(|| Realm::new(&configured.organization)),
    }
}

fn offered(challenge: &Challenge) -> String {
    let issuers: Vec<String> = challenge.issuers.iter().map(ToString::to_string).collect();
    let issuers = if issuers.is_empty() { String::from("no issuer") } else { issuers.join(", ") };
    match &challenge.realm {
        Some(realm) if !realm.is_empty() => format!("{issuers} (realm {realm})"),
        _ => issuers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STS: &str = "00000001-0000-0000-c000-000000000000";
    const EXCHANGE: &str = "00000002-0000-0ff1-ce00-000000000000";
    const TENANT: &str = "11111111-2222-3333-4444-555555555555";

    fn configured() -> Configured {
        Configured {
            own: Principal::new(EXCHANGE, "fabrikam.com"),
            organization: String::from("contoso.com"),
            relay_authority: String::from("relay.example:8443"),
        }
    }

    fn check(challenge: &str, expected: Result<&str, &str>) {
        let challenge = Challenge::parse(&[format!("Bearer {challenge}")]).unwrap();
        match (choose(&challenge, &configured()), expected) {
            (Ok(Choice::SelfIssued { audience }), Ok(expected)) => assert_eq!(audience.to_string(), expected),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (choice, expected) => panic!("{choice:?} instead of {expected:?}"),
        }
    }

    /// The rows of protocol.md §5.3 that need neither token service nor partner.
    #[test]
    fn each_challenge_has_its_row() {
        let own = format!("{EXCHANGE}@fabrikam.com");
        let row_1 = "names no client_id";
        check(&format!("trusted_issuers=\"{own}\""), Err(row_1));
        check(&format!("client_id=\"\", trusted_issuers=\"{own}\""), Err(row_1));
        check(&format!("client_id=\" \", trusted_issuers=\"{own}\""), Err(row_1));

        let audience = format!("{EXCHANGE}/relay.example:8443@");
        let offer = |issuers: &str, realm: &str| {
            format!("client_id={EXCHANGE}, trusted_issuers=\"{issuers}\"{realm}")
        };
        check(&offer(&own, ""), Ok(&format!("{audience}contoso.com")));
        check(&offer(&own.to_uppercase(), ", realm=\"*\""), Ok(&format!("{audience}contoso.com")));
        check(&offer(&own, &format!(", realm={TENANT}")), Ok(&format!("{audience}{TENANT}")));
        check(&offer(&format!("{STS}@*, {own}"), ""), Ok(&format!("{audience}contoso.com")));

        let row_5 = |offered: &str| format!("the relay trusts {offered}, and configured is {own};");
        check(&offer(&format!("{STS}@*"), ""), Err(&row_5(&format!("{STS}@*"))));
        check(&offer(&format!("{EXCHANGE}@*"), ""), Err(&row_5(&format!("{EXCHANGE}@*"))));
        check(
            &offer(&format!("{EXCHANGE}@contoso.com"), ""),
            Err(&row_5(&format!("{EXCHANGE}@contoso.com"))),
        );
        check(&offer("", ""), Err(&row_5("no issuer")));
        let realm = format!(", realm={TENANT}");
        check(
            &offer(&format!("{STS}@x, {STS}@y"), &realm),
            Err(&row_5(&format!("{STS}@x, {STS}@y (realm {TENANT})"))),
        );
    }
}
