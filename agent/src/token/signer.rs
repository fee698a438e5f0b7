//! Signs claims as a JWS with the host's certificate (protocol.md §5.2, RFC 7515 §3.1).
//!
//! Pure arithmetic, under a millisecond, deterministic; when something is signed is the `keeper`'s. The key
//! is parsed once, not at each signature, and never leaves [`PrivateKey`].

use super::Error;
use super::claims::Claims;
use crate::identity::certificate::Certificate;
use crate::identity::fitness;
use crate::identity::key::PrivateKey;
use crate::time::UnixMs;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde::Serialize;
use std::sync::Arc;

/// A token, ready to be sent. Its text is never printed.
#[derive(Clone, Debug)]
pub struct SignedToken {
    /// JWS compact serialization.
    pub token: Arc<SecretString>,
    /// The end of its life.
    pub expires: UnixMs,
}

/// The JWS header, member by member in the order in which it is written.
#[derive(Serialize)]
struct Header {
    typ: &'static str,
    alg: &'static str,
    x5t: String,
}

/// Signs with one certificate.
#[derive(Clone, Debug)]
pub struct Signer {
    certificate: Arc<Certificate>,
    key: PrivateKey,
    /// The header, encoded: the same for every token.
    header: String,
}

impl Signer {
    /// A signer with `certificate` and its `key`; whether they fit is asked at each signature, since time
    /// goes by.
    pub fn new(certificate: Certificate, key: PrivateKey) -> Self {
        let x5t = certificate.thumbprint().x5t();
        let header = encode(&Header { typ: "JWT", alg: "RS256", x5t });
        Self { certificate: Arc::new(certificate), key, header }
    }

    /// The certificate that signs.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Signs `claims`; refuses with a certificate that does not fit (protocol.md §5.7) when they begin to be
    /// valid.
    pub fn sign(&self, claims: &Claims) -> Result<SignedToken, Error> {
        let begin = UnixMs::from_seconds(claims.nbf);
        fitness::check(&self.certificate, &self.key, begin)
            .map_err(|unfit| Error::Signing(unfit.to_string()))?;
        let mut text = format!("{}.{}", self.header, encode(claims));
        let signature = self.key.sign(text.as_bytes()).map_err(|error| Error::Signing(error.to_string()))?;
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        Ok(SignedToken { token: Arc::new(SecretString::from(text)), expires: claims.expires() })
    }
}

fn encode(part: &impl Serialize) -> String {
    let json = serde_json::to_vec(part).expect("texts and numbers have a JSON form");
    URL_SAFE_NO_PAD.encode(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::principal::{Audience, Principal};
    use jsonwebtoken::{Algorithm, DecodingKey, Validation};
    use secrecy::ExposeSecret;
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
        Claims::self_issued(&own, &audience, false, Duration::from_hours(24), NOW)
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

    /// A second opinion: jsonwebtoken checks what aws-lc-rs signed.
    #[test]
    fn another_library_accepts_the_signature() {
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
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
