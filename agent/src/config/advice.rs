//! What is legal but unwise. Advice never stops anything.

use super::names::check_case;
use super::{Advice, Config};
use crate::listen::Listen;
use crate::source::kind::Configured;
use std::sync::Arc;
use std::time::Duration;

/// Holding changes longer than this is felt by people.
const HOLD_WISE: Duration = Duration::from_secs(5);

/// Looks for settings that are legal but unwise.
pub fn check(config: &Config) -> Vec<Advice> {
    let mut advice = config.noticed.clone();
    let mut say = |key: String, what: &str| advice.push(Advice { key, what: what.to_owned() });
    let can_ask = config.sources.iter().any(|source| source.kind().abilities.asked_at.is_some());
    if config.sources.is_empty() {
        say("source".to_owned(), "there is none, so nothing is watched; add a [[source]]");
    } else if !can_ask {
        let what = "no source can be asked for a count, so a change that was not reported stays unseen and a new device \
                    waits for the next change; add a [[source]] of kind \"imap\" or \"doveadm\" to sweep";
        say("source".to_owned(), what);
    }
    if config.relay.max_hold > HOLD_WISE {
        say("relay.max-hold".to_owned(), "badges lag by as much under load; the default is 1s");
    }
    if config.admin.listen.is_none() {
        say(
            "admin.listen".to_owned(),
            "is off, so `mailbadge status`, health checks and metrics have nobody to ask",
        );
    }
    if matches!(&config.endpoint.listen, Some(Listen::Tcp(address)) if !address.ip().is_loopback()) {
        let what = "speaks plain HTTP to the network; keep it on loopback behind a reverse proxy with TLS";
        say("subscriptions.listen".to_owned(), what);
    }
    for source in &config.sources {
        for (key, what) in source.advice() {
            say(format!("source.{}.{key}", source.name()), what);
        }
    }
    advice.extend(check_case(config));
    advice
}

/// Advice where so many subscribed mailboxes are more than a source can read in time.
pub fn check_pace(config: &Config, mailboxes: usize) -> Vec<Advice> {
    let advice = |source: &Arc<dyn Configured>| {
        let (key, what) = source.too_many(mailboxes)?;
        Some(Advice { key: format!("source.{}.{key}", source.name()), what })
    };
    config.sources.iter().filter_map(advice).collect()
}
