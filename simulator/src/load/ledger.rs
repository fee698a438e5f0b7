//! What every icon should show and does show, and how long each change took to get there. Pure: times come in.
//!
//! A change's latency runs from when it was *due* until its mailbox's first device shows its count or that of a later
//! change. Counts carry no order, so a number that the icon showed already when the change happened says nothing
//! about speed: such changes are counted apart and not measured.

use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::time::Duration;

/// Changes of one mailbox that wait to be shown, at most; older ones beyond are counted as not measured.
const WAITING_MAX: usize = 4096;
/// The longest latency that is told apart.
const LATENCY_MAX: Duration = Duration::from_mins(10);

/// A device's number: its account's, times the devices of a mailbox, plus its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeviceIndex(pub usize);

impl DeviceIndex {
    /// Its APNs token: 64 hex digits that hold the number.
    pub(super) fn token(self) -> String {
        format!("{:064x}", self.0 + 1)
    }

    /// The device of this token.
    pub(super) fn parse(token: &str) -> Option<Self> {
        let (zeros, digits) = token.split_at_checked(48)?;
        if digits.len() != 16 || zeros.bytes().any(|digit| digit != b'0') {
            return None;
        }
        usize::from_str_radix(digits, 16).ok()?.checked_sub(1).map(Self)
    }
}

/// An icon that does not show the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Whose device.
    pub(super) account: usize,
    /// Which of the mailbox's devices, from 0.
    pub(super) device: usize,
    /// What it should show.
    pub(super) truth: u32,
    /// What it shows; `None`: nothing yet.
    pub(super) shown: Option<u32>,
}

#[derive(Debug, Default)]
struct Mailbox {
    truth: u32,
    waiting: VecDeque<(Duration, u32)>,
}

/// Truth and icons of all mailboxes.
#[derive(Debug)]
pub(super) struct Ledger {
    devices_per_mailbox: usize,
    mailboxes: Vec<Mailbox>,
    shown: Vec<Option<u32>>,
    wrong: usize,
    latencies: Histogram<u64>,
    totals: Totals,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Changes of a count.
    pub(super) changes: u64,
    /// Changes whose count stood on the icon already.
    pub(super) needless: u64,
    /// Changes dropped from measuring since too many waited.
    pub(super) unmeasured: u64,
    /// Notifications that reached a device.
    pub(super) notifications: u64,
}

impl Ledger {
    /// All mailboxes empty, all icons blank.
    pub(super) fn new(mailboxes: usize, devices_per_mailbox: usize) -> Self {
        let devices = mailboxes * devices_per_mailbox;
        let latencies = Histogram::new_with_bounds(1, LATENCY_MAX.as_micros() as u64, 3);
        Self {
            devices_per_mailbox,
            mailboxes: std::iter::repeat_with(Mailbox::default).take(mailboxes).collect(),
            shown: vec![None; devices],
            wrong: devices,
            latencies: latencies.expect("1 µs to 10 min with three digits are bounds a histogram takes"),
            totals: Totals::default(),
        }
    }

    /// A mailbox's count is `truth` since a step that was due at `due`. To be called before anyone can know it.
    pub(super) fn changed(&mut self, account: usize, truth: u32, due: Duration) {
        let Some(mailbox) = self.mailboxes.get_mut(account) else { return };
        if mailbox.truth == truth {
            return;
        }
        let before = std::mem::replace(&mut mailbox.truth, truth);
        let first = account * self.devices_per_mailbox;
        let icons = self.shown.get(first..first + self.devices_per_mailbox).unwrap_or_default();
        let right = |count: u32| icons.iter().filter(|shown| **shown == Some(count)).count();
        self.wrong = self.wrong + right(before) - right(truth);
        self.totals.changes += 1;
        if icons.first() == Some(&Some(truth)) {
            self.totals.needless += 1 + mailbox.waiting.len() as u64;
            mailbox.waiting.clear();
            return;
        }
        if mailbox.waiting.len() >= WAITING_MAX {
            mailbox.waiting.pop_front();
            self.totals.unmeasured += 1;
        }
        mailbox.waiting.push_back((due, truth));
    }

    /// A notification reached a device, which now shows `count`.
    pub(super) fn shows(&mut self, device: DeviceIndex, count: u32, now: Duration) {
        self.totals.notifications += 1;
        let account = device.0 / self.devices_per_mailbox.max(1);
        let Some(mailbox) = self.mailboxes.get_mut(account) else { return };
        let Some(icon) = self.shown.get_mut(device.0) else { return };
        let before = icon.replace(count);
        let truth = Some(mailbox.truth);
        self.wrong = self.wrong + usize::from(before == truth) - usize::from(Some(count) == truth);
        if !device.0.is_multiple_of(self.devices_per_mailbox) {
            return;
        }
        let Some(newest) = mailbox.waiting.iter().rposition(|(_, waiting)| *waiting == count) else { return };
        for (due, _) in mailbox.waiting.drain(..=newest) {
            let micros = now.saturating_sub(due).as_micros() as u64;
            self.latencies.saturating_record(micros.max(1));
        }
    }

    /// A notification reached a device, and the icon stayed as it was: it was older than what is shown.
    pub(super) fn ignores(&mut self) {
        self.totals.notifications += 1;
    }

    /// Forgets what was measured so far, not what is shown: the measured time begins.
    pub(super) fn begin(&mut self) {
        self.latencies.reset();
        self.totals = Totals::default();
        self.mailboxes.iter_mut().for_each(|mailbox| mailbox.waiting.clear());
    }

    /// How many icons do not show the truth.
    pub(super) fn wrong(&self) -> usize {
        self.wrong
    }

    /// Some of the icons that do not show the truth.
    pub(super) fn wrong_ones(&self, at_most: usize) -> Vec<Wrong> {
        let each = self.shown.iter().enumerate().filter_map(|(index, shown)| {
            let account = index / self.devices_per_mailbox;
            let truth = self.mailboxes.get(account)?.truth;
            let device = index % self.devices_per_mailbox;
            (*shown != Some(truth)).then_some(Wrong { account, device, truth, shown: *shown })
        });
        each.take(at_most).collect()
    }

    /// Latencies in microseconds.
    pub(super) fn latencies(&self) -> &Histogram<u64> {
        &self.latencies
    }

    /// What was counted since [`Ledger::begin`].
    pub(super) fn totals(&self) -> Totals {
        self.totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(2, 2);
        (0..4).for_each(|device| ledger.shows(DeviceIndex(device), 0, ms(0)));
        ledger.begin();
        ledger
    }

    #[test]
    fn tokens_hold_the_device() {
        for index in [0, 1, 77_777] {
            let token = DeviceIndex(index).token();
            assert_eq!(token.len(), 64);
            assert_eq!(DeviceIndex::parse(&token), Some(DeviceIndex(index)));
        }
        for bad in ["", "zz", &"0".repeat(64), &"1".repeat(64), &"0".repeat(63)] {
            assert_eq!(DeviceIndex::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn latency_runs_from_due_to_shown_or_newer() {
        let mut ledger = ledger();
        ledger.changed(0, 1, ms(10));
        ledger.changed(0, 2, ms(20));
        ledger.changed(0, 3, ms(30));
        ledger.shows(DeviceIndex(0), 2, ms(110));
        assert_eq!(ledger.latencies().len(), 2);
        let near = |micros: u64, ms: u64| micros.abs_diff(ms * 1000) < ms * 2;
        assert!(near(ledger.latencies().max(), 100) && near(ledger.latencies().min(), 90));
        ledger.shows(DeviceIndex(0), 3, ms(1030));
        assert!(near(ledger.latencies().max(), 1000));
        assert_eq!(ledger.wrong(), 1);
        ledger.shows(DeviceIndex(1), 3, ms(1031));
        assert_eq!(ledger.wrong(), 0);
        assert_eq!(ledger.totals(), Totals { changes: 3, notifications: 3, ..Totals::default() });
    }

    #[test]
    fn what_the_icon_shows_already_is_not_measured() {
        let mut ledger = ledger();
        ledger.changed(0, 1, ms(10));
        ledger.changed(0, 0, ms(20));
        assert_eq!((ledger.totals().needless, ledger.wrong(), ledger.latencies().len()), (2, 0, 0));
        // The notification of 1 was on its way.
        ledger.shows(DeviceIndex(0), 1, ms(30));
        assert_eq!(ledger.wrong(), 1);
        assert_eq!(ledger.wrong_ones(9), [Wrong { account: 0, device: 0, truth: 0, shown: Some(1) }]);
        ledger.shows(DeviceIndex(0), 0, ms(40));
        assert_eq!(ledger.wrong(), 0);
    }

    #[test]
    fn blank_icons_are_wrong_until_they_show_the_truth() {
        let mut ledger = Ledger::new(3, 1);
        assert_eq!(ledger.wrong(), 3);
        ledger.changed(1, 5, ms(1));
        ledger.shows(DeviceIndex(1), 5, ms(2));
        ledger.shows(DeviceIndex(0), 0, ms(2));
        ledger.shows(DeviceIndex(9), 0, ms(2));
        assert_eq!(ledger.wrong_ones(9), [Wrong { account: 2, device: 0, truth: 0, shown: None }]);
        assert_eq!(ledger.wrong(), 1);
    }
}
