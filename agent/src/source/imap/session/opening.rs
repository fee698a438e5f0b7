//! From the greeting to a logged-in connection: capabilities, STARTTLS, AUTHENTICATE or LOGIN (RFC 9051 §6.2). What a
//! mechanism says is `sasl`'s, what follows the log-in before anything else is `id`'s.

use super::link::{Command, Link};
use super::timers::Timer;
use super::{Next, id, sasl};
use crate::source::imap::capability::Capabilities;
use crate::source::imap::exchange::{Ending, Output, Refusal};
use crate::source::imap::reply::{Condition, Kind, Reply};
use crate::source::imap::{GREETING_WAIT, LOGIN_WAIT, Login, Mechanism, Settings, Tls, TokenLogin, user_of};
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

impl Opening {
    /// The TCP connection stands. TLS from the first byte or a greeting.
    pub(super) fn begin(link: &mut Link, now: Now, token: Option<SecretString>) -> Self {
        let mut opening = Self { token, ..Self::default() };
        if link.settings.tls == Tls::Implicit {
            opening.step = Step::Handshake(true);
            link.tell(Output::StartTls);
        }
        link.timers.set(Timer::Deadline, now.moment.after(GREETING_WAIT));
        opening
    }

    /// What the server owes now, where no command is in flight.
    pub(super) fn awaits(&self) -> &'static str {
        match self.step {
            Step::Greeting => "the greeting",
            Step::Handshake(_) => "the TLS handshake",
            Step::Command => "the log-in",
        }
    }

    /// The handshake is done; what was told in the clear counts no more (RFC 9051 §6.2.1).
    pub(super) fn secured(&mut self, link: &mut Link, now: Now) {
        let Step::Handshake(is_greeting_next) = self.step else { return };
        self.is_secured = true;
        self.step = if is_greeting_next { Step::Greeting } else { Step::Command };
        link.capabilities = Capabilities::NONE;
        if !is_greeting_next {
            link.command_within(now, Command::Capability, "CAPABILITY");
        }
    }

    /// A line during the log-in. `is_more_waiting`: bytes of the same read lie behind it.
    pub(super) fn handle(
        &mut self,
        link: &mut Link,
        now: Now,
        reply: &Reply<'_>,
        is_more_waiting: bool,
    ) -> Next {
        self.is_told |= matches!(reply, Reply::Capability(_));
        match (self.step, reply) {
            (Step::Handshake(_), _) => {
                return Next::Close(Ending::Violation("data in the clear where TLS begins"));
            }
            (Step::Greeting, Reply::Untagged(greeting)) => return self.greeted(link, now, greeting),
            (Step::Command, Reply::Continue) => self.continued(link),
            (Step::Command, Reply::Tagged(_, answer)) => {
                return self.answer(link, now, answer, is_more_waiting);
            }
            (Step::Greeting, _) => link.skip(),
            (Step::Command, Reply::Id(fields)) => id::take_answer(&link.traits, fields),
            (Step::Command, _) => {}
        }
        Next::Stay
    }

    fn greeted(&mut self, link: &mut Link, now: Now, greeting: &Condition<'_>) -> Next {
        let is_logged_in = greeting.kind == Kind::PreAuth;
        if !is_logged_in && greeting.kind != Kind::Ok {
            return Next::Close(Ending::Violation("its greeting is not OK"));
        }
        if is_logged_in && let Some(reason) = refused_preauth(&link.settings) {
            return refused(link, Refusal::Unfit, reason.into());
        }
        id::take_greeting(&link.traits, greeting);
        self.take_told(link, greeting);
        self.step = Step::Command;
        self.is_logged_in = is_logged_in;
        if is_logged_in {
            link.tell(Output::LoggedIn);
        }
        match (self.is_told, is_logged_in) {
            (false, _) => command(link, now, Command::Capability, "CAPABILITY"),
            (true, false) => self.log_in_as_offered(link, now),
            (true, true) => introduce(link, now),
        }
    }

    /// Capabilities in a response code (RFC 9051 §7.1).
    fn take_told(&mut self, link: &mut Link, condition: &Condition<'_>) {
        if condition.is_code("CAPABILITY") {
            self.is_told = true;
            link.capabilities = Capabilities::from_words(condition.argument);
        }
    }

    fn answer(&mut self, link: &mut Link, now: Now, answer: &Condition<'_>, is_more_waiting: bool) -> Next {
        match (link.answered_within(), answer.kind) {
            (Some(Command::StartTls), Kind::Ok) if is_more_waiting => {
                Next::Close(Ending::Violation("data in the clear behind STARTTLS"))
            }
            (Some(Command::StartTls), Kind::Ok) => {
                self.step = Step::Handshake(false);
                link.tell(Output::StartTls);
                Next::Stay
            }
            (Some(Command::LogIn), Kind::Ok) => self.logged_in(link, now, answer),
            (Some(Command::LogIn), _) if self.may_login_instead(link, answer) => {
                self.pieces.clear();
                self.log_in(link, now, Way::LoginInstead)
            }
            (Some(Command::LogIn), _) => self.log_in_refused(link, answer),
            // Whether it answers or refuses: what was announced before counts, else IMAP4rev1.
            (Some(Command::Capability), _) if self.is_logged_in => introduce(link, now),
            (Some(Command::Capability), _) => self.log_in_as_offered(link, now),
            (Some(Command::StartTls), _) => refused(link, Refusal::Unfit, "server refuses STARTTLS".into()),
            // Refused or not: the server has heard it.
            (Some(Command::Id), _) => Next::Begin,
            _ => Next::Stay,
        }
    }

    /// The server offers PLAIN and does not understand it, or cannot do it: no credential was judged, so that LOGIN is
    /// no second refusal. After a bare NO it might be.
    fn may_login_instead(&self, link: &Link, answer: &Condition<'_>) -> bool {
        let is_not_judged = answer.kind == Kind::Bad || answer.is_code("CANNOT");
        self.way == Way::Plain
            && is_not_judged
            && !matches!(link.settings.login, Login::AuthzId { .. })
            && !link.capabilities.has(Capabilities::LOGINDISABLED)
    }

    fn log_in_refused(&self, link: &mut Link, answer: &Condition<'_>) -> Next {
        if self.way == Way::Login {
            // Perhaps the server learned PLAIN meanwhile.
            link.traits.learn_login(false);
        }
        let refusal = refusal(&link.settings.login, answer);
        refused(link, refusal, answer.for_people())
    }

    /// The capabilities are known, the log-in is not sent.
    fn log_in_as_offered(&mut self, link: &mut Link, now: Now) -> Next {
        // A server that tells nothing may offer anything: its refusal says more than a guess.
        let is_told = std::mem::take(&mut self.is_told);
        if link.settings.tls == Tls::StartTls && !self.is_secured {
            if link.capabilities.has(Capabilities::STARTTLS) || !is_told {
                return command(link, now, Command::StartTls, "STARTTLS");
            }
            return refused(
                link,
                Refusal::Unfit,
                "server offers no STARTTLS; set tls or the port, or find out who removes it on the way"
                    .into(),
            );
        }
        if let Login::Token(login) = &link.settings.clone().login {
            return self.show_token(link, now, login, is_told);
        }
        let has_plain = link.capabilities.has(Capabilities::AUTH_PLAIN);
        let is_login_better =
            link.traits.needs_login() && !link.capabilities.has(Capabilities::LOGINDISABLED);
        let is_authzid = matches!(link.settings.login, Login::AuthzId { .. });
        if (has_plain && (is_authzid || !is_login_better)) || (is_authzid && !is_told) {
            return self.authenticate(link, now);
        }
        if is_authzid {
            let text = "server offers no AUTH=PLAIN; login = \"authzid\" needs it";
            return refused(link, Refusal::Unfit, text.into());
        }
        if link.capabilities.has(Capabilities::LOGINDISABLED) {
            return refused(link, Refusal::Unfit, "server takes no log-in here; set tls".into());
        }
        self.log_in(link, now, Way::Login)
    }

    fn authenticate(&mut self, link: &mut Link, now: Now) -> Next {
        let (authorization, user) = identities(link);
        if authorization.contains('\0') || user.contains('\0') {
            return refused(link, Refusal::Mailbox, "a NUL in the mailbox's name".into());
        }
        let response = sasl::plain(&authorization, &user, password(&link.settings.login));
        self.way = Way::Plain;
        self.authenticate_by(link, now, "PLAIN", &response)
    }

    /// AUTHENTICATE with the access token. The mechanism's last word is for a server that explains a refusal.
    fn show_token(&mut self, link: &mut Link, now: Now, login: &TokenLogin, is_told: bool) -> Next {
        let (name, capability) = match login.mechanism {
            Mechanism::XOAuth2 => ("XOAUTH2", Capabilities::AUTH_XOAUTH2),
            Mechanism::OAuthBearer => ("OAUTHBEARER", Capabilities::AUTH_OAUTHBEARER),
        };
        if is_told && !link.capabilities.has(capability) {
            let text = format!("server offers no AUTH={name}; set login to what it offers");
            return refused(link, Refusal::Unfit, text);
        }
        let Some(token) = self.token.take() else {
            return refused(link, Refusal::Unfit, "no access token was given".into());
        };
        let user = user_of(login.user.as_deref(), &link.mailbox);
        if !sasl::is_plain_text(&user) {
            return refused(link, Refusal::Mailbox, "a control character in the mailbox's name".into());
        }
        let (host, port) = (link.settings.host.as_str(), link.settings.port);
        let (response, last_word) = match login.mechanism {
            Mechanism::XOAuth2 => (sasl::xoauth2(&user, &token), &b"\r\n"[..]),
            Mechanism::OAuthBearer => (sasl::oauthbearer(&user, host, port, &token), &b"AQ==\r\n"[..]),
        };
        self.way = Way::Token;
        let next = self.authenticate_by(link, now, name, &response);
        self.hold_piece(last_word.to_vec());
        next
    }

    /// AUTHENTICATE with its response in the line, where the server takes it there, else after its `+`.
    fn authenticate_by(
        &mut self,
        link: &mut Link,
        now: Now,
        mechanism: &str,
        response: &Zeroizing<String>,
    ) -> Next {
        if link.capabilities.has(Capabilities::SASL_IR) {
            let sent = Zeroizing::new(["AUTHENTICATE ", mechanism, " ", response].concat());
            return command(link, now, Command::LogIn, &sent);
        }
        self.hold_piece([response.as_bytes(), b"\r\n"].concat());
        command(link, now, Command::LogIn, &["AUTHENTICATE ", mechanism].concat())
    }

    /// LOGIN; what no quoted string may hold goes as a literal (RFC 9051 §9: quoted, literal).
    fn log_in(&mut self, link: &mut Link, now: Now, way: Way) -> Next {
        self.way = way;
        let (_, user) = identities(link);
        let words = [Zeroizing::new(user), Zeroizing::new(password(&link.settings.login).to_owned())];
        if words.iter().any(|word| word.contains('\0')) {
            return refused(link, Refusal::Mailbox, "a NUL in the mailbox's name".into());
        }
        // A text that grows leaves copies of the password behind: room for every character escaped.
        let room = 32 + 2 * words.iter().map(|word| word.len()).sum::<usize>();
        let mut text = Zeroizing::new(String::with_capacity(room));
        text.push_str("LOGIN");
        let mut pieces = Vec::new();
        for word in &words {
            text.push(' ');
            if is_quotable(word) {
                text.push('"');
                word.chars().for_each(|c| {
                    if matches!(c, '"' | '\\') {
                        text.push('\\');
                    }
                    text.push(c);
                });
                text.push('"');
            } else {
                text.push_str(&["{", &word.len().to_string(), "}"].concat());
                pieces.push(std::mem::replace(&mut text, Zeroizing::new(String::with_capacity(room))));
                text.push_str(word);
            }
        }
        pieces.push(text);
        let mut pieces = pieces.into_iter();
        let first = pieces.next().unwrap_or_default();
        pieces.for_each(|piece| self.hold_piece([piece.as_bytes(), b"\r\n"].concat()));
        command(link, now, Command::LogIn, &first)
    }

    fn hold_piece(&mut self, bytes: Vec<u8>) {
        self.pieces.push_back(Zeroizing::new(bytes));
    }

    fn continued(&mut self, link: &mut Link) {
        match self.pieces.pop_front() {
            Some(piece) => link.send(piece.to_vec()),
            // A challenge where none is due: RFC 9051 §6.2.2 cancels with `*`.
            None if matches!(self.way, Way::Plain | Way::Token) => link.send(b"*\r\n".to_vec()),
            None => link.skip(),
        }
    }

    fn logged_in(&mut self, link: &mut Link, now: Now, answer: &Condition<'_>) -> Next {
        self.take_told(link, answer);
        // At once: a connection that ends before its errand begins was let in nevertheless.
        link.tell(Output::LoggedIn);
        self.is_logged_in = true;
        if self.way == Way::LoginInstead {
            link.traits.learn_login(true);
        }
        if self.is_told {
            introduce(link, now)
        } else {
            command(link, now, Command::Capability, "CAPABILITY")
        }
    }
}

/// A command within the deadline of what comes before the log-in, or of the log-in, which begins here.
fn command(link: &mut Link, now: Now, command: Command, text: &str) -> Next {
    link.command_within(now, command, text);
    if command == Command::LogIn {
        link.timers.set(Timer::Deadline, now.moment.after(LOGIN_WAIT));
    }
    Next::Stay
}

/// Logged in, capabilities known: ID where it is offered, then the errand.
fn introduce(link: &mut Link, now: Now) -> Next {
    if link.capabilities.has(Capabilities::ID) {
        id::introduce(link, now);
        return Next::Stay;
    }
    Next::Begin
}

fn refused(link: &mut Link, refusal: Refusal, text: String) -> Next {
    link.tell(Output::LoginRefused { refusal, text });
    Next::Close(Ending::Refused)
}

/// PREAUTH: logged in already, as nobody knows whom (RFC 9051 §7.1.4). That is the mailbox only where the
/// configuration has one account, and safe only where no STARTTLS should come first.
fn refused_preauth(settings: &Settings) -> Option<&'static str> {
    if settings.tls == Tls::StartTls {
        return Some(
            "server greets with PREAUTH, which leaves no room for STARTTLS; set tls = \"implicit\" and its port",
        );
    }
    (!settings.login.is_one_account()).then_some(
        "server greets with PREAUTH: somebody is logged in, and not as this mailbox; set login = \"password\" and \
         user to that one account, or the port where the server asks for a log-in",
    )
}

/// Whose refusal it is, by the response code (RFC 5530 §3) or the words that servers use without one.
fn refusal(login: &Login, answer: &Condition<'_>) -> Refusal {
    const BUSY: [&str; 5] = ["UNAVAILABLE", "LIMIT", "INUSE", "SERVERBUG", "OVERQUOTA"];
    let is_busy_text = answer.text.windows(22).any(|w| w.eq_ignore_ascii_case(b"internal login failure"));
    if is_busy_text || BUSY.iter().any(|code| answer.is_code(code)) {
        return Refusal::Busy;
    }
    let concerns_credential = answer.code.is_empty() || answer.is_code("AUTHENTICATIONFAILED");
    let is_shared = login.is_shared() && answer.kind == Kind::No;
    if concerns_credential && is_shared { Refusal::Source } else { Refusal::Mailbox }
}

/// Authorization identity (empty: none) and the name that authenticates.
fn identities(link: &Link) -> (String, String) {
    let mailbox = &*link.mailbox;
    match &link.settings.login {
        Login::Master { user, separator, .. } => (String::new(), format!("{mailbox}{separator}{user}")),
        Login::AuthzId { user, .. } => (mailbox.to_owned(), user.clone()),
        Login::Password { user, .. } | Login::Token(TokenLogin { user, .. }) => {
            (String::new(), user_of(user.as_deref(), mailbox))
        }
    }
}

fn password(login: &Login) -> &str {
    match login {
        Login::Master { password, .. }
        | Login::AuthzId { password, .. }
        | Login::Password { password, .. } => password.expose_secret(),
        // Shown by `show_token`, never as a password.
        Login::Token(_) => "",
    }
}

/// Whether a quoted string may hold it: RFC 3501 knows ASCII only, and no line ends.
fn is_quotable(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_control())
}

#[cfg(test)]
mod tests;
