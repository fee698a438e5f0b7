//! The devices of one mailbox: most have one, which stands in the record itself. What devices are due is the record's.

use super::Device;
use std::ops::{Deref, DerefMut};

/// Devices, those that came last at the end.
#[derive(Debug)]
pub(super) enum Devices {
    One(Device),
    /// None, or more than one; room for exactly as many as there are.
    Others(Vec<Device>),
}

impl Devices {
    /// Adds a device.
    pub(super) fn push(&mut self, device: Device) {
        *self = match std::mem::take(self) {
            Self::One(first) => Self::Others(vec![first, device]),
            Self::Others(all) if all.is_empty() => Self::One(device),
            Self::Others(mut all) => {
                all.reserve_exact(1);
                all.push(device);
                Self::Others(all)
            }
        };
    }

    /// Keeps the devices that are `wanted`. True where others were there.
    pub(super) fn retain(&mut self, wanted: impl Fn(&Device) -> bool) -> bool {
        if self.iter().all(&wanted) {
            return false;
        }
        if let Self::Others(all) = std::mem::take(self) {
            for device in all.into_iter().filter(|device| wanted(device)) {
                self.push(device);
            }
        }
        true
    }
}

impl Default for Devices {
    fn default() -> Self {
        Self::Others(Vec::new())
    }
}

impl Deref for Devices {
    type Target = [Device];

    fn deref(&self) -> &[Device] {
        match self {
            Self::One(device) => std::slice::from_ref(device),
            Self::Others(all) => all,
        }
    }
}

impl DerefMut for Devices {
    fn deref_mut(&mut self) -> &mut [Device] {
        match self {
            Self::One(device) => std::slice::from_mut(device),
            Self::Others(all) => all,
        }
    }
}
