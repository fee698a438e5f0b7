//! Metadata documents (protocol.md §5.4): read forgivingly, written strictly. Who an issuer is, which certificates it
//! signs with, and, of a token service, where it issues tokens.
//!
//! Pure: who fetches a document is `token`'s driver, when is its `refresh`; who serves our own is `endpoint`.

use super::certificate::Certificate;
use super::pem::FORGIVING;
use super::principal::Principal;
use crate::https::json::{self, member, without_mark};
use crate::https::url::Url;
use base64::Engine;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use thiserror::Error;
use uuid::Uuid;

/// The largest document that is read, in bytes.
pub const BYTES_MAX: usize = crate::https::CONTENT_BYTES_MAX;
/// How many signing certificates of a document are kept; those behind are passed over.
pub const KEYS_MAX: usize = 10;
/// How many endpoints of a document are looked at.
const ENDPOINTS_MAX: usize = 64;

/// What is wrong with a document, by the member that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// More than [`BYTES_MAX`].
    #[error("metadata document: longer than {BYTES_MAX} bytes")]
    TooLong,
    /// Something else than a JSON object.
    #[error("metadata document: no JSON object ({0}); is the URL that of a metadata document?")]
    NotJson(String),
    /// A member that is missing or of no use.
    #[error("metadata document: {member} {reason}")]
    Member {
        /// Its name and place: `keys[1].keyvalue.value`.
        member: String,
        /// What is wrong with it.
        reason: String,
    },
}

fn wrong(member: impl Into<String>, reason: impl Into<String>) -> MetadataError {
    MetadataError::Member { member: member.into(), reason: reason.into() }
}

/// Somebody who issues tokens, as he describes himself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// `id`: names this document, `_` and a GUID as a rule; may be empty.
    pub id: String,
    /// `name`, for people; may be empty.
    pub name: String,
    /// Whose tokens these are: `issuer` where that holds `@`, else `serviceName` and `realm`.
    pub issuer: Principal,
    /// `allowedAudiences`.
    pub allowed_audiences: Vec<String>,
    /// `keys`: the certificates of usage `signing`, 1 to [`KEYS_MAX`].
    pub certificates: Vec<Certificate>,
    /// `endpoints`.
    pub endpoints: Vec<Endpoint>,
}

/// A place that a document names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `location`, as it stands.
    pub location: String,
    /// `protocol`: `OAuth2`.
    pub protocol: String,
    /// `usage`: `issuance` or `metadata`.
    pub usage: String,
}

/// A token service, as far as one that asks it needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenService {
    /// Its application id in the realm that it issues for; `*` where that is every one.
    pub principal: Principal,
    /// Where it issues tokens.
    pub endpoint: Arc<Url>,
}

impl Document {
    /// Reads a document, whoever's it is. Members may stand in any order and letter case; of a name that stands
    /// there twice one counts; unknown ones are passed over.
    pub fn read(bytes: &[u8]) -> Result<Self, MetadataError> {
        if bytes.len() > BYTES_MAX {
            return Err(MetadataError::TooLong);
        }
        let value: Value = serde_json::from_slice(without_mark(bytes))
            .map_err(|error| MetadataError::NotJson(error.to_string()))?;
        let Value::Object(document) = &value else {
            return Err(MetadataError::NotJson(String::from("something else")));
        };
        Ok(Self {
            id: text(document, "id").unwrap_or_default(),
            name: text(document, "name").unwrap_or_default(),
            issuer: issuer(document)?,
            allowed_audiences: list(document, "allowedAudiences")
                .iter()
                .filter_map(|audience| audience.as_str().map(str::to_owned))
                .collect(),
            certificates: certificates(document)?,
            endpoints: list(document, "endpoints").iter().take(ENDPOINTS_MAX).filter_map(endpoint).collect(),
        })
    }

    /// The document of a mail host, by which others trust its own tokens; `None` without a certificate. `guid` names the
    /// host for good.
    pub fn of_host(
        own: Principal,
        organization: &str,
        guid: &str,
        certificates: Vec<Certificate>,
    ) -> Option<Self> {
        (!certificates.is_empty()).then(|| Self {
            id: format!("_{guid}"),
            name: organization.to_owned(),
            allowed_audiences: vec![format!("{}/{organization}@{}", own.id, own.realm)],
            issuer: own,
            certificates,
            endpoints: Vec::new(),
        })
    }

    /// What it says of a token service: its realm is a tenant's GUID or empty, and it has an issuance endpoint that
    /// a secret may be sent to.
    pub fn token_service(&self) -> Result<TokenService, MetadataError> {
        let realm = &self.issuer.realm;
        if !realm.is_empty() && Uuid::try_parse(realm.as_str()).is_err() {
            return Err(wrong(
                "realm",
                format!("is {:?}; expected a tenant's GUID or \"*\"", short(realm.as_str())),
            ));
        }
        let is_issuance = |one: &&Endpoint| {
            one.usage.eq_ignore_ascii_case("issuance") && one.protocol.eq_ignore_ascii_case("OAuth2")
        };
        let found = self.endpoints.iter().find(is_issuance);
        let found = found.ok_or_else(|| {
            wrong("endpoints", "name none of protocol OAuth2 and usage issuance; a token service needs one")
        })?;
        let endpoint = Url::parse(&found.location)
            .map_err(|error| wrong("location of the issuance endpoint", format!("is {error}")))?;
        Ok(TokenService { principal: self.issuer.clone(), endpoint: Arc::new(endpoint) })
    }

    /// The document as JSON.
    pub fn write(&self) -> Vec<u8> {
        let realm = if self.issuer.realm.is_empty() { "*" } else { self.issuer.realm.as_str() };
        let key = |certificate: &Certificate| {
            json!({
                "usage": "signing",
                "keyinfo": { "x5t": certificate.thumbprint().x5t() },
                "keyvalue": { "type": "x509Certificate", "value": certificate.base64() },
            })
        };
        let endpoint = |one: &Endpoint| json!({ "location": one.location, "protocol": one.protocol, "usage": one.usage });
        let document = json!({
            "id": self.id,
            "version": "1.0",
            "name": self.name,
            "realm": realm,
            "serviceName": self.issuer.id,
            "issuer": self.issuer.to_string(),
            "allowedAudiences": self.allowed_audiences,
            "keys": self.certificates.iter().take(KEYS_MAX).map(key).collect::<Vec<_>>(),
            "endpoints": self.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        });
        document.to_string().into_bytes()
    }
}

fn text(object: &Map<String, Value>, name: &str) -> Option<String> {
    member(object, name)?.as_str().map(|text| text.trim().to_owned())
}

fn list<'a>(object: &'a Map<String, Value>, name: &str) -> &'a [Value] {
    json::list(member(object, name))
}

fn issuer(document: &Map<String, Value>) -> Result<Principal, MetadataError> {
    let given = text(document, "issuer").filter(|issuer| issuer.contains('@'));
    if let Some(given) = given {
        // What is none leaves the other two to say it.
        let other = || composed(document).ok();
        let issuer = Principal::parse(&given).or_else(other);
        return issuer.ok_or_else(|| wrong("issuer", format!("is {:?}; expected id@realm", short(&given))));
    }
    composed(document)
}

/// By `serviceName` and `realm`.
fn composed(document: &Map<String, Value>) -> Result<Principal, MetadataError> {
    let id = text(document, "serviceName").filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| wrong("serviceName", "is missing, and issuer is no id@realm"))?;
    let realm =
        text(document, "realm").ok_or_else(|| wrong("realm", "is missing, and issuer is no id@realm"))?;
    // By the rule of an issuer, so that what is written says the same as what was read.
    Principal::parse(&format!("{id}@{realm}"))
        .ok_or_else(|| wrong("serviceName", format!("is {:?}; expected an application id", short(&id))))
}

/// The first [`KEYS_MAX`] that can be read; only where none can be is it said of the first why.
fn certificates(document: &Map<String, Value>) -> Result<Vec<Certificate>, MetadataError> {
    let (mut found, mut first_wrong) = (Vec::new(), None);
    for (index, key) in list(document, "keys").iter().enumerate() {
        match certificate(index, key) {
            Ok(certificate) => found.extend(certificate),
            Err(wrong) => first_wrong = first_wrong.or(Some(wrong)),
        }
        if found.len() == KEYS_MAX {
            break;
        }
    }
    if found.is_empty() {
        return Err(first_wrong.unwrap_or_else(|| wrong("keys", "hold no signing certificate")));
    }
    Ok(found)
}

/// `None` for a key of another usage than signing.
fn certificate(index: usize, key: &Value) -> Result<Option<Certificate>, MetadataError> {
    let place = |name: &str| format!("keys[{index}]{name}");
    let key = key.as_object().ok_or_else(|| wrong(place(""), "is no object"))?;
    if text(key, "usage").is_some_and(|usage| !usage.eq_ignore_ascii_case("signing")) {
        return Ok(None);
    }
    let value = member(key, "keyvalue").and_then(Value::as_object);
    let value = value.ok_or_else(|| wrong(place(".keyvalue"), "is missing"))?;
    if text(value, "type").is_some_and(|kind| !kind.eq_ignore_ascii_case("x509Certificate")) {
        return Err(wrong(place(".keyvalue.type"), "is something else than x509Certificate"));
    }
    let base64: String = text(value, "value").unwrap_or_default().split_whitespace().collect();
    let unreadable = |reason: String| wrong(place(".keyvalue.value"), format!("is {reason}"));
    let der = FORGIVING.decode(base64).map_err(|error| unreadable(format!("no base64: {error}")))?;
    Certificate::from_der(&der, "").map(Some).map_err(|error| unreadable(error.to_string()))
}

/// `None` for what is no endpoint.
fn endpoint(value: &Value) -> Option<Endpoint> {
    let object = value.as_object()?;
    Some(Endpoint {
        location: text(object, "location")?,
        protocol: text(object, "protocol").unwrap_or_default(),
        usage: text(object, "usage").unwrap_or_default(),
    })
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &[u8] = include_bytes!("../../../fixtures/metadata/good.json");
    const SPELLED: &[u8] = include_bytes!("../../../fixtures/metadata/good-other-spelling.json");
    const AGENT: &str = include_str!("../../../fixtures/certificates/agent.cert.pem");
    const STS: &str = include_str!("../../../fixtures/certificates/sts.cert.pem");
    const SERVICE: &str = "00000001-0000-0000-c000-000000000000@11111111-2222-3333-4444-555555555555";

    fn read(bytes: &[u8]) -> Result<TokenService, MetadataError> {
        Document::read(bytes)?.token_service()
    }

    /// The document with one member replaced, or removed where `value` is null.
    fn with(pointer: &str, value: Value) -> Vec<u8> {
        let mut document: Value = serde_json::from_slice(GOOD).unwrap();
        *document.pointer_mut(pointer).unwrap() = value;
        document.to_string().into_bytes()
    }

    #[test]
    fn good_documents_are_read_however_their_members_are_spelled() {
        let sts = Certificate::from_pem(STS, "").unwrap();
        for bytes in [GOOD, SPELLED] {
            let document = Document::read(bytes).unwrap();
            assert_eq!(document.certificates, std::slice::from_ref(&sts));
            assert_eq!(document.allowed_audiences.len(), 1);
            let service = document.token_service().unwrap();
            assert_eq!(service.principal.to_string(), SERVICE);
            let endpoint = "https://sts.example/11111111-2222-3333-4444-555555555555/tokens/OAuth/2";
            assert_eq!(service.endpoint.to_string(), endpoint);
        }
    }

    #[test]
    fn bad_documents_are_refused_with_the_member_that_is_wrong() {
        let nowhere = "http://sts.example/tokens/OAuth/2";
        let cases: [(Vec<u8>, &str); 13] = [
            (
                include_bytes!("../../../fixtures/metadata/bad-certificate.json").to_vec(),
                "keys[0].keyvalue.value is",
            ),
            (
                include_bytes!("../../../fixtures/metadata/bad-no-issuance.json").to_vec(),
                "endpoints name none",
            ),
            (include_bytes!("../../../fixtures/metadata/bad-no-key.json").to_vec(), "keys hold no"),
            (
                include_bytes!("../../../fixtures/metadata/bad-realm-not-a-guid.json").to_vec(),
                "realm is \"fabrikam.com\"",
            ),
            (with("/endpoints/0/location", json!(nowhere)), "plain http is for loopback only"),
            (with("/endpoints/0/location", json!("nonsense")), "location of the issuance endpoint"),
            (with("/keys/0/keyvalue/value", json!("!")), "no base64"),
            (with("/keys/0/keyvalue/type", json!("rsa")), "keys[0].keyvalue.type"),
            (with("/keys/0", json!(7)), "keys[0] is no object"),
            (b"<html>".to_vec(), "no JSON object"),
            (b"[]".to_vec(), "no JSON object"),
            (b"{}".to_vec(), "serviceName is missing"),
            (vec![b' '; BYTES_MAX + 1], "longer than 65536 bytes"),
        ];
        for (bytes, expected) in cases {
            let error = read(&bytes).unwrap_err().to_string();
            assert!(
                error.starts_with("metadata document: ") && error.contains(expected),
                "{expected}: {error}"
            );
        }
    }

    #[test]
    fn an_issuer_wins_over_service_name_and_realm() {
        for (issuer, expected) in [("a@*", "a@*"), ("b@C", "b@C"), ("no principal", SERVICE), ("@x", SERVICE)]
        {
            let document = Document::read(&with("/issuer", json!(issuer))).unwrap();
            assert_eq!(document.issuer.to_string(), expected);
        }
        assert!(read(&with("/issuer", json!("a@*"))).is_ok(), "a service for every realm");
    }

    /// Found by fuzzing: a service name with a slash was kept whole, and came back cut once it was written.
    #[test]
    fn a_service_name_is_read_by_the_rule_of_an_issuer() {
        let named = |name: &str| {
            let mut document: Value = serde_json::from_slice(GOOD).unwrap();
            (document["issuer"], document["serviceName"]) = (json!(""), json!(name));
            Document::read(document.to_string().as_bytes())
        };
        let document = named("a/b").unwrap();
        assert_eq!(document.issuer.id, "a");
        assert_eq!(Document::read(&document.write()).unwrap().issuer, document.issuer);
        assert!(named("/").unwrap_err().to_string().contains("serviceName is \"/\""));
    }

    #[test]
    fn keys_of_another_usage_are_passed_over_and_ten_are_kept() {
        let mut document: Value = serde_json::from_slice(GOOD).unwrap();
        let key = document["keys"][0].clone();
        let mut other = key.clone();
        other["usage"] = json!("encryption");
        let keys: Vec<Value> = [other].into_iter().chain(std::iter::repeat_n(key, 20)).collect();
        document["keys"] = json!(keys);
        assert_eq!(Document::read(document.to_string().as_bytes()).unwrap().certificates.len(), KEYS_MAX);
    }

    #[test]
    fn a_key_that_cannot_be_read_does_not_cost_the_good_one() {
        let mut document: Value = serde_json::from_slice(GOOD).unwrap();
        let good = document["keys"][0].clone();
        let odd = [json!(null), json!(7), json!({}), json!({"keyvalue": {"type": "rsa", "value": "AQAB"}})];
        document["keys"] = json!(odd.iter().chain([&good]).chain(&odd).collect::<Vec<_>>());
        document["endpoints"] = json!([null, 7, document["endpoints"][0]]);
        document["allowedAudiences"] = Value::Null;
        assert!(read(document.to_string().as_bytes()).is_ok());
        document["keys"] = good;
        assert!(Document::read(document.to_string().as_bytes()).is_ok(), "one key, and no list");
    }

    #[test]
    fn names_are_written_as_the_protocol_spells_them() {
        let written = Document::read(SPELLED).unwrap().write();
        let mut expected: Value = serde_json::from_slice(GOOD).unwrap();
        let written: Value = serde_json::from_slice(&written).unwrap();
        expected["issuer"] = json!(SERVICE);
        assert_eq!(written, expected);
    }

    #[test]
    fn the_document_of_a_host_names_its_certificates_and_where_it_is_at_home() {
        let certificate = Certificate::from_pem(AGENT, "").unwrap();
        let own = Principal::new("00000002-0000-0ff1-ce00-000000000000", "fabrikam.com");
        let of_host = |certificates| Document::of_host(own.clone(), "fabrikam.com", "7d1f", certificates);
        let written = of_host(vec![certificate.clone()]).unwrap().write();
        let text = String::from_utf8(written.clone()).unwrap();
        assert!(text.contains(r#""issuer":"00000002-0000-0ff1-ce00-000000000000@fabrikam.com""#), "{text}");
        assert!(text.contains(r#""id":"_7d1f""#) && text.contains(r#""x5t":"WUE_lidFxKqWfRzETdHqRhsu5wY""#));
        assert_eq!(Document::read(&written).unwrap().certificates, [certificate]);
        assert_eq!(of_host(Vec::new()), None);
    }

    fn any_document() -> impl Strategy<Value = Document> {
        let text = "[ -~é]{0,12}";
        let realm = prop_oneof![Just(String::new()), "[a-z.]{1,12}"];
        let endpoint = ("[!-~]{1,20}", "[!-~]{0,8}", "[!-~]{0,8}")
            .prop_map(|(location, protocol, usage)| Endpoint { location, protocol, usage });
        let certificates = prop_oneof![Just(vec![AGENT]), Just(vec![STS, AGENT])]
            .prop_map(|pems| pems.into_iter().map(|pem| Certificate::from_pem(pem, "").unwrap()).collect());
        let endpoints = proptest::collection::vec(endpoint, 0..3);
        (text, text, "[0-9a-f-]{1,12}", realm, proptest::collection::vec(text, 0..3), certificates, endpoints)
            .prop_map(|(id, name, app, realm, allowed_audiences, certificates, endpoints)| Document {
                id: id.trim().to_owned(),
                name: name.trim().to_owned(),
                issuer: Principal::new(&app, &realm),
                allowed_audiences,
                certificates,
                endpoints,
            })
    }

    proptest! {
        #[test]
        fn a_document_reads_as_it_was_written(document in any_document()) {
            prop_assert_eq!(Document::read(&document.write()), Ok(document));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn no_damage_makes_it_panic(at in 0..GOOD.len(), byte: u8, cut in 0..GOOD.len()) {
            let mut bytes = GOOD.to_vec();
            bytes[at] = byte;
            let _ = (read(&bytes), read(&GOOD[..cut]));
        }
    }
}
