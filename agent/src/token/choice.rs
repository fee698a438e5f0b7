//! Which token a challenge calls for (protocol.md §5.3): a pure function of the challenge and of what is
//! configured.

use super::Error;
use super::challenge::Challenge;
use crate::identity::metadata::TokenService;
use crate::identity::principal::{Audience, Principal, Realm};
use std::fmt;

/// Characters of a malformed name that an error shows, at most.
const MALFORMED_SHOWN: usize = 80;

/// What the agent can present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// Its own application id and realm.
    pub own: Principal,
    /// The organization's domain: the audience's realm where the challenge names none.
    pub organization: String,
    /// Host of the relay, with `:port` where that is not the scheme's default.
    pub relay_authority: String,
    /// Token services that may be asked, by name.
    pub auth_servers: Vec<AuthServer>,
    /// Applications that take our own tokens; one of the empty realm is meant in every realm.
    pub partners: Vec<Principal>,
}

/// A token service by the name it was given here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthServer {
    /// `Name`.
    pub name: String,
    /// What its metadata document says, or why that is not known.
    pub service: Result<TokenService, String>,
}

/// The token that the relay will take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenChoice {
    /// Which row of protocol.md §5.3 led to it: 2, 3 or 4.
    pub row: u8,
    /// For whom.
    pub audience: Audience,
    /// From whom.
    pub issuer: Issuer,
}

impl fmt::Display for TokenChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, by row {} of protocol.md §5.3", self.issuer, self.row)
    }
}

/// Who issues a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// We ourselves.
    Own,
    /// A token service, asked with an assertion.
    Service {
        /// The name it was given here.
        name: String,
        /// Itself.
        service: TokenService,
        /// The realm that the token is asked in.
        tenant: Realm,
    },
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("this host"),
            Self::Service { name, service, .. } => write!(f, "token service {name} ({})", service.endpoint),
        }
    }
}

/// Chooses by the rows of protocol.md §5.3 in their order. What is offered but not configured here is passed over and
/// named in the error.
pub fn choose(challenge: &Challenge, configured: &Configured) -> Result<TokenChoice, Error> {
    if challenge.client_id.is_empty() {
        return Err(Error::NoClientId);
    }
    well_formed("client_id", &challenge.client_id)?;
    let realm = challenge.realm.clone().filter(|realm| !realm.is_empty());
    if challenge.issuers.contains(&configured.own) {
        let realm = realm.unwrap_or_else(|| Realm::new(&configured.organization));
        well_formed("realm", realm.as_str())?;
        return Ok(TokenChoice {
            row: 2,
            audience: audience(challenge, configured, realm),
            issuer: Issuer::Own,
        });
    }
    if let Some((name, service)) = listed(challenge, configured) {
        let tenant = service.principal.realm.clone();
        if tenant.is_empty() {
            return Err(Error::NoTenant { service: name.to_owned() });
        }
        return Ok(from_service(3, challenge, configured, (name, service), tenant));
    }
    let not_trusted =
        || Error::NotTrusted { offered: offered(challenge), configured: configured.to_string() };
    let realm = realm.ok_or_else(not_trusted)?;
    well_formed("realm", realm.as_str())?;
    of_realm(challenge, configured, &realm).ok_or_else(not_trusted)
}

/// Whether a name of the challenge can be a part of an audience and nothing else. Application ids are UUIDs and realms are
/// domains; a separator in them, signed, would name another application, host or realm (protocol.md §5.2).
fn well_formed(name: &'static str, value: &str) -> Result<(), Error> {
    let is_misplaced = |character: &char| {
        matches!(character, '/' | '@') || character.is_control() || character.is_whitespace()
    };
    match value.chars().find(is_misplaced) {
        None => Ok(()),
        Some(character) => {
            let value = value.chars().take(MALFORMED_SHOWN).collect();
            Err(Error::Malformed { name, value, character })
        }
    }
}

/// Row 3: the first token service whose id the challenge lists, whatever the realm there.
fn listed<'a>(challenge: &Challenge, configured: &'a Configured) -> Option<(&'a str, &'a TokenService)> {
    let is_listed = |service: &TokenService| {
        challenge.issuers.iter().any(|issuer| issuer.id.eq_ignore_ascii_case(&service.principal.id))
    };
    configured.services().find(|(_, service)| is_listed(service))
}

/// Row 4: a partner of that realm, else the only token service of that realm, else the only one of every realm.
fn of_realm(challenge: &Challenge, configured: &Configured, realm: &Realm) -> Option<TokenChoice> {
    let is_partner = |partner: &Principal| {
        partner.id.eq_ignore_ascii_case(&challenge.client_id)
            && (partner.realm.is_empty() || partner.realm == *realm)
    };
    if configured.partners.iter().any(is_partner) {
        let audience = audience(challenge, configured, realm.clone());
        return Some(TokenChoice { row: 4, audience, issuer: Issuer::Own });
    }
    let only = |wanted: &Realm| {
        let mut found = configured.services().filter(|(_, service)| service.principal.realm == *wanted);
        found.next().filter(|_| found.next().is_none())
    };
    let service = only(realm).or_else(|| only(&Realm::default()))?;
    Some(from_service(4, challenge, configured, service, realm.clone()))
}

fn from_service(
    row: u8,
    challenge: &Challenge,
    configured: &Configured,
    (name, service): (&str, &TokenService),
    tenant: Realm,
) -> TokenChoice {
    let audience = audience(challenge, configured, tenant.clone());
    TokenChoice {
        row,
        audience,
        issuer: Issuer::Service { name: name.to_owned(), service: service.clone(), tenant },
    }
}

fn audience(challenge: &Challenge, configured: &Configured, realm: Realm) -> Audience {
    Audience { id: challenge.client_id.clone(), authority: configured.relay_authority.clone(), realm }
}

fn offered(challenge: &Challenge) -> String {
    let issuers: Vec<String> = challenge.issuers.iter().map(ToString::to_string).collect();
    let issuers = if issuers.is_empty() { String::from("no issuer") } else { issuers.join(", ") };
    match &challenge.realm {
        Some(realm) if !realm.is_empty() => format!("{issuers} (realm {realm})"),
        _ => issuers,
    }
}

impl Configured {
    /// The token services of which is known where and for whom they issue tokens.
    fn services(&self) -> impl Iterator<Item = (&str, &TokenService)> {
        self.auth_servers.iter().filter_map(|one| Some((one.name.as_str(), one.service.as_ref().ok()?)))
    }
}

/// All that could be presented, for an error's text.
impl fmt::Display for Configured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.own)?;
        for AuthServer { name, service } in &self.auth_servers {
            match service {
                Ok(service) => write!(f, ", token service {name} ({})", service.principal)?,
                Err(reason) => write!(f, ", token service {name} ({reason})")?,
            }
        }
        self.partners.iter().try_for_each(|partner| write!(f, ", partner {partner}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::https::url::Url;
    use std::sync::Arc;

    const STS: &str = "00000001-0000-0000-c000-000000000000";
    const EXCHANGE: &str = "00000002-0000-0ff1-ce00-000000000000";
    const TENANT: &str = "11111111-2222-3333-4444-555555555555";
    const OTHER: &str = "22222222-2222-3333-4444-555555555555";

    fn configured() -> Configured {
        Configured {
            own: Principal::new(EXCHANGE, "fabrikam.com"),
            organization: String::from("contoso.com"),
            relay_authority: String::from("relay.example:8443"),
            auth_servers: Vec::new(),
            partners: Vec::new(),
        }
    }

    fn server(name: &str, id: &str, realm: &str) -> AuthServer {
        let endpoint = Arc::new(Url::parse(&format!("https://{name}.example/T")).unwrap());
        let service = TokenService { principal: Principal::new(id, realm), endpoint };
        AuthServer { name: name.to_owned(), service: Ok(service) }
    }

    /// Row, audience's realm, and the token service with its tenant; or what the error says.
    type Expected<'a> = Result<(u8, &'a str, Option<(&'a str, &'a str)>), &'a str>;

    #[track_caller]
    fn check(configured: &Configured, challenge: &str, expected: Expected) {
        let challenge = Challenge::parse(&[format!("Bearer {challenge}")]).unwrap();
        match (choose(&challenge, configured), expected) {
            (Ok(choice), Ok((row, realm, service))) => {
                let audience = format!("{EXCHANGE}/relay.example:8443@{realm}");
                assert_eq!((choice.row, choice.audience.to_string()), (row, audience));
                let issuer = match &choice.issuer {
                    Issuer::Own => None,
                    Issuer::Service { name, tenant, .. } => Some((name.as_str(), tenant.as_str())),
                };
                assert_eq!(issuer, service);
            }
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (choice, expected) => panic!("{choice:?} instead of {expected:?}"),
        }
    }

    fn offer(issuers: &str, realm: &str) -> String {
        let realm = if realm.is_empty() { String::new() } else { format!(", realm=\"{realm}\"") };
        format!("client_id={EXCHANGE}, trusted_issuers=\"{issuers}\"{realm}")
    }

    #[test]
    fn without_a_client_id_there_is_no_token() {
        let own = format!("{EXCHANGE}@fabrikam.com");
        let row_1 = Err("names no client_id");
        check(&configured(), &format!("trusted_issuers=\"{own}\""), row_1);
        check(&configured(), &format!("client_id=\"\", trusted_issuers=\"{own}\""), row_1);
        check(&configured(), &format!("client_id=\" \", trusted_issuers=\"{own}\""), row_1);
    }

    #[test]
    fn names_that_would_make_another_audience_are_refused() {
        let own = format!("{EXCHANGE}@fabrikam.com");
        let named = |client_id: &str, realm: &str| {
            format!("client_id=\"{client_id}\", trusted_issuers=\"{own}\", realm=\"{realm}\"")
        };
        for odd in ["x/other.example", "x@other.example", "x y", "x\ty", "/", "@"] {
            check(&configured(), &named(odd, ""), Err("challenge is malformed: its client_id"));
            check(&configured(), &named(EXCHANGE, odd), Err("challenge is malformed: its realm"));
        }
        let configured = Configured { partners: vec![Principal::new(EXCHANGE, "*")], ..configured() };
        check(&configured, &offer("x@y", "a@b"), Err("challenge is malformed: its realm"));
        // Where the realm is not signed it does not matter.
        let configured = Configured { auth_servers: vec![server("sts", STS, TENANT)], ..configured };
        check(&configured, &offer(&format!("{STS}@*"), "a@b"), Ok((3, TENANT, Some(("sts", TENANT)))));
    }

    #[test]
    fn who_is_trusted_himself_signs_himself() {
        let own = format!("{EXCHANGE}@fabrikam.com");
        let all = Configured { auth_servers: vec![server("sts", STS, TENANT)], ..configured() };
        for configured in [configured(), all] {
            check(&configured, &offer(&own, ""), Ok((2, "contoso.com", None)));
            check(&configured, &offer(&own.to_uppercase(), "*"), Ok((2, "contoso.com", None)));
            check(&configured, &offer(&own, TENANT), Ok((2, TENANT, None)));
            check(&configured, &offer(&format!("{STS}@*, {own}"), ""), Ok((2, "contoso.com", None)));
        }
    }

    #[test]
    fn a_listed_token_service_is_asked_in_its_own_realm() {
        let services = vec![server("other", "x", OTHER), server("sts", STS, TENANT)];
        let configured = Configured { auth_servers: services, ..configured() };
        let asked = Ok((3, TENANT, Some(("sts", TENANT))));
        check(&configured, &offer(&format!("{STS}@*"), ""), asked);
        check(&configured, &offer(&format!("{STS}@{OTHER}"), ""), asked);
        check(&configured, &offer(&format!("{STS}@*"), OTHER), asked);
    }

    #[test]
    fn a_listed_token_service_without_a_realm_is_of_no_use() {
        let configured = Configured { auth_servers: vec![server("sts", STS, "*")], ..configured() };
        check(&configured, &offer(&format!("{STS}@*"), ""), Err("token service sts names no realm"));
        check(&configured, &offer(&format!("{STS}@*"), TENANT), Err("names no realm"));
    }

    #[test]
    fn a_partner_of_the_realm_goes_before_token_services_of_the_realm() {
        let mut configured = Configured { auth_servers: vec![server("sts", STS, TENANT)], ..configured() };
        check(&configured, &offer("x@y", TENANT), Ok((4, TENANT, Some(("sts", TENANT)))));
        configured.partners = vec![Principal::new(STS, TENANT), Principal::new(EXCHANGE, OTHER)];
        check(&configured, &offer("x@y", TENANT), Ok((4, TENANT, Some(("sts", TENANT)))));
        check(&configured, &offer("x@y", OTHER), Ok((4, OTHER, None)));
        configured.partners = vec![Principal::new(&EXCHANGE.to_uppercase(), TENANT)];
        check(&configured, &offer("x@y", TENANT), Ok((4, TENANT, None)));
        configured.partners = vec![Principal::new(EXCHANGE, "*")];
        check(&configured, &offer("x@y", TENANT), Ok((4, TENANT, None)));
    }

    #[test]
    fn of_token_services_of_a_realm_there_must_be_one() {
        let every = server("every", "c", "*");
        let two = vec![server("a", "a", TENANT), server("b", "b", TENANT)];
        let mut configured = Configured { auth_servers: two.clone(), ..configured() };
        check(&configured, &offer("x@y", TENANT), Err("token service b"));
        configured.auth_servers = [two, vec![every.clone()]].concat();
        check(&configured, &offer("x@y", TENANT), Ok((4, TENANT, Some(("every", TENANT)))));
        configured.auth_servers = vec![every.clone(), server("d", "d", "*")];
        check(&configured, &offer("x@y", TENANT), Err("token service every"));
        configured.auth_servers = vec![every];
        check(&configured, &offer("", TENANT), Ok((4, TENANT, Some(("every", TENANT)))));
        check(&configured, &offer("x@y", ""), Err("the relay trusts x@y, and configured is"));
    }

    #[test]
    fn an_error_names_what_was_offered_and_what_is_configured() {
        let own = format!("{EXCHANGE}@fabrikam.com");
        let row_5 = |offered: &str| format!("the relay trusts {offered}, and configured is {own};");
        for offered in [format!("{STS}@*"), format!("{EXCHANGE}@*"), format!("{EXCHANGE}@contoso.com")] {
            check(&configured(), &offer(&offered, ""), Err(&row_5(&offered)));
        }
        check(&configured(), &offer("", ""), Err(&row_5("no issuer")));
        let named = row_5(&format!("{STS}@x, {STS}@y (realm {TENANT})"));
        check(&configured(), &offer(&format!("{STS}@x, {STS}@y"), TENANT), Err(&named));
        let unread = AuthServer { name: "MicrosoftSts".to_owned(), service: Err("never read".to_owned()) };
        let partners = vec![Principal::new("p", "q")];
        let all =
            Configured { auth_servers: vec![server("s", "x", OTHER), unread], partners, ..configured() };
        let named = format!(
            "{own}, token service s (x@{OTHER}), token service MicrosoftSts (never read), partner p@q;"
        );
        check(&all, &offer("a@b", ""), Err(&named));
    }
}
