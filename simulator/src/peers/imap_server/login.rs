//! Before log-in: CAPABILITY, STARTTLS, LOGIN, AUTHENTICATE PLAIN (RFC 9051 §6.1, §6.2; RFC 4616), and the answer
//! that is held back for a penalty. Who may come in is decided by the store.

use super::args::Args;
use super::timer::Timer;
use super::{Answer, Session, Step};
use crate::peers::mail_store::{AccountId, MailStore, Quirk, Refusal};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A log-in that is not answered yet.
#[derive(Debug)]
pub(super) enum Pending {
    /// AUTHENTICATE without initial response: the next line holds it.
    Sasl {
        /// Of the AUTHENTICATE.
        tag: String,
    },
    /// Decided, and held back for a penalty.
    Slowed {
        /// Of the LOGIN or AUTHENTICATE.
        tag: String,
        /// What will be said.
        outcome: Result<AccountId, Refusal>,
    },
}

impl Session {
    pub(super) fn capabilities(&self) -> String {
        let settings = &self.settings;
        let is_in = self.account().is_some();
        let may_log_in = !settings.requires_starttls || self.is_tls;
        let listed = [
            ("IMAP4rev1", true),
            ("LITERAL+", true),
            ("SASL-IR", settings.offers_sasl_ir),
            ("ID", true),
            ("ENABLE", true),
            ("IDLE", settings.offers_idle),
            ("STARTTLS", !is_in && settings.requires_starttls && !self.is_tls),
            ("LOGINDISABLED", !is_in && !may_log_in),
            ("AUTH=PLAIN", !is_in && may_log_in),
            ("NAMESPACE", is_in),
            ("UIDPLUS", is_in),
            ("UNSELECT", is_in),
            ("MOVE", is_in),
            ("ESEARCH", is_in && settings.offers_esearch),
            ("CONDSTORE", is_in && settings.offers_condstore),
            ("NOTIFY", is_in && settings.offers_notify),
        ];
        let offered = listed.iter().filter(|(_, is_offered)| *is_offered).map(|(name, _)| *name);
        offered.collect::<Vec<_>>().join(" ")
    }

    /// Capabilities as a response code with a space behind it, where the server announces them.
    pub(super) fn announced(&self, store: &MailStore) -> String {
        if self.quirks(store).has(Quirk::CapabilityRefused) {
            return String::new();
        }
        format!("[CAPABILITY {}] ", self.capabilities())
    }

    pub(super) fn capability(&mut self, store: &MailStore) -> Answer {
        if self.quirks(store).has(Quirk::CapabilityRefused) {
            return Answer::bad("Unknown command.");
        }
        let capabilities = self.capabilities();
        self.say(format_args!("* CAPABILITY {capabilities}"));
        Answer::ok("Capability completed.")
    }

    pub(super) fn id(&mut self) -> Answer {
        self.has_sent_id = true;
        self.say(format_args!("* ID (\"name\" \"mailbadge-sim\")"));
        Answer::ok("ID completed.")
    }

    pub(super) fn before_login(
        &mut self,
        step: &mut Step<'_>,
        tag: &str,
        name: &str,
        mut args: Args,
    ) -> Answer {
        let may_log_in = !self.settings.requires_starttls || self.is_tls;
        match name {
            "STARTTLS" if self.settings.requires_starttls && !self.is_tls => {
                self.start_tls_after_answer();
                Answer::ok("Begin TLS negotiation now.")
            }
            "LOGIN" | "AUTHENTICATE" if !may_log_in => Answer::no("[PRIVACYREQUIRED] Use STARTTLS first."),
            "LOGIN" => match (args.text(), args.text()) {
                (Some(user), Some(password)) => self.log_in(step, tag, &user, "", &password),
                _ => Answer::bad("Error in IMAP command LOGIN: Missing arguments."),
            },
            "AUTHENTICATE" if self.quirks(step.store).has(Quirk::PlainNotUnderstood) => {
                Answer::bad("Unknown command AUTHENTICATE.")
            }
            "AUTHENTICATE" if args.skip("PLAIN") => {
                if let Some(response) = args.text() {
                    return self.plain(step, tag, response.as_bytes());
                }
                self.pending = Some(Box::new(Pending::Sasl { tag: tag.to_owned() }));
                self.say(format_args!("+ "));
                Answer::Later
            }
            "AUTHENTICATE" => Answer::no("Unsupported authentication mechanism."),
            _ => Answer::Bad(format!("Error in IMAP command {name}: Unknown command, or log in first.")),
        }
    }

    /// The line after `+ ` of AUTHENTICATE.
    pub(super) fn sasl_response(&mut self, step: &mut Step<'_>, line: &[u8]) {
        let Some(Pending::Sasl { tag }) = self.pending.take().map(|pending| *pending) else { return };
        let answer = self.plain(step, &tag, line);
        self.finish(step, &tag, answer);
        self.after_answer(step);
    }

    /// Whether what the client sends must wait for a log-in's answer.
    pub(super) fn is_held_back(&self) -> bool {
        matches!(self.pending.as_deref(), Some(Pending::Slowed { .. }))
    }

    /// A penalty is over.
    pub(super) fn answer_login(&mut self, step: &mut Step<'_>) {
        let Some(Pending::Slowed { tag, outcome }) = self.pending.take().map(|pending| *pending) else {
            return;
        };
        let answer = self.outcome(step, outcome);
        self.finish(step, &tag, answer);
        self.after_answer(step);
        self.read_on(step);
    }

    /// SASL PLAIN: authzid NUL authcid NUL password, in base64.
    fn plain(&mut self, step: &mut Step<'_>, tag: &str, response: &[u8]) -> Answer {
        if response == b"*" {
            return Answer::bad("Authentication aborted by client.");
        }
        let decoded = STANDARD.decode(response).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some(decoded) = decoded else { return Answer::bad("Invalid base64 data.") };
        let mut parts = decoded.split('\0');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(authzid), Some(user), Some(password), None) => {
                self.log_in(step, tag, user, authzid, password)
            }
            _ => Answer::bad("Invalid PLAIN response."),
        }
    }

    fn log_in(
        &mut self,
        step: &mut Step<'_>,
        tag: &str,
        user: &str,
        authzid: &str,
        password: &str,
    ) -> Answer {
        let limit = self.settings.connections_max;
        let (outcome, wait) = step.store.log_in(step.now, user, authzid, password, limit);
        if wait.is_zero() {
            return self.outcome(step, outcome);
        }
        self.pending = Some(Box::new(Pending::Slowed { tag: tag.to_owned(), outcome }));
        self.timers.set(Timer::Penalty, step.now + wait);
        Answer::Later
    }

    /// What a full server does after a good password differs from server to server (sources.md §4.1).
    fn full(&mut self, step: &mut Step<'_>) -> Answer {
        match self.seed() % 5 {
            0 => Answer::no("[LIMIT] Too many connections"),
            1 => Answer::no("[UNAVAILABLE] Temporary authentication failure."),
            2 => Answer::no("Internal login failure. Refer to server log for more information."),
            3 => {
                self.hang_up(step);
                Answer::Later
            }
            _ => {
                self.fall_silent();
                Answer::Later
            }
        }
    }

    fn outcome(&mut self, step: &mut Step<'_>, outcome: Result<AccountId, Refusal>) -> Answer {
        match outcome {
            Ok(account) => {
                self.enter(step, account);
                Answer::Ok(self.announced(step.store) + "Logged in")
            }
            Err(Refusal::AuthenticationFailed) => Answer::no("[AUTHENTICATIONFAILED] Authentication failed."),
            Err(Refusal::AuthorizationFailed) => Answer::no("[AUTHORIZATIONFAILED] Authorization failed."),
            Err(Refusal::Limit) => Answer::no(
                "[LIMIT] Maximum number of connections from user+IP exceeded (mail_max_userip_connections)",
            ),
            Err(Refusal::Full) => self.full(step),
        }
    }
}
