//! `mailbadge probe` (protocol.md §4): tries the whole way to the relay and says where it ends.

use super::relay::{self, RelayAccess};
use super::{Context, Exit, Failure};
use crate::forwarder::probe::{Probe, ProbeReport};
use crate::token::driver::request_token;
use serde::Serialize;
use std::sync::Arc;

/// Sends one monitoring notification through the relay, which reaches no device; exit 0 or 69.
#[derive(Debug, clap::Args)]
pub struct Args {}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ProbeOutput {
    result_type: &'static str,
    error: String,
    exception: String,
    component: Option<String>,
    clock_offset_seconds: Option<f64>,
}

/// Runs the command.
pub fn run(_: &Args, context: &mut Context) -> Result<(), Failure> {
    let report = match relay::open(context) {
        Ok(access) => {
            if !access.is_enabled {
                context
                    .screen
                    .remark("The proxy is disabled: counts are not forwarded whatever this finds.")?;
            }
            probe(access, context)?
        }
        // What `proxy enable` or `setup` would cure is the probe's to tell; the rest stopped us before we came so far.
        Err(Failure { exit: Exit::Config, error: Some(error) })
            if !error.is::<crate::config::ConfigError>() =>
        {
            ProbeReport::configuration(&format!("{error:#}"))
        }
        Err(failure) => return Err(failure),
    };
    tell(&report, context)?;
    if report.trouble.is_none() { Ok(()) } else { Err(Failure::told(Exit::Unavailable)) }
}

/// Probes once, and once more where token services' documents had to be read first.
pub(super) fn probe(mut access: RelayAccess, context: &Context) -> Result<ProbeReport, Failure> {
    relay::runtime()?.block_on(async {
        let report = probe_once(&access, context).await;
        let may_help = report.trouble.as_ref().is_some_and(|trouble| trouble.may_be_cured_by_documents);
        if may_help && access.read_documents(context.now()).await? {
            return Ok(probe_once(&access, context).await);
        }
        Ok(report)
    })
}

async fn probe_once(access: &RelayAccess, context: &Context) -> ProbeReport {
    let RelayAccess { url, client, token_service, token, signer, .. } = access;
    let (url, token, signer) = (Arc::clone(url), token.clone(), signer.clone());
    let probe = Probe { url, request_id: relay::request_id(), token, signer };
    let post = async |post| client.post(post).await;
    let exchange = async |request| request_token(token_service, &request).await;
    probe.run(post, exchange, || context.clock.now()).await
}

fn tell(report: &ProbeReport, context: &mut Context) -> Result<(), Failure> {
    let output = ProbeOutput {
        result_type: report.result_type(),
        error: report.error(),
        exception: report.exception().to_owned(),
        component: report.trouble.as_ref().map(|trouble| trouble.component.to_string()),
        clock_offset_seconds: report.clock_offset_ms.map(|offset| offset as f64 / 1000.0),
    };
    if context.screen.is_json {
        return Ok(context.screen.json(&output)?);
    }
    let ProbeOutput { result_type, error, exception, .. } = output;
    Ok(context.screen.fields(&[
        ("ResultType", result_type.to_owned()),
        ("Error", error),
        ("Exception", exception),
    ])?)
}
