//! The kind `imap`: its abilities, its keys and how they depend on each other, its advice.

use super::driver::{self, Error};
use super::{Login, MAILBOX, Mechanism, Settings, Tls, TokenFrom, TokenLogin, Watch, too_slow};
use crate::source::examination::{Examiner, Finding};
use crate::source::keys::Keys;
use crate::source::kind::{
    Abilities, Common, ConfigContext, Configured, Cost, Kind, Pace, Running, StartError, Wiring,
};
use crate::source::names::Names;
use crate::source::names::rulebook::Lookup;
use crate::source::sweep;
use secrecy::SecretString;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// IMAP.
pub static KIND: Kind = Kind {
    name: "imap",
    abilities: Abilities { reports_changes: false, asked_at: Some(Cost::LogIn), is_waited_for: false },
    read,
    examine_host: |_, _| None,
};

/// Polling more often than this logs in all the time.
const POLL_INTERVAL_WISE: Duration = Duration::from_secs(15);

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

fn read(keys: &mut dyn Keys, common: Common, context: ConfigContext) -> Option<Arc<dyn Configured>> {
    let host = keys.required_text("host");
    let tls = keys.choice("tls", "implicit", TLS);
    let default_port = if matches!(tls, Some(Tls::Implicit)) { 993 } else { 143 };
    let port = keys.number("port", default_port, 1..=65535);
    if matches!(tls, Some(Tls::None)) && !is_loopback(&host) {
        let what = format!("\"none\" would send passwords to {host} in the clear; it is for loopback only");
        keys.refuse("tls", what);
    }
    let server_name = keys.optional_text("server-name");
    let authorities = keys.authorities();
    let login = login(keys);
    let watch = keys.choice("watch", "auto", WATCH);
    let seconds = Duration::from_secs;
    let poll_interval = keys.duration("poll-interval", "60s", seconds(1)..=Duration::from_hours(24));
    let login_rate = keys.number("login-rate", 20, 1..=10_000);
    let sweep_interval = keys.duration("sweep-interval", "15m", seconds(1)..=Duration::from_hours(168));
    let rearm_interval = keys.duration("rearm-interval", "5m", seconds(10)..=Duration::from_mins(28));
    let idle_interval = keys.duration("idle-interval", "9m", seconds(10)..=Duration::from_mins(28));
    let (tls, watch) = (tls?, watch?);
    Some(Arc::new(Settings {
        name: common.name.as_ref().to_owned(),
        names: common.names,
        host,
        port: u16::try_from(port).unwrap_or(default_port as u16),
        tls,
        server_name,
        authorities,
        login: login?,
        // Beside a source that reports every change it only sweeps (adr/0010).
        watch: if context.has_reports && watch == Watch::Auto { Watch::SweepOnly } else { watch },
        poll_interval,
        login_rate,
        sweep_interval,
        rearm_interval,
        idle_interval,
    }))
}

/// The keys of the log-in. Where `login` is unknown nobody knows which of them it takes: none of them is refused.
fn login(keys: &mut dyn Keys) -> Option<Login> {
    let Some(kind) = keys.choice("login", "master", LOGIN) else {
        for key in ["master-user", "separator", "user", "password-file", "token-file", "token-command"] {
            keys.is_given(key);
        }
        return None;
    };
    match kind {
        LoginKind::Master => {
            let user = keys.required_text("master-user");
            let separator = keys.text("separator", "*");
            Some(Login::Master { user, separator, password: password(keys)? })
        }
        LoginKind::AuthzId => {
            let user = keys.required_text("master-user");
            Some(Login::AuthzId { user, password: password(keys)? })
        }
        LoginKind::Password => {
            let user = user(keys);
            Some(Login::Password { user, password: password(keys)? })
        }
        LoginKind::Token(mechanism) => {
            let user = user(keys);
            Some(Login::Token(TokenLogin { mechanism, user, from: token_from(keys)? }))
        }
    }
}

/// A name to log in with. What looks like a placeholder must be the one that there is.
fn user(keys: &mut dyn Keys) -> Option<String> {
    let expected = format!("a name, with no placeholder but {MAILBOX}, like 'svc@fabrikam.com\\{MAILBOX}'");
    keys.optional("user", &expected, |text| {
        let rest = text.replace(MAILBOX, "");
        let is_placed = rest.split_once('{').is_some_and(|(_, after)| after.contains('}'));
        (!text.trim().is_empty() && !is_placed).then(|| text.to_owned())
    })
}

/// The keys `token-file` and `token-command`, one of them. The file is read when a log-in needs it, since another program
/// keeps it fresh.
fn token_from(keys: &mut dyn Keys) -> Option<TokenFrom> {
    let file = keys.path("token-file");
    let command = keys.words("token-command");
    match (file, command) {
        (Some(_), Some(_)) => {
            keys.refuse("token-file", "stands beside token-command; keep one of them".to_owned());
        }
        // A faulty command has its own fault.
        (None, None) if keys.is_given("token-command") => {}
        (None, None) => {
            let what = "is missing; expected it or token-command, where access tokens come from";
            keys.refuse("token-file", what.to_owned());
        }
        (None, Some(command)) => return Some(TokenFrom::Command(command)),
        (Some(path), None) => {
            return keys.is_private("token-file", &path).then_some(TokenFrom::File(path));
        }
    }
    None
}

fn password(keys: &mut dyn Keys) -> Option<SecretString> {
    keys.secret("password-file", "password")
}

impl Configured for Settings {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn names(&self) -> &Names {
        &self.names
    }

    fn lookup(&self) -> Lookup<'_> {
        Lookup::Asked
    }

    fn pace(&self) -> Option<Pace> {
        Some(Pace { sweep_interval: self.sweep_interval, login_rate: Some(self.login_rate) })
    }

    fn advice(&self) -> Vec<(&'static str, &'static str)> {
        let mut advice = Vec::new();
        let polls = matches!(self.watch, Watch::Auto | Watch::Poll);
        if polls && self.poll_interval < POLL_INTERVAL_WISE {
            advice.push(("poll-interval", "each poll is a log-in; the default is 60s"));
        }
        advice.extend(sweep::advice(self.sweep_interval));
        if matches!(self.login, Login::Password { .. }) && !self.login.is_shared() {
            let what = "the same password for every mailbox; for more than one use \"master\" or \"authzid\"";
            advice.push(("login", what));
        }
        advice
    }

    /// More mailboxes than are read by visits within the sweep interval, where visits are all there is.
    fn too_many(&self, mailboxes: usize) -> Option<(&'static str, String)> {
        let visits_only = matches!(self.watch, Watch::Poll | Watch::SweepOnly);
        let slow = visits_only.then(|| too_slow(mailboxes, self.login_rate, self.sweep_interval))?;
        Some(("login-rate", slow?))
    }

    fn start(&self, wiring: Wiring) -> Result<Arc<dyn Running>, StartError> {
        let Wiring { id, observer, clock, counters, seed, connections, .. } = wiring;
        let source = driver::start(self.clone(), id, observer, clock, counters, seed)?;
        source.hold_at_most(connections);
        Ok(Arc::new(source))
    }

    fn examine(&self, examiner: &Examiner) -> Vec<Finding> {
        driver::examine(self, examiner)
    }

    fn count(&self, mailbox: &str, examiner: &Examiner) -> Option<u32> {
        let tried = driver::check_login(self.clone(), mailbox, examiner.clock);
        examiner.runtime.block_on(tried).ok().map(|checked| checked.unseen)
    }
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        match error {
            Error::Threads { .. } => Self::Refused(Box::new(error)),
            _ => Self::Settings(Box::new(error)),
        }
    }
}

/// Whether this names this very machine without asking anybody.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known_without_a_resolver() {
        for (host, is) in [
            ("localhost", true),
            ("127.8.9.1", true),
            ("::1", true),
            ("[::1]", true),
            ("10.0.0.1", false),
            ("localhost.example", false),
        ] {
            assert_eq!(is_loopback(host), is, "{host}");
        }
    }
}
