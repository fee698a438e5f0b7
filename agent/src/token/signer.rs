//! Signs claims as a JWS with the host's certificate (protocol.md §5.2, RFC 7515 §3.1).
//!
//! Pure arithmetic, under a millisecond, deterministic; when something is signed is the `keeper`'s, always ahead of
//! need: jsonwebtoken parses the key at each signature.

use super::Error;
use super::claims::Claims;
use crate::identity::certificate::Certificate;
use crate::identity::fitness;
use crate::identity::key::PrivateKey;
use crate::time::UnixMs;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::sync::Arc;

/// A token, ready to be sent. Its text is never printed.
#[derive(Clone, Debug)]
pub struct SignedToken {
    /// JWS compact serialization.
    pub token: Arc<SecretString>,
    /// The end of its life.
    pub expires: UnixMs,
}

/// Signs with one certificate.
#[derive(Clone)]
pub struct Signer {
    certificate: Arc<Certificate>,
    key: PrivateKey,
    /// The same key as jsonwebtoken wants it; wiped when dropped.
    encoding_key: Result<EncodingKey, Error>,
    header: Header,
}

impl Signer {
    /// A signer with `certificate` and its `key`; whether they fit is asked at each signature, since time goes by.
    pub fn new(certificate: Certificate, key: PrivateKey) -> Self {
        // Already installed is as good: it is the only provider in the tree.
        let _already = DEFAULT_PROVIDER.install_default();
        let x5t = certificate.thumbprint().x5t();
        let header = Header { x5t: Some(x5t), ..Header::new(Algorithm::RS256) };
        Self { certificate: Arc::new(certificate), encoding_key: encoding_key(&key), key, header }
    }

    /// The certificate that signs.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Signs `claims`; refuses with a certificate that does not fit (protocol.md §5.7) when they are signed.
    pub fn sign(&self, claims: &Claims) -> Result<SignedToken, Error> {
        fitness::check(&self.certificate, &self.key, claims.signed_at())
            .map_err(|unfit| Error::Signing(unfit.to_string()))?;
        let key = self.encoding_key.as_ref().map_err(Clone::clone)?;
        let text = jsonwebtoken::encode(&self.header, claims, key)
            .map_err(|error| Error::Signing(error.to_string()))?;
        Ok(SignedToken { token: Arc::new(SecretString::from(text)), expires: claims.expires() })
    }
}

fn encoding_key(key: &PrivateKey) -> Result<EncodingKey, Error> {
    let pem = key.to_pkcs8_pem().map_err(|error| Error::Signing(error.to_string()))?;
    EncodingKey::from_rsa_pem(pem.expose_secret().as_bytes())
        .map_err(|error| Error::Signing(error.to_string()))
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.certificate.thumbprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::principal::{Audience, Principal};
    use crate::token::claims::BACK_DATED;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{DecodingKey, Validation};
    use std::time::Duration;

    const NOW: UnixMs = UnixMs(1_767_268_500_000);
    const AGENT_PUBLIC: &str = include_str!("../../../fixtures/certificates/agent.cert.pem");
    const AGENT_PRIVATE: &str = include_str!("../../../fixtures/certificates/agent.key.pem");

    fn signer() -> Signer {
        let certificate = Certificate::from_pem(AGENT_PUBLIC, "").unwrap();
        Signer::new(certificate, PrivateKey::from_pem(AGENT_PRIVATE).unwrap())
    }

    fn claims() -> Claims {
        let own = Principal::new("00000002-0000-0ff1-ce00-000000000000", "fabrikam.com");
        let audience =
            "00000002-0000-0ff1-ce00-000000000000/relay.example@11111111-2222-3333-4444-555555555555";
        let audience = Audience::parse(audience).unwrap();
        Claims::self_issued(&own, &audience, false, Duration::from_hours(24), NOW.after(BACK_DATED))
    }

    fn part(token: &SignedToken, place: usize) -> String {
        let text = token.token.expose_secret().split('.').nth(place).unwrap();
        String::from_utf8(URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
    }

    #[test]
    fn header_and_claims_are_those_of_the_protocol_sample() {
        let token = signer().sign(&claims()).unwrap();
        assert_eq!(part(&token, 0), r#"{"typ":"JWT","alg":"RS256","x5t":"WUE_lidFxKqWfRzETdHqRhsu5wY"}"#);
        let expected = concat!(
            r#"{"iss":"00000002-0000-0ff1-ce00-000000000000@fabrikam.com","#,
            r#""aud":"00000002-0000-0ff1-ce00-000000000000/relay.example@11111111-2222-3333-4444-555555555555","#,
            r#""nbf":1767268500,"exp":1767354900,"#,
            r#""nameid":"00000002-0000-0ff1-ce00-000000000000@fabrikam.com","trustedfordelegation":"false"}"#,
        );
        assert_eq!(part(&token, 1), expected);
        assert_eq!(token.expires, UnixMs(1_767_354_900_000));
    }

    #[test]
    fn the_signature_verifies_and_a_changed_token_does_not() {
        let signer = signer();
        let token = signer.sign(&claims()).unwrap();
        let mut rules = Validation::new(Algorithm::RS256);
        rules.validate_exp = false;
        rules.validate_aud = false;
        let key = DecodingKey::from_rsa_der(signer.key.public_der());
        let text = token.token.expose_secret();
        assert!(jsonwebtoken::decode::<serde_json::Value>(text, &key, &rules).is_ok());
        let (content, signature) = text.rsplit_once('.').unwrap();
        let forged = format!("{}A.{signature}", &content[..content.len() - 1]);
        assert!(jsonwebtoken::decode::<serde_json::Value>(&forged, &key, &rules).is_err());
    }

    #[test]
    fn the_same_claims_give_the_same_token() {
        let token = || signer().sign(&claims()).unwrap().token.expose_secret().to_owned();
        assert_eq!(token(), token());
    }

    #[test]
    fn an_expired_certificate_does_not_sign() {
        let late = Claims { nbf: NOW.after(Duration::from_hours(24 * 365 * 6)).seconds(), ..claims() };
        let error = signer().sign(&late).unwrap_err().to_string();
        assert!(error.contains("has expired on 2030-12-31"), "{error}");
    }

    #[test]
    fn debug_shows_nothing_of_the_token() {
        let token = signer().sign(&claims()).unwrap();
        let shown = format!("{token:?}");
        let secret = token.token.expose_secret();
        assert!(!shown.contains(&secret[..20]), "{shown}");
    }
}
