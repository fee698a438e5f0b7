//! Devices: what number stands on each icon, and how it came to stand there.
//!
//! A device shows the count of the newest notification it got, whatever order they came in (protocol.md §6).

use super::unix_time::UnixMicros;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Numbers that a device remembers to have shown.
pub const HISTORY_MAX: usize = 16;
/// Devices at most: the memory of a load test with a million mailboxes, two devices each.
pub const DEVICES_MAX: usize = 2_000_000;

/// The apps that the relay knows (protocol.md §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum App {
    /// `com.microsoft.exchange.iphone`
    Iphone,
    /// `com.microsoft.exchange.ipad`
    Ipad,
    /// `com.microsoft.exchange.mowa`
    Mowa,
}

impl App {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Iphone, Self::Ipad, Self::Mowa];

    /// The app of this id.
    pub fn find(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|app| app.id() == id)
    }

    /// The app's id as notifications carry it.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Iphone => "com.microsoft.exchange.iphone",
            Self::Ipad => "com.microsoft.exchange.ipad",
            Self::Mowa => "com.microsoft.exchange.mowa",
        }
    }

    /// Whether a device id of this app can exist: APNs' are 64 hex digits.
    pub fn can_name(self, device_id: &str) -> bool {
        match self {
            Self::Iphone | Self::Ipad => {
                device_id.len() == 64 && device_id.bytes().all(|b| b.is_ascii_hexdigit())
            }
            Self::Mowa => true,
        }
    }
}

/// What orders notifications: the sender's start (`yyyyMMddHHmmss` as a number), then its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Start of the sending process.
    pub start: u64,
    /// `n`, from 1.
    pub number: u64,
}

impl Stamp {
    /// Reads `yyyyMMdd-HHmmss-<n>`; `None` for any other form.
    pub fn parse(id: &str) -> Option<Self> {
        let mut parts = id.splitn(3, '-');
        let digits = |text: &str, length: usize| {
            let whole = text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
            whole.then(|| text.parse::<u64>().ok()).flatten()
        };
        let (day, time, number) = (parts.next()?, parts.next()?, parts.next()?);
        let start = digits(day, 8)? * 1_000_000 + digits(time, 6)?;
        Some(Self { start, number: digits(number, number.len())? })
    }
}

/// What became of one notification at a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The icon shows its count now.
    Shown,
    /// Newer, but the icon showed that very count already.
    Repeated,
    /// Not newer than what is shown: dropped.
    Stale,
    /// It carried no count.
    NoCount,
}

/// One number on an icon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DisplayedBadge {
    /// The badge.
    pub count: u32,
    /// Since when.
    pub at: UnixMicros,
    /// Of which notification; `None` where its id could not be ordered.
    pub stamp: Option<Stamp>,
}

/// One device with one app.
#[derive(Clone, Debug)]
pub struct Device {
    /// The app.
    pub app: App,
    /// `deviceId`.
    pub id: Box<str>,
    /// Whose inbox it shows, where someone told: for people who look at the page.
    pub mailbox: Option<Box<str>>,
    /// Gone: refuses what is sent to it, and shows what it showed.
    pub is_gone: bool,
    /// Notifications that reached it.
    pub received: u64,
    /// Of these, how many were not newer than what it showed.
    pub stale: u64,
    /// Of these, how many repeated the number it showed.
    pub repeated: u64,
    /// The newest change's number among all devices' changes.
    pub version: u64,
    newest: Option<Stamp>,
    history: VecDeque<DisplayedBadge>,
}

impl Device {
    fn new(app: App, id: &str) -> Self {
        Self {
            app,
            id: id.into(),
            mailbox: None,
            is_gone: false,
            received: 0,
            stale: 0,
            repeated: 0,
            version: 0,
            newest: None,
            history: VecDeque::new(),
        }
    }

    /// The number on the icon; `None` while nothing was ever sent to it.
    pub fn badge(&self) -> Option<u32> {
        self.history.back().map(|shown| shown.count)
    }

    /// What it showed, oldest first, [`HISTORY_MAX`] at most.
    pub fn history(&self) -> impl Iterator<Item = &DisplayedBadge> {
        self.history.iter()
    }

    /// The last entry of the history.
    pub fn shown(&self) -> Option<&DisplayedBadge> {
        self.history.back()
    }

    fn take(&mut self, stamp: Option<Stamp>, count: Option<u32>, now: UnixMicros) -> Arrival {
        self.received += 1;
        // An id that cannot be ordered is taken for the newest, and the next one that can is compared as if it had not been.
        if stamp.is_some() && stamp <= self.newest {
            self.stale += 1;
            return Arrival::Stale;
        }
        self.newest = stamp.or(self.newest);
        let Some(count) = count else { return Arrival::NoCount };
        if self.badge() == Some(count) {
            self.repeated += 1;
            return Arrival::Repeated;
        }
        if self.history.len() >= HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(DisplayedBadge { count, at: now, stamp });
        Arrival::Shown
    }
}

/// Someone who wants to know at once what devices show; called under the relay's lock, so it must not wait.
pub trait DeviceListener: Send + Sync {
    /// A notification reached the device.
    fn arrived(&self, device: &Device, arrival: Arrival, now: UnixMicros);
}

/// Where a device of one app stands. Ids are long and looked up for every recipient of every batch.
type Index = HashMap<Box<str>, u32, foldhash::fast::RandomState>;

/// All devices, in the order in which they were first heard of.
#[derive(Default)]
pub struct Devices {
    all: Vec<Device>,
    index: HashMap<App, Index>,
    version: u64,
    listener: Option<Arc<dyn DeviceListener>>,
}

impl Devices {
    /// The device; made where it is new and there is room.
    pub fn make(&mut self, app: App, id: &str) -> Option<&mut Device> {
        let index = self.index_of(app, id)?;
        self.version += 1;
        let device = self.all.get_mut(index)?;
        device.version = self.version;
        Some(device)
    }

    fn index_of(&mut self, app: App, id: &str) -> Option<usize> {
        let of_app = self.index.entry(app).or_default();
        if let Some(index) = of_app.get(id) {
            return Some(*index as usize);
        }
        if self.all.len() >= DEVICES_MAX {
            return None;
        }
        let index = self.all.len();
        of_app.insert(id.into(), index as u32);
        self.all.push(Device::new(app, id));
        Some(index)
    }

    /// The device, if it was ever heard of.
    pub fn get(&self, app: App, id: &str) -> Option<&Device> {
        let index = *self.index.get(&app)?.get(id)?;
        self.all.get(index as usize)
    }

    /// What the device's icon shows.
    pub fn badge(&self, app: App, id: &str) -> Option<u32> {
        self.get(app, id)?.badge()
    }

    /// A notification arrives. `None` where there is no room for another device; a gone device gets nothing.
    pub fn deliver(
        &mut self,
        app: App,
        id: &str,
        stamp: Option<Stamp>,
        count: Option<u32>,
        now: UnixMicros,
    ) -> Option<Delivery> {
        let index = self.index_of(app, id)?;
        let device = self.all.get_mut(index)?;
        if device.is_gone {
            return Some(Delivery::Gone);
        }
        let arrival = device.take(stamp, count, now);
        self.version += 1;
        device.version = self.version;
        if let Some(listener) = &self.listener {
            listener.arrived(device, arrival, now);
        }
        Some(Delivery::Arrived(arrival))
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Device> {
        self.all.iter()
    }

    /// Those that changed after [`Devices::version`] was this.
    pub fn changed_since(&self, version: u64) -> impl Iterator<Item = &Device> {
        self.all.iter().filter(move |device| device.version > version)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether none was heard of.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Grows with every change of any device.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// From now on this one is told of every arrival.
    pub fn set_listener(&mut self, listener: Option<Arc<dyn DeviceListener>>) {
        self.listener = listener;
    }
}

/// What became of a notification on its way to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It reached the device.
    Arrived(Arrival),
    /// There is no such device any more.
    Gone,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `(id, count)` to one device and tells what it shows.
    fn show(notifications: &[(&str, u32)]) -> Device {
        let mut devices = Devices::default();
        for (id, count) in notifications {
            devices.deliver(App::Mowa, "reg-1", Stamp::parse(id), Some(*count), UnixMicros(1));
        }
        devices.get(App::Mowa, "reg-1").expect("heard of").clone()
    }

    #[test]
    fn the_newest_id_wins_whatever_the_order_of_arrival() {
        let cases: [(&[(&str, u32)], u32); 6] = [
            (&[("20261123-080000-7", 2), ("20261123-080000-5", 9)], 2),
            (&[("20261123-080000-9", 2), ("20261123-080000-10", 9)], 9),
            (&[("20261123-080000-99", 2), ("20261123-080001-1", 9)], 9),
            (&[("20261124-000000-1", 2), ("20261123-235959-50", 9)], 2),
            (&[("20261123-080000-7", 2), ("20261123-080000-7", 9)], 2),
            (&[("20261123-080000-7", 2), ("no order", 4), ("20261123-080000-6", 9)], 4),
        ];
        for (notifications, badge) in cases {
            assert_eq!(show(notifications).badge(), Some(badge), "{notifications:?}");
        }
    }

    #[test]
    fn repeats_and_stale_ones_are_counted_and_history_is_bounded() {
        let device = show(&[("20261123-080000-1", 3), ("20261123-080000-2", 3), ("20261123-080000-1", 8)]);
        assert_eq!((device.received, device.repeated, device.stale), (3, 1, 1));
        let many: Vec<(String, u32)> = (1..100).map(|n| (format!("20261123-080000-{n}"), n)).collect();
        let many: Vec<(&str, u32)> = many.iter().map(|(id, n)| (id.as_str(), *n)).collect();
        let device = show(&many);
        assert_eq!(device.history().count(), HISTORY_MAX);
        assert_eq!(device.badge(), Some(99));
    }

    #[test]
    fn a_gone_device_keeps_what_it_showed() {
        let mut devices = Devices::default();
        devices.deliver(App::Mowa, "reg-1", None, Some(3), UnixMicros(1));
        devices.make(App::Mowa, "reg-1").expect("room").is_gone = true;
        let delivery = devices.deliver(App::Mowa, "reg-1", None, Some(4), UnixMicros(2));
        assert_eq!(delivery, Some(Delivery::Gone));
        assert_eq!(devices.badge(App::Mowa, "reg-1"), Some(3));
    }

    #[test]
    fn an_id_of_another_form_has_no_order() {
        let huge = "20261123-080000-99999999999999999999999";
        for id in
            ["", "x", "20261123-080000", "20261123-080000-", "2026112-080000-1", "20261123-080000-+1", huge]
        {
            assert_eq!(Stamp::parse(id), None, "{id}");
        }
        assert_eq!(Stamp::parse("20261123-080000-41"), Some(Stamp { start: 20_261_123_080_000, number: 41 }));
    }
}
