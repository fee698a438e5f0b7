//! The commands that call a running simulator's control API: each is one request, its answer is printed.

use crate::client::{Call, call};
use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Something that one call of the control API does.
pub(super) trait Callable {
    /// The request.
    fn call(&self) -> anyhow::Result<Call>;
}

pub(super) fn run(control: &str, command: &impl Callable) -> anyhow::Result<()> {
    let request = command.call()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, answer) = runtime.block_on(call(control, request))?;
    if !(200..300).contains(&status) {
        bail!("{}", answer.get("error").and_then(Value::as_str).unwrap_or("the simulator refused"));
    }
    writeln!(std::io::stdout(), "{answer:#}")?;
    Ok(())
}

#[derive(Subcommand)]
pub(super) enum Tenant {
    /// All of them.
    List,
    /// Adds one, or replaces the one with its id.
    Add {
        /// The tenant's GUID.
        #[arg(long)]
        id: String,
        /// A domain that stands for it; may be given more than once.
        #[arg(long)]
        domain: Vec<String>,
        /// Notifications a minute that it may send.
        #[arg(long, value_name = "N")]
        budget: Option<u32>,
    },
    /// Forgets one.
    Remove {
        /// GUID or domain.
        realm: String,
    },
    /// Trusts a certificate for it.
    Credential {
        /// GUID or domain.
        realm: String,
        /// DER or PEM.
        file: PathBuf,
        /// Whose it is: partner, service-principal or token-service; without it as the organization is trusted.
        #[arg(long)]
        kind: Option<String>,
        /// The application whose it is; Exchange, or the token service's own, unless given.
        #[arg(long, value_name = "GUID")]
        application_id: Option<String>,
    },
    /// Trusts an issuer by its metadata document, which is read at once.
    Document {
        /// GUID or domain.
        realm: String,
        /// Where it is.
        url: String,
        /// Whose it is: partner or token-service.
        #[arg(long, default_value = "partner")]
        kind: String,
        /// The application whose it is; Exchange, or the token service's own, unless given.
        #[arg(long, value_name = "GUID")]
        application_id: Option<String>,
    },
    /// Reads its metadata documents again.
    Refresh {
        /// GUID or domain.
        realm: String,
    },
    /// Trusts a certificate no more.
    RemoveCredential {
        /// GUID or domain.
        realm: String,
        /// The certificate's thumbprint.
        thumbprint: String,
    },
}

impl Callable for Tenant {
    fn call(&self) -> anyhow::Result<Call> {
        Ok(match self {
            Self::List => Call::get("/control/tenants"),
            Self::Add { id, domain, budget } => Call::post(
                "/control/tenants",
                &json!({ "id": id, "acceptedDomains": domain, "notificationsPerMinute": budget }),
            ),
            Self::Remove { realm } => Call::delete(&format!("/control/tenants/{}", segment(realm)?)),
            Self::Credential { realm, file, kind, application_id } => {
                let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
                let path = format!("/control/tenants/{}/credentials", segment(realm)?);
                let put = json!({ "key": text_of(&bytes), "kind": kind, "applicationId": application_id });
                Call::post(&path, &put)
            }
            Self::Document { realm, url, kind, application_id } => {
                let path = format!("/control/tenants/{}/documents", segment(realm)?);
                Call::post(&path, &json!({ "url": url, "kind": kind, "applicationId": application_id }))
            }
            Self::Refresh { realm } => {
                Call::post(&format!("/control/tenants/{}/refresh", segment(realm)?), &json!({}))
            }
            Self::RemoveCredential { realm, thumbprint } => {
                let (realm, thumbprint) = (segment(realm)?, segment(thumbprint)?);
                Call::delete(&format!("/control/tenants/{realm}/credentials/{thumbprint}"))
            }
        })
    }
}

/// PEM and base64 as they are, DER in base64.
fn text_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    let encoded = || base64::engine::general_purpose::STANDARD.encode(bytes);
    std::str::from_utf8(bytes).map_or_else(|_| encoded(), str::to_owned)
}

#[derive(Subcommand)]
pub(super) enum Device {
    /// What icons show.
    List,
    /// Makes one, or says whose inbox it shows.
    Add {
        /// The app, for example com.microsoft.exchange.iphone.
        #[arg(long)]
        app_id: String,
        /// The device; 64 hex digits for an iPhone or iPad.
        #[arg(long)]
        device_id: String,
        /// Whose inbox it shows.
        #[arg(long)]
        mailbox: Option<String>,
    },
    /// Makes one refuse what is sent to it.
    Gone {
        /// The app.
        #[arg(long)]
        app_id: String,
        /// The device.
        #[arg(long)]
        device_id: String,
        /// It is back.
        #[arg(long)]
        back: bool,
    },
}

impl Callable for Device {
    fn call(&self) -> anyhow::Result<Call> {
        let put = match self {
            Self::List => return Ok(Call::get("/control/devices")),
            Self::Add { app_id, device_id, mailbox } => {
                json!({ "appId": app_id, "deviceId": device_id, "mailbox": mailbox })
            }
            Self::Gone { app_id, device_id, back } => {
                json!({ "appId": app_id, "deviceId": device_id, "isGone": !back })
            }
        };
        Ok(Call::post("/control/devices", &put))
    }
}

#[derive(Subcommand)]
pub(super) enum Fault {
    /// Those that are on.
    List,
    /// Switches one on.
    #[command(after_help = KINDS)]
    Add {
        /// What goes wrong.
        kind: String,
        /// What the kind needs, for example ms=200.
        #[arg(value_name = "NAME=VALUE")]
        parameters: Vec<String>,
        /// How many of the requests, 0 to 1.
        #[arg(long, default_value_t = 1.0)]
        rate: f64,
        /// For how long, for example 10s.
        #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
        duration: Option<Duration>,
        /// For how many requests.
        #[arg(long)]
        count: Option<u32>,
        /// Whose: relay or token-service.
        #[arg(long, default_value = "relay")]
        peer: String,
    },
    /// Switches one off.
    Remove {
        /// Its number.
        id: u64,
        /// Whose: relay or token-service.
        #[arg(long, default_value = "relay")]
        peer: String,
    },
    /// Switches all off.
    Clear,
}

const KINDS: &str = "Kinds: refuse, reset, black-hole, delay ms=, slow-bytes rateBytes=, cut afterBytes=, \
unauthorized, back-off ms=, can-retry, too-large, too-many-requests retryAfterS=, unavailable retryAfterS=, retry-after value=, internal, \
bad-request, html [status=], redirect location=, answer-lost, duplicate, clock-offset ms=, no-tolerance, device-gone, over-budget";

impl Callable for Fault {
    fn call(&self) -> anyhow::Result<Call> {
        Ok(match self {
            Self::List => Call::get("/control/faults"),
            Self::Remove { id, peer } => {
                Call::delete(&format!("/control/faults/{id}?peer={}", segment(peer)?))
            }
            Self::Clear => Call::delete("/control/faults"),
            Self::Add { kind, parameters, rate, duration, count, peer } => {
                let mut order = Map::new();
                for parameter in parameters {
                    let (name, value) = parameter
                        .split_once('=')
                        .with_context(|| format!("{parameter:?} is not NAME=VALUE"))?;
                    let number = value.parse::<i64>().map(Value::from);
                    order.insert(name.to_owned(), number.unwrap_or_else(|_| value.into()));
                }
                let duration_ms = duration.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
                order.insert("peer".to_owned(), json!(peer));
                order.insert("kind".to_owned(), json!(kind));
                order.insert("rate".to_owned(), json!(rate));
                order.insert("durationMs".to_owned(), json!(duration_ms));
                order.insert("count".to_owned(), json!(count));
                Call::post("/control/faults", &order.into())
            }
        })
    }
}

#[derive(Subcommand)]
pub(super) enum Relay {
    /// Takes its listener down.
    Stop,
    /// Brings its listener up again.
    Start,
    /// Another certificate for its listener: of its own authority, or of these files.
    RenewCertificate {
        /// The chain in PEM.
        #[arg(long, requires = "key")]
        certificate: Option<PathBuf>,
        /// The key in PEM.
        #[arg(long, requires = "certificate")]
        key: Option<PathBuf>,
    },
}

impl Callable for Relay {
    fn call(&self) -> anyhow::Result<Call> {
        Ok(match self {
            Self::Stop => Call::post("/control/relay/stop", &json!({})),
            Self::Start => Call::post("/control/relay/start", &json!({})),
            Self::RenewCertificate { certificate, key } => {
                Call::post("/control/relay/certificate", &json!({ "certificate": certificate, "key": key }))
            }
        })
    }
}

#[derive(Subcommand)]
pub(super) enum TokenService {
    /// Its keys, and what it was asked lately.
    Show,
    /// Takes its listener down.
    Stop,
    /// Brings its listener up again.
    Start,
    /// The next step of its key's roll-over: a next key is published; the next time it signs.
    Rotate {
        /// This step: publish, use (unannounced where none is published) or forget, which ends the previous key.
        #[arg(long)]
        step: Option<String>,
    },
}

impl Callable for TokenService {
    fn call(&self) -> anyhow::Result<Call> {
        Ok(match self {
            Self::Show => Call::get("/control/token-service"),
            Self::Stop => Call::post("/control/token-service/stop", &json!({})),
            Self::Start => Call::post("/control/token-service/start", &json!({})),
            Self::Rotate { step } => Call::post("/control/token-service/rotate", &json!({ "step": step })),
        })
    }
}

#[derive(Subcommand)]
pub(super) enum Quirk {
    /// Known ones, and which are on.
    List,
    /// Switches one on.
    On {
        /// Its name, for example silent-drop.
        quirk: String,
        /// For this mailbox alone.
        #[arg(long)]
        mailbox: Option<String>,
    },
    /// Switches one off.
    Off {
        /// Its name.
        quirk: String,
        /// For this mailbox alone.
        #[arg(long)]
        mailbox: Option<String>,
    },
}

impl Callable for Quirk {
    fn call(&self) -> anyhow::Result<Call> {
        let (quirk, mailbox, on) = match self {
            Self::List => return Ok(Call::get("/control/quirks")),
            Self::On { quirk, mailbox } => (quirk, mailbox, true),
            Self::Off { quirk, mailbox } => (quirk, mailbox, false),
        };
        Ok(Call::post("/control/quirks", &json!({ "quirk": quirk, "mailbox": mailbox, "on": on })))
    }
}

/// A realm or thumbprint as a part of a path: what would need escaping is none.
fn segment(text: &str) -> anyhow::Result<&str> {
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if is_plain { Ok(text) } else { bail!("{text:?} is neither a GUID, a domain nor a thumbprint") }
}
