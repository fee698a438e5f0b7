//! The agent's processes: one starts, is stopped or killed, and what it leaves on the disk.

use super::super::agent::Agent;
use super::super::bound::START_AGAIN;
use super::super::tokens;
use super::{Event, SAVE_AFTER, World, log};
use std::time::Duration;

/// From the stop of a process to the start of the next by the service manager.
const RESTART: Duration = Duration::from_millis(100);

impl World {
    /// Something moved that is to be stored.
    pub(super) fn save_soon(&mut self) {
        if !std::mem::replace(&mut self.is_save_due, true) {
            self.after(SAVE_AFTER, Event::Save);
        }
    }

    pub(super) fn save(&mut self) {
        self.is_save_due = false;
        let is_saved = self.agent.as_ref().is_none_or(|agent| self.disk.save(&agent.tracker));
        if !is_saved {
            self.save_soon();
        }
    }

    pub(super) fn start(&mut self) {
        if self.agent.is_some() {
            return;
        }
        self.life += 1;
        let (seed, now) = (self.rng.u64(..), self.now());
        self.expire();
        let date = self.clock.date();
        let servers = self.cloud.service.iter_mut().map(|service| tokens::known(service, date)).collect();
        self.agent = Agent::start(&self.plan, &mut self.disk, servers, &self.names, seed, now);
        log::tell(|| format!("process {} starts", self.life));
        if self.agent.is_none() {
            self.after(START_AGAIN, Event::Start);
        }
    }

    /// A clean stop: what devices show is stored once more, then the next process starts.
    pub(super) fn restart(&mut self) {
        if let Some(agent) = &self.agent {
            self.disk.close(&agent.tracker);
            self.kill(RESTART);
        }
    }

    pub(super) fn kill(&mut self, pause: Duration) {
        if self.agent.take().is_none() {
            return;
        }
        self.disk.killed();
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
