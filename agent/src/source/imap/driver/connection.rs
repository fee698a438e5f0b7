//! One connection on a real socket, without a buffer of its own: its thread reads into one that all its connections
//! share, the session takes the bytes at once, and its answers are short. So an idle connection holds a socket and its
//! session, and nobody's turn is needed to find that nothing happened.

use super::Shared;
use super::stream::Stream;
use crate::event::MailboxId;
use crate::source::imap::connection::{Connection as Machine, Input, Output, Wish};
use crate::source::imap::exchange::{self, Ending, Refusal};
use crate::source::imap::roster::ConnectionReport;
use crate::time::Moment;
use secrecy::SecretString;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// How a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It waits for its socket, for a wish, for its alarm.
    Stays,
    /// It has reported its end and is to be dropped.
    Over,
}

/// A connection, from before its socket is open until it is dropped.
pub(super) struct Connection {
    shared: Arc<Shared>,
    machine: Machine,
    stream: Option<Stream>,
    unsent: Vec<u8>,
    /// When its thread will call [`Connection::alarm`].
    pub(super) alarm: Option<Moment>,
    /// Whether its thread waits until the socket takes more.
    pub(super) is_blocked: bool,
    pub(super) mailbox: MailboxId,
    /// The connection's number in the roster.
    pub(super) number: u32,
}

impl Connection {
    /// One whose socket is not open yet.
    pub(super) fn new(shared: Arc<Shared>, machine: Machine, mailbox: MailboxId, number: u32) -> Self {
        Self {
            shared,
            machine,
            stream: None,
            unsent: Vec::new(),
            alarm: None,
            is_blocked: false,
            mailbox,
            number,
        }
    }

    /// The TCP connection stands; a token, where the log-in takes one.
    pub(super) fn begin(&mut self, stream: Stream, token: Option<&SecretString>) -> Fate {
        self.stream = Some(stream);
        if let Some(token) = token {
            self.machine.handle(self.shared.clock.now(), Input::Session(exchange::Input::Token(token)));
        }
        let fate = self.happen(exchange::Input::Connected);
        self.flush(fate)
    }

    /// The socket has something, or takes something again. It is read once, and what that gave is handed in: however much
    /// a server sends, the thread's other connections have their turn before the socket is read again.
    pub(super) fn ready(&mut self, buffer: &mut [u8]) -> Fate {
        let mut fate = if self.is_shaking() { self.shake() } else { self.read(buffer, Stream::read) };
        while fate == Fate::Stays && self.stream.as_ref().is_some_and(Stream::holds_more) {
            fate = self.read(buffer, Stream::read_held);
        }
        self.flush(fate)
    }

    /// The roster wants something.
    pub(super) fn wish(&mut self, wish: Wish) -> Fate {
        let fate = self.handle(Input::Wish(wish));
        self.flush(fate)
    }

    /// The moment of [`Connection::alarm`] has come.
    pub(super) fn due(&mut self) -> Fate {
        let fate = self.happen(exchange::Input::Timeout);
        self.flush(fate)
    }

    /// When [`Connection::due`] is to be called, where that is sooner than it will be.
    pub(super) fn sooner(&self) -> Option<Moment> {
        self.machine.poll_timeout().filter(|at| self.alarm.is_none_or(|alarm| *at < alarm))
    }

    /// Whether the socket did not take everything.
    pub(super) fn wants_room(&self) -> bool {
        !self.unsent.is_empty() || self.stream.as_ref().is_some_and(Stream::is_full)
    }

    /// What epoll waits for.
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.stream.as_ref().map(Stream::as_fd)
    }

    fn is_shaking(&self) -> bool {
        self.stream.as_ref().is_some_and(Stream::is_shaking)
    }

    fn read(
        &mut self,
        buffer: &mut [u8],
        read: impl FnOnce(&mut Stream, &mut [u8]) -> io::Result<usize>,
    ) -> Fate {
        let Some(stream) = &mut self.stream else { return Fate::Over };
        match read(stream, buffer) {
            Err(error) if is_passing(&error) => Fate::Stays,
            Ok(0) | Err(_) => self.happen(exchange::Input::Closed),
            Ok(length) => self.happen(exchange::Input::Bytes(buffer.get(..length).unwrap_or_default())),
        }
    }

    /// A step of the TLS handshake.
    fn shake(&mut self) -> Fate {
        let Some(stream) = &mut self.stream else { return Fate::Over };
        match stream.shake() {
            Ok(()) => self.happen(exchange::Input::TlsDone),
            Err(error) if is_passing(&error) => Fate::Stays,
            Err(error) => {
                self.unreachable(format!("TLS with {} failed: {error}", self.shared.server.place()))
            }
        }
    }

    /// Sends what is to be sent, and begins TLS behind it where the session said so.
    fn flush(&mut self, fate: Fate) -> Fate {
        let Some(stream) = self.stream.as_mut().filter(|_| fate == Fate::Stays) else { return Fate::Over };
        match stream.send(&mut self.unsent) {
            Err(error) if is_passing(&error) => Fate::Stays,
            Err(_) => self.happen(exchange::Input::Closed),
            Ok(()) => Fate::Stays,
        }
    }

    /// From now on TLS is spoken: what was said before must have been taken by the socket, which a line always is.
    fn begin_tls(&mut self) -> Fate {
        let Some(stream) = self.stream.take() else { return Fate::Over };
        match self.shared.server.secure(stream) {
            Err(reason) => self.unreachable(reason),
            Ok(stream) => {
                self.stream = Some(stream);
                self.shake()
            }
        }
    }

    /// Something happened on the socket, or its time has come.
    fn happen(&mut self, input: exchange::Input<'_>) -> Fate {
        self.handle(Input::Session(input))
    }

    /// Gives the machine an input and does what it says.
    fn handle(&mut self, input: Input<'_>) -> Fate {
        let now = self.shared.clock.now();
        self.machine.handle(now, input);
        let mut is_starting_tls = false;
        while let Some(output) = self.machine.poll_output(now, &self.shared.counters) {
            match output {
                Output::Send(outgoing) => self.unsent.extend_from_slice(outgoing.bytes()),
                Output::StartTls => is_starting_tls = true,
                Output::Observe(news) => {
                    let shared = &self.shared;
                    let verdict = shared.observer.observe(self.mailbox, shared.id, news, now);
                    self.machine.handle(now, Input::Verdict(verdict));
                }
                Output::Report(report) => self.report(report),
                Output::Close => return Fate::Over,
            }
        }
        if is_starting_tls { self.begin_tls() } else { Fate::Stays }
    }

    /// Logs what people look for, and hands the report to the roster.
    fn report(&self, report: ConnectionReport) {
        let (source, mailbox) = (&self.shared.settings.name, self.machine.mailbox());
        match &report {
            ConnectionReport::Refused(Refusal::Unfit, text) => {
                tracing::warn!(%source, mailbox, text, "cannot log in as configured");
            }
            ConnectionReport::Refused(refusal, text) => {
                self.shared.tokens.as_ref().inspect(|tokens| tokens.refused());
                tracing::warn!(%source, mailbox, ?refusal, text, "log-in refused");
            }
            ConnectionReport::Ended(ending @ Ending::Flooded) => {
                tracing::warn!(%source, mailbox, %ending, "connection ended");
            }
            ConnectionReport::Ended(ending) if *ending != Ending::Done => {
                tracing::debug!(%source, mailbox, %ending, "connection ended");
            }
            _ => {}
        }
        self.shared.report(self.mailbox, self.number, report);
    }

    /// No connection came about, or no TLS on it.
    pub(super) fn unreachable(&mut self, reason: String) -> Fate {
        self.handle(Input::Unreachable(reason))
    }
}

/// Whether the socket only has nothing, or no room, now.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.ended();
    }
}
