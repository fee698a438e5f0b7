//! Authentication metadata documents (protocol.md §5.4): written by whoever signs, read by whoever trusts it by URL.

use super::principal::Principal;
use super::tenant::IssuerKind;
use super::tenant::credential::KeyCredential;
use super::tenant::is_guid;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use thiserror::Error;

/// A longer document is not read, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// Keys kept of a document, at most.
pub const KEYS_MAX: usize = 10;

/// What a document says, before it is written.
#[derive(Clone, Debug)]
pub struct Document {
    /// For people.
    pub name: String,
    /// `serviceName`.
    pub application_id: String,
    /// A tenant's GUID, or `*`.
    pub realm: String,
    /// Host, with a port that is not the default.
    pub authority: String,
    /// Of the keys, in DER.
    pub certificates: Vec<Vec<u8>>,
    /// Where tokens are issued.
    pub issuance: Option<String>,
    /// Where documents are.
    pub metadata: String,
}

impl Document {
    /// The document.
    pub fn to_json(&self) -> Value {
        let key = |der: &Vec<u8>| {
            let credential = KeyCredential::from_der(der).ok()?;
            Some(json!({
                "usage": "signing",
                "keyinfo": { "x5t": credential.x5t() },
                "keyvalue": { "type": "x509Certificate", "value": STANDARD.encode(der) },
            }))
        };
        let endpoint = |location: &String, usage: &str| json!({ "location": location, "protocol": "OAuth2", "usage": usage });
        let issuance = self.issuance.iter().map(|location| endpoint(location, "issuance"));
        let endpoints: Vec<Value> = issuance.chain([endpoint(&self.metadata, "metadata")]).collect();
        json!({
            "id": format!("_{}", self.application_id),
            "version": "1.0",
            "name": self.name,
            "realm": self.realm,
            "serviceName": self.application_id,
            "issuer": format!("{}@{}", self.application_id, self.realm),
            "allowedAudiences": [format!("{}/{}@{}", self.application_id, self.authority, self.realm)],
            "keys": self.certificates.iter().filter_map(key).collect::<Vec<Value>>(),
            "endpoints": endpoints,
        })
    }
}

/// Why a document was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// Longer than [`DOCUMENT_BYTES_MAX`].
    #[error("a document of over {DOCUMENT_BYTES_MAX} bytes")]
    TooLong,
    /// Something else.
    #[error("not a JSON object")]
    NotJson,
    /// No name for who signs.
    #[error("neither an issuer id@realm nor a serviceName")]
    NoIssuer,
    /// Of another realm than a tenant.
    #[error("the realm {0:?} is neither a GUID nor *")]
    Realm(String),
    /// No key of use.
    #[error("no signing key with a readable RSA certificate of 2048 bits")]
    NoKey,
    /// A token service that issues nowhere.
    #[error("no endpoint whose usage is issuance")]
    NoIssuance,
    /// Of someone else.
    #[error("the document is of {named} and not of {expected}")]
    Stranger {
        /// Whose it is.
        named: String,
        /// Whose it should be.
        expected: String,
    },
}

/// What a reader keeps of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The application id that signs.
    pub application_id: String,
    /// Its realm; empty for a common document.
    pub realm: String,
    /// Its certificates, [`KEYS_MAX`] at most.
    pub credentials: Vec<KeyCredential>,
}

impl Published {
    /// Reads a document of a token service or a partner: names in any case, unknown members and keys of no use skipped.
    pub fn read(bytes: &[u8], kind: IssuerKind) -> Result<Self, MetadataError> {
        if bytes.len() > DOCUMENT_BYTES_MAX {
            return Err(MetadataError::TooLong);
        }
        let document: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|_| MetadataError::NotJson)?;
        let issuer = text(&document, "issuer").and_then(Principal::parse);
        let (application_id, realm) = match issuer {
            Some(issuer) => (issuer.id, issuer.realm),
            None => (text(&document, "serviceName").unwrap_or(""), text(&document, "realm").unwrap_or("")),
        };
        if application_id.is_empty() {
            return Err(MetadataError::NoIssuer);
        }
        let realm = if realm == "*" { "" } else { realm };
        if kind == IssuerKind::TokenService {
            if !realm.is_empty() && !is_guid(realm) {
                return Err(MetadataError::Realm(realm.to_owned()));
            }
            if !list(&document, "endpoints").any(|endpoint| text(endpoint, "usage") == Some("issuance")) {
                return Err(MetadataError::NoIssuance);
            }
        }
        let credentials: Vec<KeyCredential> =
            list(&document, "keys").filter_map(credential).take(KEYS_MAX).collect();
        if credentials.is_empty() {
            return Err(MetadataError::NoKey);
        }
        Ok(Self { application_id: application_id.to_owned(), realm: realm.to_owned(), credentials })
    }
}

fn credential(key: &Map<String, Value>) -> Option<KeyCredential> {
    let is_signing = text(key, "usage").is_none_or(|usage| usage.eq_ignore_ascii_case("signing"));
    let value = member(key, "keyvalue")?.as_object()?;
    let is_certificate = text(value, "type").is_some_and(|kind| kind.eq_ignore_ascii_case("x509Certificate"));
    let der =
        (is_signing && is_certificate).then(|| STANDARD.decode(text(value, "value")?).ok()).flatten()?;
    KeyCredential::from_der(&der).ok()
}

/// The objects of a list, other things skipped.
fn list<'a>(object: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = &'a Map<String, Value>> {
    member(object, name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    member(object, name)?.as_str().map(str::trim)
}

fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fixture(path: &str) -> Vec<u8> {
        let path = format!("{}/../fixtures/{path}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn document() -> Document {
        Document {
            name: "sts".to_owned(),
            application_id: "00000001-0000-0000-c000-000000000000".to_owned(),
            realm: "11111111-2222-3333-4444-555555555555".to_owned(),
            authority: "sts.example".to_owned(),
            certificates: vec![fixture("certificates/sts.cer"), fixture("certificates/agent.cer")],
            issuance: Some("https://sts.example/tokens/OAuth/2".to_owned()),
            metadata: "https://sts.example/metadata/json/1".to_owned(),
        }
    }

    #[test]
    fn documents_are_taken_and_refused_as_the_vectors_say() {
        let cases = [
            ("good", Ok(())),
            ("good-other-spelling", Ok(())),
            ("bad-certificate", Err(MetadataError::NoKey)),
            ("bad-no-key", Err(MetadataError::NoKey)),
            ("bad-no-issuance", Err(MetadataError::NoIssuance)),
            ("bad-realm-not-a-guid", Err(MetadataError::Realm("fabrikam.com".to_owned()))),
        ];
        for (name, expected) in cases {
            let read = Published::read(&fixture(&format!("metadata/{name}.json")), IssuerKind::TokenService);
            if let Ok(published) = &read {
                assert_eq!(published.application_id, "00000001-0000-0000-c000-000000000000", "{name}");
                assert_eq!(published.realm, "11111111-2222-3333-4444-555555555555", "{name}");
                assert_eq!(published.credentials[0].x5t(), "oRqZRBEaMW0l7kqF8kc-mbMoT7o", "{name}");
            }
            assert_eq!(read.map(drop), expected, "{name}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let written = document();
        let read = Published::read(written.to_json().to_string().as_bytes(), IssuerKind::TokenService);
        let read = read.expect("a good document");
        assert_eq!((&read.application_id, &read.realm), (&written.application_id, &written.realm));
        let expected = written.certificates.iter().map(|der| KeyCredential::from_der(der).expect("RSA"));
        assert_eq!(read.credentials, expected.collect::<Vec<_>>());
    }

    #[test]
    fn an_issuer_wins_over_service_name_and_realm_and_a_star_is_the_empty_realm() {
        let mut json = document().to_json();
        let cases = [
            (json!("other@fabrikam.com"), json!("*"), ("other", "fabrikam.com")),
            (json!("no realm"), json!("*"), ("00000001-0000-0000-c000-000000000000", "")),
            (json!("other@*"), json!("fabrikam.com"), ("other", "")),
        ];
        for (issuer, realm, expected) in cases {
            (json["issuer"], json["realm"]) = (issuer, realm);
            let read = Published::read(json.to_string().as_bytes(), IssuerKind::Partner).expect("good");
            assert_eq!((read.application_id.as_str(), read.realm.as_str()), expected, "{json}");
        }
    }

    #[test]
    fn ten_keys_are_kept_and_those_of_no_use_skipped() {
        let mut json = document().to_json();
        let good = json["keys"][0].clone();
        let mut keys = vec![json!(1), json!({ "usage": "encryption", "keyvalue": good["keyvalue"] })];
        keys.extend(std::iter::repeat_n(good, 2 * KEYS_MAX));
        json["keys"] = keys.into();
        let read = Published::read(json.to_string().as_bytes(), IssuerKind::Partner).expect("good");
        assert_eq!(read.credentials.len(), KEYS_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, at: proptest::sample::Index, byte: u8) {
            let _ = Published::read(&bytes, IssuerKind::TokenService);
            let mut bent = document().to_json().to_string().into_bytes();
            let at = at.index(bent.len());
            bent[at] = byte;
            let _ = Published::read(&bent, IssuerKind::TokenService);
        }
    }
}
