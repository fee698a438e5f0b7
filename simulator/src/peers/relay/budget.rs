//! How much a tenant and a device may be sent (protocol.md §1.5, §6): buckets that fill with time.

use crate::peers::device::App;
use crate::peers::unix_time::UnixMicros;
use std::collections::HashMap;
use std::time::Duration;

/// Notifications that a device may get at once (`office365`).
const DEVICE_BURST: f64 = 10.0;
/// And how many more in [`DEVICE_PERIOD`].
const DEVICE_REFILL: f64 = 6.0;
/// The period of [`DEVICE_REFILL`].
const DEVICE_PERIOD: Duration = Duration::from_mins(10);
/// How long nothing is sent to a device that was reported invalid.
const MUTED_FOR: Duration = Duration::from_hours(24);
/// Devices whose budget is kept; over it full buckets are forgotten, which changes nothing.
const DEVICES_KEPT_MAX: usize = 100_000;

/// Budgets of tenants and devices.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    tenants: HashMap<String, Bucket>,
    devices: HashMap<(App, Box<str>), DeviceBudget>,
}

#[derive(Debug)]
struct DeviceBudget {
    bucket: Bucket,
    muted_until: UnixMicros,
}

impl Budgets {
    /// Takes `notifications` from a tenant's budget, or tells how long to wait. Nothing is taken then.
    pub(super) fn spend(
        &mut self,
        tenant: &str,
        per_minute: Option<u32>,
        notifications: usize,
        now: UnixMicros,
    ) -> Result<(), Duration> {
        let Some(per_minute) = per_minute else { return Ok(()) };
        let capacity = f64::from(per_minute.max(1));
        let bucket = self
            .tenants
            .entry(tenant.to_owned())
            .or_insert_with(|| Bucket { level: capacity, filled_at: now });
        bucket.fill(capacity, capacity, Duration::from_mins(1), now);
        // A batch larger than the whole budget passes when the budget is whole, else it never would.
        let cost = (notifications as f64).min(capacity);
        if bucket.level + f64::EPSILON >= cost {
            bucket.level -= cost;
            return Ok(());
        }
        Err(Duration::from_secs_f64((cost - bucket.level) / capacity * 60.0))
    }

    /// Whether a device may be sent one more; takes it from its budget then.
    pub(super) fn device_may(&mut self, app: App, id: &str, now: UnixMicros) -> bool {
        if self.devices.len() >= DEVICES_KEPT_MAX {
            self.devices.retain(|_, budget| budget.muted_until > now || !budget.is_full(now));
        }
        let budget = self.device(app, id, now);
        budget.bucket.fill(DEVICE_BURST, DEVICE_REFILL, DEVICE_PERIOD, now);
        if budget.muted_until > now || budget.bucket.level < 1.0 {
            return false;
        }
        budget.bucket.level -= 1.0;
        true
    }

    /// Nothing more for this device for a while: it was reported invalid.
    pub(super) fn mute(&mut self, app: App, id: &str, now: UnixMicros) {
        self.device(app, id, now).muted_until = now.after(MUTED_FOR);
    }

    fn device(&mut self, app: App, id: &str, now: UnixMicros) -> &mut DeviceBudget {
        self.devices.entry((app, id.into())).or_insert_with(|| DeviceBudget {
            bucket: Bucket { level: DEVICE_BURST, filled_at: now },
            muted_until: UnixMicros::default(),
        })
    }
}

impl DeviceBudget {
    fn is_full(&self, now: UnixMicros) -> bool {
        let missing = DEVICE_BURST - self.bucket.level;
        let since = now.since(self.bucket.filled_at).as_secs_f64();
        since * DEVICE_REFILL / DEVICE_PERIOD.as_secs_f64() >= missing
    }
}

#[derive(Debug)]
struct Bucket {
    level: f64,
    filled_at: UnixMicros,
}

impl Bucket {
    fn fill(&mut self, capacity: f64, refill: f64, period: Duration, now: UnixMicros) {
        let since = now.since(self.filled_at).as_secs_f64();
        self.level = (self.level + since * refill / period.as_secs_f64()).min(capacity);
        self.filled_at = self.filled_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros::from_seconds(1_795_420_800);

    #[test]
    fn a_tenant_over_its_budget_is_told_when_it_may_come_again() {
        let mut budgets = Budgets::default();
        assert_eq!(budgets.spend("t", Some(60), 60, NOW), Ok(()));
        assert_eq!(budgets.spend("t", Some(60), 30, NOW), Err(Duration::from_secs(30)));
        assert_eq!(budgets.spend("t", Some(60), 30, NOW.after(Duration::from_secs(30))), Ok(()));
        assert_eq!(budgets.spend("other", None, 1_000_000, NOW), Ok(()));
    }

    #[test]
    fn a_batch_larger_than_the_whole_budget_passes_in_the_end() {
        let mut budgets = Budgets::default();
        assert_eq!(budgets.spend("t", Some(10), 256, NOW), Ok(()));
        let wait = budgets.spend("t", Some(10), 256, NOW).expect_err("empty");
        assert_eq!(budgets.spend("t", Some(10), 256, NOW.after(wait)), Ok(()));
    }

    #[test]
    fn a_device_has_a_burst_of_ten_and_six_more_in_ten_minutes() {
        let mut budgets = Budgets::default();
        let mut sent = |now| (0..20).filter(|_| budgets.device_may(App::Mowa, "reg-1", now)).count();
        assert_eq!(sent(NOW), 10);
        assert_eq!(sent(NOW.after(Duration::from_mins(10))), 6);
        assert_eq!(sent(NOW.after(Duration::from_hours(9))), 10);
    }

    #[test]
    fn a_muted_device_gets_nothing_for_a_day() {
        let mut budgets = Budgets::default();
        budgets.mute(App::Mowa, "reg-1", NOW);
        assert!(!budgets.device_may(App::Mowa, "reg-1", NOW.after(Duration::from_hours(23))));
        assert!(budgets.device_may(App::Mowa, "reg-1", NOW.after(Duration::from_hours(24))));
    }
}
