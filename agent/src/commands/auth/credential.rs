//! `mailbadge auth credential`: the certificate as a key credential (protocol.md §5.7), printed or uploaded.

use super::document::client;
use crate::commands::certificate::chosen;
use crate::commands::{Context, Exit, Failure, relay};
use crate::https::driver::Request;
use crate::https::url::Url;
use crate::https::{Response, quote};
use crate::identity::certificate::Certificate;
use crate::identity::principal::Principal;
use crate::store::Store;
use crate::time::UnixMs;
use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderValue};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Of this certificate; the current one's by default.
    #[arg(long, value_name = "THUMBPRINT")]
    certificate: Option<String>,
    /// Uploads it to a relay's tenant API, for example https://relay.example/tenants/fabrikam.com/credentials.
    #[arg(long, value_name = "URL")]
    register: Option<String>,
}

/// The members are those of New-MsolServicePrincipalCredential.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Credential {
    key_id: String,
    #[serde(rename = "Type")]
    kind: &'static str,
    usage: &'static str,
    start_date: UnixMs,
    end_date: UnixMs,
    thumbprint: String,
    app_principal_id: String,
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    registered: Option<Value>,
}

/// Runs the command.
pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Failure> {
    let config = context.load_config()?;
    let store = context.open_store(&config)?;
    let certificate = chosen(&store, args.certificate.as_deref())?;
    let own = config.own(&store.auth_config()?);
    let mut credential = Credential::of(&certificate, &own);
    if let Some(url) = &args.register {
        let wrong = |error| Failure::new(Exit::Usage, format!("--register {error}"));
        let url = Arc::new(Url::parse(url).map_err(wrong)?);
        let request = credential.request(&url, &own);
        let failed = |failure| {
            let text = format!("{url}: {failure}; is the relay up, and relay.ca-file its authority?");
            Failure::new(Exit::Unavailable, text)
        };
        let response = relay::runtime()?.block_on(client(&config, &url)?.send(request)).map_err(failed)?;
        credential.registered = Some(taken(&url, &response)?);
    }
    tell(&credential, args.register.as_deref(), context)
}

impl Credential {
    fn of(certificate: &Certificate, own: &Principal) -> Self {
        Self {
            key_id: key_id(certificate),
            kind: "Asymmetric",
            usage: "Verify",
            start_date: certificate.not_before(),
            end_date: certificate.not_after(),
            thumbprint: certificate.thumbprint().to_string(),
            app_principal_id: own.id.clone(),
            value: certificate.base64(),
            registered: None,
        }
    }

    /// As directories of service principals take it.
    fn request(&self, url: &Arc<Url>, own: &Principal) -> Request {
        let body = json!({
            "type": "AsymmetricX509Cert",
            "usage": self.usage,
            "key": self.value,
            "startDate": self.start_date,
            "endDate": self.end_date,
            "applicationId": own.id,
            "realm": own.realm.as_str(),
        });
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Request { method: Method::POST, url: Arc::clone(url), headers, body: body.to_string().into() }
    }
}

/// A GUID of this certificate: its subject key identifier where that is one, else the beginning of its thumbprint.
fn key_id(certificate: &Certificate) -> String {
    let thumbprint = certificate.thumbprint().to_string();
    let of_thumbprint = || uuid::Uuid::try_parse(thumbprint.get(..32)?).ok();
    let of_subject = certificate.subject_key_id().and_then(|id| uuid::Uuid::try_parse(&id).ok());
    of_subject.or_else(of_thumbprint).unwrap_or_default().to_string()
}

/// What the relay said, or why it did not take the credential and what to do.
fn taken(url: &Url, response: &Response) -> Result<Value, Failure> {
    let said: Value = serde_json::from_slice(&response.content).unwrap_or_default();
    let words = said
        .get("error")
        .and_then(Value::as_str)
        .map_or_else(|| quote(&String::from_utf8_lossy(&response.content)), quote);
    let remedy = match response.status {
        200..=299 => return Ok(said),
        300..=399 => "it sends us elsewhere, which is not followed; give the URL it names",
        401 | 403 => {
            "it does not let us in; ask those who run it, or have them take what `mailbadge auth credential` prints"
        }
        404 | 410 => "it knows no such tenant; is the tenant in the URL the right one?",
        400 | 413 | 422 => "it does not take the credential; is the certificate the right one?",
        _ => "try again later, or ask those who run it",
    };
    let words = if words.is_empty() { words } else { format!(" ({words})") };
    let text = format!("{url}: refused with {}{words}: {remedy}", response.status);
    Err(Failure::new(Exit::Unavailable, text))
}

fn tell(credential: &Credential, registered_at: Option<&str>, context: &mut Context) -> Result<(), Failure> {
    if context.screen.is_json {
        return Ok(context.screen.json(credential)?);
    }
    context.screen.fields(&[
        ("KeyId", credential.key_id.clone()),
        ("Type", credential.kind.to_owned()),
        ("Usage", credential.usage.to_owned()),
        ("StartDate", credential.start_date.to_string()),
        ("EndDate", credential.end_date.to_string()),
        ("Thumbprint", credential.thumbprint.clone()),
        ("AppPrincipalId", credential.app_principal_id.clone()),
        ("Value", credential.value.clone()),
    ])?;
    if let Some(url) = registered_at {
        context.screen.remark(format!("Registered {} at {url}.", credential.thumbprint))?;
    }
    Ok(())
}
