//! The last page: once faults have stopped, every live device shows the truth.

use super::World;
use std::collections::BTreeSet;

impl World {
    pub(super) fn check_end(&mut self) {
        let live: BTreeSet<(String, usize)> = self
            .disk
            .subscriptions
            .values()
            .map(|kept| (kept.recipient.device_id.to_string(), kept.mailbox))
            .collect();
        for (device, mailbox) in live {
            let truth = self.host.status(mailbox).unseen;
            let shown = self.cloud.badge(&device);
            self.checker.settled(self.now, &device, shown, truth);
        }
        if let Some(agent) = &self.agent {
            let (behind, _) = agent.tracker.behind(self.clock());
            if behind > 0 {
                let (trouble, token) = (agent.flow.trouble(), agent.flow.token(self.clock()));
                let why =
                    format!("{behind} mailboxes are behind at the end: relay {trouble:?}, token {token:?}");
                self.checker.broken(self.now, &why);
            }
        } else {
            self.checker.broken(self.now, "the agent is not there at the end");
        }
    }
}
