//! The last page: once faults have stopped, every live device shows the truth, and the agent knows it.

use super::World;
use mailbadge_sim::play::Check;

impl World {
    pub(super) fn check_end(&mut self) {
        self.checker.time(self.clock.elapsed(), self.clock.host_date().ms());
        self.checker.settled(|device| self.cloud.badge(device));
        let now = self.now();
        let Some(agent) = &self.agent else {
            return self.checker.broken(Check::NothingBehind, "an agent", "none");
        };
        let (behind, _) = agent.tracker.behind(now);
        if behind > 0 {
            let (trouble, token) = (agent.flow.trouble(), agent.flow.token(now));
            let seen = format!("{behind} mailboxes behind, relay {trouble:?}, token {token:?}");
            self.checker.broken(Check::NothingBehind, "no mailbox behind", seen);
        }
        let (watched, covered) = agent.roster.coverage();
        if !self.is_covered && watched != covered {
            let seen = format!("{covered} of {watched} mailboxes");
            self.checker.broken(Check::NothingBehind, "each mailbox watched or read after the faults", seen);
        }
        self.report.faults += self.cloud.troubles;
    }
}
