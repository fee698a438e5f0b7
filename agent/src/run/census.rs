//! What the daemon says of mailboxes whose count nobody knows. Which these are is decided by the tracker's
//! [`assurance`](crate::tracker::assurance); here they get their names and their server's words.

use super::Daemon;
use crate::admin::{MailboxesStatus, UnknownMailbox, some_of};
use crate::event::MailboxId;
use crate::ledger::LedgerSnapshot;
use crate::time::{Moment, Now};
use crate::tracker::assurance::{Census, UnknownLog};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Mailboxes named in one place, at most.
const NAMED_MAX: usize = 3;
/// How often the log is brought up to date.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What the log has said, and when it was last looked at.
#[derive(Default)]
pub(super) struct Log(Mutex<(Option<Moment>, UnknownLog)>);

impl Daemon {
    /// Whose count is unknown or unconfirmed now.
    pub(super) fn census(&self, now: Now) -> Census {
        self.tracker.census(self.observer.terms().as_ref(), now)
    }

    pub(super) fn mailboxes_status(&self, ledger: &LedgerSnapshot, now: Now) -> MailboxesStatus {
        let (behind, oldest) = self.behind(now);
        let census = self.census(now);
        let unconfirmed = self.tracker.names_of(first(&census.listed_unconfirmed));
        MailboxesStatus {
            subscribed: ledger.subscribed,
            devices: ledger.devices,
            behind,
            oldest_unacknowledged_seconds: oldest,
            unknown: census.unknown as u64,
            first_unknown: self.named(&census.listed_unknown),
            unconfirmed: census.unconfirmed as u64,
            first_unconfirmed: unconfirmed.iter().map(ToString::to_string).collect(),
            awaited: census.awaited as u64,
            hint: hints([
                self.names_hint(census.unknown + census.unconfirmed),
                left_out_hint(ledger.reported),
            ]),
        }
    }

    /// Why the daemon is not ready: mailboxes that are unknown.
    pub(super) fn unknown_reasons(&self) -> Vec<String> {
        let census = self.census(self.clock.now());
        if census.unknown == 0 {
            return Vec::new();
        }
        let named = self.named(&census.listed_unknown);
        let reason = unknown_reason(census.unknown, &named);
        [Some(reason), self.names_hint(census.unknown)].into_iter().flatten().collect()
    }

    /// Logs which mailboxes became unknown and which are known again; at most so often.
    pub(super) fn log_unknown(&self, now: Now) {
        let (looked_at, unknown_log) = &mut *self.census_log.0.lock();
        if !is_due(looked_at, now.moment) {
            return;
        }
        let census = self.census(now);
        let Some(changes) = unknown_log.look(&census) else { return };
        let unknown = census.unknown;
        if !changes.begun.is_empty() {
            let named = some_of(&self.named(&changes.begun), changes.begun.len() as u64);
            tracing::warn!(unknown, "mailboxes not read in time, so that their counts are unknown: {named}");
        }
        if !changes.ended.is_empty() {
            let named = some_of(&self.tracker.names_of(first(&changes.ended)), changes.ended.len() as u64);
            tracing::info!(unknown, "mailboxes known again, or not subscribed any more: {named}");
        }
    }

    /// The first of these with their server's words.
    fn named(&self, mailboxes: &[MailboxId]) -> Vec<UnknownMailbox> {
        let mailboxes = first(mailboxes);
        let names = self.tracker.names_of(mailboxes);
        let with_words = |(name, mailbox): (&Arc<str>, &MailboxId)| UnknownMailbox {
            name: name.to_string(),
            words: self.observer.words(*mailbox),
        };
        names.iter().zip(mailboxes).map(with_words).collect()
    }

    /// A source reports names that nobody subscribes to, while so many subscribed ones are not heard of.
    fn names_hint(&self, silent: usize) -> Option<String> {
        names_hint(self.observer.stranger(), silent)
    }
}

/// Whether the log is to be brought up to date now; notes that it was.
fn is_due(looked_at: &mut Option<Moment>, now: Moment) -> bool {
    let is_due = looked_at.is_none_or(|at| now.since(at) >= LOOK_EVERY);
    if is_due {
        *looked_at = Some(now);
    }
    is_due
}

fn unknown_reason(unknown: usize, named: &[UnknownMailbox]) -> String {
    let named = some_of(named, unknown as u64);
    format!(
        "mailboxes: {unknown} not read in time, so that their counts are unknown: {named}; `mailbadge doctor --mailbox \
         M` looks at one"
    )
}

fn names_hint(stranger: Option<&str>, silent: usize) -> Option<String> {
    let stranger = stranger.filter(|_| silent > 0)?;
    Some(format!(
        "a source reports {stranger:?}, to which nobody subscribes; if that is how the server spells a subscribed \
         mailbox, set `names` of the source"
    ))
}

/// Names that sources report, and that there is no room for.
fn left_out_hint((reported, left_out): (usize, u64)) -> Option<String> {
    (left_out > 0).then(|| {
        format!(
            "sources report more names than mailboxes are kept for that nobody subscribes to and no source lists: \
             {reported} are watched, further ones were left out {left_out} times; see who may write to the sources' sockets"
        )
    })
}

fn hints(all: [Option<String>; 2]) -> Option<String> {
    all.into_iter().flatten().reduce(|one, other| format!("{one}; {other}"))
}

fn first(mailboxes: &[MailboxId]) -> &[MailboxId] {
    mailboxes.get(..NAMED_MAX).unwrap_or(mailboxes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_brought_up_to_date_now_and_then() {
        let mut looked_at = None;
        let later = Moment::START.after(LOOK_EVERY);
        assert!(is_due(&mut looked_at, Moment::START));
        assert!(!is_due(&mut looked_at, Moment::START.after(LOOK_EVERY / 2)));
        assert!(is_due(&mut looked_at, later) && !is_due(&mut looked_at, later));
    }

    #[test]
    fn unknown_mailboxes_are_counted_and_the_first_named_with_their_servers_words() {
        let named = [UnknownMailbox { name: "u1".to_owned(), words: Some("NO such user".to_owned()) }];
        let reason = unknown_reason(7, &named);
        assert!(reason.starts_with("mailboxes: 7 not read in time"), "{reason}");
        assert!(reason.contains("u1") && reason.contains("NO such user"), "{reason}");
        assert_eq!(first(&[1, 2, 3, 4].map(MailboxId)), [1, 2, 3].map(MailboxId));
        assert_eq!(first(&[MailboxId(1)]), [MailboxId(1)]);
    }

    #[test]
    fn a_stranger_is_a_hint_only_while_somebody_is_silent() {
        assert_eq!(names_hint(Some("U1@example"), 0), None);
        assert_eq!(names_hint(None, 3), None);
        assert_eq!((left_out_hint((7, 0)), hints([None, None])), (None, None));
        let both = hints([names_hint(Some("U1"), 1), left_out_hint((7, 9))]).unwrap();
        assert!(both.contains("U1") && both.contains("7 are watched") && both.contains("9 times"), "{both}");
        assert!(names_hint(Some("U1@example"), 3).unwrap().contains("\"U1@example\""));
    }
}
