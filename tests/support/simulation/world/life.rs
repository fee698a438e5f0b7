//! The agent's processes: one starts, is stopped or killed, and what it leaves on the disk.

use super::super::agent::Agent;
use super::super::bound::START_AGAIN;
use super::super::tokens;
use super::{Event, Kill, World, bound, log, micros};
use std::time::Duration;

/// From the stop of a process to the start of the next by the service manager.
const RESTART: Duration = Duration::from_millis(100);

impl World {
    /// Something moved that the ledger will find. A tick that finds nothing changes nothing, so that only those are told
    /// that may find something.
    pub(super) fn tick_soon(&mut self) {
        self.tick_within(bound::TICK);
    }

    fn tick_within(&mut self, wait: Duration) {
        let at = self.clock.micros() + micros(wait);
        if self.tick_at.is_none_or(|planned| at < planned) {
            self.tick_at = Some(at);
            self.agenda.note(at, Event::Tick(at));
        }
    }

    pub(super) fn tick(&mut self) {
        self.tick_at = None;
        let (now, refused) = (self.now(), self.disk.refused());
        let Some(agent) = &mut self.agent else { return };
        agent.tick(now);
        if !self.bury() {
            self.ticked(refused);
        }
    }

    /// After a look of the ledger, before which the disk had `refused` so many calls.
    fn ticked(&mut self, refused: u64) {
        if self.disk.refused() > refused {
            self.learned_in_part();
            self.is_troubled_until = self.clock.elapsed() + bound::READ_AGAIN + 2 * bound::TICK;
        } else {
            self.checker.reference.learned();
        }
        let is_troubled = self.clock.elapsed() < self.is_troubled_until;
        let is_unsaved = self.agent.as_ref().is_some_and(|agent| agent.tracker.unsaved() > 0);
        self.tick_within(if is_troubled || is_unsaved { bound::TICK } else { bound::EXPIRE_EVERY });
    }

    /// A call was refused in the midst of a look: whom the agent knows by his newest key, it has taken in.
    fn learned_in_part(&mut self) {
        let Some(agent) = &self.agent else { return };
        let known = agent.tracker.devices();
        for kept in self.disk.subscriptions().iter().filter(|kept| known.contains_key(&kept.key)) {
            self.checker.reference.learned_of(&kept.record.device_id);
        }
    }

    /// Ends the process where it was killed in the midst of a call. True where it was.
    pub(super) fn bury(&mut self) -> bool {
        let is_killed = self.disk.is_killed();
        if is_killed {
            let Kill { pause, is_power_cut } = self.kill;
            log::tell(|| "killed in the midst of a call".to_owned());
            self.kill(pause);
            if is_power_cut {
                self.disk.power_cut();
            }
        }
        is_killed
    }

    pub(super) fn start(&mut self) {
        if self.agent.is_some() {
            return;
        }
        self.life += 1;
        let (seed, now, refused) = (self.rng.u64(..), self.now(), self.disk.refused());
        let date = self.clock.date();
        let servers = self.cloud.service.iter_mut().map(|service| tokens::known(service, date)).collect();
        log::tell(|| format!("process {} starts", self.life));
        self.agent = Agent::start(&self.plan, &self.disk, servers, &self.names, seed, now);
        if self.agent.is_none() {
            self.bury();
            self.disk.bury();
            self.after(START_AGAIN, Event::Start);
        } else if !self.bury() {
            self.check_start();
            self.ticked(refused);
        }
    }

    /// What the store says now that devices show is what the last process knew, or unknown.
    fn check_start(&mut self) {
        for kept in self.disk.subscriptions() {
            let known = self.left.get(&kept.key);
            if let (Some(shown), Some(known)) = (kept.record.shown, known)
                && *known != Some(shown)
            {
                self.checker.takes_for_shown(&kept.record.device_id, shown, *known);
            }
        }
    }

    /// A clean stop: what devices show is stored once more, then the next process starts.
    pub(super) fn restart(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.end();
            if !self.bury() {
                self.kill(RESTART);
            }
        }
    }

    pub(super) fn kill(&mut self, pause: Duration) {
        let Some(agent) = self.agent.take() else { return };
        // While a batch to others is under way the tracker doubts whoever subscribes meanwhile. Whom this process sent nothing
        // shows what he reported.
        let told = std::mem::take(&mut self.told);
        let left = agent.shown().into_iter().filter(|(_, id, known)| known.is_some() || told.contains(id));
        // Whom it knew no more, since the clock said that he had expired, it may have told something before.
        for kept in self.disk.subscriptions().iter().filter(|kept| told.contains(&kept.record.device_id)) {
            self.left.remove(&kept.key);
        }
        self.left.extend(left.map(|(key, _, known)| (key, known)));
        for key in self.unsent.drain(..) {
            self.left.remove(&key);
        }
        self.disk.bury();
        self.tick_at = None;
        self.checker.ended();
        self.waiting.clear();
        let open = self
            .host
            .connections
            .iter_mut()
            .filter_map(|(number, connection)| connection.client.take().map(|_| *number));
        for number in open.collect::<Vec<_>>() {
            self.after(Duration::from_micros(1), Event::ServerClosed(number));
        }
        self.after(pause, Event::Start);
    }
}
