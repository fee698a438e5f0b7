//! What a relay demands of a token, check by check in the order of protocol.md §5.6.
//!
//! What any token must be stands in `peers/jwt`; what a token that passed may send is not decided here.

use crate::peers::jwt::{
    self, Decoded, LifetimeFault, SignatureFault, decode, demands_extensions, is_live, is_valid, text,
};
use crate::peers::principal::{Audience, Principal};
use crate::peers::tenant::{Issuer, IssuerKind, Tenant, Tenants};
use crate::peers::unix_time::UnixMicros;
use serde_json::{Map, Value};
use std::time::Duration;

/// Claims that only a token for a user has.
const USER_CLAIMS: [&str; 10] =
    ["actortoken", "actor", "appctx", "nii", "smtp", "sip", "upn", "unique_name", "scp", "puid"];

/// What `x-ms-diagnostics` says went wrong (protocol.md §5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// 2000000
    InvalidSignature,
    /// 2000001
    InvalidToken,
    /// 2000002
    TokenExpired,
    /// 2000003
    InvalidResource,
    /// 2000004
    InvalidTenant,
    /// 2000006
    InvalidClient,
    /// Not a refusal of the token: 403, the caller acts for a user.
    NotAppOnly,
}

impl Category {
    /// The number; the status where there is none.
    pub const fn code(self) -> u32 {
        match self {
            Self::InvalidSignature => 2_000_000,
            Self::InvalidToken => 2_000_001,
            Self::TokenExpired => 2_000_002,
            Self::InvalidResource => 2_000_003,
            Self::InvalidTenant => 2_000_004,
            Self::InvalidClient => 2_000_006,
            Self::NotAppOnly => 403,
        }
    }

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidSignature => "invalid_signature",
            Self::InvalidToken => "invalid_token",
            Self::TokenExpired => "token_expired",
            Self::InvalidResource => "invalid_resource",
            Self::InvalidTenant => "invalid_tenant",
            Self::InvalidClient => "invalid_client",
            Self::NotAppOnly => "not_app_only",
        }
    }
}

/// A token that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind.
    pub category: Category,
    /// For people. Holds nothing of the token.
    pub reason: String,
}

fn refuse<T>(category: Category, reason: &str) -> Result<T, Refusal> {
    Err(Refusal { category, reason: reason.to_owned() })
}

impl From<SignatureFault> for Refusal {
    fn from(fault: SignatureFault) -> Self {
        Self { category: Category::InvalidSignature, reason: fault.to_string() }
    }
}

impl From<LifetimeFault> for Refusal {
    fn from(fault: LifetimeFault) -> Self {
        Self { category: Category::TokenExpired, reason: fault.to_string() }
    }
}

/// What of an accepted token has to be looked at again at each use: everything else cannot change while trust does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The tenant's GUID.
    pub tenant: String,
    authority: String,
    not_before_s: u64,
    expires_s: u64,
    certificate: (UnixMicros, UnixMicros),
}

impl Accepted {
    /// Whether it would be accepted again, now and for this authority.
    pub fn holds(&self, authority: &str, now: UnixMicros, tolerance: Duration) -> bool {
        self.authority.eq_ignore_ascii_case(authority)
            && is_live(self.not_before_s, self.expires_s, now, tolerance)
            && is_valid(self.certificate, now)
    }
}

/// A relay's point of view.
#[derive(Clone, Copy, Debug)]
pub struct TokenCheck<'a> {
    /// The relay's own application id.
    pub own_application_id: &'a str,
    /// Whom it trusts.
    pub tenants: &'a Tenants,
    /// Of the request: host, with a port that is not the default.
    pub authority: &'a str,
    /// The relay's clock.
    pub now: UnixMicros,
    /// How far clocks may differ.
    pub tolerance: Duration,
}

impl TokenCheck<'_> {
    /// All checks, in order.
    pub fn check(&self, token: &str) -> Result<Accepted, Refusal> {
        self.check_decoded(token, decode(token).as_ref())
    }

    /// The same where the token was decoded before.
    pub fn check_decoded(&self, token: &str, decoded: Option<&Decoded>) -> Result<Accepted, Refusal> {
        let Some(Decoded { header, claims }) = decoded else {
            return refuse(Category::InvalidToken, "not a token: three base64url parts of JSON objects are");
        };
        if demands_extensions(header) {
            return refuse(Category::InvalidToken, "the header demands extensions that are not understood");
        }
        let audience = self.audience(claims)?;
        let Some(issuer) = text(claims, "iss").and_then(Principal::parse) else {
            return refuse(Category::InvalidToken, "the issuer is missing or is not id@realm");
        };
        let tenant = self.tenants.find(audience.realm);
        let Some((kind, trusted, owner)) = self.trusted(issuer, tenant) else {
            return refuse(Category::InvalidToken, "the issuer is not trusted");
        };
        let signer = jwt::signer(token, header, trusted.certificates(), self.now)?;
        let (not_before_s, expires_s) = jwt::lifetime(claims, self.now, self.tolerance)?;
        // Trusted by another tenant is not trusted by this one.
        let Some(tenant) = tenant.filter(|tenant| tenant.id == owner.id) else {
            return refuse(
                Category::InvalidTenant,
                "the audience's realm is no tenant that trusts this issuer",
            );
        };
        name_id(claims, issuer, kind, tenant)?;
        if USER_CLAIMS.iter().any(|claim| claims.contains_key(*claim)) {
            return refuse(Category::NotAppOnly, "the caller acts for a user");
        }
        Ok(Accepted {
            tenant: tenant.id.clone(),
            authority: audience.authority.to_owned(),
            not_before_s,
            expires_s,
            certificate: signer.validity(),
        })
    }

    /// Where the certificates of a token's issuer are published, if it is trusted by that.
    pub fn document(&self, decoded: Option<&Decoded>) -> Option<&str> {
        let claims = &decoded?.claims;
        let audience = self.audience(claims).ok()?;
        let issuer = text(claims, "iss").and_then(Principal::parse)?;
        let (_, trusted, _) = self.trusted(issuer, self.tenants.find(audience.realm))?;
        trusted.metadata_url.as_deref()
    }

    /// Checks 2 to 4.
    fn audience<'c>(&self, claims: &'c Map<String, Value>) -> Result<Audience<'c>, Refusal> {
        let Some(audience) = text(claims, "aud").and_then(Audience::parse) else {
            return refuse(Category::InvalidToken, "the audience is not id/host@realm");
        };
        if !audience.id.eq_ignore_ascii_case(self.own_application_id) {
            return refuse(Category::InvalidToken, "the audience is another application");
        }
        if !audience.authority.eq_ignore_ascii_case(self.authority) {
            return refuse(Category::InvalidResource, "the audience's host differs from the request's");
        }
        if audience.realm.is_empty() {
            return refuse(Category::InvalidResource, "the audience's realm is empty");
        }
        Ok(audience)
    }

    /// Check 6: the issuer as the audience's tenant knows it, else as any other tenant does, with the tenant that does.
    fn trusted(
        &self,
        issuer: Principal<'_>,
        tenant: Option<&'_ Tenant>,
    ) -> Option<(IssuerKind, &Issuer, &Tenant)> {
        let own = tenant.and_then(|tenant| self.tenants.find(&tenant.id));
        own.into_iter().chain(self.tenants.iter()).find_map(|tenant| {
            let find = |list: &'_ [Issuer]| {
                list.iter().position(|known| issuer.is(&known.application_id, &known.realm))
            };
            let service = find(&tenant.token_services).and_then(|at| tenant.token_services.get(at));
            let partner =
                find(&tenant.partner_applications).and_then(|at| tenant.partner_applications.get(at));
            service
                .map(|service| (IssuerKind::TokenService, service, tenant))
                .or_else(|| partner.map(|partner| (IssuerKind::Partner, partner, tenant)))
        })
    }
}

/// Check 10.
fn name_id(
    claims: &Map<String, Value>,
    issuer: Principal<'_>,
    kind: IssuerKind,
    tenant: &Tenant,
) -> Result<(), Refusal> {
    let Some(name) = text(claims, "nameid").and_then(Principal::parse) else {
        return refuse(Category::InvalidToken, "nameid is missing or is not app@realm");
    };
    if kind == IssuerKind::Partner {
        let is_itself = name.is(issuer.id, issuer.realm);
        return if is_itself { Ok(()) } else { refuse(Category::InvalidToken, "nameid is not the issuer") };
    }
    if !name.is(name.id, issuer.realm) {
        return refuse(Category::InvalidToken, "nameid is of another realm than the issuer");
    }
    if !tenant.has_registered(name.id) {
        return refuse(Category::InvalidClient, "the application is not registered");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::jwt::CLOCK_SKEW;
    use crate::peers::tenant::credential::KeyCredential;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;
    use serde_json::json;

    const NOW: UnixMicros = UnixMicros::from_seconds(1_795_420_860);

    fn certificate(name: &str) -> KeyCredential {
        let path = format!("{}/../fixtures/certificates/{name}.cer", env!("CARGO_MANIFEST_DIR"));
        KeyCredential::read(&std::fs::read(path).expect("the fixture")).expect("a certificate")
    }

    /// A token of a fixture's key, with these claims put over good ones.
    fn token(signer: &str, over: &Value) -> String {
        token_with(&json!({ "alg": "RS256" }), signer, over)
    }

    fn token_with(header: &Value, signer: &str, over: &Value) -> String {
        let path = format!("{}/../fixtures/certificates/{signer}.key.pem", env!("CARGO_MANIFEST_DIR"));
        let pem = std::fs::read(path).expect("the fixture");
        let key = rustls_pki_types::pem::PemObject::from_pem_slice(&pem).expect("PEM");
        let rustls_pki_types::PrivateKeyDer::Pkcs8(key) = key else { panic!("PKCS#8") };
        let key = aws_lc_rs::signature::RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).expect("RSA");
        let mut claims = json!({
            "iss": "app@fabrikam.com", "nameid": "app@fabrikam.com", "aud": "relay/h@fabrikam.com",
            "nbf": NOW.seconds(), "exp": NOW.seconds() + 600,
        });
        for (name, value) in over.as_object().expect("claims") {
            claims[name] = value.clone();
        }
        let parts = [header, &claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let message = parts.join(".");
        let mut signature = vec![0; key.public_modulus_len()];
        let random = aws_lc_rs::rand::SystemRandom::new();
        let rs256 = &aws_lc_rs::signature::RSA_PKCS1_SHA256;
        key.sign(rs256, &random, message.as_bytes(), &mut signature).expect("a signature");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn tenants() -> Tenants {
        let partner =
            Issuer::new("app", "fabrikam.com").with(certificate("agent")).with(certificate("expired"));
        let mut tenants = Tenants::default();
        let tenant = Tenant {
            id: "11111111-2222-3333-4444-555555555555".to_owned(),
            accepted_domains: vec!["fabrikam.com".to_owned()],
            partner_applications: vec![partner],
            ..Tenant::default()
        };
        tenants.put(tenant).expect("a good tenant");
        tenants
    }

    fn judge(token: &str) -> Result<Accepted, Refusal> {
        let tenants = tenants();
        let check = TokenCheck {
            own_application_id: "relay",
            tenants: &tenants,
            authority: "h",
            now: NOW,
            tolerance: CLOCK_SKEW,
        };
        check.check(token)
    }

    #[test]
    fn any_certificate_of_the_issuer_may_sign_but_not_an_expired_one() {
        assert!(judge(&token("agent", &json!({}))).is_ok());
        let expired = judge(&token("expired", &json!({}))).expect_err("it expired");
        assert_eq!(expired.category, Category::InvalidSignature);
        assert!(expired.reason.contains("expired"));
        let stranger = judge(&token("stranger", &json!({}))).expect_err("nobody knows it");
        assert_eq!(stranger.category, Category::InvalidSignature);
    }

    #[test]
    fn of_two_faults_the_one_that_is_checked_first_is_told() {
        let cases = [
            (json!({ "aud": "other/x@", "exp": 0 }), Category::InvalidToken),
            (json!({ "aud": "relay/x@", "iss": "nobody" }), Category::InvalidResource),
            (json!({ "aud": "relay/h@", "iss": "nobody" }), Category::InvalidResource),
            (json!({ "iss": "who@where", "exp": 0 }), Category::InvalidToken),
            (json!({ "exp": 0, "aud": "relay/h@nowhere" }), Category::TokenExpired),
            (json!({ "aud": "relay/h@nowhere", "nameid": "x" }), Category::InvalidTenant),
            (json!({ "nameid": "x", "smtp": "a@b" }), Category::InvalidToken),
            (json!({ "smtp": "a@b" }), Category::NotAppOnly),
        ];
        for (claims, category) in cases {
            let refusal = judge(&token("agent", &claims)).expect_err("refused");
            assert_eq!(refusal.category, category, "{claims}");
        }
    }

    #[test]
    fn a_header_that_demands_extensions_is_refused_whatever_it_demands() {
        let contents = [json!([]), json!(["exp"]), json!(["b64", 7]), json!("exp"), json!({}), json!(null)];
        for crit in contents {
            let header = json!({ "alg": "RS256", "crit": crit, "b64": false });
            let refusal = judge(&token_with(&header, "agent", &json!({}))).expect_err("refused");
            assert_eq!(refusal.category, Category::InvalidToken, "{crit}");
        }
        let other = json!({ "alg": "RS256", "typ": "JWT", "Crit": [], "more": 1 });
        assert!(judge(&token_with(&other, "agent", &json!({}))).is_ok(), "members are told apart by case");
    }

    #[test]
    fn a_space_at_a_name_makes_it_another_name() {
        let names =
            [("iss", "app@fabrikam.com"), ("nameid", "app@fabrikam.com"), ("aud", "relay/h@fabrikam.com")];
        for (claim, name) in names {
            for spaced in
                [format!(" {name}"), format!("{name} "), format!("{name}\n"), format!("\u{a0}{name}")]
            {
                assert!(judge(&token("agent", &json!({ claim: spaced }))).is_err(), "{claim} {spaced:?}");
            }
        }
    }

    #[test]
    fn without_tolerance_a_token_begins_and_ends_to_the_second() {
        let tenants = tenants();
        let token = token("agent", &json!({}));
        let judge = |now: UnixMicros, tolerance| {
            let (own_application_id, authority) = ("relay", "h");
            TokenCheck { own_application_id, tenants: &tenants, authority, now, tolerance }.check(&token)
        };
        for (ms, is_taken) in [(-2_000, false), (0, true), (600_000, true), (601_000, false)] {
            let now = NOW.shifted_ms(ms);
            assert_eq!(judge(now, Duration::ZERO).is_ok(), is_taken, "{ms}");
            assert!(judge(now, CLOCK_SKEW).is_ok(), "{ms}");
        }
    }

    #[test]
    fn what_was_accepted_holds_only_here_and_while_it_lives() {
        let accepted = judge(&token("agent", &json!({}))).expect("good");
        assert!(accepted.holds("H", NOW, CLOCK_SKEW));
        assert!(!accepted.holds("other", NOW, CLOCK_SKEW));
        assert!(accepted.holds("h", NOW.after(Duration::from_mins(15)), CLOCK_SKEW));
        assert!(!accepted.holds("h", NOW.after(Duration::from_secs(600 + 301)), CLOCK_SKEW));
        assert!(!accepted.holds("h", NOW.shifted_ms(-301_000), CLOCK_SKEW));
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_a_panic(text: String, header: String, claims: String) {
            prop_assert!(judge(&text).is_err());
            let parts = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
            let token = format!("{}.", parts.join("."));
            prop_assert!(judge(&token).is_err());
        }

        #[test]
        fn any_claims_are_judged_without_a_panic(aud: String, iss: String, nameid: String, nbf: i64, exp: u64) {
            let claims = json!({ "aud": aud, "iss": iss, "nameid": nameid, "nbf": nbf, "exp": exp.to_string() });
            let parts = [json!({ "alg": "RS256" }), claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
            let token = format!("{}.AAAA", parts.join("."));
            prop_assert!(judge(&token).is_err());
        }
    }
}
