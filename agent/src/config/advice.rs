//! What is legal but unwise. Advice never stops anything.

use super::names::check_case;
use super::{Config, Source};
use crate::listen::Listen;
use crate::source::dovecot;
use crate::source::imap::{Login, Watch, too_slow};
use std::time::Duration;

/// A sweep that runs less often lets a lost change stand for long.
const SWEEP_INTERVAL_WISE: Duration = Duration::from_hours(1);
/// What to say of it.
const SWEEP_ADVICE: &str = "a change that was not reported stays unseen as long; the default is 15m";
/// Polling more often than this logs in all the time.
const POLL_INTERVAL_WISE: Duration = Duration::from_secs(15);
/// Holding changes longer than this is felt by people.
const HOLD_WISE: Duration = Duration::from_secs(5);

/// The bit of a socket's mode that lets every user write to it.
const OPEN_TO_ALL: u32 = 0o002;

/// One piece of advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Table and key it is about: `source.main.poll-interval`.
    pub key: String,
    /// What is unwise, why, and what would be wiser.
    pub what: String,
}

/// Looks for settings that are legal but unwise.
pub fn check(config: &Config) -> Vec<Advice> {
    let mut advice = config.noticed.clone();
    let mut say = |key: String, what: &str| advice.push(Advice { key, what: what.to_owned() });
    let can_ask = config
        .sources
        .iter()
        .any(|source| matches!(source, Source::Imap(_) | Source::Maildir(_) | Source::Doveadm(_)));
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
        for (key, what) in of_source(source) {
            say(format!("source.{}.{key}", source.name()), what);
        }
    }
    advice.extend(check_case(config));
    advice
}

fn of_source(source: &Source) -> Vec<(&'static str, &'static str)> {
    let mut advice = Vec::new();
    match source {
        Source::Dovecot(settings) => {
            if let dovecot::Listen::Tcp(address) = settings.listen
                && !address.ip().is_loopback()
            {
                advice.push((
                    "listen",
                    "whoever reaches this address can set badges; use a Unix socket or loopback",
                ));
            }
            if matches!(settings.listen, dovecot::Listen::Unix(_)) && settings.mode & OPEN_TO_ALL != 0 {
                advice.push(("mode", "every user of this machine can set badges; give Dovecot's group 0660"));
            }
        }
        Source::Cyrus(settings) => {
            if settings.mode & OPEN_TO_ALL != 0 {
                advice.push(("mode", "every user of this machine can set badges; give Cyrus's group 0660"));
            }
        }
        Source::Maildir(settings) => {
            if settings.sweep_interval > SWEEP_INTERVAL_WISE {
                advice.push(("sweep-interval", SWEEP_ADVICE));
            }
        }
        Source::Doveadm(settings) => {
            if settings.sweep_interval > SWEEP_INTERVAL_WISE {
                advice.push(("sweep-interval", SWEEP_ADVICE));
            }
        }
        Source::Imap(settings) => {
            let polls = matches!(settings.watch, Watch::Auto | Watch::Poll);
            if polls && settings.poll_interval < POLL_INTERVAL_WISE {
                advice.push(("poll-interval", "each poll is a log-in; the default is 60s"));
            }
            if settings.sweep_interval > SWEEP_INTERVAL_WISE {
                advice.push(("sweep-interval", SWEEP_ADVICE));
            }
            if matches!(settings.login, Login::Password { .. }) && !settings.login.is_shared() {
                advice.push((
                    "login",
                    "the same password for every mailbox; for more than one use \"master\" or \"authzid\"",
                ));
            }
        }
    }
    advice
}

/// Advice where so many subscribed mailboxes are more than a source reads by visits within its sweep interval.
pub fn check_pace(config: &Config, mailboxes: usize) -> Vec<Advice> {
    let slow = |source: &Source| match source {
        Source::Imap(settings) if matches!(settings.watch, Watch::Poll | Watch::SweepOnly) => {
            too_slow(mailboxes, settings.login_rate, settings.sweep_interval)
        }
        _ => None,
    };
    let advice = |source: &Source| {
        Some(Advice { key: format!("source.{}.login-rate", source.name()), what: slow(source)? })
    };
    config.sources.iter().filter_map(advice).collect()
}
