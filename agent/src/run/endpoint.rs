//! What the daemon answers to others on the network.

use super::Daemon;
use crate::endpoint::Host;
use crate::identity::metadata::Document;

impl Host for Daemon {
    fn metadata(&self) -> Option<Vec<u8>> {
        let ledger = self.ledger_snapshot.lock().clone();
        let certificates = ledger.identity.in_use.published(self.clock.now().unix).cloned().collect();
        let config = self.config.lock();
        let guid = ledger.proxy.map(|proxy| proxy.guid).unwrap_or_default();
        let document =
            Document::of_host(config.own(&ledger.identity.config), &config.organization, &guid, certificates);
        document.map(|document| document.write())
    }
}
