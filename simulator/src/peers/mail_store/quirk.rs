//! Oddities of real mail servers by name (sources.md §7): the names, and sets of them. What each does stands where
//! the server does it.

use std::{fmt, str::FromStr};
use thiserror::Error;

/// An oddity that can be switched on for one mailbox or for all, while the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quirk {
    /// STATUS of the selected mailbox shows that session's view of it.
    StatusFrozenWhenSelected,
    /// IDLE tells of arrivals and expunges, never of flags.
    NoFlagsInIdle,
    /// `* n EXISTS` stands before `+ idling`.
    ExistsBeforeContinuation,
    /// 30 minutes without a command end an idling session too, with BYE.
    ByeAfter30Min,
    /// A session is ended right after its log-in succeeded.
    ByeAfterLogin,
    /// The connection stays open and nothing comes or goes any more.
    SilentDrop,
    /// `SEARCH RETURN (COUNT) UNSEEN` counts all messages.
    EsearchCountTotal,
    /// NOTIFY ends with `[NOTIFICATIONOVERFLOW]` where a STATUS was due.
    NotificationOverflow,
    /// NOTIFY no longer sees changes once the mailbox's log was rotated, but for a look every 30 s.
    NotifyDeafAfterRotation,
    /// Pushed STATUS of arrivals and expunges lacks UNSEEN.
    NotifyWithoutUnseen,
    /// IDLE with nothing selected pushes STATUS of INBOX.
    StatusInUnselectedIdle,
    /// One connection per mailbox, further ones are refused with `[LIMIT]`.
    UserIpLimit,
    /// Refused log-ins slow down every log-in that follows.
    AuthPenalty,
    /// Acts once: INBOX gets another UIDVALIDITY.
    UidValidityBump,
    /// INBOX is not there until something asks for its STATUS.
    InboxMissingUntilAsked,
    /// Each pushed STATUS comes twice.
    DuplicateStatus,
    /// Where one `* OK Still here` was due come fifty.
    KeepaliveBurst,
    /// Acts once: every session ends at this instant, half of them without BYE.
    MassDisconnect,
}

impl Quirk {
    /// All of them, in the order of sources.md §7.
    pub const ALL: [Self; 18] = [
        Self::StatusFrozenWhenSelected,
        Self::NoFlagsInIdle,
        Self::ExistsBeforeContinuation,
        Self::ByeAfter30Min,
        Self::ByeAfterLogin,
        Self::SilentDrop,
        Self::EsearchCountTotal,
        Self::NotificationOverflow,
        Self::NotifyDeafAfterRotation,
        Self::NotifyWithoutUnseen,
        Self::StatusInUnselectedIdle,
        Self::UserIpLimit,
        Self::AuthPenalty,
        Self::UidValidityBump,
        Self::InboxMissingUntilAsked,
        Self::DuplicateStatus,
        Self::KeepaliveBurst,
        Self::MassDisconnect,
    ];

    /// Its name on the command line and in the control API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StatusFrozenWhenSelected => "status-frozen-when-selected",
            Self::NoFlagsInIdle => "no-flags-in-idle",
            Self::ExistsBeforeContinuation => "exists-before-continuation",
            Self::ByeAfter30Min => "bye-after-30-min",
            Self::ByeAfterLogin => "bye-after-login",
            Self::SilentDrop => "silent-drop",
            Self::EsearchCountTotal => "esearch-count-total",
            Self::NotificationOverflow => "notification-overflow",
            Self::NotifyDeafAfterRotation => "notify-deaf-after-rotation",
            Self::NotifyWithoutUnseen => "notify-without-unseen",
            Self::StatusInUnselectedIdle => "status-in-unselected-idle",
            Self::UserIpLimit => "userip-limit",
            Self::AuthPenalty => "auth-penalty",
            Self::UidValidityBump => "uidvalidity-bump",
            Self::InboxMissingUntilAsked => "inbox-missing-until-asked",
            Self::DuplicateStatus => "duplicate-status",
            Self::KeepaliveBurst => "keepalive-burst",
            Self::MassDisconnect => "mass-disconnect",
        }
    }

    /// Whether switching it on does something once and leaves nothing switched on.
    pub const fn acts_once(self) -> bool {
        matches!(self, Self::UidValidityBump | Self::MassDisconnect)
    }
}

/// A name that is none of [`Quirk::ALL`].
#[derive(Debug, Error, PartialEq, Eq)]
#[error("unknown quirk {0:?}; known are {known}", known = Quirk::ALL.map(Quirk::name).join(", "))]
pub struct UnknownQuirk(pub String);

impl FromStr for Quirk {
    type Err = UnknownQuirk;

    fn from_str(name: &str) -> Result<Self, UnknownQuirk> {
        Self::ALL.into_iter().find(|quirk| quirk.name() == name).ok_or_else(|| UnknownQuirk(name.to_owned()))
    }
}

impl fmt::Display for Quirk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of quirks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks(u32);

impl Quirks {
    /// Whether this one is in the set.
    pub const fn has(self, quirk: Quirk) -> bool {
        self.0 & (1 << quirk as u32) != 0
    }

    /// Switches one on or off.
    pub const fn set(&mut self, quirk: Quirk, on: bool) {
        if on {
            self.0 |= 1 << quirk as u32;
        } else {
            self.0 &= !(1 << quirk as u32);
        }
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are on, in the order of [`Quirk::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Quirk> {
        Quirk::ALL.into_iter().filter(move |quirk| self.has(*quirk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quirk_is_found_by_its_name_and_has_a_bit_of_its_own() {
        let mut all = Quirks::default();
        for quirk in Quirk::ALL {
            assert_eq!(quirk.name().parse(), Ok(quirk));
            assert!(!all.has(quirk), "{quirk} shares its bit");
            all.set(quirk, true);
        }
        assert_eq!(all.iter().count(), Quirk::ALL.len());
        assert!("no-such-quirk".parse::<Quirk>().is_err());
    }
}
