//! Names and passwords of any characters, with imap-codec's reader of commands as the judge; what a server is remembered for.

use crate::source::imap::exchange::{Errand, Input, Output};
use crate::source::imap::session::Session;
use crate::source::imap::traits::Traits;
use crate::source::imap::{Login, MAILBOX, Mechanism, Settings, TokenFrom, TokenLogin};
use crate::time::Now;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use imap_codec::CommandCodec;
use imap_codec::decode::Decoder;
use imap_types::command::CommandBody;
use proptest::prelude::*;
use std::sync::Arc;

fn session(login: Login, mailbox: &str, traits: &Arc<Traits>) -> Session {
    let settings = Arc::new(Settings::new("test", "127.0.0.1", login));
    Session::new(settings, traits.clone(), mailbox.into(), Errand::Visit, 1)
}

/// Sends; gives what the session sends back.
fn said(session: &mut Session, input: Input<'_>) -> Vec<u8> {
    session.handle(Now::default(), input);
    let outputs = std::iter::from_fn(|| session.poll_output());
    let sent = outputs.filter_map(|output| match output {
        Output::Send(outgoing) => Some(outgoing.bytes().to_vec()),
        _ => None,
    });
    sent.collect::<Vec<_>>().concat()
}

/// The whole log-in command of a session, to a server that greets so; every literal is asked for.
fn log_in(session: &mut Session, capabilities: &str) -> Vec<u8> {
    said(session, Input::Connected);
    let greeting = format!("* OK [CAPABILITY IMAP4rev1 {capabilities}] hi\r\n");
    let mut command = said(session, Input::Bytes(greeting.as_bytes()));
    while command.ends_with(b"}\r\n") {
        let more = said(session, Input::Bytes(b"+ go on\r\n"));
        if more.is_empty() {
            break;
        }
        command.extend(more);
    }
    command
}

/// User and password of LOGIN, as imap-codec reads them.
fn read_login(command: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (rest, command) = CommandCodec::default().decode(command).unwrap();
    assert!(rest.is_empty());
    let CommandBody::Login { username, password } = command.body else { panic!("{command:?}") };
    (username.as_ref().to_vec(), password.declassify().as_ref().to_vec())
}

/// The decoded initial response of AUTHENTICATE, as imap-codec reads it.
fn read_response(command: &[u8]) -> String {
    let (rest, command) = CommandCodec::default().decode(command).unwrap();
    assert!(rest.is_empty());
    let CommandBody::Authenticate { initial_response, .. } = command.body else { panic!("{command:?}") };
    String::from_utf8(initial_response.unwrap().declassify().to_vec()).unwrap()
}

fn password(user: Option<&str>, password: &str) -> Login {
    Login::Password { user: user.map(str::to_owned), password: password.to_owned().into() }
}

/// Any text that a name can be, and what real ones have: `*`, `\`, `+`, brackets, quotes, `%`, spaces, UTF-8.
fn names() -> impl Strategy<Value = String> {
    prop_oneof!["[*\\\\+\\[\\](){}\"'% a-z@.]{1,20}", "[^\\x00]{1,20}", "\\PC{1,40}"]
}

proptest! {
    #[test]
    fn names_and_passwords_go_unchanged_through_login_and_plain(name in names(), secret in names()) {
        let command = log_in(&mut session(password(None, &secret), &name, &Arc::default()), "");
        prop_assert_eq!(read_login(&command), (name.as_bytes().to_vec(), secret.as_bytes().to_vec()));

        let command = log_in(&mut session(password(None, &secret), &name, &Arc::default()), "AUTH=PLAIN SASL-IR");
        prop_assert_eq!(read_response(&command), format!("\0{name}\0{secret}"));

        let login = Login::AuthzId { user: "agent".into(), password: secret.clone().into() };
        let command = log_in(&mut session(login, &name, &Arc::default()), "AUTH=PLAIN SASL-IR");
        prop_assert_eq!(read_response(&command), format!("{name}\0agent\0{secret}"));

        let login = Login::Master { user: "agent".into(), separator: "*".into(), password: secret.clone().into() };
        let command = log_in(&mut session(login, &name, &Arc::default()), "");
        prop_assert_eq!(read_login(&command).0, format!("{name}*agent").into_bytes());

        let login = password(Some("svc@fabrikam.com\\{mailbox}"), &secret);
        prop_assert!(login.is_shared() && !login.is_one_account());
        let command = log_in(&mut session(login, &name, &Arc::default()), "");
        prop_assert_eq!(read_login(&command).0, format!("svc@fabrikam.com\\{name}").into_bytes());
    }

    #[test]
    fn a_token_goes_with_the_mailbox_in_the_place_of_its_placeholder(name in "[a-z*\\\\+\\[\\]\"'% @.ä]{1,20}") {
        for (mechanism, capability) in [(Mechanism::XOAuth2, "XOAUTH2"), (Mechanism::OAuthBearer, "OAUTHBEARER")] {
            let login = TokenLogin { mechanism, user: Some(format!("{MAILBOX}#svc")), from: TokenFrom::File("t".into()) };
            let mut session = session(Login::Token(login), &name, &Arc::default());
            session.handle(Now::default(), Input::Token(&"t0ken".to_owned().into()));
            let command = log_in(&mut session, &format!("SASL-IR AUTH={capability}"));
            let response = String::from_utf8_lossy(&command).trim_end().rsplit(' ').next().unwrap().to_owned();
            let response = String::from_utf8(STANDARD.decode(response).unwrap()).unwrap();
            let shown = format!("{name}#svc");
            prop_assert!(response.contains(&shown), "{} lacks {}", response, shown);
        }
    }
}

#[test]
fn what_worked_is_remembered_and_forgotten_where_it_works_no_more() {
    let traits: Arc<Traits> = Arc::default();
    let greet = |traits: &Arc<Traits>| {
        let mut session = session(password(None, "secret"), "u1", traits);
        let command = log_in(&mut session, "AUTH=PLAIN");
        (session, String::from_utf8(command).unwrap())
    };
    let (mut first, command) = greet(&traits);
    assert_eq!(command, "a1 AUTHENTICATE PLAIN\r\n");
    assert_eq!(said(&mut first, Input::Bytes(b"a1 BAD what\r\n")), b"a2 LOGIN \"u1\" \"secret\"\r\n");
    // Not until it has worked.
    assert!(greet(&traits).1.starts_with("a1 AUTHENTICATE"));
    said(&mut first, Input::Bytes(b"a2 OK in\r\n"));
    let (mut second, command) = greet(&traits);
    assert_eq!(command, "a1 LOGIN \"u1\" \"secret\"\r\n");
    assert_eq!(said(&mut second, Input::Bytes(b"a1 NO no\r\n")), b"");
    assert!(second.is_closed() && greet(&traits).1.starts_with("a1 AUTHENTICATE"));
}

#[test]
fn the_server_s_name_is_that_of_its_answer_to_id_else_its_greeting() {
    let traits: Arc<Traits> = Arc::default();
    let mut session = session(password(None, "secret"), "u1", &traits);
    assert_eq!(session.server_name(), None);
    said(&mut session, Input::Connected);
    said(&mut session, Input::Bytes(b"* OK [CAPABILITY IMAP4rev1 ID] Dovecot (Debian) ready.\r\n"));
    assert_eq!(session.server_name().as_deref(), Some("Dovecot (Debian) ready."));
    said(&mut session, Input::Bytes(b"a1 OK [CAPABILITY IMAP4rev1 ID] in\r\n"));
    said(&mut session, Input::Bytes(b"* ID (\"name\" \"Dovecot\" \"version\" \"2.4.1\")\r\n"));
    assert_eq!(session.server_name().as_deref(), Some("Dovecot 2.4.1"));
}
