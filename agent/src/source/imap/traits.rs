//! What connections learn about their server while they work, shared by all of one source, forgotten when it ends.

use super::{IDLE_AGAIN, IDLE_FAILURES_APART, IDLE_FAILURES_MAX, UPGRADE_AFTER, UPGRADE_MAX};
use crate::time::Moment;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

/// After so many proofs without a case of the contrary a server is believed to report what changes between two commands.
const PROOFS: u8 = 3;

/// What connections learn about their server, shared by all of one source.
#[derive(Debug, Default)]
pub struct Traits {
    /// 0 not known yet, 1 `RETURN (COUNT)` counts right, 2 it answers with the total (sources.md §1).
    esearch: AtomicU8,
    flags_in_idle: AtomicBool,
    /// Longest time between two `* OK Still here` in one IDLE, in seconds; 0 while none was seen.
    rhythm_s: AtomicU32,
    status_in_idle: AtomicBool,
    /// Proofs that SEARCH shows what is new, without NOOP before it (sources.md §9.3).
    shows_new: AtomicU8,
    /// Proofs that IDLE reports what changed before it began (sources.md §9.3).
    reports_gap: AtomicU8,
    /// 0 not known, 1 IDLE pushes STATUS with INBOX examined, 2 and yet not with nothing selected.
    unselected: AtomicU8,
    notify: Mutex<Barrier>,
    idle: Mutex<Barrier>,
    /// Connections in a row whose first IDLE did not work, and when the last was counted.
    idle_failures: Mutex<(u8, Moment)>,
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

    /// Whether a search in an examined INBOX needs no NOOP before it.
    pub fn shows_new(&self) -> bool {
        self.shows_new.load(Ordering::Relaxed) >= PROOFS
    }

    /// Whether IDLE with INBOX examined reports what changed before it began.
    pub fn reports_gap(&self) -> bool {
        self.reports_gap.load(Ordering::Relaxed) >= PROOFS
    }

    /// Whether an IDLE with nothing selected is better than one with INBOX examined (sources.md §9.3).
    pub fn prefers_unselected(&self) -> bool {
        self.unselected.load(Ordering::Relaxed) == 1
    }

    /// Whether IDLE is worth a try now.
    pub fn may_idle(&self, now: Moment) -> bool {
        self.idle.lock().0.is_none_or(|(_, at)| at <= now)
    }

    /// Whether NOTIFY is worth a try now.
    pub fn may_notify(&self, now: Moment) -> bool {
        self.notify_again_at().is_none_or(|at| at <= now)
    }

    /// When NOTIFY may be tried again on a server that refused it.
    pub fn notify_again_at(&self) -> Option<Moment> {
        self.notify.lock().0.map(|(_, at)| at)
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
        let mut notify = self.notify.lock();
        if is_taken { notify.0 = None } else { notify.refused(UPGRADE_AFTER, now) }
    }

    /// An IDLE began and ended as it should.
    pub(super) fn learn_idle_works(&self) {
        *self.idle_failures.lock() = (0, Moment::START);
        self.idle.lock().0 = None;
    }

    /// The first IDLE of a connection was not begun, or not ended. Those of one moment are one failure: a server that
    /// restarts does that to many.
    pub(super) fn learn_idle_failed(&self, now: Moment) {
        let mut failures = self.idle_failures.lock();
        if failures.0 > 0 && now.since(failures.1) < IDLE_FAILURES_APART {
            return;
        }
        *failures = (failures.0.saturating_add(1), now);
        if failures.0 >= IDLE_FAILURES_MAX {
            self.idle.lock().refused(IDLE_AGAIN, now);
        }
    }

    /// A search was answered together with what had changed before it.
    pub(super) fn learn_shows_new(&self) {
        let _ = self.shows_new.fetch_update(Ordering::Relaxed, Ordering::Relaxed, proven_once_more);
    }

    /// IDLE reported what had changed before it began.
    pub(super) fn learn_reports_gap(&self) {
        let _ = self.reports_gap.fetch_update(Ordering::Relaxed, Ordering::Relaxed, proven_once_more);
    }

    /// A count found what nobody had reported: whatever was proven is to be proven anew.
    pub(super) fn learn_hidden(&self) {
        self.shows_new.store(0, Ordering::Relaxed);
        self.reports_gap.store(0, Ordering::Relaxed);
    }

    /// STATUS came in an IDLE with INBOX examined.
    pub(super) fn learn_status_beside_exists(&self) {
        let _ = self.unselected.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Nothing came in one with nothing selected.
    pub(super) fn learn_unselected_silent(&self) {
        self.unselected.store(2, Ordering::Relaxed);
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

fn proven_once_more(proofs: u8) -> Option<u8> {
    (proofs < PROOFS).then_some(proofs + 1)
}

/// A way of watching that the server refuses: how often in a row it did, and when it may be tried again.
#[derive(Debug, Default)]
struct Barrier(Option<(u32, Moment)>);

impl Barrier {
    /// After `first` it may be tried again, after each further refusal twice as long, [`UPGRADE_MAX`] at most.
    fn refused(&mut self, first: Duration, now: Moment) {
        let times = match self.0 {
            Some((_, at)) if now < at => return,
            before => before.map_or(0, |(times, _)| times.saturating_add(1)),
        };
        let wait = first.saturating_mul(2_u32.saturating_pow(times)).min(UPGRADE_MAX);
        self.0 = Some((times, now.after(wait)));
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
    fn what_a_server_proved_is_believed_until_a_case_of_the_contrary() {
        let traits = Traits::default();
        for _ in 0..PROOFS {
            assert!(!traits.shows_new() && !traits.reports_gap());
            traits.learn_shows_new();
            traits.learn_reports_gap();
        }
        assert!(traits.shows_new() && traits.reports_gap());
        traits.learn_hidden();
        traits.learn_shows_new();
        assert!(!traits.shows_new() && !traits.reports_gap());
    }

    #[test]
    fn status_in_idle_is_preferred_until_it_was_tried_in_vain() {
        let traits = Traits::default();
        assert!(!traits.prefers_unselected());
        traits.learn_status_beside_exists();
        assert!(traits.prefers_unselected());
        traits.learn_unselected_silent();
        traits.learn_status_beside_exists();
        assert!(!traits.prefers_unselected());
    }

    #[test]
    fn an_idle_that_fails_on_several_connections_at_different_times_is_not_tried_for_a_while() {
        let traits = Traits::default();
        let mut now = Moment::START;
        for _ in 0..20 {
            traits.learn_idle_failed(now);
        }
        assert!(traits.may_idle(now), "a restart");
        for _ in 1..IDLE_FAILURES_MAX {
            assert!(traits.may_idle(now));
            now = now.after(IDLE_FAILURES_APART);
            traits.learn_idle_failed(now);
        }
        assert!(!traits.may_idle(now));
        now = now.after(IDLE_AGAIN);
        assert!(traits.may_idle(now));
        traits.learn_idle_failed(now);
        assert!(!traits.may_idle(now.after(IDLE_AGAIN)) && traits.may_idle(now.after(2 * IDLE_AGAIN)));
        traits.learn_idle_works();
        assert!(traits.may_idle(now));
    }

    #[test]
    fn the_longest_gap_is_the_rhythm() {
        let traits = Traits::default();
        assert_eq!(traits.rhythm(), None);
        for (gap, rhythm) in [(120, 120), (30, 120), (121, 121)] {
            traits.learn_rhythm(Duration::from_secs(gap));
            assert_eq!(traits.rhythm(), Some(Duration::from_secs(rhythm)));
        }
    }
}
