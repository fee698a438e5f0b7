//! The requests of the source: sends what the rounds say, hands each row to the observer as it arrives. Decides nothing.

mod trial;

pub use trial::{EVERYONE_PATIENCE, count_of, users};

pub(super) use trial::examine;

use super::answer::{AnswerPart, Counts, Reader};
use super::rounds::{Input, Output, QuestionKind, Rounds, Trouble};
use super::{Credential, Error, Settings, question};
use crate::counters::SourceCounters;
use crate::event::{MailboxId, News, Observer, Reading, SourceId, Verdict};
use crate::https::driver::{AnswerLimit, Client, Request, Roots};
use crate::https::{self, Failure};
use crate::source::kind::{Running, Stopping};
use crate::source::shell::driver::Rhythm;
use crate::time::Moment;
use crate::time::driver::Clock;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderValue};
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// From a question about single mailboxes to the end of its answer, longest.
pub const ANSWER_WAIT: Duration = Duration::from_mins(1);
/// A question without an answer for so long is a failure to report, although its answer is waited for: of single mailboxes
/// one comes within a second, of all users only when all were read.
pub const SILENT_AFTER: Duration = Duration::from_secs(15);
/// Bytes of an answer about all users, at most, for each user that may be expected. A row has some 150.
const ROW_SHARE: u64 = 1024;
/// Bytes of an answer about single mailboxes, at most, for each.
const ANSWER_SHARE: u64 = 64 * 1024;
/// Questions under way at once: one of each kind.
const CONCURRENCY: usize = 2;
/// Bytes of a refusal's text that are looked at.
const TEXT_MAX: usize = 1024;

/// A running source.
#[derive(Debug)]
pub struct DoveadmSource(Arc<Shared>);

/// What questions under way and the rounds loop share.
struct Shared {
    settings: Settings,
    id: SourceId,
    observer: Arc<dyn Observer>,
    clock: Clock,
    counters: Arc<SourceCounters>,
    channel: Channel,
    rounds: Mutex<Rounds>,
    rhythm: Rhythm,
}

/// Starts the source within the running tokio runtime; no mailbox is watched yet, and nothing is asked before one is.
///
/// # Errors
/// [`Error`], where no request could ever be sent.
pub fn start(
    settings: &Settings,
    id: SourceId,
    observer: Arc<dyn Observer>,
    clock: Clock,
    counters: Arc<SourceCounters>,
    seed: u64,
) -> Result<DoveadmSource, Error> {
    let shared = Arc::new(Shared {
        settings: settings.clone(),
        id,
        observer,
        clock,
        counters,
        channel: Channel::new(settings)?,
        rounds: Mutex::new(Rounds::new(settings.sweep_interval, settings.is_searching, seed)),
        rhythm: Rhythm::new(clock),
    });
    shared.rhythm.start(drive_rounds(Arc::clone(&shared)));
    Ok(DoveadmSource(shared))
}

impl Running for DoveadmSource {
    /// Reads the mailbox of this name from now on.
    fn watch(&self, mailbox: MailboxId, name: &Arc<str>) {
        let user = self.0.settings.names.server_shared(name);
        self.0.tell(Input::Watch(mailbox, user));
    }

    fn unwatch(&self, mailbox: MailboxId) {
        self.0.tell(Input::Unwatch(mailbox));
    }

    fn ask(&self, mailbox: MailboxId) {
        self.0.tell(Input::Ask(mailbox));
    }

    fn failure(&self) -> Option<String> {
        let name = &self.0.settings.name;
        self.0.rounds.lock().failure().map(|text| format!("source {name}: {text}"))
    }

    /// Gives up the questions that are under way.
    fn stop(&self) -> Stopping<'_> {
        Box::pin(self.0.rhythm.stop())
    }
}

/// The rounds loop: sends what is to be sent when it is due.
async fn drive_rounds(shared: Arc<Shared>) {
    let mut questions = JoinSet::new();
    let mut remark = None;
    while !shared.rhythm.is_stopping() {
        while questions.try_join_next().is_some() {}
        let now = shared.clock.now().moment;
        let (outputs, next) = {
            let mut rounds = shared.rounds.lock();
            rounds.handle(now, Input::Timeout);
            let outputs: Vec<Output> = std::iter::from_fn(|| rounds.poll_output()).collect();
            shared.note(&mut remark, rounds.remark());
            (outputs, rounds.poll_timeout())
        };
        for output in outputs {
            questions.spawn(Arc::clone(&shared).put(output));
        }
        shared.rhythm.until(next).await;
    }
}

impl Shared {
    /// Gives the rounds an input; the rounds loop does what follows. It need not hear of single rows.
    fn tell(&self, input: Input) {
        let is_row = matches!(input, Input::Read(_) | Input::Corrected | Input::Missed(..));
        let now = self.clock.now().moment;
        let mut rounds = self.rounds.lock();
        rounds.handle(now, input);
        let coverage = rounds.coverage();
        drop(rounds);
        self.counters.watched.set(coverage.read as u64);
        self.counters.waiting.set((coverage.mailboxes - coverage.read) as u64);
        if !is_row {
            self.rhythm.wake();
        }
    }

    /// Logs a remark once, when it begins; failures are the daemon's to log.
    fn note(&self, known: &mut Option<String>, now: Option<String>) {
        if let (None, Some(text)) = (&*known, &now) {
            tracing::warn!(source = %self.settings.name, "{text}");
        }
        *known = now;
    }

    /// Puts one question, to the end of its answer.
    async fn put(self: Arc<Self>, output: Output) {
        let (kind, body, limit) = match output {
            Output::AskEveryone => {
                let mailboxes = self.rounds.lock().expected();
                let limit = limit(self.settings.timeout, mailboxes, ROW_SHARE);
                (QuestionKind::Everyone, question::of_everyone(), limit)
            }
            Output::AskThese(users) => {
                let limit = limit(ANSWER_WAIT, users.len(), ANSWER_SHARE);
                (QuestionKind::ByName, question::of_these(&users), limit)
            }
        };
        let mut listener = Listener {
            shared: &self,
            kind,
            asked_at: self.clock.now().moment,
            held: None,
            rows: 0,
            why: None,
        };
        let answer = Box::pin(self.channel.ask(body, limit, |said| listener.hear(said)));
        let asked = self.while_reporting_silence(kind, limit.time, answer).await;
        let Listener { rows, why, .. } = listener;
        match &asked {
            Ok(()) => self.counters.logins_ok.one(),
            Err(Trouble::Refused(_)) => self.counters.logins_refused.one(),
            Err(_) => self.counters.connections_lost.one(),
        }
        let result = match (asked, why) {
            (Err(trouble), _) => Err(trouble),
            (Ok(()), Some(why)) if kind == QuestionKind::Everyone => Err(Trouble::Unanswered(why)),
            (Ok(()), _) => Ok(rows),
        };
        self.tell(Input::Ended(kind, result));
    }

    /// The answer; that there is none yet is reported meanwhile.
    async fn while_reporting_silence(
        &self,
        kind: QuestionKind,
        limit: Duration,
        mut answer: impl Future<Output = Result<(), Trouble>> + Unpin,
    ) -> Result<(), Trouble> {
        if let Ok(asked) = timeout(SILENT_AFTER, &mut answer).await {
            return asked;
        }
        let (silent, most) = (SILENT_AFTER.as_secs(), limit.as_secs());
        let what = format!("no whole answer within {silent} s, which is waited for up to {most} s");
        self.tell(Input::Silent(kind, self.channel.at(what)));
        answer.await
    }

    /// Counts of a mailbox have arrived.
    fn observe(&self, kind: QuestionKind, mailbox: MailboxId, counts: Counts, asked_at: Moment) {
        let Some(is_sweep) = self.rounds.lock().is_sweep(kind, mailbox) else {
            return self.counters.unknown.one();
        };
        let Counts { unseen, uid_validity, modseq } = counts;
        let reading = Reading { unseen, uid_validity, modseq, asked_at: Some(asked_at) };
        self.counters.readings.one();
        let verdict = self.observer.observe(mailbox, self.id, News::Reading(reading), self.clock.now());
        if is_sweep && verdict == Verdict::Changed {
            self.counters.sweep_corrections.one();
            self.tell(Input::Corrected);
        }
        self.tell(Input::Read(mailbox));
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("source", &self.settings.name).finish_non_exhaustive()
    }
}

/// Who takes in one answer.
struct Listener<'a> {
    shared: &'a Shared,
    kind: QuestionKind,
    asked_at: Moment,
    /// A row, or a failure, whose tag has not come yet.
    held: Option<Result<Counts, String>>,
    rows: usize,
    /// Why the last command failed.
    why: Option<String>,
}

impl Listener<'_> {
    fn hear(&mut self, said: AnswerPart) {
        match (said, self.kind) {
            (AnswerPart::OfUser(user, counts), QuestionKind::Everyone) => {
                self.rows += 1;
                match self.shared.observer.find_listed(&self.shared.settings.names.mailbox(&user)) {
                    Some(mailbox) => self.shared.observe(self.kind, mailbox, counts, self.asked_at),
                    None => self.shared.counters.unknown.one(),
                }
            }
            (AnswerPart::OfUser(_, counts) | AnswerPart::OfQuestion(counts), QuestionKind::ByName) => {
                self.held = Some(Ok(counts));
            }
            (AnswerPart::OfQuestion(_), QuestionKind::Everyone) | (AnswerPart::Skipped, _) => {
                self.shared.counters.skipped.one();
            }
            (AnswerPart::Failed(why), _) => {
                self.why = Some(why.clone());
                self.held = Some(Err(why));
            }
            (AnswerPart::Tag(tag), _) => self.end(&tag),
        }
    }

    /// A response has ended.
    fn end(&mut self, tag: &str) {
        let held = self.held.take();
        let Some(mailbox) = question::mailbox(tag).filter(|_| self.kind == QuestionKind::ByName) else {
            return;
        };
        self.rows += 1;
        match held {
            Some(Ok(counts)) => self.shared.observe(self.kind, mailbox, counts, self.asked_at),
            Some(Err(why)) => self.shared.tell(Input::Missed(mailbox, why)),
            None => self.shared.tell(Input::Missed(mailbox, "no count in the answer".to_owned())),
        }
    }
}

/// `share` bytes for each mailbox.
const fn limit(time: Duration, mailboxes: usize, share: u64) -> AnswerLimit {
    AnswerLimit { time, bytes: (mailboxes as u64).saturating_mul(share) }
}

/// The way to one doveadm.
struct Channel {
    client: Client,
    settings: Settings,
    headers: HeaderMap,
}

impl Channel {
    fn new(settings: &Settings) -> Result<Self, Error> {
        let client = https::driver::Settings {
            roots: Roots {
                key: format!("source.{}.ca-file", settings.name),
                authorities: settings.authorities.clone(),
            },
            concurrency: CONCURRENCY,
            timeout: settings.timeout,
            user_agent: format!("mailbadge/{}", env!("CARGO_PKG_VERSION")),
        };
        let failed = |reason| Error::Client { name: Arc::clone(&settings.name), reason };
        let client = Client::new(&client).map_err(failed)?;
        client.prepare(&settings.url).map_err(failed)?;
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization(settings)?);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Self { client, settings: settings.clone(), headers })
    }

    /// Puts a question; `hear` is told each thing of the answer as it comes.
    async fn ask(
        &self,
        body: String,
        limit: AnswerLimit,
        mut hear: impl FnMut(AnswerPart) + Send,
    ) -> Result<(), Trouble> {
        let request = Request {
            method: Method::POST,
            url: Arc::clone(&self.settings.url),
            headers: self.headers.clone(),
            body: Bytes::from(body),
        };
        let (mut reader, mut strange, mut text) = (Reader::default(), None, Vec::new());
        let status = self.client.receive(request, limit, |status, piece| {
            if status == 200 {
                strange = reader.read(piece, &mut hear).err();
                return strange.is_none();
            }
            text.extend_from_slice(piece.get(..TEXT_MAX.saturating_sub(text.len())).unwrap_or(piece));
            text.len() < TEXT_MAX
        });
        let status = status.await.map_err(|failure| self.no_answer(&failure))?;
        match (status, strange) {
            (200, Some(strange)) => Err(self.unreachable(strange)),
            (200, None) if !reader.is_over() => Err(self.unreachable("the answer ends in its middle")),
            (200, None) => Ok(()),
            (401 | 403, _) => Err(Trouble::Refused(self.at(self.refusal(status)))),
            _ => {
                let text = https::quote(&String::from_utf8_lossy(&text));
                Err(self.unreachable(format!("HTTP status {status} {text}").trim_end()))
            }
        }
    }

    fn refusal(&self, status: u16) -> String {
        let (key, setting) = match &self.settings.credential {
            Credential::ApiKey(_) => ("api-key-file", "doveadm_api_key"),
            Credential::Password(_) => ("password-file", "doveadm_password"),
        };
        format!(
            "the credential is refused (HTTP status {status}); {key} must hold what Dovecot has as {setting}"
        )
    }

    fn no_answer(&self, failure: &Failure) -> Trouble {
        match failure {
            Failure::Timeout(_) => Trouble::Unanswered(self.at(failure)),
            Failure::Flooded(_) => Trouble::Flooded(self.at(failure)),
            _ => self.unreachable(failure),
        }
    }

    fn unreachable(&self, what: impl std::fmt::Display) -> Trouble {
        Trouble::Unreachable(self.at(what))
    }

    fn at(&self, what: impl std::fmt::Display) -> String {
        format!("{}: {what}", self.settings.url)
    }
}

/// `X-Dovecot-API` with the key, or `Basic` with the password of the user `doveadm`, in base64 each.
fn authorization(settings: &Settings) -> Result<HeaderValue, Error> {
    let text = match &settings.credential {
        Credential::ApiKey(key) => {
            Zeroizing::new(format!("X-Dovecot-API {}", STANDARD.encode(key.expose_secret())))
        }
        Credential::Password(password) => {
            let pair = Zeroizing::new(format!("doveadm:{}", password.expose_secret()));
            Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())))
        }
    };
    let unfit = |_| Error::Credential { name: Arc::clone(&settings.name) };
    let mut value = HeaderValue::from_str(&text).map_err(unfit)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
