//! One connection on a real socket: a future without a buffer of its own. Bytes are read into a buffer that all connections
//! of a thread share, the session takes them at once, and its answers are short; so an idle connection holds a socket, its
//! session and a waker.

use super::Shared;
use super::link::{ALARM, ASK, Link, STOP, SWEEP};
use super::stream::Stream;
use crate::event::{MailboxId, News, Verdict};
use crate::source::imap::exchange::{Ending, Input, Output};
use crate::source::imap::roster::Report;
use crate::source::imap::session::Session;
use crate::time::{Moment, Now};
use secrecy::SecretString;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::ReadBuf;

/// The buffer that all connections of a thread read into.
const BUFFER: usize = 16 * 1024;
/// Reads of one connection before others have their turn.
const READS_MAX: usize = 16;

thread_local! {
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
}

/// What a connection begins with: the way to the server, and a token where the log-in takes one.
type Begun = Result<(Stream, Option<SecretString>), String>;
type Opening = Pin<Box<dyn Future<Output = Begun> + Send>>;

enum Wire {
    Opening(Opening),
    Open(Stream),
    Closed,
}

/// A running connection; ready when it is over, and has reported so.
pub(super) struct Connection {
    shared: Arc<Shared>,
    link: Arc<Link>,
    session: Session,
    wire: Wire,
    unsent: Vec<u8>,
    /// The moment the hall will raise [`ALARM`] at.
    alarm: Option<Moment>,
    mailbox: MailboxId,
    /// Readings that the server pushed.
    pushed: u32,
    is_sweeping: bool,
    is_starting_tls: bool,
}

async fn connect(shared: Arc<Shared>) -> Begun {
    let token = match &shared.tokens {
        Some(tokens) => Some(tokens.token().await?),
        None => None,
    };
    Ok((shared.server.connect().await?, token))
}

async fn secure(shared: Arc<Shared>, stream: Stream) -> Begun {
    Ok((shared.server.secure(stream).await?, None))
}

/// What the future's next step is.
enum Step {
    Again,
    Wait,
    Over,
}

impl Connection {
    pub(super) fn new(
        shared: Arc<Shared>,
        link: Arc<Link>,
        session: Session,
        mailbox: MailboxId,
        is_sweeping: bool,
    ) -> Self {
        let wire = Wire::Opening(Box::pin(connect(shared.clone())));
        Self {
            shared,
            link,
            session,
            wire,
            unsent: Vec::new(),
            alarm: None,
            mailbox,
            pushed: 0,
            is_sweeping,
            is_starting_tls: false,
        }
    }

    fn report(&self, report: Report) {
        self.shared.report(self.mailbox, self.link.number, report);
    }

    /// Gives the session an input and does what it says. False: the connection is over.
    fn handle(&mut self, input: Input<'_>) -> bool {
        let now = self.shared.clock.now();
        self.session.handle(now, input);
        let mut is_unsure = false;
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::News(news) => is_unsure |= self.news(news, now),
                Output::Send(outgoing) => self.unsent.extend_from_slice(outgoing.bytes()),
                Output::StartTls => self.is_starting_tls = true,
                Output::Close(ending) => {
                    self.over(ending);
                    return false;
                }
                other => self.tell(other),
            }
        }
        if is_unsure { self.handle(Input::Ask) } else { true }
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

    fn over(&mut self, ending: Ending) {
        if ending != Ending::Done {
            self.shared.counters.connections_lost.one();
            tracing::debug!(source = %self.shared.settings.name, mailbox = self.session.mailbox(), %ending, "connection ended");
        }
        self.wire = Wire::Closed;
        self.report(Report::Pushed(self.pushed));
        self.report(Report::Ended(ending));
    }

    /// What the hall raised. False: over.
    fn flags(&mut self, context: &Context<'_>) -> bool {
        let flags = self.link.take(context);
        if flags & STOP != 0 {
            self.wire = Wire::Closed;
            self.report(Report::Ended(Ending::Done));
            return false;
        }
        self.is_sweeping |= flags & SWEEP != 0;
        if flags & ALARM != 0 {
            self.alarm = None;
        }
        (flags & ASK == 0 || self.handle(Input::Ask)) && (flags & ALARM == 0 || self.handle(Input::Timeout))
    }

    fn step(&mut self, context: &mut Context<'_>) -> Step {
        match &mut self.wire {
            Wire::Closed => Step::Over,
            Wire::Opening(opening) => match opening.as_mut().poll(context) {
                Poll::Pending => Step::Wait,
                Poll::Ready(Ok((stream, token))) => {
                    let is_secured = std::mem::take(&mut self.is_starting_tls);
                    self.wire = Wire::Open(stream);
                    if let Some(token) = token {
                        self.handle(Input::Token(&token));
                    }
                    if self.handle(if is_secured { Input::TlsDone } else { Input::Connected }) {
                        Step::Again
                    } else {
                        Step::Over
                    }
                }
                Poll::Ready(Err(text)) => {
                    self.shared.counters.connections_lost.one();
                    self.wire = Wire::Closed;
                    self.report(Report::Unreachable(text));
                    Step::Over
                }
            },
            Wire::Open(stream) => {
                if matches!(stream.poll_send(context, &mut self.unsent), Poll::Ready(Err(_))) {
                    return self.lost();
                }
                if self.is_starting_tls && self.unsent.is_empty() {
                    self.begin_tls();
                    return Step::Again;
                }
                self.read(context)
            }
        }
    }

    fn lost(&mut self) -> Step {
        if self.handle(Input::Closed) { Step::Wait } else { Step::Over }
    }

    fn begin_tls(&mut self) {
        if let Wire::Open(stream) = std::mem::replace(&mut self.wire, Wire::Closed) {
            self.wire = Wire::Opening(Box::pin(secure(self.shared.clone(), stream)));
        }
    }

    fn read(&mut self, context: &mut Context<'_>) -> Step {
        READ.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            let Wire::Open(stream) = &mut self.wire else { return Step::Over };
            let polled = stream.poll_read(context, &mut buffer);
            match polled {
                Poll::Pending => Step::Wait,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    if self.handle(Input::Bytes(buffer.filled())) { Step::Again } else { Step::Over }
                }
                Poll::Ready(_) => self.lost(),
            }
        })
    }

    /// Tells the hall when to raise [`ALARM`], where that is sooner than it knows.
    fn set_alarm(&mut self) {
        let Some(at) = self.session.poll_timeout() else { return };
        if self.alarm.is_none_or(|alarm| at < alarm) {
            self.shared.set_alarm(self.alarm, at, self.mailbox, self.link.number);
            self.alarm = Some(at);
        }
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if !this.flags(context) {
            return Poll::Ready(());
        }
        for _ in 0..READS_MAX {
            match this.step(context) {
                Step::Again => {}
                Step::Over => return Poll::Ready(()),
                Step::Wait => {
                    this.set_alarm();
                    return Poll::Pending;
                }
            }
        }
        this.set_alarm();
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.ended(self.mailbox, self.link.number, self.alarm);
    }
}
