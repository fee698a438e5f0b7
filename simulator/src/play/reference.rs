//! What every badge must show: which counts each mailbox had, who subscribes to it, and from which of its counts on a
//! device may show.
//!
//! It knows nothing of how counts travel, of batches, relays or the agent; it is small so that it can be believed.

use std::collections::BTreeMap;

/// One device and its registration.
#[derive(Clone, Debug)]
struct Device {
    mailbox: usize,
    /// Grows with each subscription: what is said of a former one does not concern this one.
    registration: u64,
    /// The one that the agent had learned of before; it learns of a new one soon, not at once.
    learned: u64,
    /// On the mail host's wall clock, milliseconds; from then on nothing is sent to it.
    expires_at_ms: u64,
    /// The mail host's clock was past the end once: whether the subscription lives is the mail host's affair.
    has_expired: bool,
    wish: Wish,
    /// It is no more: it shows what it showed.
    is_gone: bool,
    /// Index in its mailbox's history of the count that it was last seen to show.
    shown: Option<usize>,
}

/// Whether a device wants to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// It does.
    Told,
    /// It said that it does not, and the agent will learn of that soon.
    Leaving,
    /// It said that it does not.
    Over,
    /// The relay said in its place that it is no more.
    Gone,
    /// The relay said so, and the agent ended perhaps before it had noted that.
    GoneOrForgotten,
}

/// What must be shown.
#[derive(Debug)]
pub struct Reference {
    /// Every count that each mailbox had, in order.
    history: Vec<Vec<u32>>,
    devices: BTreeMap<String, Device>,
    registrations: u64,
}

/// What is wrong with a count on an icon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Its mailbox had this count, before the one that the device showed last.
    Older {
        /// The counts since.
        since: Vec<u32>,
    },
    /// Its mailbox never had this count.
    Never {
        /// The counts it had.
        had: Vec<u32>,
    },
}

impl Reference {
    /// So many mailboxes, with no message each.
    pub fn new(mailboxes: usize) -> Self {
        Self { history: vec![vec![0]; mailboxes], devices: BTreeMap::new(), registrations: 0 }
    }

    /// A mailbox has another count.
    pub fn changed(&mut self, mailbox: usize, unseen: u32) {
        if let Some(history) = self.history.get_mut(mailbox) {
            history.push(unseen);
        }
    }

    /// A device's subscription was acknowledged.
    pub fn subscribed(&mut self, device: &str, mailbox: usize, expires_at_ms: u64) {
        self.registrations += 1;
        let former = self.devices.get(device);
        let (shown, learned) = former.map_or((None, 0), |former| (former.shown, former.learned));
        let registration = self.registrations;
        let fresh = Device {
            mailbox,
            registration,
            learned,
            expires_at_ms,
            has_expired: false,
            wish: Wish::Told,
            is_gone: false,
            shown,
        };
        self.devices.insert(device.to_owned(), fresh);
    }

    /// A device's wish to be sent nothing more was acknowledged.
    pub fn unsubscribed(&mut self, device: &str) {
        if let Some(device) = self.devices.get_mut(device) {
            device.wish = if device.wish == Wish::Gone { Wish::Over } else { Wish::Leaving };
        }
    }

    /// The agent has taken in who is subscribed.
    pub fn learned(&mut self) {
        for device in self.devices.values_mut() {
            device.learned = device.registration;
            if device.wish == Wish::Leaving {
                device.wish = Wish::Over;
            }
        }
    }

    /// The agent has taken in this device's subscription, whatever else it could not.
    pub fn learned_of(&mut self, device: &str) {
        if let Some(device) = self.devices.get_mut(device) {
            device.learned = device.registration;
        }
    }

    /// A device is no more.
    pub fn gone(&mut self, device: &str) {
        if let Some(device) = self.devices.get_mut(device) {
            device.is_gone = true;
        }
    }

    /// The mail host was told that the device of this registration is gone.
    pub fn told_gone(&mut self, device: &str, registration: u64) {
        if let Some(device) = self.devices.get_mut(device).filter(|it| it.registration == registration) {
            device.wish = Wish::Gone;
        }
    }

    /// The agent ended: it may have to be told again who is gone.
    pub fn agent_ended(&mut self) {
        for device in self.devices.values_mut().filter(|device| device.wish == Wish::Gone) {
            device.wish = Wish::GoneOrForgotten;
        }
    }

    /// The mail host's wall clock says this.
    pub fn dated(&mut self, now_ms: u64) {
        for device in self.devices.values_mut().filter(|device| device.expires_at_ms <= now_ms) {
            device.has_expired = true;
        }
    }

    /// The registration of a device that the agent knows of, where it ever had one.
    pub fn registration(&self, device: &str) -> Option<u64> {
        self.devices.get(device).map(|device| device.learned)
    }

    /// Whose count a device shows, where it ever subscribed.
    pub fn mailbox_of(&self, device: &str) -> Option<usize> {
        self.devices.get(device).map(|device| device.mailbox)
    }

    /// Whether something may be sent to a device when the mail host's clock says this.
    pub fn may_be_told(&self, device: &str, now_ms: u64) -> bool {
        let is_wanted = |wish| matches!(wish, Wish::Told | Wish::Leaving | Wish::GoneOrForgotten);
        self.devices.get(device).is_some_and(|it| is_wanted(it.wish) && it.expires_at_ms > now_ms)
    }

    /// A device shows this count. Right, from now on it may show only this one and later ones; else what is wrong.
    pub fn shows(&mut self, device: &str, badge: u32) -> Result<(), Wrong> {
        let Some(device) = self.devices.get_mut(device) else {
            return Err(Wrong::Never { had: Vec::new() });
        };
        let had = self.history.get(device.mailbox).map_or(&[][..], Vec::as_slice);
        let from = device.shown.unwrap_or(0);
        let since = had.get(from..).unwrap_or_default();
        match since.iter().position(|count| *count == badge) {
            Some(place) => {
                device.shown = Some(from + place);
                Ok(())
            }
            None if had.contains(&badge) => Err(Wrong::Older { since: since.to_vec() }),
            None => Err(Wrong::Never { had: had.to_vec() }),
        }
    }

    /// Devices that must show the truth in the end, each with it.
    pub fn live(&self) -> impl Iterator<Item = (&str, u32)> {
        let is_live = |device: &Device| device.wish == Wish::Told && !device.is_gone && !device.has_expired;
        let truth = |device: &Device| self.history.get(device.mailbox).and_then(|had| had.last().copied());
        let live = self.devices.iter().filter(move |(_, device)| is_live(device));
        live.filter_map(move |(name, device)| Some((name.as_str(), truth(device)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_counts(counts: &[u32]) -> Reference {
        let mut reference = Reference::new(1);
        reference.subscribed("phone", 0, 1000);
        for count in counts {
            reference.changed(0, *count);
        }
        reference
    }

    #[test]
    fn a_device_may_skip_counts_but_never_go_back_to_one() {
        let mut reference = with_counts(&[1, 2, 1, 3]);
        assert_eq!(reference.shows("phone", 2), Ok(()));
        assert_eq!(reference.shows("phone", 1), Ok(()));
        assert_eq!(reference.shows("phone", 2), Err(Wrong::Older { since: vec![1, 3] }));
        assert_eq!(reference.shows("phone", 9), Err(Wrong::Never { had: vec![0, 1, 2, 1, 3] }));
        assert_eq!(reference.shows("stranger", 1), Err(Wrong::Never { had: Vec::new() }));
    }

    #[test]
    fn what_the_command_line_said_holds_for_the_agent_once_it_has_learned_of_it() {
        let mut reference = with_counts(&[1]);
        assert_eq!(reference.registration("phone"), Some(0));
        reference.learned();
        reference.subscribed("phone", 0, 1000);
        assert_eq!(reference.registration("phone"), Some(1));
        reference.learned();
        assert_eq!(reference.registration("phone"), Some(2));
        reference.subscribed("phone", 0, 1000);
        reference.subscribed("tablet", 0, 1000);
        reference.learned_of("phone");
        assert_eq!((reference.registration("phone"), reference.registration("tablet")), (Some(3), Some(0)));
        reference.unsubscribed("phone");
        assert!(reference.may_be_told("phone", 0) && !reference.live().any(|(device, _)| device == "phone"));
        reference.learned();
        assert!(!reference.may_be_told("phone", 0));
    }

    #[test]
    fn who_is_over_gone_or_expired_need_not_show_the_truth() {
        let live = |reference: &Reference| reference.live().map(|(_, truth)| truth).collect::<Vec<_>>();
        let none: Vec<u32> = Vec::new();
        let mut reference = with_counts(&[1]);
        assert_eq!(live(&reference), [1]);
        reference.gone("phone");
        assert_eq!(live(&reference), none);
        reference.subscribed("phone", 0, 1000);
        reference.told_gone("phone", 1);
        assert_eq!(live(&reference), [1], "that was said of the former registration");
        reference.told_gone("phone", 2);
        assert_eq!((live(&reference), reference.may_be_told("phone", 0)), (none.clone(), false));
        reference.agent_ended();
        assert_eq!((live(&reference), reference.may_be_told("phone", 0)), (none.clone(), true));
        reference.subscribed("phone", 0, 1000);
        reference.dated(1000);
        assert_eq!((live(&reference), reference.may_be_told("phone", 1000)), (none.clone(), false));
    }
}
