//! The machine of one connection: a session, and what its outputs mean for the roster and the observer. It decides what
//! to send, which news to hand to the observer, when to ask again, and what to report. No socket, no clock; the log-in
//! and the watching are the session's.
//!
//! Its driver's loop: `handle` an input, then `poll_output` until `None`. [`Output::Observe`] is answered by
//! [`Input::Verdict`] before the next output is polled. Then wait for bytes, a wish or `poll_timeout`.

use super::exchange::{self, Ending, Outgoing};
use super::roster::ConnectionReport;
use super::session::Session;
use crate::counters::SourceCounters;
use crate::event::{News, Verdict};
use crate::time::{Moment, Now};

/// What the roster wants of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A fresh reading.
    Ask,
    /// The same; if what it finds is new, only the sweep found it.
    Sweep,
    /// That it ends.
    HangUp,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// On the socket, or at the moment of [`Connection::poll_timeout`].
    Session(exchange::Input<'a>),
    /// The roster wants something.
    Wish(Wish),
    /// The observer's answer to [`Output::Observe`].
    Verdict(Verdict),
    /// The socket or TLS on it could not be opened, and why.
    Unreachable(String),
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write these bytes, in one segment.
    Send(Outgoing),
    /// Begin a TLS handshake once everything is written, then hand in [`exchange::Input::TlsDone`].
    StartTls,
    /// Hand this to the observer and its verdict to [`Connection::handle`].
    Observe(News),
    /// For the roster.
    Report(ConnectionReport),
    /// Close the socket and drop the connection: nothing follows.
    Close,
}

/// What comes before the session's next output. It holds no more than a byte: tens of thousands of connections are idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Session,
    /// The verdict on this news.
    Verdict(Kind),
    /// [`ConnectionReport::Corrected`], then [`ConnectionReport::Read`].
    Corrected,
    /// [`ConnectionReport::Read`].
    Read,
    /// The roster wanted it to end: [`ConnectionReport::Ended`], then [`Output::Close`].
    HungUp,
    Close,
    Nothing,
}

/// A piece of news by what it means for the roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Hint,
    /// A reading that nobody asked for.
    Push,
    /// A reading in answer to a question.
    Answer,
}

impl Kind {
    const fn of(news: &News) -> Self {
        match news {
            News::Hint => Self::Hint,
            News::Reading(reading) if reading.asked_at.is_none() => Self::Push,
            News::Reading(_) => Self::Answer,
        }
    }
}

/// The machine of one connection, from before its socket is open until it is dropped.
#[derive(Debug)]
pub struct Connection {
    session: Session,
    next: Next,
    /// Readings that the server pushed.
    pushed: u32,
    /// A wish that comes earlier needs no answer: a connection reads the mailbox as soon as it is open.
    is_open: bool,
    /// The sweep waits for the next answer.
    is_sweeping: bool,
    /// The observer wants to know better.
    is_unsure: bool,
}

impl Connection {
    /// One whose socket is not open yet. `is_sweep`: its first answer is the sweep's.
    pub const fn new(session: Session, is_sweep: bool) -> Self {
        Self {
            session,
            next: Next::Session,
            pushed: 0,
            is_open: false,
            is_sweeping: is_sweep,
            is_unsure: false,
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        if matches!(self.next, Next::HungUp | Next::Close | Next::Nothing) {
            return;
        }
        match input {
            Input::Session(input) => {
                self.is_open |= matches!(input, exchange::Input::Connected);
                self.session.handle(now, input);
            }
            Input::Wish(Wish::HangUp) => self.next = Next::HungUp,
            Input::Wish(wish) => self.ask(now, wish == Wish::Sweep),
            Input::Verdict(verdict) => self.judged(verdict),
            Input::Unreachable(reason) => {
                self.session.handle(now, exchange::Input::Unreachable(&reason));
            }
        }
    }

    /// The next thing to do; ask until `None`. Counts what it gives out.
    pub fn poll_output(&mut self, now: Now, counters: &SourceCounters) -> Option<Output> {
        match std::mem::replace(&mut self.next, Next::Session) {
            // Without a verdict there is nothing to report of the news.
            Next::Session | Next::Verdict(_) => self.session_output(now, counters),
            Next::Corrected => {
                self.next = Next::Read;
                counters.sweep_corrections.one();
                Some(Output::Report(ConnectionReport::Corrected))
            }
            Next::Read => Some(Output::Report(ConnectionReport::Read)),
            Next::HungUp => {
                self.next = Next::Close;
                Some(Output::Report(ConnectionReport::Ended(Ending::Done)))
            }
            Next::Close => {
                self.next = Next::Nothing;
                Some(Output::Close)
            }
            Next::Nothing => {
                self.next = Next::Nothing;
                None
            }
        }
    }

    /// When to hand in [`exchange::Input::Timeout`].
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.session.poll_timeout()
    }

    /// The mailbox's name, as the mail server spells it.
    pub fn mailbox(&self) -> &str {
        self.session.mailbox()
    }

    fn ask(&mut self, now: Now, is_sweep: bool) {
        if self.is_open {
            self.is_sweeping |= is_sweep;
            self.session.handle(now, exchange::Input::Ask);
        }
    }

    /// What the observer made of the news. An answer to the sweep that is news is a correction: the server had not
    /// reported the change.
    fn judged(&mut self, verdict: Verdict) {
        let Next::Verdict(kind) = self.next else { return };
        self.is_unsure |= verdict == Verdict::Ask;
        self.next = match kind {
            Kind::Answer if std::mem::take(&mut self.is_sweeping) && verdict == Verdict::Changed => {
                Next::Corrected
            }
            Kind::Answer => Next::Read,
            Kind::Push => {
                self.pushed = self.pushed.saturating_add(1);
                Next::Session
            }
            Kind::Hint => Next::Session,
        };
    }

    fn session_output(&mut self, now: Now, counters: &SourceCounters) -> Option<Output> {
        loop {
            if self.pushed > 0 && self.session.is_closed() {
                return Some(Output::Report(ConnectionReport::Pushed(std::mem::take(&mut self.pushed))));
            }
            let Some(output) = self.session.poll_output() else {
                // Once everything that came with the news is done: one question answers them all.
                if !std::mem::take(&mut self.is_unsure) {
                    return None;
                }
                self.session.handle(now, exchange::Input::Ask);
                continue;
            };
            return Some(match output {
                exchange::Output::Noticed => {
                    counters.hints.one();
                    continue;
                }
                exchange::Output::Skipped => {
                    counters.skipped.one();
                    continue;
                }
                exchange::Output::Send(outgoing) => Output::Send(outgoing),
                exchange::Output::StartTls => Output::StartTls,
                exchange::Output::News(news) => {
                    counters.readings.one();
                    self.next = Next::Verdict(Kind::of(&news));
                    Output::Observe(news)
                }
                exchange::Output::LoggedIn => {
                    counters.logins_ok.one();
                    Output::Report(ConnectionReport::LoggedIn)
                }
                exchange::Output::LoginRefused { refusal, text } => {
                    counters.logins_refused.one();
                    Output::Report(ConnectionReport::Refused(refusal, text))
                }
                exchange::Output::Watching(method) => Output::Report(ConnectionReport::Watching(method)),
                exchange::Output::Alert(text) => Output::Report(ConnectionReport::Alert(text)),
                exchange::Output::Close(ending) => {
                    self.next = Next::Close;
                    counters.connections_lost.add(u64::from(ending != Ending::Done));
                    Output::Report(ConnectionReport::Ended(ending))
                }
                exchange::Output::Unreachable(reason) => {
                    self.next = Next::Close;
                    counters.connections_lost.one();
                    Output::Report(ConnectionReport::Unreachable(reason))
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
