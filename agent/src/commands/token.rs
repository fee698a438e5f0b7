//! `mailbadge token`: mints a token for the relay and shows what it says. The key is never shown, the token only when
//! asked for.

use super::relay::{self, Way};
use super::{Context, Exit, Failure};
use crate::forwarder::answer::Answer;
use crate::forwarder::driver::Bearer;
use crate::forwarder::wire::EMPTY_BATCH;
use crate::identity::principal::Audience;
use crate::time::UnixMs;
use crate::token;
use crate::token::challenge::Challenge;
use crate::token::choice::{Choice, choose};
use crate::token::claims::Claims;
use crate::token::signer::SignedToken;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

/// Asks the relay whom it trusts, mints a token for it, and shows header, claims and lifetime.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shows header and claims as they stand in the token.
    #[arg(long)]
    decode: bool,
    /// Shows the token itself: who has it can send in this host's name until it ends.
    #[arg(long)]
    show: bool,
}

/// Runs the command.
pub fn run(args: &Args, context: &mut Context) -> Result<(), Failure> {
    let way = relay::open(context)?;
    let request = way.client.post(way.post(Bearer::Empty, EMPTY_BATCH));
    let unreachable = |failure: crate::forwarder::answer::Failure| {
        Failure::new(
            Exit::Unavailable,
            format!("no challenge from {}: {failure}; `mailbadge probe` says more", way.url),
        )
    };
    let asked = relay::runtime()?.block_on(request).map_err(unreachable)?;
    let refused = |error: token::Error| Failure { exit: Exit::Unavailable, error: Some(error.into()) };
    let audience = audience(&way, &asked).map_err(refused)?;
    let (own, settings) = (&way.token.configured.own, &way.token);
    let claims = Claims::self_issued(own, &audience, settings.may_delegate, settings.lifetime, context.now());
    let signed = way.signer.sign(&claims).map_err(refused)?;
    tell(args, &claims, &signed, context)
}

/// For whom the relay wants the token to be; where it wants none, for whom it would be.
fn audience(way: &Way, asked: &Answer) -> Result<Audience, token::Error> {
    let configured = &way.token.configured;
    let challenge = match asked.status {
        401 => Challenge::parse(&asked.www_authenticate).ok_or(token::Error::NoChallenge)?,
        200..=299 => Challenge {
            client_id: configured.own.id.clone(),
            issuers: vec![configured.own.clone()],
            ..Challenge::default()
        },
        other => return Err(token::Error::Unexpected(other)),
    };
    let Choice::SelfIssued { audience } = choose(&challenge, configured)?;
    Ok(audience)
}

fn tell(args: &Args, claims: &Claims, signed: &SignedToken, context: &mut Context) -> Result<(), Failure> {
    let text = signed.token.expose_secret();
    let (header, payload) = (part(text, 0), part(text, 1));
    let life = claims.exp.saturating_sub(claims.nbf);
    if context.screen.is_json {
        let mut shown = json!({ "Header": header, "Claims": payload, "Expires": signed.expires, "LifetimeSeconds": life });
        if let Some(object) = shown.as_object_mut().filter(|_| args.show) {
            object.insert("Token".to_owned(), text.into());
        }
        return Ok(context.screen.json(&shown)?);
    }
    if args.decode {
        context.screen.line(String::from_utf8_lossy(&decoded(text, 0)))?;
        context.screen.line(String::from_utf8_lossy(&decoded(text, 1)))?;
        context.screen.line("")?;
    }
    let x5t = header.get("x5t").and_then(Value::as_str).unwrap_or_default().to_owned();
    let lifetime = humantime::format_duration(std::time::Duration::from_secs(life)).to_string();
    let mut fields = vec![
        ("X5t", x5t),
        ("Issuer", claims.iss.clone()),
        ("Audience", claims.aud.clone()),
        ("TrustedForDelegation", claims.trustedfordelegation.to_owned()),
        ("NotBefore", UnixMs::from_seconds(claims.nbf).to_string()),
        ("Expires", signed.expires.to_string()),
        ("Lifetime", lifetime),
    ];
    fields.extend(args.show.then(|| ("Token", text.to_owned())));
    Ok(context.screen.fields(&fields)?)
}

/// One of the token's JSON parts, as it stands there.
fn decoded(token: &str, index: usize) -> Vec<u8> {
    let encoded = token.split('.').nth(index).unwrap_or_default();
    URL_SAFE_NO_PAD.decode(encoded).unwrap_or_default()
}

fn part(token: &str, index: usize) -> Value {
    serde_json::from_slice(&decoded(token, index)).unwrap_or_default()
}
