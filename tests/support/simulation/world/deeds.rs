//! What the plan says is done, and how the agent hears of it.

use super::super::agent::{self, Agent, EVENTS, signers};
use super::{Event, Kill, World, account, device_id, log};
use mailbadge::event::{ModSeq, News, Reading, SubscriptionKey, UidValidity};
use mailbadge::identity::auth_config::AuthConfig;
use mailbadge::store::Store;
use mailbadge::subscription::{BACKGROUND_SYNC, DEFAULT_OPTION, NewSubscription};
use mailbadge::time::Moment;
use mailbadge_sim::peers::mail_store::Status;
use mailbadge_sim::play::{Deed, Telling};
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

/// How long subscriptions live that do not say.
const LIFE: Duration = Duration::from_hours(72);
/// Longest and usual time that an event takes, microseconds.
const LATE: (u64, u64) = (3_000_000, 2_000);
/// Least time that an event takes, microseconds.
const SOON: u64 = 100;

/// A status as a source reads it; asked for at this microsecond, if it was.
pub(super) fn reading(status: Status, asked_at: Option<u64>) -> Reading {
    Reading {
        unseen: status.unseen,
        uid_validity: NonZeroU32::new(status.uidvalidity).map(UidValidity),
        modseq: NonZeroU64::new(status.modseq).map(ModSeq),
        asked_at: asked_at.map(Moment::from_micros),
    }
}

impl World {
    pub(super) fn deed(&mut self, deed: Deed) {
        if deed.is_fault() {
            self.report.faults += 1;
        }
        match deed {
            Deed::Deliver(mailbox) => drop(self.host.store.deliver(account(mailbox))),
            Deed::Read(mailbox) => {
                if let (Some(uid), _) = self.host.uids(mailbox) {
                    self.host.store.set_seen(account(mailbox), uid, true);
                }
            }
            Deed::Unread(mailbox) => {
                if let (_, Some(uid)) = self.host.uids(mailbox) {
                    self.host.store.set_seen(account(mailbox), uid, false);
                }
            }
            Deed::ReadAll(mailbox) => drop(self.host.store.all_seen(account(mailbox))),
            Deed::Expunge(mailbox) => {
                if let (_, Some(uid)) = self.host.uids(mailbox) {
                    self.host.store.expunge(account(mailbox), uid);
                }
            }
            Deed::MoveOut(mailbox) => self.host.move_message(mailbox, true),
            Deed::MoveIn(mailbox) => self.host.move_message(mailbox, false),
            Deed::BumpUidValidity(mailbox) => self.host.store.bump_uidvalidity(account(mailbox)),
            Deed::OrderGoesBack(mailbox, is_validity) => self.host.order_goes_back(mailbox, is_validity),
            Deed::Subscribe(device, life) => self.subscribe(device, life),
            Deed::Unsubscribe(device) => self.unsubscribe(device),
            deed => self.trouble(deed),
        }
        self.tell_changes();
    }

    fn trouble(&mut self, deed: Deed) {
        match deed {
            Deed::DeviceGone(device) => {
                self.cloud.set_gone(&device_id(device), true);
                self.checker.reference.gone(&device_id(device));
            }
            Deed::Relay(order) => self.cloud.fault(order, self.clock.date()),
            Deed::TokenService(order) => self.cloud.fault_service(order, self.clock.date()),
            Deed::MassDisconnect => self.disconnect_all(),
            Deed::Hang(mailbox) => {
                let of_mailbox =
                    self.host.connections.values_mut().filter(|c| c.mailbox == agent::mailbox(mailbox));
                of_mailbox.for_each(|connection| connection.is_hung = true);
            }
            Deed::SourceLost(span) => {
                self.host.is_away = true;
                self.disconnect_all();
                self.after(span, Event::SourceBack);
            }
            Deed::Quirk(quirk, is_on) => self.host.set_quirk(quirk, is_on, self.clock.elapsed()),
            Deed::Restart => self.restart(),
            Deed::Kill(pause) => self.kill(pause),
            Deed::PowerCut(pause) => {
                self.kill(pause);
                self.disk.power_cut();
            }
            Deed::RotateCertificate(span) => self.rotate(span),
            Deed::ClockJump(ahead_ms) => self.clock.jump(ahead_ms),
            Deed::DiskFull(span) => {
                self.disk.set_full(true);
                self.after(span, Event::DiskFree);
            }
            Deed::DiskFails(span) => {
                self.disk.set_failing(true);
                self.after(span, Event::DiskWell);
            }
            Deed::KillAtCall(calls, pause) => self.kill_at_call(calls, Kill { pause, is_power_cut: false }),
            Deed::PowerCutAtCall(calls, pause) => {
                self.kill_at_call(calls, Kill { pause, is_power_cut: true });
            }
            _ => {}
        }
    }

    fn disconnect_all(&mut self) {
        for number in self.host.connections.keys().copied().collect::<Vec<_>>() {
            self.after(Duration::from_millis(1), Event::ServerClosed(number));
            self.after(Duration::from_millis(1), Event::ClientClosed(number));
        }
    }

    fn kill_at_call(&mut self, calls: u32, kill: Kill) {
        self.kill = kill;
        self.disk.kill_after(Some(calls));
    }

    /// By the command line, unless its store fails.
    fn rotate(&mut self, span: Duration) {
        let other = 1 - self.signer;
        let Some(signer) = signers().get(other) else { return };
        let store = self.disk.of_command_line();
        let Ok(before) = store.auth_config() else { return };
        let current = Some(signer.certificate().thumbprint().to_string());
        let after = AuthConfig { current, ..before.clone() };
        if store.replace_auth_config(&before, &after).is_ok() {
            self.signer = other;
            self.tick_soon();
            self.after(span, Event::Trusted(other));
        }
    }

    /// The relay learns of a certificate, unless that is outdated by now.
    pub(super) fn trust(&mut self, signer: usize) {
        if let Some(known) = signers().get(signer).filter(|_| signer == self.signer) {
            self.cloud.trust(known.certificate().der());
        }
    }

    /// Tells everyone who listens that mailboxes changed.
    fn tell_changes(&mut self) {
        let elapsed = self.clock.elapsed();
        let (lost, late) = if self.is_calm { (0, 0) } else { self.plan.events };
        for (mailbox, status) in self.host.changed() {
            self.report.changes += 1;
            self.checker.reference.changed(mailbox, status.unseen);
            log::tell(|| format!("mailbox {mailbox} has {} unseen", status.unseen));
            self.host.tell(mailbox, elapsed);
            let is_lost = self.rng.u32(0..100) < lost || self.host.is_away;
            if self.plan.telling == Telling::Events && !is_lost {
                let most = if self.rng.u32(0..100) < late { LATE.0 } else { LATE.1 };
                let wait = Duration::from_micros(self.rng.u64(SOON..most));
                self.after(
                    wait,
                    Event::Told { life: self.life, order: self.host.order(mailbox), mailbox, status },
                );
            }
        }
    }

    pub(super) fn told(&mut self, life: u32, mailbox: usize, status: Status) {
        let now = self.now();
        let Some(agent) = self.agent.as_mut().filter(|_| life == self.life) else { return };
        agent.observe(agent::mailbox(mailbox), EVENTS, News::Reading(reading(status, None)), now);
    }

    /// A device subscribes by the command line, which needs the store and no daemon.
    pub(super) fn subscribe(&mut self, device: usize, life: Option<Duration>) {
        let now = self.now().unix;
        let id = device_id(device);
        let mailbox = self.plan.mailbox_of(device);
        let name = self.names.get(mailbox).expect("the plan names mailboxes that exist");
        let expires_at = now.after(life.unwrap_or(LIFE));
        self.cloud.set_gone(&id, false);
        let new = NewSubscription {
            mailbox: name.to_string(),
            subscription_id: id.clone(),
            app_id: "com.microsoft.exchange.mowa".to_owned(),
            device_id: id.clone(),
            device_type: "GCM".to_owned(),
            installation_id: None,
            option: if device.is_multiple_of(2) { DEFAULT_OPTION } else { DEFAULT_OPTION - BACKGROUND_SYNC },
            shown: self.cloud.badge(&id),
            updated_at: now,
            expires_at,
        };
        // What could not be stored is not acknowledged.
        if self.disk.of_command_line().add(&[new]).is_err() {
            return self.checker.reference.gone(&id);
        }
        self.checker.reference.subscribed(&id, mailbox, expires_at.0);
        // Of whom the agent knows no more, since the relay called him gone: what he reports is believed.
        let is_known = |agent: &Agent| agent.shown().iter().any(|(_, known, _)| *known == id);
        if !self.agent.as_ref().is_some_and(is_known) {
            self.told.remove(&id);
        }
        self.tick_soon();
    }

    fn unsubscribe(&mut self, device: usize) {
        let id = device_id(device);
        let of_device = self.disk.subscriptions().into_iter().filter(|kept| kept.record.device_id == id);
        let keys: Vec<SubscriptionKey> = of_device.map(|kept| kept.key).collect();
        if self.disk.of_command_line().remove(&keys).is_ok() {
            self.checker.reference.unsubscribed(&id);
            // Who subscribes again after that reports anew. That a count sent before may reach him still, and a kill within
            // the next tick have his report believed, is known and left (docs/reliability.md).
            self.told.remove(&id);
            self.tick_soon();
        }
    }
}
