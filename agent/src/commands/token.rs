//! `mailbadge token`: mints a token for the relay and shows what it says. The key is never shown, the token only when
//! asked for.

use super::relay::{self, RelayAccess};
use super::{Context, Exit, Failure};
use crate::forwarder::driver::Bearer;
use crate::forwarder::wire::EMPTY_BATCH;
use crate::https::quote;
use crate::time::UnixMs;
use crate::token;
use crate::token::driver::request_token;
use crate::token::keeper::ChallengeAnswer;
use crate::token::mint::{Minted, mint};
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
    let mut access = relay::open(context)?;
    let minted = relay::runtime()?.block_on(async {
        let asked = challenge(&access).await?;
        let minted = minted(&access, asked.clone(), context).await;
        let may_help = minted.as_ref().is_err_and(token::Error::may_be_cured_by_documents);
        if may_help && access.read_documents(context.now()).await? {
            return Ok(self::minted(&access, asked, context).await);
        }
        Ok::<_, Failure>(minted)
    })?;
    let minted = minted.map_err(|error| Failure { exit: Exit::Unavailable, error: Some(error.into()) })?;
    tell(args, &minted, context)
}

/// The relay's answer to an empty bearer token; where it asks for no token, the challenge of one that trusts this host.
async fn challenge(access: &RelayAccess) -> Result<ChallengeAnswer, Failure> {
    let unreachable = |failure: crate::https::Failure| {
        Failure::new(
            Exit::Unavailable,
            format!("no challenge from {}: {failure}; `mailbadge probe` says more", access.url),
        )
    };
    let asked = access.client.post(access.post(Bearer::Empty, EMPTY_BATCH)).await.map_err(unreachable)?;
    let own = &access.token.configured.own;
    let open = || vec![format!("Bearer client_id=\"{}\", trusted_issuers=\"{own}\"", own.id)];
    Ok(match asked.status {
        200..=299 => ChallengeAnswer { status: 401, www_authenticate: open(), asked_wait: None },
        status => ChallengeAnswer { status, www_authenticate: asked.www_authenticate, asked_wait: None },
    })
}

async fn minted(
    access: &RelayAccess,
    asked: ChallengeAnswer,
    context: &Context,
) -> Result<Minted, token::Error> {
    let exchange = async |request| request_token(&access.token_service, &request).await;
    let minted = mint(&access.token, &access.signer, asked, exchange, || context.clock.now()).await?;
    minted.ok_or(token::Error::NoChallenge)
}

fn tell(args: &Args, minted: &Minted, context: &mut Context) -> Result<(), Failure> {
    let text = minted.token.expose_secret();
    let (header, claims) = (part(text, 0), part(text, 1));
    let life = minted.life;
    if context.screen.is_json {
        let mut shown = json!({
            "Row": minted.choice.row, "IssuedBy": minted.choice.issuer.to_string(), "Header": header,
            "Claims": claims, "Expires": minted.expires, "LifetimeSeconds": life.as_secs(),
        });
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
    let lifetime = humantime::format_duration(life).to_string();
    let date = |name: &str| {
        let seconds = claims.get(name).and_then(number);
        seconds.map(|seconds| UnixMs::from_seconds(seconds).to_string()).unwrap_or_default()
    };
    let mut fields = vec![
        ("IssuedBy", minted.choice.to_string()),
        ("X5t", words(&header, "x5t")),
        ("Issuer", words(&claims, "iss")),
        ("Audience", words(&claims, "aud")),
        ("NameId", words(&claims, "nameid")),
        ("TrustedForDelegation", words(&claims, "trustedfordelegation")),
        ("NotBefore", date("nbf")),
        ("Expires", minted.expires.to_string()),
        ("Lifetime", lifetime),
    ];
    fields.extend(args.show.then(|| ("Token", text.to_owned())));
    Ok(context.screen.fields(&fields)?)
}

/// A claim as text; what a token service puts there is not ours to believe.
fn words(claims: &Value, name: &str) -> String {
    claims.get(name).and_then(Value::as_str).map(quote).unwrap_or_default()
}

/// A number, or one in quotes (protocol.md §5.2).
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// One of the token's JSON parts, as it stands there.
fn decoded(token: &str, index: usize) -> Vec<u8> {
    let encoded = token.split('.').nth(index).unwrap_or_default();
    URL_SAFE_NO_PAD.decode(encoded).unwrap_or_default()
}

fn part(token: &str, index: usize) -> Value {
    serde_json::from_slice(&decoded(token, index)).unwrap_or_default()
}
