//! One simulated mailbox: messages with a uid and flags, and the numbers STATUS reports of it. No names, no accounts.

use std::fmt;

/// `\Seen`, `\Deleted`, `\Flagged`, `\Answered` and `\Draft` of a message, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// No flag at all.
    pub const NONE: Self = Self(0);
    /// `\Seen`.
    pub const SEEN: Self = Self(1);
    /// `\Deleted`.
    pub const DELETED: Self = Self(2);
    /// `\Flagged`.
    pub const FLAGGED: Self = Self(4);
    /// `\Answered`.
    pub const ANSWERED: Self = Self(8);
    /// `\Draft`.
    pub const DRAFT: Self = Self(16);

    const NAMES: [(Self, &'static str); 5] = [
        (Self::ANSWERED, "\\Answered"),
        (Self::FLAGGED, "\\Flagged"),
        (Self::DELETED, "\\Deleted"),
        (Self::SEEN, "\\Seen"),
        (Self::DRAFT, "\\Draft"),
    ];

    /// The flag of this name (RFC 9051 §2.3.2), without regard to case; keywords are not kept.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(flag, _)| *flag)
    }

    /// Whether every flag of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without the flags of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = Self::NAMES.iter().filter(|(flag, _)| self.contains(*flag));
        for (place, (_, name)) in set.enumerate() {
            let gap = if place == 0 { "" } else { " " };
            write!(f, "{gap}{name}")?;
        }
        Ok(())
    }
}

/// A message: the simulated server keeps no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Unique identifier within the mailbox's UIDVALIDITY; never 0.
    pub uid: u32,
    /// Its flags.
    pub flags: Flags,
}

/// What STATUS reports (RFC 9051 §6.3.11, RFC 7162 §3.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// MESSAGES.
    pub messages: u32,
    /// UNSEEN: messages without `\Seen`.
    pub unseen: u32,
    /// UIDNEXT.
    pub uidnext: u32,
    /// UIDVALIDITY.
    pub uidvalidity: u32,
    /// HIGHESTMODSEQ.
    pub modseq: u64,
}

/// How STORE changes flags (RFC 9051 §6.4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagChange {
    /// `+FLAGS`.
    Add(Flags),
    /// `-FLAGS`.
    Remove(Flags),
    /// `FLAGS`.
    Replace(Flags),
}

impl FlagChange {
    fn apply(self, flags: Flags) -> Flags {
        match self {
            Self::Add(more) => flags.with(more),
            Self::Remove(less) => flags.without(less),
            Self::Replace(all) => all,
        }
    }
}

/// How far UIDVALIDITY falls: to one that no other mailbox of the store has.
const UIDVALIDITY_STEP_BACK: u32 = 1_000_000;

/// A mailbox. Each transaction that changes something raises HIGHESTMODSEQ by one.
#[derive(Debug)]
pub struct Mailbox {
    messages: Vec<Message>,
    uidnext: u32,
    uidvalidity: u32,
    unseen: u32,
    first_recent: u32,
    modseq: u64,
    /// How often the order began anew: the same HIGHESTMODSEQ may come twice.
    orders: u32,
}

impl Mailbox {
    /// An empty mailbox.
    pub const fn new(uidvalidity: u32) -> Self {
        Self {
            messages: Vec::new(),
            uidnext: 1,
            uidvalidity,
            unseen: 0,
            first_recent: 1,
            modseq: 1,
            orders: 0,
        }
    }

    /// Its messages by ascending uid.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// What STATUS says of it.
    pub fn status(&self) -> Status {
        Status {
            messages: self.messages.len() as u32,
            unseen: self.unseen,
            uidnext: self.uidnext,
            uidvalidity: self.uidvalidity,
            modseq: self.modseq,
        }
    }

    /// Messages that no SELECT has seen yet: RECENT.
    pub fn recent(&self) -> usize {
        self.messages.iter().rev().take_while(|message| message.uid >= self.first_recent).count()
    }

    /// What SELECT does and EXAMINE does not: nothing is recent any more.
    pub fn clear_recent(&mut self) {
        self.first_recent = self.uidnext;
    }

    /// Adds a message and gives its uid.
    pub fn append(&mut self, flags: Flags) -> u32 {
        let uid = self.uidnext;
        self.uidnext = self.uidnext.saturating_add(1);
        self.messages.push(Message { uid, flags });
        self.unseen += u32::from(!flags.contains(Flags::SEEN));
        self.modseq += 1;
        uid
    }

    /// Changes flags of all messages that `chosen` picks, as one transaction; says whether anything changed.
    pub fn store(&mut self, change: FlagChange, chosen: impl Fn(&Message) -> bool) -> bool {
        let mut changed = false;
        for message in self.messages.iter_mut().filter(|message| chosen(message)) {
            let flags = change.apply(message.flags);
            changed |= flags != message.flags;
            message.flags = flags;
        }
        if changed {
            self.unseen =
                self.messages.iter().filter(|message| !message.flags.contains(Flags::SEEN)).count() as u32;
            self.modseq += 1;
        }
        changed
    }

    /// Changes flags of one message; says whether anything changed. Cheap in a large mailbox.
    pub fn store_one(&mut self, uid: u32, change: FlagChange) -> bool {
        let Ok(place) = self.messages.binary_search_by_key(&uid, |message| message.uid) else { return false };
        let Some(message) = self.messages.get_mut(place) else { return false };
        let flags = change.apply(message.flags);
        if flags == message.flags {
            return false;
        }
        let was_unseen = u32::from(!message.flags.contains(Flags::SEEN));
        self.unseen = self.unseen + u32::from(!flags.contains(Flags::SEEN)) - was_unseen;
        message.flags = flags;
        self.modseq += 1;
        true
    }

    /// Takes out all messages that `chosen` picks, as one transaction, and gives them.
    pub fn remove(&mut self, chosen: impl Fn(&Message) -> bool) -> Vec<Message> {
        let gone: Vec<Message> = self.messages.extract_if(.., |message| chosen(message)).collect();
        if !gone.is_empty() {
            self.unseen -= gone.iter().filter(|message| !message.flags.contains(Flags::SEEN)).count() as u32;
            self.modseq += 1;
        }
        gone
    }

    /// How often the order of its changes began anew.
    pub const fn orders(&self) -> u32 {
        self.orders
    }

    /// What a mailbox looks like whose index files were deleted, or that a backup was restored into: HIGHESTMODSEQ is
    /// lower, UIDVALIDITY the same, or lower too where `is_validity`.
    pub fn order_goes_back(&mut self, is_validity: bool) {
        self.modseq = (self.modseq / 2).max(1);
        self.orders += 1;
        if is_validity {
            self.uidvalidity = self.uidvalidity.saturating_sub(UIDVALIDITY_STEP_BACK).max(1);
        }
    }

    /// What a mailbox that was made anew looks like: another UIDVALIDITY, uids from 1, HIGHESTMODSEQ far lower.
    pub fn renumber(&mut self, uidvalidity: u32) {
        for (message, uid) in self.messages.iter_mut().zip(1..) {
            message.uid = uid;
        }
        self.uidvalidity = uidvalidity;
        self.uidnext = self.messages.len() as u32 + 1;
        self.first_recent = self.uidnext;
        self.modseq = 1;
        self.orders += 1;
    }
}
