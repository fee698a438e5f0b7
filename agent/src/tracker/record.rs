//! One mailbox's record and its transitions: pure functions, no table, no locks, no clock.
//!
//! A record is *behind* while any live device does not show the count that was read, and stands in exactly one
//! [`Stage`]. The table around it lives in the parent module.

mod devices;

use super::assurance::Seen;
use crate::event::{
    ModSeq, News, Reading, Recipient, Rejection, SourceId, SubscriptionKey, UidValidity, Verdict,
};
use crate::time::{Moment, Now};
use devices::Devices;
use std::time::Duration;

/// How long a device that the relay called throttled is left alone.
pub const THROTTLED_WAIT: Duration = Duration::from_mins(1);
/// How long a device that the relay called invalid is left alone, unless its mailbox changes: the fault may have been
/// the relay's, and then nothing else would ever mend the badge.
pub const ASIDE_WAIT: Duration = Duration::from_hours(1);
/// How late an event may arrive, at most: it was sent before the one that is known, or by the mailbox's former
/// incarnation. What arrives later than this is not late: then the order itself went back.
pub const LATE_MAX: Duration = Duration::from_mins(1);
/// How late an event usually is when another one overtakes it. An older one that arrives after this is asked about, and
/// so is the second in a row before that.
pub const OVERTAKEN_MAX: Duration = Duration::from_secs(2);
/// How long a question may stay without an answer before the event that raised it is believed.
pub const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How long a first count of 0 waits for the next reading: the creation of a new account's INBOX reports 0, and its
/// first message 1 a moment later.
pub const FIRST_ZERO_WAIT: Duration = Duration::from_secs(2);

/// Where a mailbox stands on its way to the relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// In no queue.
    #[default]
    Idle,
    /// In the ready queue, once.
    Ready,
    /// In a batch that is not settled yet.
    InFlight,
}

/// The newest reading that was believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The count.
    pub unseen: u32,
    uid_validity: Option<UidValidity>,
    /// Highest seen under this UIDVALIDITY; a reading without one does not erase it.
    modseq: Option<ModSeq>,
    ground: Ground,
    /// The mailbox had no device for a while since, so that nobody had to read it.
    is_stale: bool,
    /// An event that contradicts it was dropped.
    is_contradicted: bool,
    /// Who said so.
    pub source: SourceId,
    /// The count of the event under [`Ground::Doubted`].
    doubted: u32,
    /// When it arrived, or when it was put in doubt.
    pub at: Moment,
}

/// How the count and the MODSEQ in [`Known`] belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ground {
    /// The count came under that MODSEQ.
    Ordered,
    /// The count came without a MODSEQ, later than that MODSEQ.
    Loose,
    /// A count of 0 that a source reported by itself, the first that is known of the mailbox.
    FirstZero,
    /// The order is that of an event which contradicts the count. A question is on its way; if no answer arrives, the
    /// event is believed.
    Doubted,
}

impl Known {
    fn is_ordered(&self) -> bool {
        match self.ground {
            Ground::Ordered => true,
            Ground::FirstZero => self.modseq.is_some(),
            Ground::Loose | Ground::Doubted => false,
        }
    }

    /// Until when a device that was never shown anything waits for a second reading.
    fn first_zero_until(&self) -> Option<Moment> {
        (self.ground == Ground::FirstZero).then(|| self.at.after(FIRST_ZERO_WAIT))
    }

    /// When the event that contradicts it is believed.
    fn doubted_until(&self) -> Option<Moment> {
        (self.ground == Ground::Doubted).then(|| self.at.after(ANSWER_WAIT))
    }
}

/// What is under way to a device, or why nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing; it is sent its count as soon as that differs.
    Rest,
    /// Nothing, since the relay found it invalid: until the mailbox changes, and at most until then.
    Aside(Moment),
    /// Nothing, since the relay was throttling it: until then.
    Throttled(Moment),
    /// The batch in flight sends it this count.
    Sent { count: u32, is_in_doubt: bool },
    /// Nothing, but it spoke for itself while a batch of its mailbox was in flight: which of the two came last nobody
    /// knows. Of a device that was sent something since, `is_in_doubt` says the same.
    Crossed,
}

/// One device of a mailbox.
#[derive(Clone, Debug)]
pub struct Device {
    recipient: Recipient,
    /// What it was last acknowledged to show; `None` while nobody knows.
    shown: Option<u32>,
    phase: Phase,
}

/// All that is kept of a mailbox.
#[derive(Debug, Default)]
pub struct Record {
    known: Option<Known>,
    devices: Devices,
    stage: Stage,
    /// Set while a shown count is not stored yet.
    is_unsaved: bool,
    /// When the oldest change was observed that no device was told of.
    changed_at: Option<Moment>,
    /// The same of the change that is in flight.
    flying_since: Option<Moment>,
}

/// What a batch is to carry for one mailbox.
#[derive(Debug)]
pub struct Due {
    /// The newest count.
    pub unseen: u32,
    /// Whether any live device wants background sync.
    pub background_sync: bool,
    /// The devices that differ; never empty.
    pub recipients: Vec<Recipient>,
    /// When the oldest change in it was observed.
    pub changed_at: Moment,
}

impl Record {
    /// Takes a piece of news; see [`judge`] for what is believed.
    pub fn observe(&mut self, source: SourceId, news: News, now: Now) -> Verdict {
        let News::Reading(reading) = news else { return Verdict::Ask };
        self.believe_doubted(now);
        let verdict = judge(self.known.as_ref(), &reading, source, now.moment);
        if matches!(verdict, Verdict::Older | Verdict::Ask) {
            self.doubt(&reading, source, now.moment);
            return verdict;
        }
        let carried = self.known.filter(|known| is_same_validity(known.uid_validity, reading.uid_validity));
        let is_first = self.known.is_none() && reading.unseen == 0 && reading.asked_at.is_none();
        let is_ordered = reading.modseq.is_some()
            || carried.is_some_and(|known| known.is_ordered() && verdict == Verdict::Unchanged);
        let ground = match (is_first, is_ordered) {
            (true, _) => Ground::FirstZero,
            (false, true) => Ground::Ordered,
            (false, false) => Ground::Loose,
        };
        self.known = Some(Known {
            unseen: reading.unseen,
            uid_validity: reading.uid_validity.or(carried.and_then(|known| known.uid_validity)),
            modseq: reading.modseq.or(carried.and_then(|known| known.modseq)),
            ground,
            is_stale: false,
            is_contradicted: false,
            source,
            doubted: 0,
            at: now.moment,
        });
        if verdict == Verdict::Changed {
            self.changed(now);
        }
        verdict
    }

    fn changed(&mut self, now: Now) {
        self.changed_at.get_or_insert(now.moment);
        for device in &mut *self.devices {
            if matches!(device.phase, Phase::Aside(_)) {
                device.phase = Phase::Rest;
            }
        }
    }

    /// A reading was not believed and cannot be late: the mailbox was made anew, its index files were deleted, or a
    /// backup was restored. The order of the reading replaces the known one, so that a source which reports no
    /// UIDVALIDITY can answer and the next event is believed. If no answer arrives within [`ANSWER_WAIT`], the reading
    /// itself is believed (adr/0028).
    ///
    /// A new UIDVALIDITY is greater than the former (RFC 9051 §2.3.1.1), and HIGHESTMODSEQ grows (RFC 7162 §3.1.2): for
    /// [`LATE_MAX`] a smaller one is taken for a late event.
    fn doubt(&mut self, reading: &Reading, source: SourceId, now: Moment) {
        let Some(known) = &mut self.known else { return };
        known.is_contradicted |= reading.asked_at.is_none();
        let is_late = now.since(known.at) <= LATE_MAX;
        let is_over = if is_same_validity(known.uid_validity, reading.uid_validity) {
            !is_late && reading.asked_at.is_none() && is_earlier(known, reading)
        } else {
            !is_late || reading.uid_validity > known.uid_validity
        };
        if is_over {
            (known.uid_validity, known.modseq) =
                (reading.uid_validity.or(known.uid_validity), reading.modseq);
            (known.ground, known.doubted) = (Ground::Doubted, reading.unseen);
            (known.source, known.at) = (source, now);
        }
    }

    /// Believes an event that was in doubt, where no answer came in time. True where the count moved by that.
    pub fn believe_doubted(&mut self, now: Now) -> bool {
        let Some(known) = &mut self.known else { return false };
        if known.doubted_until().is_none_or(|until| until > now.moment) {
            return false;
        }
        let is_moved = known.unseen != known.doubted;
        known.unseen = known.doubted;
        known.ground = if known.modseq.is_some() { Ground::Ordered } else { Ground::Loose };
        if is_moved {
            self.changed(now);
        }
        is_moved
    }

    /// Adds a device, or replaces the one with the same key or the same app and device id. `shown` is what it
    /// reported to show, if anything. It is not believed where the device is known to show something else: a count may have
    /// reached it after its report, and been acknowledged before the report came here.
    pub fn subscribe(&mut self, recipient: Recipient, shown: Option<u32>, now: Now) {
        if let Some(known) = self.known.as_mut().filter(|_| self.devices.is_empty()) {
            (known.is_stale, known.at) = (true, now.moment);
        }
        let is_same =
            |old: &Recipient| (&old.app_id, &old.device_id) == (&recipient.app_id, &recipient.device_id);
        let is_contradicted = self.devices().any(|(old, known)| is_same(old) && known != shown);
        let shown = shown.filter(|_| !is_contradicted);
        self.devices.retain(|device| device.recipient.key != recipient.key && !is_same(&device.recipient));
        let phase = if self.stage == Stage::InFlight { Phase::Crossed } else { Phase::Rest };
        self.devices.push(Device { recipient, shown, phase });
        self.changed_at.get_or_insert(now.moment);
    }

    /// Forgets a device. True where it was there.
    pub fn unsubscribe(&mut self, key: SubscriptionKey) -> bool {
        let was_there = self.devices.retain(|device| device.recipient.key != key);
        if self.known.is_none() && self.devices.is_empty() {
            self.changed_at = None;
        }
        was_there
    }

    /// The newest count for the devices that are due it, which from then on are in flight; `None` where none is due,
    /// and the mailbox is idle.
    pub fn take(&mut self, now: Now) -> Option<Due> {
        let due = self.due(now);
        self.stage = if due.is_some() { Stage::InFlight } else { Stage::Idle };
        due
    }

    fn due(&mut self, now: Now) -> Option<Due> {
        let known = self.known?;
        let unseen = known.unseen;
        let background_sync = self.devices.iter().any(|d| d.is_live(now) && d.recipient.background_sync);
        let mut recipients = Vec::new();
        for device in &mut *self.devices {
            let is_due = device.is_due(&known, now);
            device.phase = match device.phase {
                Phase::Sent { is_in_doubt, .. } if is_due => Phase::Sent { count: unseen, is_in_doubt },
                Phase::Sent { is_in_doubt: true, .. } => Phase::Crossed,
                Phase::Sent { is_in_doubt: false, .. } => Phase::Rest,
                before if is_due => Phase::Sent { count: unseen, is_in_doubt: before == Phase::Crossed },
                before => before,
            };
            if is_due {
                recipients.push(device.recipient.clone());
            }
        }
        if recipients.is_empty() {
            return None;
        }
        let changed_at = self.oldest_change().unwrap_or(now.moment);
        (self.changed_at, self.flying_since) = (None, Some(changed_at));
        Some(Due { unseen, background_sync, recipients, changed_at })
    }

    /// The relay took the batch, but for the devices in `rejected`: each other device in flight now shows what was
    /// sent to it.
    pub fn acknowledge(&mut self, rejected: &[(SubscriptionKey, Rejection)], now: Now) {
        self.land(|device, count| match rejected.iter().find(|(key, _)| *key == device.recipient.key) {
            None => device.shown = Some(count),
            // Whether it was told after all is not certain: clocks are told in whole seconds.
            Some((_, Rejection::Throttled)) => {
                let until = now.moment.after(THROTTLED_WAIT);
                (device.shown, device.phase) = (None, Phase::Throttled(until));
            }
            Some((_, Rejection::Gone | Rejection::Invalid)) => device.phase = aside(now),
        });
    }

    /// The batch was not acknowledged: its devices are due again. Where it `may_have_arrived`, nobody knows what they
    /// show.
    pub fn refuse(&mut self, may_have_arrived: bool) {
        self.changed_at = self.oldest_change();
        self.land(|device, _| device.shown = device.shown.filter(|_| !may_have_arrived));
    }

    /// The relay found the notification itself invalid: its devices are put aside until the mailbox changes, for
    /// [`ASIDE_WAIT`] at most.
    pub fn put_aside(&mut self, now: Now) {
        self.land(|device, _| device.phase = aside(now));
    }

    /// Ends the flight: `settle` is told each device that was in it, at rest by then, with what was sent.
    fn land(&mut self, mut settle: impl FnMut(&mut Device, u32)) {
        for device in &mut *self.devices {
            let (count, is_in_doubt) = match device.phase {
                Phase::Sent { count, is_in_doubt } => (Some(count), is_in_doubt),
                Phase::Crossed => (None, true),
                Phase::Rest | Phase::Aside(_) | Phase::Throttled(_) => continue,
            };
            device.phase = Phase::Rest;
            if let Some(count) = count {
                settle(device, count);
            }
            if is_in_doubt {
                device.shown = None;
            }
        }
        (self.stage, self.flying_since) = (Stage::Idle, None);
    }

    /// Moves an idle mailbox with due devices to ready. True where it did, and the caller must queue it.
    pub fn make_ready(&mut self, now: Now) -> bool {
        self.believe_doubted(now);
        let Some(known) = self.known.filter(|_| self.stage == Stage::Idle) else { return false };
        let is_due = self.devices.iter().any(|device| device.is_due(&known, now));
        if is_due {
            self.stage = Stage::Ready;
        } else if !self.is_behind(now) {
            self.changed_at = None;
        }
        is_due
    }

    /// When something becomes due of an idle mailbox by itself: the first device that waits may be sent to again, or an
    /// event in doubt is believed.
    pub fn held_until(&self, now: Now) -> Option<Moment> {
        let known = self.known?;
        let waiting = self.devices.iter().filter(|d| d.is_live(now) && d.differs(known.unseen));
        let held = waiting.filter_map(|device| device.held_until(&known, now)).min();
        let doubted = known.doubted_until().filter(|_| !self.devices.is_empty());
        [held, doubted].into_iter().flatten().min()
    }

    /// When the mailbox was last read or reported; `None` where nobody subscribes to it.
    pub fn seen(&self, now: Now) -> Option<Seen> {
        let is_subscribed = self.devices.iter().any(|device| device.is_live(now));
        let seen = match self.known {
            None => Seen::Never { since: self.changed_at.unwrap_or_default() },
            Some(Known { is_stale, at, .. }) => Seen::At { at, is_stale },
        };
        is_subscribed.then_some(seen)
    }

    /// Whether any live device shows something else than the count that was read.
    pub fn is_behind(&self, now: Now) -> bool {
        self.known.is_some_and(|known| self.devices.iter().any(|d| d.is_live(now) && d.differs(known.unseen)))
    }

    /// When the oldest change was observed that was not acknowledged.
    pub fn oldest_change(&self) -> Option<Moment> {
        [self.changed_at, self.flying_since].into_iter().flatten().min()
    }

    /// Whether nobody subscribes to the mailbox and it is in no queue: nothing is lost but its count.
    pub fn is_blank(&self) -> bool {
        self.devices.is_empty() && self.stage == Stage::Idle && !self.is_unsaved
    }

    /// Where the mailbox stands.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The newest reading that was believed.
    pub fn known(&self) -> Option<Known> {
        self.known
    }

    /// The devices with what each is known to show now: nothing, while something is in flight to it.
    pub fn devices(&self) -> impl Iterator<Item = (&Recipient, Option<u32>)> {
        let is_certain = |device: &Device| !matches!(device.phase, Phase::Sent { .. } | Phase::Crossed);
        let shown = move |device: &Device| device.shown.filter(|_| is_certain(device));
        self.devices.iter().map(move |device| (&device.recipient, shown(device)))
    }

    /// Marks what devices show as not stored. True where it was not marked already, and the caller must queue it.
    pub fn mark_unsaved(&mut self) -> bool {
        !std::mem::replace(&mut self.is_unsaved, true)
    }

    /// Marks what devices show as stored; the caller stores what [`Record::devices`] gives.
    pub fn saved(&mut self) {
        self.is_unsaved = false;
    }
}

impl Device {
    fn is_live(&self, now: Now) -> bool {
        self.recipient.expires_at > now.unix
    }

    fn differs(&self, unseen: u32) -> bool {
        self.shown != Some(unseen)
    }

    fn is_due(&self, known: &Known, now: Now) -> bool {
        self.held_until(known, now).is_none() && self.differs(known.unseen) && self.is_live(now)
    }

    /// Until when it is left alone, where that lies ahead.
    fn held_until(&self, known: &Known, now: Now) -> Option<Moment> {
        let held = match self.phase {
            Phase::Aside(until) | Phase::Throttled(until) => Some(until),
            Phase::Rest | Phase::Sent { .. } | Phase::Crossed => {
                known.first_zero_until().filter(|_| self.shown.is_none())
            }
        };
        held.filter(|until| *until > now.moment)
    }
}

fn aside(now: Now) -> Phase {
    Phase::Aside(now.moment.after(ASIDE_WAIT))
}

/// Whether two statements can speak of the same incarnation of a mailbox; an unknown UIDVALIDITY fits any.
fn is_same_validity(a: Option<UidValidity>, b: Option<UidValidity>) -> bool {
    a.is_none() || b.is_none() || a == b
}

/// Whether MODSEQ says that the reading is from before what is known.
fn is_earlier(known: &Known, reading: &Reading) -> bool {
    known.modseq.zip(reading.modseq).is_some_and(|(old, new)| new < old)
}

/// What to make of a reading, given the newest one that was believed.
///
/// The answer to a question asked after the last event is always believed. Otherwise MODSEQ orders readings of one
/// UIDVALIDITY, arrival orders those of one source; another UIDVALIDITY, or a contradiction between sources that
/// nothing orders, is a reason to ask. Nothing orders two readings of which one came without a MODSEQ, be it the one
/// that is known. An older event is dropped while it can have been overtaken by the known one, for [`OVERTAKEN_MAX`] and
/// once; then the order may have gone back, and it is a reason to ask.
fn judge(known: Option<&Known>, reading: &Reading, source: SourceId, now: Moment) -> Verdict {
    let Some(known) = known else { return Verdict::Changed };
    let believed = if known.unseen == reading.unseen { Verdict::Unchanged } else { Verdict::Changed };
    if reading.asked_at.is_some_and(|asked| asked >= known.at) {
        return believed;
    }
    if !is_same_validity(known.uid_validity, reading.uid_validity) {
        return Verdict::Ask;
    }
    let is_apart = known.source != source || reading.asked_at.is_some();
    match (known.modseq, reading.modseq) {
        (Some(old), Some(new)) if new < old => {
            let is_soon = now.since(known.at) <= OVERTAKEN_MAX && !known.is_contradicted;
            if is_soon || reading.asked_at.is_some() { Verdict::Older } else { Verdict::Ask }
        }
        (_, Some(_)) if believed == Verdict::Changed && !known.is_ordered() && is_apart => Verdict::Ask,
        (_, Some(_)) if reading.asked_at.is_none() => believed,
        (Some(old), Some(new)) if new > old => believed,
        _ if believed == Verdict::Unchanged => believed,
        // Asked before the last event, and nothing tells which of the two is newer.
        _ if reading.asked_at.is_some() => Verdict::Ask,
        _ if known.source == source => believed,
        _ => Verdict::Ask,
    }
}

#[cfg(test)]
mod tests;
