//! One log-in on trial, for `doctor` and `check`: connects, reads INBOX, leaves; no roster, no retry.

use super::stream::{Error, Server, Stream};
use super::token::Tokens;
use crate::event::News;
use crate::source::imap::capability::Capabilities;
use crate::source::imap::exchange::{Ending, Errand, Input, Output};
use crate::source::imap::session::Session;
use crate::source::imap::{Method, Settings};
use crate::time::driver::Clock;
use std::future::poll_fn;
use std::sync::Arc;
use tokio::io::ReadBuf;

/// Bytes of one read.
const BUFFER: usize = 16 * 1024;

/// What a log-in on trial found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What the server offers after the log-in.
    pub capabilities: Capabilities,
    /// How the mailbox would be watched.
    pub method: Method,
    /// STATUS UNSEEN of INBOX.
    pub unseen: u32,
}

/// What happened, for the next step.
#[derive(Clone, Copy)]
enum Event {
    Connected,
    TlsDone,
    Read(usize),
    Closed,
    Timeout,
}

/// Logs in to the mailbox once as configured, reads INBOX and logs out.
///
/// # Errors
/// [`Error`]: what went wrong, fit for people.
pub async fn check_login(settings: Settings, mailbox: &str, clock: Clock) -> Result<Checked, Error> {
    let server = Server::new(&settings)?;
    let settings = Arc::new(settings);
    let user = settings.names.server(mailbox).into();
    let mut session = Session::new(settings.clone(), Arc::default(), user, Errand::Visit, 0);
    if let Some(tokens) = Tokens::new(&settings, clock) {
        let token = tokens.token().await.map_err(Error::Unreachable)?;
        session.handle(clock.now(), Input::Token(&token));
    }
    let mut stream = server.connect().await.map_err(Error::Unreachable)?;
    let (mut buffer, mut unseen, mut refusal) = (vec![0; BUFFER], None, None);
    let mut event = Event::Connected;
    loop {
        session.handle(clock.now(), input(event, &buffer));
        let (mut unsent, mut is_starting_tls) = (Vec::new(), false);
        while let Some(output) = session.poll_output() {
            match output {
                Output::Send(outgoing) => unsent.extend_from_slice(outgoing.bytes()),
                Output::StartTls => is_starting_tls = true,
                Output::News(News::Reading(reading)) => unseen = Some(reading.unseen),
                Output::LoginRefused { text, .. } => refusal = Some(text),
                Output::Close(ending) => return found(&settings, &session, unseen, refusal, ending),
                _ => {}
            }
        }
        if is_starting_tls {
            stream = server.secure(stream).await.map_err(Error::Unreachable)?;
            event = Event::TlsDone;
            continue;
        }
        event = next(&mut stream, &mut unsent, &mut buffer, &session, clock).await;
    }
}

fn input(event: Event, buffer: &[u8]) -> Input<'_> {
    match event {
        Event::Connected => Input::Connected,
        Event::TlsDone => Input::TlsDone,
        Event::Read(length) => Input::Bytes(buffer.get(..length).unwrap_or_default()),
        Event::Closed => Input::Closed,
        Event::Timeout => Input::Timeout,
    }
}

/// Sends, then waits for bytes or the session's timer.
async fn next(
    stream: &mut Stream,
    unsent: &mut Vec<u8>,
    buffer: &mut [u8],
    session: &Session,
    clock: Clock,
) -> Event {
    let Some(at) = session.poll_timeout() else { return Event::Closed };
    let exchange = async {
        poll_fn(|context| stream.poll_send(context, unsent)).await?;
        let mut buffer = ReadBuf::new(buffer);
        poll_fn(|context| stream.poll_read(context, &mut buffer)).await?;
        std::io::Result::Ok(buffer.filled().len())
    };
    match tokio::time::timeout_at(clock.instant(at).into(), exchange).await {
        Ok(Ok(0) | Err(_)) => Event::Closed,
        Ok(Ok(length)) => Event::Read(length),
        Err(_) => Event::Timeout,
    }
}

fn found(
    settings: &Settings,
    session: &Session,
    unseen: Option<u32>,
    refusal: Option<String>,
    ending: Ending,
) -> Result<Checked, Error> {
    if let Some(text) = refusal {
        return Err(Error::Refused(text));
    }
    let capabilities = session.capabilities();
    let unseen = unseen.ok_or(Error::Ended(ending))?;
    Ok(Checked { capabilities, method: settings.watch.method(capabilities, false), unseen })
}
