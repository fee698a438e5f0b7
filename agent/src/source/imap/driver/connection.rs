//! One connection on a real socket, without a buffer of its own: its thread reads into one that all its connections
//! share, the session takes the bytes at once, and its answers are short. So an idle connection holds a socket and its
//! session, and nobody's turn is needed to find that nothing happened.

use super::Shared;
use super::stream::Stream;
use crate::event::{MailboxId, News, Verdict};
use crate::source::imap::exchange::{Ending, Input, Output};
use crate::source::imap::roster::Report;
use crate::source::imap::session::Session;
use crate::time::{Moment, Now};
use secrecy::SecretString;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// What somebody wants of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// A fresh reading.
    Ask,
    /// The same; if what it finds is new, only the sweep found it.
    Sweep,
    /// That it ends.
    HangUp,
}

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
    session: Session,
    stream: Option<Stream>,
    unsent: Vec<u8>,
    /// When its thread will call [`Connection::alarm`].
    pub(super) alarm: Option<Moment>,
    /// Whether its thread waits until the socket takes more.
    pub(super) is_blocked: bool,
    is_sweeping: bool,
    pub(super) mailbox: MailboxId,
    /// The connection's number in the roster.
    pub(super) number: u32,
    /// Readings that the server pushed.
    pushed: u32,
}

impl Connection {
    /// One whose socket is not open yet.
    pub(super) fn new(
        shared: Arc<Shared>,
        session: Session,
        mailbox: MailboxId,
        number: u32,
        is_sweeping: bool,
    ) -> Self {
        Self {
            shared,
            session,
            stream: None,
            unsent: Vec::new(),
            alarm: None,
            is_blocked: false,
            is_sweeping,
            mailbox,
            number,
            pushed: 0,
        }
    }

    /// The TCP connection stands; a token, where the log-in takes one.
    pub(super) fn begin(&mut self, stream: Stream, token: Option<&SecretString>) -> Fate {
        self.stream = Some(stream);
        if let Some(token) = token {
            self.session.handle(self.shared.clock.now(), Input::Token(token));
        }
        let fate = self.handle(Input::Connected);
        self.flush(fate)
    }

    /// The socket has something, or takes something again.
    pub(super) fn ready(&mut self, buffer: &mut [u8]) -> Fate {
        let mut fate = if self.is_shaking() { self.shake() } else { self.read(buffer) };
        while fate == Fate::Stays && self.stream.as_ref().is_some_and(Stream::holds_more) {
            fate = self.read(buffer);
        }
        self.flush(fate)
    }

    /// Somebody wants something.
    pub(super) fn wish(&mut self, wish: Wish) -> Fate {
        if wish == Wish::HangUp {
            self.report(Report::Ended(Ending::Done));
            return Fate::Over;
        }
        self.is_sweeping |= wish == Wish::Sweep;
        let fate = self.handle(Input::Ask);
        self.flush(fate)
    }

    /// The moment of [`Connection::alarm`] has come.
    pub(super) fn due(&mut self) -> Fate {
        let fate = self.handle(Input::Timeout);
        self.flush(fate)
    }

    /// When [`Connection::due`] is to be called, where that is sooner than it will be.
    pub(super) fn sooner(&self) -> Option<Moment> {
        self.session.poll_timeout().filter(|at| self.alarm.is_none_or(|alarm| *at < alarm))
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

    fn read(&mut self, buffer: &mut [u8]) -> Fate {
        let Some(stream) = &mut self.stream else { return Fate::Over };
        match stream.read(buffer) {
            Err(error) if is_passing(&error) => Fate::Stays,
            Ok(0) | Err(_) => self.handle(Input::Closed),
            Ok(length) => self.handle(Input::Bytes(buffer.get(..length).unwrap_or_default())),
        }
    }

    /// A step of the TLS handshake.
    fn shake(&mut self) -> Fate {
        let Some(stream) = &mut self.stream else { return Fate::Over };
        match stream.shake() {
            Ok(()) => self.handle(Input::TlsDone),
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
            Err(_) => self.handle(Input::Closed),
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

    /// Gives the session an input and does what it says.
    fn handle(&mut self, input: Input<'_>) -> Fate {
        let now = self.shared.clock.now();
        self.session.handle(now, input);
        let (mut is_unsure, mut is_starting_tls) = (false, false);
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::News(news) => is_unsure |= self.news(news, now),
                Output::Send(outgoing) => self.unsent.extend_from_slice(outgoing.bytes()),
                Output::StartTls => is_starting_tls = true,
                Output::Close(ending) => return self.over(ending),
                other => self.tell(other),
            }
        }
        match (is_starting_tls, is_unsure) {
            (true, _) => self.begin_tls(),
            (_, true) => self.handle(Input::Ask),
            _ => Fate::Stays,
        }
    }

    /// Hands the news on. True: the observer wants to know better.
    fn news(&mut self, news: News, now: Now) -> bool {
        let shared = &self.shared;
        shared.counters.readings.one();
        let verdict = shared.observer.observe(self.mailbox, shared.id, news, now);
        let News::Reading(reading) = news else { return verdict == Verdict::Ask };
        if reading.asked_at.is_none() {
            self.pushed = self.pushed.saturating_add(1);
        } else {
            if std::mem::take(&mut self.is_sweeping) && verdict == Verdict::Changed {
                shared.counters.sweep_corrections.one();
                self.report(Report::Corrected);
            }
            self.report(Report::Read);
        }
        verdict == Verdict::Ask
    }

    fn tell(&self, output: Output) {
        let counters = &self.shared.counters;
        match output {
            Output::Noticed => counters.hints.one(),
            Output::Skipped => counters.skipped.one(),
            Output::LoggedIn => {
                counters.logins_ok.one();
                self.report(Report::LoggedIn);
            }
            Output::Watching(method) => self.report(Report::Watching(method)),
            Output::Alert(text) => self.report(Report::Alert(text)),
            Output::LoginRefused { refusal, text } => {
                counters.logins_refused.one();
                self.shared.tokens.as_ref().inspect(|tokens| tokens.refused());
                let mailbox = self.session.mailbox();
                tracing::warn!(source = %self.shared.settings.name, mailbox, ?refusal, text, "log-in refused");
                self.report(Report::Refused(refusal, text));
            }
            _ => {}
        }
    }

    fn report(&self, report: Report) {
        self.shared.report(self.mailbox, self.number, report);
    }

    /// No connection came about, or no TLS on it.
    pub(super) fn unreachable(&self, reason: String) -> Fate {
        self.shared.counters.connections_lost.one();
        self.report(Report::Unreachable(reason));
        Fate::Over
    }

    fn over(&mut self, ending: Ending) -> Fate {
        if ending != Ending::Done {
            self.shared.counters.connections_lost.one();
            tracing::debug!(source = %self.shared.settings.name, mailbox = self.session.mailbox(), %ending, "connection ended");
        }
        self.report(Report::Pushed(self.pushed));
        self.report(Report::Ended(ending));
        Fate::Over
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
