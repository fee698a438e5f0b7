//! Tenants of the cloud side: their domains, who may speak for them, and the certificates that prove it.
//!
//! What a token must hold is decided in `relay/token_check`; how much a tenant may send, in `relay/budget`.

pub mod credential;

use super::metadata::{MetadataError, Published};
use super::principal::Audience;
use credential::KeyCredential;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use thiserror::Error;

/// Tenants at most.
pub const TENANTS_MAX: usize = 1024;
/// Issuers of one kind of a tenant at most.
pub const ISSUERS_MAX: usize = 64;
/// Longest URL of a metadata document.
const URL_BYTES_MAX: usize = 2048;
/// Resources of a tenant at most.
pub const RESOURCES_MAX: usize = 64;
/// Certificates of an issuer at most: previous, current and next, and room for some that nobody cleaned up.
pub const CREDENTIALS_MAX: usize = 10;
/// Issuers that one challenge names at most; a header has to fit into a client's limits.
const CHALLENGE_ISSUERS_MAX: usize = 32;

/// Why a tenant or a credential was not taken.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TenantError {
    /// Not a GUID.
    #[error("tenant id {0:?} is not a GUID like 11111111-2222-3333-4444-555555555555")]
    Id(String),
    /// Another tenant has this domain.
    #[error("domain {0} belongs to another tenant")]
    DomainTaken(String),
    /// A realm that would match anything or nothing.
    #[error("an issuer needs an application id and a realm; * and the empty realm are nobody's")]
    Realm,
    /// Nothing that could be read.
    #[error("a metadata URL begins with https:// or http:// and has {URL_BYTES_MAX} characters at most")]
    MetadataUrl,
    /// Too many of them.
    #[error("over {0} {1}")]
    TooMany(usize, &'static str),
    /// No such tenant.
    #[error("no tenant {0}")]
    Unknown(String),
}

/// Someone who signs: a partner application, a token service, or a service principal with its assertions.
#[derive(Clone, Debug, Default)]
pub struct Issuer {
    /// The application id.
    pub application_id: String,
    /// The realm; never empty.
    pub realm: String,
    /// Certificates that were registered.
    pub credentials: Vec<KeyCredential>,
    /// Where its metadata document is, whose certificates count too.
    pub metadata_url: Option<String>,
    /// The document's, when it was read last.
    pub published: Vec<KeyCredential>,
}

impl Issuer {
    /// An issuer without certificates yet.
    pub fn new(application_id: &str, realm: &str) -> Self {
        Self { application_id: application_id.to_owned(), realm: realm.to_owned(), ..Self::default() }
    }

    /// Certificates, any of which may have signed.
    pub fn certificates(&self) -> impl Iterator<Item = &KeyCredential> + Clone {
        self.credentials.iter().chain(&self.published)
    }

    /// The same, trusted by its metadata document.
    #[must_use]
    pub fn by_document(mut self, url: &str) -> Self {
        self.metadata_url = Some(url.to_owned());
        self
    }

    /// Whether both are the same principal.
    pub fn is(&self, other: &Self) -> bool {
        self.application_id.eq_ignore_ascii_case(&other.application_id)
            && self.realm.eq_ignore_ascii_case(&other.realm)
    }

    /// The same with one more certificate.
    #[must_use]
    pub fn with(mut self, credential: KeyCredential) -> Self {
        self.credentials.push(credential);
        self
    }
}

impl Issuer {
    /// Its certificates by this document, if it is its own.
    fn published_by(&self, bytes: &[u8], kind: IssuerKind) -> Result<Vec<KeyCredential>, MetadataError> {
        let published = Published::read(bytes, kind)?;
        // A common document speaks for every realm of its service.
        let realm = if published.realm.is_empty() { &self.realm } else { &published.realm };
        let named = Self::new(&published.application_id, realm);
        if !named.is(self) {
            return Err(MetadataError::Stranger {
                named: format!("{}@{}", named.application_id, named.realm),
                expected: format!("{}@{}", self.application_id, self.realm),
            });
        }
        Ok(published.credentials)
    }
}

/// One organization at the relay.
#[derive(Clone, Debug, Default)]
pub struct Tenant {
    /// The tenant's GUID: its realm.
    pub id: String,
    /// Domains that stand for the tenant as a realm too.
    pub accepted_domains: Vec<String>,
    /// Directly trusted: their own tokens are taken.
    pub partner_applications: Vec<Issuer>,
    /// Trusted to issue tokens for registered applications.
    pub token_services: Vec<Issuer>,
    /// Applications that the token service issues for, by assertions that they sign.
    pub service_principals: Vec<Issuer>,
    /// Further applications whose tokens by a token service are taken.
    pub registered_applications: Vec<String>,
    /// `application id/host` for which the token service issues; a host with `:port` where it is not https's default.
    pub resources: Vec<String>,
    /// Notifications a minute it may send; nothing means no limit.
    pub notifications_per_minute: Option<u32>,
}

impl Tenant {
    /// Whether this realm, GUID or domain, is the tenant.
    pub fn is_realm(&self, realm: &str) -> bool {
        let own = std::iter::once(&self.id).chain(&self.accepted_domains);
        own.into_iter().any(|name| name.eq_ignore_ascii_case(realm))
    }

    /// Whether tokens of this application, issued by a token service, are taken.
    pub fn has_registered(&self, application_id: &str) -> bool {
        let principals = self.service_principals.iter().map(|principal| &principal.application_id);
        let mut all = self.registered_applications.iter().chain(principals);
        all.any(|id| id.eq_ignore_ascii_case(application_id))
    }

    /// Whether the token service issues for this application at this host.
    pub fn has_resource(&self, audience: Audience<'_>) -> bool {
        let is_same = |known: &String| {
            known.split_once('/').is_some_and(|(id, authority)| {
                id.eq_ignore_ascii_case(audience.id) && authority.eq_ignore_ascii_case(audience.authority)
            })
        };
        self.resources.iter().any(is_same)
    }

    /// The issuers of a kind.
    pub const fn issuers(&self, kind: IssuerKind) -> &Vec<Issuer> {
        match kind {
            IssuerKind::Partner => &self.partner_applications,
            IssuerKind::TokenService => &self.token_services,
            IssuerKind::ServicePrincipal => &self.service_principals,
        }
    }

    /// Documents that its issuers are trusted by.
    pub fn metadata_urls(&self) -> impl Iterator<Item = &str> {
        self.all_issuers().filter_map(|issuer| issuer.metadata_url.as_deref())
    }

    fn all_issuers(&self) -> impl Iterator<Item = &Issuer> {
        IssuerKind::ALL.into_iter().flat_map(|kind| self.issuers(kind))
    }

    /// The issuer like this one, which is added where there is none.
    fn issuer_mut(&mut self, kind: IssuerKind, issuer: &Issuer) -> &mut Issuer {
        let list = self.issuers_mut(kind);
        if !list.iter().any(|known| known.is(issuer)) {
            list.push(issuer.clone());
        }
        list.iter_mut().find(|known| known.is(issuer)).expect("it was there or was pushed just now")
    }

    const fn issuers_mut(&mut self, kind: IssuerKind) -> &mut Vec<Issuer> {
        match kind {
            IssuerKind::Partner => &mut self.partner_applications,
            IssuerKind::TokenService => &mut self.token_services,
            IssuerKind::ServicePrincipal => &mut self.service_principals,
        }
    }
}

/// Which list of a tenant an issuer stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IssuerKind {
    /// Signs its own tokens.
    Partner,
    /// Signs tokens for registered applications.
    TokenService,
    /// Signs assertions that a token service takes.
    ServicePrincipal,
}

impl IssuerKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Partner, Self::TokenService, Self::ServicePrincipal];
}

/// All tenants. Relay and token service know the same ones. A number grows with every change, so that what was decided with older ones can be forgotten.
#[derive(Clone, Debug, Default)]
pub struct Tenants {
    tenants: Vec<Tenant>,
    generation: u64,
}

impl Tenants {
    /// Adds a tenant or replaces the one with its id.
    pub fn put(&mut self, tenant: Tenant) -> Result<(), TenantError> {
        check(&tenant)?;
        for other in self.tenants.iter().filter(|t| !t.id.eq_ignore_ascii_case(&tenant.id)) {
            if let Some(domain) = tenant.accepted_domains.iter().find(|d| other.is_realm(d)) {
                return Err(TenantError::DomainTaken(domain.clone()));
            }
        }
        self.generation += 1;
        if let Some(old) = self.tenants.iter_mut().find(|t| t.id.eq_ignore_ascii_case(&tenant.id)) {
            *old = tenant;
            return Ok(());
        }
        if self.tenants.len() >= TENANTS_MAX {
            return Err(TenantError::TooMany(TENANTS_MAX, "tenants"));
        }
        self.tenants.push(tenant);
        Ok(())
    }

    /// Changes a tenant found by GUID or domain, under the same checks as [`Tenants::put`].
    pub fn change(&mut self, realm: &str, change: impl FnOnce(&mut Tenant)) -> Result<(), TenantError> {
        let mut tenant = self.find(realm).cloned().ok_or_else(|| TenantError::Unknown(realm.to_owned()))?;
        change(&mut tenant);
        self.put(tenant)
    }

    /// Adds a key credential to an issuer of a tenant, and the issuer where it is new. Tells whether it was not known before.
    pub fn add_credential(
        &mut self,
        realm: &str,
        kind: IssuerKind,
        issuer: &Issuer,
        credential: KeyCredential,
    ) -> Result<bool, TenantError> {
        let mut is_new = false;
        self.change(realm, |tenant| {
            let known = tenant.issuer_mut(kind, issuer);
            // The same certificate again may come with other dates.
            let before = known.credentials.len();
            known.credentials.retain(|c| c.x5t() != credential.x5t());
            is_new = known.credentials.len() == before;
            known.credentials.push(credential);
        })?;
        Ok(is_new)
    }

    /// Trusts an issuer of a tenant by its metadata document from now on.
    pub fn trust_document(
        &mut self,
        realm: &str,
        kind: IssuerKind,
        issuer: &Issuer,
        url: &str,
    ) -> Result<(), TenantError> {
        self.change(realm, |tenant| {
            let known = tenant.issuer_mut(kind, issuer);
            known.metadata_url = Some(url.to_owned());
            known.published.clear();
        })
    }

    /// Takes the certificate with this thumbprint or `x5t` away from every issuer of a tenant. Tells how many there were.
    pub fn remove_credential(&mut self, realm: &str, name: &str) -> Result<usize, TenantError> {
        let mut removed = 0;
        self.change(realm, |tenant| {
            for kind in IssuerKind::ALL {
                for issuer in tenant.issuers_mut(kind) {
                    let before = issuer.credentials.len();
                    issuer
                        .credentials
                        .retain(|c| c.x5t() != name && !c.thumbprint().eq_ignore_ascii_case(name));
                    removed += before - issuer.credentials.len();
                }
            }
        })?;
        Ok(removed)
    }

    /// Forgets a tenant. Tells whether there was one.
    pub fn remove(&mut self, realm: &str) -> bool {
        let before = self.tenants.len();
        self.tenants.retain(|t| !t.is_realm(realm));
        self.generation += 1;
        self.tenants.len() < before
    }

    /// The tenant of this realm, GUID or domain.
    pub fn find(&self, realm: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|t| t.is_realm(realm))
    }

    /// All of them, in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.iter()
    }

    /// Grows with every change.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// URLs of the documents that issuers are trusted by, and whether what it said is known everywhere.
    pub fn documents(&self) -> BTreeMap<&str, bool> {
        let mut documents = BTreeMap::new();
        for issuer in self.tenants.iter().flat_map(Tenant::all_issuers) {
            if let Some(url) = issuer.metadata_url.as_deref() {
                *documents.entry(url).or_insert(true) &= !issuer.published.is_empty();
            }
        }
        documents
    }

    /// Takes over the certificates of the document at a URL, for every issuer that names it and that it is of. Tells how
    /// many there were.
    pub fn take_document(&mut self, url: &str, bytes: &[u8]) -> Result<usize, MetadataError> {
        let mut outcome = Ok(0);
        let mut is_changed = false;
        for tenant in &mut self.tenants {
            for kind in IssuerKind::ALL {
                let named = |issuer: &&mut Issuer| issuer.metadata_url.as_deref() == Some(url);
                for issuer in tenant.issuers_mut(kind).iter_mut().filter(named) {
                    match issuer.published_by(bytes, kind) {
                        Ok(published) => {
                            outcome = outcome.and(Ok(published.len()));
                            is_changed |= issuer.published != published;
                            issuer.published = published;
                        }
                        Err(error) => outcome = Err(error),
                    }
                }
            }
        }
        self.generation += u64::from(is_changed);
        outcome
    }

    /// `id@realm` of everyone who is trusted, as a challenge lists them (protocol.md §5.3).
    pub fn trusted_issuers(&self) -> String {
        let all = self.tenants.iter().flat_map(|t| t.partner_applications.iter().chain(&t.token_services));
        let mut text = String::new();
        for issuer in all.take(CHALLENGE_ISSUERS_MAX) {
            let comma = if text.is_empty() { "" } else { "," };
            write!(text, "{comma}{}@{}", issuer.application_id, issuer.realm)
                .expect("a String takes every write");
        }
        text
    }
}

fn check(tenant: &Tenant) -> Result<(), TenantError> {
    if !is_guid(&tenant.id) {
        return Err(TenantError::Id(tenant.id.clone()));
    }
    if tenant.resources.len() > RESOURCES_MAX {
        return Err(TenantError::TooMany(RESOURCES_MAX, "resources"));
    }
    for list in IssuerKind::ALL.map(|kind| tenant.issuers(kind)) {
        if list.len() > ISSUERS_MAX {
            return Err(TenantError::TooMany(ISSUERS_MAX, "issuers of a kind"));
        }
        for issuer in list {
            // What goes into a challenge unquoted must not end its quotes.
            let is_plain = |text: &str| {
                !text.is_empty()
                    && text != "*"
                    && !text.contains(['"', ',', '@', '/', '\\'])
                    && text.is_ascii()
            };
            if !is_plain(&issuer.application_id) || !is_plain(&issuer.realm) {
                return Err(TenantError::Realm);
            }
            if issuer.metadata_url.as_ref().is_some_and(|url| !is_web_url(url)) {
                return Err(TenantError::MetadataUrl);
            }
            if issuer.credentials.len() > CREDENTIALS_MAX {
                return Err(TenantError::TooMany(CREDENTIALS_MAX, "certificates of an issuer"));
            }
        }
    }
    Ok(())
}

fn is_web_url(url: &str) -> bool {
    let is_web = ["https://", "http://"].iter().any(|scheme| url.starts_with(scheme));
    is_web && url.len() <= URL_BYTES_MAX && url.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether the text has the form `8-4-4-4-12` hex digits.
pub fn is_guid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let mut parts = text.split('-');
    lengths.iter().all(|&length| {
        parts.next().is_some_and(|p| p.len() == length && p.bytes().all(|b| b.is_ascii_hexdigit()))
    }) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTOSO: &str = "99999999-2222-3333-4444-555555555555";

    fn tenant(id: &str, domain: &str) -> Tenant {
        Tenant { id: id.to_owned(), accepted_domains: vec![domain.to_owned()], ..Tenant::default() }
    }

    #[test]
    fn a_tenant_is_found_by_guid_and_by_domain_in_any_case() {
        let mut tenants = Tenants::default();
        tenants.put(tenant(CONTOSO, "contoso.com")).expect("a good tenant");
        assert!(tenants.find("CONTOSO.com").is_some());
        assert!(tenants.find(CONTOSO).is_some());
        assert!(tenants.find("").is_none());
    }

    #[test]
    fn what_would_weaken_trust_is_refused() {
        let mut tenants = Tenants::default();
        tenants.put(tenant(CONTOSO, "contoso.com")).expect("a good tenant");
        let taken = tenants.put(tenant("11111111-2222-3333-4444-555555555555", "Contoso.com"));
        assert_eq!(taken, Err(TenantError::DomainTaken("Contoso.com".to_owned())));
        assert!(matches!(tenants.put(tenant("contoso", "x.example")), Err(TenantError::Id(_))));
        for realm in ["", "*", "a\",b"] {
            let mut open = tenant(CONTOSO, "contoso.com");
            open.partner_applications.push(Issuer::new("app", realm));
            assert_eq!(tenants.put(open), Err(TenantError::Realm), "{realm}");
        }
    }

    #[test]
    fn a_guid_has_five_groups_of_hex_digits() {
        assert!(is_guid("11111111-2222-3333-4444-55555555555F"));
        for text in [
            "",
            "fabrikam",
            "11111111-2222-3333-4444",
            "11111111-2222-3333-4444-555555555555-",
            "g1111111-2222-3333-4444-555555555555",
        ] {
            assert!(!is_guid(text), "{text}");
        }
    }
}
