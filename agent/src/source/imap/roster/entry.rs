//! One mailbox of the roster.

use crate::source::imap::exchange::{Ending, Errand, LOG_IN, Refusal};
use crate::source::imap::governor::Failure;
use crate::source::imap::{GREETING_WAIT, LOGIN_WAIT};
use crate::time::Moment;
use std::sync::Arc;

/// Characters that are kept of why a mailbox is not read, most.
const WORDS_MAX: usize = 200;

/// One mailbox.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Arc<str>,
    /// Its connection, if there is one.
    pub(super) number: Option<u32>,
    pub(super) logged_in_at: Option<Moment>,
    /// When its connection was begun, or the last one.
    pub(super) begun_at: Moment,
    /// What its connection is for.
    pub(super) errand: Errand,
    /// Its connections read once and leave: by configuration, since the server is full, or as the last one found out.
    pub(super) is_polled: bool,
    /// It is visited since the server is full.
    pub(super) is_limited: bool,
    /// It was read at least once, or its watching began.
    pub(super) is_covered: bool,
    /// Asked while a visit was under way, perhaps after its question.
    pub(super) is_asked: bool,
    /// The next visit is the sweep's.
    pub(super) is_swept: bool,
    /// The words are an alert on the connection of now: the end that follows it says less.
    pub(super) is_alerted: bool,
    pub(super) refused: Option<Box<(Refusal, String)>>,
    /// Why it is not read, in the server's own words.
    pub(super) words: Option<Box<str>>,
    /// How often it was read: the busiest reconnect first.
    pub(super) readings: u32,
}

impl Entry {
    pub(super) fn new(name: Arc<str>, is_polled: bool) -> Self {
        Self {
            name,
            number: None,
            logged_in_at: None,
            begun_at: Moment::START,
            errand: Errand::Visit,
            is_polled,
            is_limited: false,
            is_covered: false,
            is_asked: false,
            is_swept: false,
            is_alerted: false,
            refused: None,
            words: None,
            readings: 0,
        }
    }

    /// Whether it has a connection that watches, logged in.
    pub(super) fn is_holding(&self) -> bool {
        self.errand == Errand::Watch && self.logged_in_at.is_some()
    }

    pub(super) fn alert(&mut self, text: &str) {
        self.words = Some(kept(text));
        self.is_alerted = true;
    }

    /// What the end of its connection means; keeps the words for it.
    pub(super) fn failure(&mut self, ending: &Ending, now: Moment) -> Failure {
        let refused = self.refused.take().map(|refused| *refused);
        let text = match (&refused, self.logged_in_at) {
            (Some((_, text)), _) => text.clone(),
            (None, None) => before_log_in(ending),
            (None, Some(_)) => ending.to_string(),
        };
        if !self.is_alerted {
            self.words = Some(kept(&text));
        }
        match (refused, self.logged_in_at) {
            _ if *ending == Ending::Flooded => Failure::Flooded(text),
            (Some((refusal, text)), _) => Failure::Refused(refusal, text),
            (None, Some(since)) => Failure::Lost(now.since(since)),
            (None, None) => Failure::TurnedAway(text),
        }
    }
}

/// How a connection ended that was not logged in.
fn before_log_in(ending: &Ending) -> String {
    match ending {
        Ending::Silent(what) => {
            let most = if *what == LOG_IN { LOGIN_WAIT } else { GREETING_WAIT };
            format!("server did not answer within {} s: waited for {what}", most.as_secs())
        }
        Ending::Lost => "server ended the connection before or during the log-in".to_owned(),
        _ => ending.to_string(),
    }
}

/// As much of it as is kept.
pub(super) fn kept(text: &str) -> Box<str> {
    text.chars().take(WORDS_MAX).collect()
}
