//! From the greeting to a logged-in connection: capabilities, STARTTLS, AUTHENTICATE or LOGIN (RFC 9051 §6.2). What a
//! mechanism says is `sasl`'s, what follows the log-in before anything else is `id`'s.

use super::sasl;
use super::timers::Timer;
use super::{Command, Phase, Session};
use crate::source::imap::capability::Capabilities;
use crate::source::imap::exchange::{Ending, Output, Refusal};
use crate::source::imap::reply::{Condition, Kind, Reply};
use crate::source::imap::{LOGIN_WAIT, Login, Mechanism, Tls, TokenLogin, user_of};
use crate::time::Now;
use secrecy::{ExposeSecret, SecretString};
use std::collections::VecDeque;
use zeroize::Zeroizing;

/// What is open between connecting and being logged in.
#[derive(Debug, Default)]
pub(super) struct Opening {
    step: Step,
    is_secured: bool,
    /// The server told its capabilities, since the log-in was sent where it was.
    is_told: bool,
    is_logged_in: bool,
    /// How the log-in in flight goes.
    way: Way,
    /// What goes out at each `+`: a literal, a credential.
    pieces: VecDeque<Zeroizing<Vec<u8>>>,
    token: Option<SecretString>,
}

/// How a log-in is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    /// AUTHENTICATE PLAIN.
    Plain,
    /// LOGIN.
    #[default]
    Login,
    /// LOGIN, since this server refused PLAIN just now.
    LoginInstead,
    /// AUTHENTICATE with an access token.
    Token,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Greeting,
    /// The driver does a handshake; the flag: a greeting follows (implicit TLS).
    Handshake(bool),
    Command,
}

impl Session {
    pub(super) fn take_token(&mut self, token: &SecretString) {
        if let Phase::Fresh(held) = &mut self.phase {
            *held = Some(token.clone());
        }
    }

    /// The TCP connection stands. TLS from the first byte or a greeting.
    pub(super) fn open(&mut self, now: Now) {
        let Phase::Fresh(token) = &mut self.phase else { return };
        let mut opening = Opening { token: token.take(), ..Opening::default() };
        if self.settings.tls == Tls::Implicit {
            opening.step = Step::Handshake(true);
            self.tell(Output::StartTls);
        }
        self.phase = Phase::Opening(Box::new(opening));
        self.timers.set(Timer::Deadline, now.moment.after(LOGIN_WAIT));
    }

    /// The handshake is done; what was told in the clear counts no more (RFC 9051 §6.2.1).
    pub(super) fn secured(&mut self, now: Now) {
        let Phase::Opening(opening) = &mut self.phase else { return };
        let Step::Handshake(is_greeting_next) = opening.step else { return };
        opening.is_secured = true;
        opening.step = if is_greeting_next { Step::Greeting } else { Step::Command };
        self.capabilities = Capabilities::NONE;
        if !is_greeting_next {
            self.opening_command(now, Command::Capability, "CAPABILITY");
        }
    }

    /// A line during the log-in. `is_more_waiting`: bytes of the same read lie behind it.
    pub(super) fn opening(&mut self, now: Now, reply: Reply<'_>, is_more_waiting: bool) {
        let Phase::Opening(opening) = &mut self.phase else { return };
        opening.is_told |= matches!(reply, Reply::Capability(_));
        match (opening.step, reply) {
            (Step::Handshake(_), _) => self.close(Ending::Violation("data in the clear where TLS begins")),
            (Step::Greeting, Reply::Untagged(greeting)) => self.greeted(now, &greeting),
            (Step::Command, Reply::Continue) => self.continued(),
            (Step::Command, Reply::Tagged(_, answer)) => self.opening_answer(now, &answer, is_more_waiting),
            (Step::Greeting, _) => self.skip(),
            (Step::Command, Reply::Id(fields)) => self.take_id(fields),
            (Step::Command, _) => {}
        }
    }

    fn greeted(&mut self, now: Now, greeting: &Condition<'_>) {
        if !matches!(greeting.kind, Kind::Ok | Kind::PreAuth) {
            return self.close(Ending::Violation("its greeting is not OK"));
        }
        if greeting.kind == Kind::PreAuth
            && let Some(reason) = self.refused_preauth()
        {
            return self.refused(Refusal::Source, reason.into());
        }
        self.take_greeting(greeting);
        self.take_told(greeting);
        let Phase::Opening(opening) = &mut self.phase else { return };
        opening.step = Step::Command;
        opening.is_logged_in = greeting.kind == Kind::PreAuth;
        let (is_told, is_logged_in) = (opening.is_told, opening.is_logged_in);
        if is_logged_in {
            self.tell(Output::LoggedIn);
        }
        match (is_told, is_logged_in) {
            (false, _) => self.opening_command(now, Command::Capability, "CAPABILITY"),
            (true, false) => self.opening_next(now),
            (true, true) => self.introduce(now),
        }
    }

    /// PREAUTH: logged in already, as nobody knows whom (RFC 9051 §7.1.4). That is the mailbox only where the
    /// configuration has one account, and safe only where no STARTTLS should come first.
    fn refused_preauth(&self) -> Option<&'static str> {
        if self.settings.tls == Tls::StartTls {
            return Some(
                "server greets with PREAUTH, which leaves no room for STARTTLS; set tls = \"implicit\" and its port",
            );
        }
        (!self.settings.login.is_one_account()).then_some(
            "server greets with PREAUTH: somebody is logged in, and not as this mailbox; set login = \"password\" and \
             user to that one account, or the port where the server asks for a log-in",
        )
    }

    /// Capabilities in a response code (RFC 9051 §7.1).
    fn take_told(&mut self, condition: &Condition<'_>) {
        let Phase::Opening(opening) = &mut self.phase else { return };
        if condition.is_code("CAPABILITY") {
            opening.is_told = true;
            self.capabilities = Capabilities::from_words(condition.argument);
        }
    }

    fn opening_answer(&mut self, now: Now, answer: &Condition<'_>, is_more_waiting: bool) {
        let command = self.in_flight.take();
        match (command, answer.kind) {
            (Some(Command::StartTls), Kind::Ok) if is_more_waiting => {
                self.close(Ending::Violation("data in the clear behind STARTTLS"));
            }
            (Some(Command::StartTls), Kind::Ok) => {
                if let Phase::Opening(opening) = &mut self.phase {
                    opening.step = Step::Handshake(false);
                }
                self.tell(Output::StartTls);
            }
            (Some(Command::LogIn), Kind::Ok) => self.logged_in(now, answer),
            (Some(Command::LogIn), _) if self.may_login_instead(answer) => self.log_in_instead(now),
            (Some(Command::LogIn), _) => self.log_in_refused(answer),
            // Whether it answers or refuses: what was announced before counts, else IMAP4rev1.
            (Some(Command::Capability), _) if self.is_logged_in() => self.introduce(now),
            (Some(Command::Capability), _) => self.opening_next(now),
            (Some(Command::StartTls), _) => self.refused(Refusal::Source, "server refuses STARTTLS".into()),
            // Refused or not: the server has heard it.
            (Some(Command::Id), _) => self.begin(now),
            _ => {}
        }
    }

    /// The server offers PLAIN and does not understand it, or cannot do it: no credential was judged, so that LOGIN is
    /// no second refusal. After a bare NO it might be.
    fn may_login_instead(&self, answer: &Condition<'_>) -> bool {
        let Phase::Opening(opening) = &self.phase else { return false };
        let is_not_judged = answer.kind == Kind::Bad || answer.is_code("CANNOT");
        opening.way == Way::Plain
            && is_not_judged
            && !matches!(self.settings.login, Login::AuthzId { .. })
            && !self.capabilities.has(Capabilities::LOGINDISABLED)
    }

    fn log_in_instead(&mut self, now: Now) {
        if let Phase::Opening(opening) = &mut self.phase {
            opening.pieces.clear();
        }
        self.log_in(now, Way::LoginInstead);
    }

    fn log_in_refused(&mut self, answer: &Condition<'_>) {
        if matches!(&self.phase, Phase::Opening(opening) if opening.way == Way::Login) {
            // Perhaps the server learned PLAIN meanwhile.
            self.traits.learn_login(false);
        }
        self.refused(self.refusal(answer), answer.for_people());
    }

    /// Logged in, capabilities known: ID where it is offered, then the errand.
    fn introduce(&mut self, now: Now) {
        if self.capabilities.has(Capabilities::ID) {
            return self.send_id(now);
        }
        self.begin(now);
    }

    /// The capabilities are known, the log-in is not sent.
    fn opening_next(&mut self, now: Now) {
        let Phase::Opening(opening) = &mut self.phase else { return };
        // A server that tells nothing may offer anything: its refusal says more than a guess.
        let is_told = std::mem::take(&mut opening.is_told);
        if self.settings.tls == Tls::StartTls && !opening.is_secured {
            if self.capabilities.has(Capabilities::STARTTLS) || !is_told {
                return self.opening_command(now, Command::StartTls, "STARTTLS");
            }
            return self.refused(Refusal::Source, "server offers no STARTTLS; set tls or the port".into());
        }
        if let Login::Token(login) = &self.settings.clone().login {
            return self.show_token(now, login, is_told);
        }
        let has_plain = self.capabilities.has(Capabilities::AUTH_PLAIN);
        let is_login_better =
            self.traits.needs_login() && !self.capabilities.has(Capabilities::LOGINDISABLED);
        let is_authzid = matches!(self.settings.login, Login::AuthzId { .. });
        if (has_plain && (is_authzid || !is_login_better)) || (is_authzid && !is_told) {
            return self.authenticate(now);
        }
        if is_authzid {
            return self.refused(
                Refusal::Source,
                "server offers no AUTH=PLAIN; login = \"authzid\" needs it".into(),
            );
        }
        if self.capabilities.has(Capabilities::LOGINDISABLED) {
            return self.refused(Refusal::Source, "server takes no log-in here; set tls".into());
        }
        self.log_in(now, Way::Login);
    }

    fn authenticate(&mut self, now: Now) {
        let (authorization, user) = self.identities();
        if authorization.contains('\0') || user.contains('\0') {
            return self.refused(Refusal::Mailbox, "a NUL in the mailbox's name".into());
        }
        let response = sasl::plain(&authorization, &user, self.password());
        self.set_way(Way::Plain);
        self.authenticate_by(now, "PLAIN", &response);
    }

    /// AUTHENTICATE with the access token. The mechanism's last word is for a server that explains a refusal.
    fn show_token(&mut self, now: Now, login: &TokenLogin, is_told: bool) {
        let (name, capability) = match login.mechanism {
            Mechanism::XOAuth2 => ("XOAUTH2", Capabilities::AUTH_XOAUTH2),
            Mechanism::OAuthBearer => ("OAUTHBEARER", Capabilities::AUTH_OAUTHBEARER),
        };
        if is_told && !self.capabilities.has(capability) {
            let text = format!("server offers no AUTH={name}; set login to what it offers");
            return self.refused(Refusal::Source, text);
        }
        let Phase::Opening(opening) = &mut self.phase else { return };
        let Some(token) = opening.token.take() else {
            return self.refused(Refusal::Source, "no access token was given".into());
        };
        let user = user_of(login.user.as_deref(), &self.mailbox);
        if !sasl::is_plain_text(&user) {
            return self.refused(Refusal::Mailbox, "a control character in the mailbox's name".into());
        }
        let (host, port) = (self.settings.host.as_str(), self.settings.port);
        let (response, last_word) = match login.mechanism {
            Mechanism::XOAuth2 => (sasl::xoauth2(&user, &token), &b"\r\n"[..]),
            Mechanism::OAuthBearer => (sasl::oauthbearer(&user, host, port, &token), &b"AQ==\r\n"[..]),
        };
        self.set_way(Way::Token);
        self.authenticate_by(now, name, &response);
        self.hold_piece(last_word.to_vec());
    }

    /// AUTHENTICATE with its response in the line, where the server takes it there, else after its `+`.
    fn authenticate_by(&mut self, now: Now, mechanism: &str, response: &Zeroizing<String>) {
        if self.capabilities.has(Capabilities::SASL_IR) {
            let line = Zeroizing::new(["AUTHENTICATE ", mechanism, " ", response].concat());
            return self.opening_command(now, Command::LogIn, &line);
        }
        self.hold_piece([response.as_bytes(), b"\r\n"].concat());
        self.opening_command(now, Command::LogIn, &["AUTHENTICATE ", mechanism].concat());
    }

    /// LOGIN; what no quoted string may hold goes as a literal (RFC 9051 §9: quoted, literal).
    fn log_in(&mut self, now: Now, way: Way) {
        self.set_way(way);
        let (_, user) = self.identities();
        let words = [Zeroizing::new(user), Zeroizing::new(self.password().to_owned())];
        if words.iter().any(|word| word.contains('\0')) {
            return self.refused(Refusal::Mailbox, "a NUL in the mailbox's name".into());
        }
        // A text that grows leaves copies of the password behind: room for every character escaped.
        let room = 32 + 2 * words.iter().map(|word| word.len()).sum::<usize>();
        let mut line = Zeroizing::new(String::with_capacity(room));
        line.push_str("LOGIN");
        let mut pieces = Vec::new();
        for word in &words {
            line.push(' ');
            if is_quotable(word) {
                line.push('"');
                word.chars().for_each(|c| {
                    if matches!(c, '"' | '\\') {
                        line.push('\\');
                    }
                    line.push(c);
                });
                line.push('"');
            } else {
                line.push_str(&["{", &word.len().to_string(), "}"].concat());
                pieces.push(std::mem::replace(&mut line, Zeroizing::new(String::with_capacity(room))));
                line.push_str(word);
            }
        }
        pieces.push(line);
        let mut pieces = pieces.into_iter();
        let first = pieces.next().unwrap_or_default();
        pieces.for_each(|piece| self.hold_piece([piece.as_bytes(), b"\r\n"].concat()));
        self.opening_command(now, Command::LogIn, &first);
    }

    /// Authorization identity (empty: none) and the name that authenticates.
    fn identities(&self) -> (String, String) {
        let mailbox = &*self.mailbox;
        match &self.settings.login {
            Login::Master { user, separator, .. } => (String::new(), format!("{mailbox}{separator}{user}")),
            Login::AuthzId { user, .. } => (mailbox.to_owned(), user.clone()),
            Login::Password { user, .. } | Login::Token(TokenLogin { user, .. }) => {
                (String::new(), user_of(user.as_deref(), mailbox))
            }
        }
    }

    fn password(&self) -> &str {
        match &self.settings.login {
            Login::Master { password, .. }
            | Login::AuthzId { password, .. }
            | Login::Password { password, .. } => password.expose_secret(),
            // Shown by `show_token`, never as a password.
            Login::Token(_) => "",
        }
    }

    fn set_way(&mut self, way: Way) {
        if let Phase::Opening(opening) = &mut self.phase {
            opening.way = way;
        }
    }

    fn hold_piece(&mut self, bytes: Vec<u8>) {
        if let Phase::Opening(opening) = &mut self.phase {
            opening.pieces.push_back(Zeroizing::new(bytes));
        }
    }

    fn continued(&mut self) {
        let Phase::Opening(opening) = &mut self.phase else { return };
        match opening.pieces.pop_front() {
            Some(piece) => self.send(piece.to_vec()),
            // A challenge where none is due: RFC 9051 §6.2.2 cancels with `*`.
            None if matches!(opening.way, Way::Plain | Way::Token) => self.send(b"*\r\n".to_vec()),
            None => self.skip(),
        }
    }

    fn logged_in(&mut self, now: Now, answer: &Condition<'_>) {
        self.take_told(answer);
        // At once: a connection that ends before its errand begins was let in nevertheless.
        self.tell(Output::LoggedIn);
        let Phase::Opening(opening) = &mut self.phase else { return };
        opening.is_logged_in = true;
        if opening.way == Way::LoginInstead {
            self.traits.learn_login(true);
        }
        if opening.is_told {
            self.introduce(now);
        } else {
            self.opening_command(now, Command::Capability, "CAPABILITY");
        }
    }

    /// Whether the CAPABILITY in flight is the one after the log-in.
    fn is_logged_in(&self) -> bool {
        matches!(&self.phase, Phase::Opening(opening) if opening.is_logged_in)
    }

    fn refused(&mut self, refusal: Refusal, text: String) {
        self.tell(Output::LoginRefused { refusal, text });
        self.close(Ending::Refused);
    }

    /// A command whose deadline is the whole log-in's.
    pub(super) fn opening_command(&mut self, now: Now, command: Command, text: &str) {
        let deadline = self.timers;
        self.command(now, command, text);
        self.timers = deadline;
    }
}

/// Whether a quoted string may hold it: RFC 3501 knows ASCII only, and no line ends.
fn is_quotable(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_control())
}

#[cfg(test)]
mod tests;
