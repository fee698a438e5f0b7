//! What connections learn about their server while they work, shared by all of one source, forgotten when it ends.

use super::{NOTIFY_MAX, UPGRADE_AFTER, UPGRADE_MAX};
use crate::time::Moment;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

/// What connections learn about their server, shared by all of one source.
#[derive(Debug, Default)]
pub struct Traits {
    /// 0 not known yet, 1 `RETURN (COUNT)` counts right, 2 it answers with the total (sources.md §1).
    esearch: AtomicU8,
    flags_in_idle: AtomicBool,
    /// Longest time between two `* OK Still here` in one IDLE, in seconds; 0 while none was seen.
    rhythm_s: AtomicU32,
    status_in_idle: AtomicBool,
    /// How often in a row the server refused NOTIFY, and when it may be tried again.
    refused: Mutex<Option<(u32, Moment)>>,
    /// More mailboxes are watched there than NOTIFY is good for.
    is_crowd: AtomicBool,
    /// AUTHENTICATE PLAIN was offered and refused, and LOGIN worked.
    needs_login: AtomicBool,
    /// How the server names itself, and what it greets with.
    server: Mutex<Named>,
}

/// What a server calls itself.
#[derive(Debug, Default)]
struct Named {
    by_id: Option<Box<str>>,
    by_greeting: Option<Box<str>>,
}

impl Traits {
    /// Whether the server was seen to answer `RETURN (COUNT) UNSEEN` with the number of all messages.
    pub fn is_count_total(&self) -> bool {
        self.esearch.load(Ordering::Relaxed) == 2
    }

    /// Whether `RETURN (COUNT)` was seen to count right.
    pub fn is_count_proven(&self) -> bool {
        self.esearch.load(Ordering::Relaxed) == 1
    }

    /// Whether the server was seen to send flag changes during IDLE (sources.md §4.3).
    pub fn sends_flags_in_idle(&self) -> bool {
        self.flags_in_idle.load(Ordering::Relaxed)
    }

    /// Whether the server was seen to push STATUS during an IDLE with nothing selected (sources.md §4.3).
    pub fn sends_status_in_idle(&self) -> bool {
        self.status_in_idle.load(Ordering::Relaxed)
    }

    /// Whether NOTIFY is worth a try now.
    pub fn may_notify(&self, now: Moment) -> bool {
        self.notify_again_at().is_none_or(|at| at <= now)
    }

    /// When NOTIFY may be tried again on a server that refused it.
    pub fn notify_again_at(&self) -> Option<Moment> {
        self.refused.lock().map(|(_, at)| at)
    }

    /// Whether the source watches more than [`NOTIFY_MAX`] mailboxes.
    pub fn is_crowd(&self) -> bool {
        self.is_crowd.load(Ordering::Relaxed)
    }

    /// So many mailboxes are watched at this server.
    pub fn learn_mailboxes(&self, mailboxes: usize) {
        self.is_crowd.store(mailboxes > NOTIFY_MAX, Ordering::Relaxed);
    }

    /// How regularly the server says `* OK Still here` during IDLE (sources.md §4.3); `None` while it was not seen to.
    pub fn rhythm(&self) -> Option<Duration> {
        let seconds = self.rhythm_s.load(Ordering::Relaxed);
        (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
    }

    pub(super) fn learn_rhythm(&self, gap: Duration) {
        self.rhythm_s.fetch_max(u32::try_from(gap.as_secs()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    pub(super) fn learn_count(&self, is_right: bool) {
        self.esearch.store(if is_right { 1 } else { 2 }, Ordering::Relaxed);
    }

    /// The server took NOTIFY, or refused it. Connections that tried at the same time are one refusal.
    pub(super) fn learn_notify(&self, is_taken: bool, now: Moment) {
        let mut refused = self.refused.lock();
        *refused = match *refused {
            _ if is_taken => None,
            Some((times, at)) if now < at => Some((times, at)),
            before => {
                let times = before.map_or(0, |(times, _)| times.saturating_add(1));
                let wait = UPGRADE_AFTER.saturating_mul(2_u32.saturating_pow(times)).min(UPGRADE_MAX);
                Some((times, now.after(wait)))
            }
        };
    }

    /// Whether LOGIN worked where the server had refused AUTHENTICATE PLAIN, which it offers.
    pub fn needs_login(&self) -> bool {
        self.needs_login.load(Ordering::Relaxed)
    }

    pub(super) fn learn_login(&self, is_needed: bool) {
        self.needs_login.store(is_needed, Ordering::Relaxed);
    }

    /// The server's name and version from its answer to ID, else its greeting's text.
    pub fn server_name(&self) -> Option<String> {
        let server = self.server.lock();
        server.by_id.as_ref().or(server.by_greeting.as_ref()).map(|name| name.clone().into())
    }

    pub(super) fn learn_server(&self, name: Box<str>) {
        self.server.lock().by_id = Some(name);
    }

    pub(super) fn learn_greeting(&self, text: Box<str>) {
        self.server.lock().by_greeting = Some(text);
    }

    pub(super) fn learn_status_in_idle(&self) {
        self.status_in_idle.store(true, Ordering::Relaxed);
    }

    pub(super) fn learn_flags_in_idle(&self) {
        self.flags_in_idle.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_refuses_notify_is_asked_again_after_one_two_four_hours_and_then_daily() {
        let traits = Traits::default();
        let mut now = Moment::START;
        assert!(traits.may_notify(now));
        for hours in [1, 2, 4, 8, 16, 24, 24] {
            traits.learn_notify(false, now);
            traits.learn_notify(false, now.after(Duration::from_secs(1)));
            let again_at = now.after(Duration::from_hours(hours));
            assert_eq!(traits.notify_again_at(), Some(again_at));
            assert!(!traits.may_notify(now) && traits.may_notify(again_at));
            now = again_at;
        }
        traits.learn_notify(true, now);
        assert!(traits.may_notify(Moment::START));
    }

    #[test]
    fn the_longest_gap_is_the_rhythm_and_a_crowd_begins_past_the_limit() {
        let traits = Traits::default();
        assert_eq!((traits.rhythm(), traits.is_crowd()), (None, false));
        for (gap, rhythm) in [(120, 120), (30, 120), (121, 121)] {
            traits.learn_rhythm(Duration::from_secs(gap));
            assert_eq!(traits.rhythm(), Some(Duration::from_secs(rhythm)));
        }
        for (mailboxes, is_crowd) in [(NOTIFY_MAX, false), (NOTIFY_MAX + 1, true), (1, false)] {
            traits.learn_mailboxes(mailboxes);
            assert_eq!(traits.is_crowd(), is_crowd, "{mailboxes}");
        }
    }
}
