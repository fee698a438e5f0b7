//! Whether log-ins may go on at all after one was refused, turned away or not begun. One refusal proves little: the mailbox itself may
//! be the reason. So one log-in at a time is tried, of another mailbox where there is one; a log-in that works closes the
//! breaker, and each further mailbox that is refused makes the pauses longer. What the refusal says does not matter for that.

use crate::event::MailboxId;
use crate::time::Moment;
use std::time::Duration;

/// Pauses after one, two, three … different mailboxes were refused in a row. Where the server blames the credential and it
/// never worked the pauses begin with the third, where it blames the mailbox with the second, else with the first.
const REFUSED_WAITS: [Duration; 7] = [
    Duration::from_secs(1),
    Duration::from_secs(15),
    Duration::from_mins(5),
    Duration::from_mins(10),
    Duration::from_mins(20),
    Duration::from_mins(40),
    Duration::from_hours(1),
];
/// First longest pause after a server had no room.
pub(super) const ROOM_WAIT: Duration = Duration::from_secs(5);
/// Longest pause of a server without room at first, and after [`ROOM_PATIENCE`] log-ins in a row.
const ROOM_WAIT_MAX: (Duration, Duration) = (Duration::from_mins(2), Duration::from_mins(30));
/// See [`ROOM_WAIT_MAX`].
const ROOM_PATIENCE: u32 = 24;

/// What a log-in that did not work casts doubt on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// The shared credential: the server's words blame it.
    Credential,
    /// The shared credential, although the server's words may blame the mailbox.
    Mailbox,
    /// The server's capacity: it says so, ends the connection before or during the log-in, or says nothing.
    ServerCapacity,
    /// The set-up, of server or agent: what the configuration needs is not offered.
    SetUp,
}

impl Doubt {
    /// No credential was refused: it may be tried again more often.
    const fn is_of_server(self) -> bool {
        matches!(self, Self::ServerCapacity | Self::SetUp)
    }
}

/// A log-in that did not work.
pub(super) struct Refused {
    pub(super) mailbox: MailboxId,
    pub(super) doubt: Doubt,
    pub(super) text: String,
    /// The mailbox was not refused before: its refusal is new evidence.
    pub(super) is_new: bool,
    /// Some log-in has worked since the start.
    pub(super) is_proven: bool,
}

/// Closed, or open since the last log-in did not work.
#[derive(Debug, Default)]
pub(super) struct Breaker(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    doubt: Doubt,
    /// The mailbox that was refused last.
    culprit: MailboxId,
    /// More than one mailbox was refused.
    is_several: bool,
    /// Different mailboxes that were refused after the first.
    times: u32,
    until: Moment,
    text: String,
    /// The one log-in that is tried.
    trial: Option<MailboxId>,
}

impl Breaker {
    pub(super) fn close(&mut self) {
        self.0 = None;
    }

    /// Before when nobody may go.
    pub(super) fn until(&self) -> Moment {
        self.0.as_ref().map_or(Moment::START, |open| open.until)
    }

    /// The mailbox whose refusal opened it.
    pub(super) fn culprit(&self) -> Option<MailboxId> {
        self.0.as_ref().map(|open| open.culprit)
    }

    pub(super) fn is_on_trial(&self) -> bool {
        self.0.as_ref().is_some_and(|open| open.trial.is_some())
    }

    /// The mailbox is let through: a trial, while the breaker is open.
    pub(super) fn begin(&mut self, mailbox: MailboxId) {
        if let Some(open) = &mut self.0 {
            open.trial = Some(mailbox);
        }
    }

    /// The mailbox's log-in is over, or nobody wants it any more.
    pub(super) fn end(&mut self, mailbox: MailboxId) {
        if let Some(open) = self.0.as_mut().filter(|open| open.trial == Some(mailbox)) {
            open.trial = None;
        }
    }

    /// Opens, or stays open for longer.
    pub(super) fn trip(&mut self, refused: Refused, now: Moment, rng: &mut fastrand::Rng) {
        let Refused { mailbox, doubt, text, is_new, is_proven } = refused;
        let (mut is_several, mut times) = (false, 0);
        if let Some(open) = &mut self.0 {
            open.is_several |= open.culprit != mailbox;
            if open.trial != Some(mailbox) {
                // It was on its way when the first one was refused.
                return;
            }
            let is_evidence = is_new || (doubt.is_of_server() && open.is_several);
            (is_several, times) = (open.is_several, open.times + u32::from(is_evidence));
        }
        let wait = if doubt.is_of_server() {
            room_wait(times, rng)
        } else {
            refused_wait(times + first_wait(doubt, is_proven))
        };
        let until = now.after(wait);
        self.0 =
            Some(Box::new(Open { doubt, culprit: mailbox, is_several, times, until, text, trial: None }));
    }

    /// What keeps every log-in from working, for people. `is_anyone_in`: other mailboxes have connections, so that one
    /// refused mailbox is its own trouble.
    pub(super) fn failure(&self, is_anyone_in: bool) -> Option<String> {
        let open = self.0.as_ref()?;
        let text = &open.text;
        let concerns_all = open.is_several || !is_anyone_in;
        match open.doubt {
            Doubt::ServerCapacity if concerns_all => {
                Some(format!("no log-in works, and they are tried less and less often: {text}"))
            }
            Doubt::SetUp if concerns_all => Some(format!(
                "cannot log in as configured, which is tried less and less often; no password or token was sent: {text}"
            )),
            Doubt::Credential if concerns_all => Some(stopped(text)),
            Doubt::Mailbox if open.is_several => Some(stopped(text)),
            _ => None,
        }
    }
}

fn stopped(text: &str) -> String {
    format!("log-ins are stopped, since the server refused the configured credential: {text}")
}

/// Which of [`REFUSED_WAITS`] is the first.
const fn first_wait(doubt: Doubt, is_proven: bool) -> u32 {
    match (doubt, is_proven) {
        (_, true) | (Doubt::ServerCapacity | Doubt::SetUp, _) => 0,
        (Doubt::Mailbox, false) => 1,
        (Doubt::Credential, false) => 2,
    }
}

fn refused_wait(times: u32) -> Duration {
    let last = REFUSED_WAITS.last().copied().unwrap_or_default();
    REFUSED_WAITS.get(times as usize).copied().unwrap_or(last)
}

/// The wait after a server had no room for so many in a row: exponential, the later half of the span by chance.
pub(super) fn room_wait(times: u32, rng: &mut fastrand::Rng) -> Duration {
    let most = if times < ROOM_PATIENCE { ROOM_WAIT_MAX.0 } else { ROOM_WAIT_MAX.1 };
    let span = ROOM_WAIT.saturating_mul(1 << times.min(20)).min(most);
    late_half(span, rng)
}

/// Anywhere in the later half of the span.
pub(super) fn late_half(span: Duration, rng: &mut fastrand::Rng) -> Duration {
    span / 2 + Duration::from_micros(rng.u64(0..=(span / 2).as_micros() as u64))
}
