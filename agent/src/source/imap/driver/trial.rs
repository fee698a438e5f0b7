//! One log-in on trial, for `doctor` and `check`: connects, reads INBOX, leaves; no roster, no retry, no thread but one
//! of those that may wait.

use super::stream::{Error, Server, Stream};
use super::token::Tokens;
use crate::event::News;
use crate::source::imap::capability::Capabilities;
use crate::source::imap::exchange::{Ending, Errand, Input, Output, Refusal};
use crate::source::imap::session::Session;
use crate::source::imap::{Method, Settings};
use crate::time::driver::Clock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// Bytes of one read.
const BUFFER: usize = 16 * 1024;

/// What a log-in on trial found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What the server offers after the log-in.
    pub capabilities: Capabilities,
    /// How the mailbox would be watched.
    pub method: Method,
    /// STATUS UNSEEN of INBOX.
    pub unseen: u32,
    /// How the server names itself: in its answer to ID, else in its greeting.
    pub server: Option<String>,
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
    let stream = server.connect().await.map_err(Error::Unreachable)?;
    let visit = Visit { server, settings, session, stream, clock };
    let visited = tokio::task::spawn_blocking(|| visit.pay()).await;
    visited.unwrap_or_else(|panicked| Err(Error::Unreachable(panicked.to_string())))
}

/// A visit to the server, step by step.
struct Visit {
    server: Server,
    settings: Arc<Settings>,
    session: Session,
    stream: Stream,
    clock: Clock,
}

impl Visit {
    fn pay(mut self) -> Result<Checked, Error> {
        let (mut buffer, mut unseen, mut refusal) = (vec![0; BUFFER], None, None);
        let mut event = Event::Connected;
        loop {
            self.session.handle(self.clock.now(), input(event, &buffer));
            let (mut unsent, mut is_starting_tls) = (Vec::new(), false);
            while let Some(output) = self.session.poll_output() {
                match output {
                    Output::Send(outgoing) => unsent.extend_from_slice(outgoing.bytes()),
                    Output::StartTls => is_starting_tls = true,
                    Output::News(News::Reading(reading)) => unseen = Some(reading.unseen),
                    Output::LoginRefused { refusal: whose, text } => refusal = Some((whose, text)),
                    Output::Close(ending) => {
                        return found(&self.settings, &self.session, unseen, refusal, ending);
                    }
                    _ => {}
                }
            }
            if is_starting_tls {
                self.stream = self.server.secure(self.stream).map_err(Error::Unreachable)?;
                event = match self.patiently(PollFlags::IN, Stream::shake) {
                    Ok(()) => Event::TlsDone,
                    Err(error) if error.kind() == ErrorKind::TimedOut => Event::Timeout,
                    Err(error) => {
                        let place = self.server.place();
                        return Err(Error::Unreachable(format!("TLS with {place} failed: {error}")));
                    }
                };
                continue;
            }
            event = self.next(&mut unsent, &mut buffer);
        }
    }

    /// Sends, then waits for bytes or the session's timer.
    fn next(&mut self, unsent: &mut Vec<u8>, buffer: &mut [u8]) -> Event {
        let sent = self.patiently(PollFlags::OUT, |stream| stream.send(unsent));
        match sent.and_then(|()| self.patiently(PollFlags::IN, |stream| stream.read(buffer))) {
            Ok(length) if length > 0 => Event::Read(length),
            Err(error) if error.kind() == ErrorKind::TimedOut => Event::Timeout,
            _ => Event::Closed,
        }
    }

    /// Tries until the socket allows it; until the session's timer at the longest.
    fn patiently<T>(
        &mut self,
        until: PollFlags,
        mut attempt: impl FnMut(&mut Stream) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match attempt(&mut self.stream) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            let now = self.clock.now().moment;
            let left = self.session.poll_timeout().filter(|at| *at > now).ok_or(ErrorKind::TimedOut)?;
            let limit = Timespec::try_from(left.since(now)).map_err(io::Error::other)?;
            poll(&mut [PollFd::new(&self.stream, until)], Some(&limit))?;
        }
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

fn found(
    settings: &Settings,
    session: &Session,
    unseen: Option<u32>,
    refusal: Option<(Refusal, String)>,
    ending: Ending,
) -> Result<Checked, Error> {
    match refusal {
        Some((Refusal::Unfit, text)) => return Err(Error::Unfit(text)),
        Some((_, text)) => return Err(Error::Refused(text)),
        None => {}
    }
    let capabilities = session.capabilities();
    let unseen = unseen.ok_or(Error::Ended(ending))?;
    let method = settings.watch.method(capabilities);
    Ok(Checked { capabilities, method, unseen, server: session.server_name() })
}
