//! The keys of a `[[source]]` of kind `imap`, and how they depend on each other.

use super::secret;
use super::sections::ca_file;
use super::sheet::Section;
use super::value::{Spelling, is_loopback};
use crate::source::imap::{Login, MAILBOX, Mechanism, Settings, Tls, TokenFrom, TokenLogin, Watch};
use crate::source::names::Names;
use crate::store::owner_only;
use secrecy::SecretString;
use std::time::Duration;

const TLS: &[(&str, Tls)] = &[("implicit", Tls::Implicit), ("starttls", Tls::StartTls), ("none", Tls::None)];

const WATCH: &[(&str, Watch)] = &[
    ("auto", Watch::Auto),
    ("notify", Watch::Notify),
    ("idle", Watch::Idle),
    ("idle-unselected", Watch::IdleUnselected),
    ("poll", Watch::Poll),
    ("sweep", Watch::SweepOnly),
];

#[derive(Clone, Copy)]
enum LoginKind {
    Master,
    AuthzId,
    Password,
    Token(Mechanism),
}

const LOGIN: &[(&str, LoginKind)] = &[
    ("master", LoginKind::Master),
    ("authzid", LoginKind::AuthzId),
    ("xoauth2", LoginKind::Token(Mechanism::XOAuth2)),
    ("oauthbearer", LoginKind::Token(Mechanism::OAuthBearer)),
    ("password", LoginKind::Password),
];

/// Reads the source; `has_events` says that another source is told of every change, so that this one only sweeps.
pub(super) fn source(mut section: Section, name: &str, names: Names, has_events: bool) -> Option<Settings> {
    let host = section.required_text("host");
    let tls = section.choice("tls", "implicit", TLS);
    let default_port = if matches!(tls, Some(Tls::Implicit)) { 993 } else { 143 };
    let port = section.number("port", default_port, 1..=65535);
    if matches!(tls, Some(Tls::None)) && !is_loopback(&host) {
        section.refuse(
            "tls",
            format!("\"none\" would send passwords to {host} in the clear; it is for loopback only"),
        );
    }
    let server_name = section.optional("server-name", &Spelling::text());
    let extra_roots = ca_file(&mut section).map(|(_, certificates)| certificates).unwrap_or_default();
    let login = login(&mut section);
    let watch = section.choice("watch", "auto", WATCH);
    let seconds = Duration::from_secs;
    let settings = Settings {
        name: name.to_owned(),
        names,
        host,
        port: u16::try_from(port).unwrap_or(default_port as u16),
        tls: tls?,
        server_name,
        extra_roots,
        login: login?,
        watch: if has_events && matches!(watch?, Watch::Auto) { Watch::SweepOnly } else { watch? },
        poll_interval: section.duration("poll-interval", "60s", seconds(1)..=Duration::from_hours(24)),
        login_rate: section.number("login-rate", 20, 1..=10_000),
        sweep_interval: section.duration("sweep-interval", "15m", seconds(1)..=Duration::from_hours(168)),
        rearm_interval: section.duration("rearm-interval", "5m", seconds(10)..=Duration::from_mins(28)),
        idle_interval: section.duration("idle-interval", "9m", seconds(10)..=Duration::from_mins(28)),
    };
    section.finish();
    Some(settings)
}

fn login(section: &mut Section) -> Option<Login> {
    match section.choice("login", "master", LOGIN)? {
        LoginKind::Master => {
            let user = section.required_text("master-user");
            let separator = section.text("separator", "*");
            Some(Login::Master { user, separator, password: password(section)? })
        }
        LoginKind::AuthzId => {
            let user = section.required_text("master-user");
            Some(Login::AuthzId { user, password: password(section)? })
        }
        LoginKind::Password => {
            let user = section.optional("user", &user());
            Some(Login::Password { user, password: password(section)? })
        }
        LoginKind::Token(mechanism) => {
            let user = section.optional("user", &user());
            Some(Login::Token(TokenLogin { mechanism, user, from: token_from(section)? }))
        }
    }
}

/// A name to log in with. What looks like a placeholder must be the one that there is.
fn user() -> Spelling<String> {
    Spelling {
        expected: format!("a name, with no placeholder but {MAILBOX}, like 'svc@fabrikam.com\\{MAILBOX}'"),
        parse: Box::new(|text| {
            let rest = text.replace(MAILBOX, "");
            let is_placed = rest.split_once('{').is_some_and(|(_, after)| after.contains('}'));
            (!text.trim().is_empty() && !is_placed).then(|| text.to_owned())
        }),
    }
}

/// The keys `token-file` and `token-command`, one of them. What the file holds is looked at when a log-in needs it, since
/// another program keeps it fresh.
fn token_from(section: &mut Section) -> Option<TokenFrom> {
    let file = section.path("token-file");
    let command = section.words("token-command");
    match (file, command) {
        (Some(_), Some(_)) => section.refuse("token-file", "stands beside token-command; keep one of them"),
        // A faulty command has been told of.
        (None, None) if section.table("token-command").is_some() => {}
        (None, None) => {
            section.refuse(
                "token-file",
                "is missing; expected it or token-command, where access tokens come from",
            );
        }
        (None, Some(command)) => return Some(TokenFrom::Command(command)),
        (Some(path), None) => match owner_only(&path) {
            Err(error) if error.is_forbidden() => section.forbid("token-file", error.to_string()),
            Err(error) => section.refuse("token-file", error.to_string()),
            Ok(()) => return Some(TokenFrom::File(path)),
        },
    }
    None
}

fn password(section: &mut Section) -> Option<SecretString> {
    secret::first_line_of(section, "password-file", "password")
}
