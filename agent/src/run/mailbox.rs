//! What the daemon knows of one mailbox, for the admin endpoint.

use super::Daemon;
use crate::admin::{DeviceStatus, MailboxStatus};
use crate::tracker::record::{Record, Stage};

impl Daemon {
    /// `None` where nobody subscribed to it.
    pub(super) fn mailbox_status(&self, name: &str) -> Option<MailboxStatus> {
        let (now, mailbox) = (self.clock.now().moment, self.tracker.find(name)?);
        let look = |record: &Record| {
            let known = record.known();
            let devices = record.devices();
            let devices = devices
                .map(|(device, shows)| DeviceStatus { app: device.app_id.to_string(), shows })
                .collect();
            let status = MailboxStatus {
                unseen: known.map(|known| known.unseen),
                read_seconds_ago: known.map(|known| now.since(known.at).as_secs_f64()),
                source: None,
                is_moving: record.stage() != Stage::Idle,
                devices,
            };
            (status, known.map(|known| known.source))
        };
        // The names of sources are behind another lock, which is not taken under the record's.
        let (status, source) = self.tracker.inspect(mailbox, look)?;
        Some(MailboxStatus { source: source.and_then(|id| self.running_sources.name_of(id)), ..status })
    }
}
