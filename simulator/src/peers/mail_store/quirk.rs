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
    /// The continuation that begins IDLE is `+idling`, without the space.
    ContinuationUnspaced,
    /// STATUS has more spaces than the grammar, where differs from line to line.
    StatusSpaced,
    /// The server as a whole lets in half as many sessions as it has mailboxes; a further log-in is refused after the
    /// password, or cut off, or never answered.
    ConnectionLimit,
    /// The same NOTIFY SET again on a live connection switches pushes off, but for a look every 30 s; the next one on.
    NotifyRearmToggles,
    /// A selected mailbox's view stays as it is until NOOP or a push: SEARCH and STATUS miss what is newer.
    FrozenView,
    /// IDLE reports only changes made after it began, none of those since the last command.
    IdleForgetsGap,
    /// IDLE with INBOX selected pushes STATUS of it beside EXISTS, EXPUNGE and FETCH.
    StatusInIdle,
    /// A SEARCH that finds nothing is answered by its tagged OK alone.
    SearchEmptySilent,
    /// A SEARCH is answered in several untagged lines, whatever RETURN asked for.
    SearchInPieces,
    /// IDLE is answered by BYE.
    ByeAtIdle,
    /// IDLE is never answered by a continuation.
    IdleNeverBegins,
    /// DONE is answered without a tag.
    DoneUntagged,
    /// Acts once: HIGHESTMODSEQ of INBOX falls, as after its index files were deleted, while UIDVALIDITY stays.
    OrderGoesBack,
    /// AUTHENTICATE PLAIN is offered and not understood; LOGIN works.
    PlainNotUnderstood,
    /// No mailbox is selected or looked at before the client sent ID.
    IdDemanded,
    /// CAPABILITY is refused, and capabilities are announced nowhere.
    CapabilityRefused,
    /// The greeting is PREAUTH: the client is logged in as the first mailbox, whosever it wants.
    Preauth,
    /// The master user's name goes first, a backslash behind it: `agent\user1`. The other forms are refused.
    DelegateFirst,
    /// Changes are told to a dict server as Dovecot 2.2.36 – 2.3.16 tells them: a connection is one user's.
    DictV2,
    /// As Dovecot 2.3.17 – 2.3.21 does, which is what is spoken without a quirk.
    DictV3,
    /// As Dovecot 2.4 does.
    DictV4,
    /// What is told to a dict server is sometimes overtaken by what was told after it.
    DictOutOfOrder,
    /// Users are reported to a dict server with their domain in capitals.
    DictDomainInCapitals,
    /// Of the datagrams that Cyrus sends, a third is lost.
    CyrusLostDatagrams,
    /// Acts once: every session ends at this instant, half of them without BYE.
    MassDisconnect,
}

/// What tells the agent of changes, where the server does not wait to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notifier {
    /// Dovecot, to a dict server.
    Dict,
    /// Cyrus, to a notify socket.
    Cyrus,
}

/// The dialects of a dict: one is spoken at a time.
const DIALECTS: [Quirk; 3] = [Quirk::DictV2, Quirk::DictV3, Quirk::DictV4];

impl Quirk {
    /// All of them, in the order of sources.md §7.
    pub const ALL: [Self; 42] = [
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
        Self::ContinuationUnspaced,
        Self::StatusSpaced,
        Self::ConnectionLimit,
        Self::NotifyRearmToggles,
        Self::FrozenView,
        Self::IdleForgetsGap,
        Self::StatusInIdle,
        Self::SearchEmptySilent,
        Self::SearchInPieces,
        Self::ByeAtIdle,
        Self::IdleNeverBegins,
        Self::DoneUntagged,
        Self::OrderGoesBack,
        Self::PlainNotUnderstood,
        Self::IdDemanded,
        Self::CapabilityRefused,
        Self::Preauth,
        Self::DelegateFirst,
        Self::DictV2,
        Self::DictV3,
        Self::DictV4,
        Self::DictOutOfOrder,
        Self::DictDomainInCapitals,
        Self::CyrusLostDatagrams,
        Self::MassDisconnect,
    ];

    /// Those of the IMAP server, in the same order.
    pub fn of_imap() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|quirk| quirk.notifier().is_none())
    }

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
            Self::ContinuationUnspaced => "continuation-unspaced",
            Self::StatusSpaced => "status-spaced",
            Self::ConnectionLimit => "connection-limit",
            Self::NotifyRearmToggles => "notify-rearm-toggles",
            Self::FrozenView => "frozen-view",
            Self::IdleForgetsGap => "idle-forgets-gap",
            Self::StatusInIdle => "status-in-idle",
            Self::SearchEmptySilent => "search-empty-silent",
            Self::SearchInPieces => "search-in-pieces",
            Self::ByeAtIdle => "bye-at-idle",
            Self::IdleNeverBegins => "idle-never-begins",
            Self::DoneUntagged => "done-untagged",
            Self::OrderGoesBack => "order-goes-back",
            Self::PlainNotUnderstood => "plain-not-understood",
            Self::IdDemanded => "id-demanded",
            Self::CapabilityRefused => "capability-refused",
            Self::Preauth => "preauth",
            Self::DelegateFirst => "delegate-first",
            Self::DictV2 => "dict-v2",
            Self::DictV3 => "dict-v3",
            Self::DictV4 => "dict-v4",
            Self::DictOutOfOrder => "dict-out-of-order",
            Self::DictDomainInCapitals => "dict-domain-in-capitals",
            Self::CyrusLostDatagrams => "cyrus-lost-datagrams",
            Self::MassDisconnect => "mass-disconnect",
        }
    }

    /// Whether switching it on does something once and leaves nothing switched on.
    pub const fn acts_once(self) -> bool {
        matches!(self, Self::UidValidityBump | Self::OrderGoesBack | Self::MassDisconnect)
    }

    /// Who must be there for it to do anything; `None` for a quirk of the IMAP server.
    pub const fn notifier(self) -> Option<Notifier> {
        match self {
            Self::DictV2
            | Self::DictV3
            | Self::DictV4
            | Self::DictOutOfOrder
            | Self::DictDomainInCapitals => Some(Notifier::Dict),
            Self::CyrusLostDatagrams => Some(Notifier::Cyrus),
            _ => None,
        }
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
pub struct Quirks(u64);

impl Quirks {
    /// Whether this one is in the set.
    pub const fn has(self, quirk: Quirk) -> bool {
        self.0 & (1 << quirk as u64) != 0
    }

    /// Switches one on or off. A dialect of the dict that is switched on takes the place of another.
    pub fn set(&mut self, quirk: Quirk, on: bool) {
        if on && DIALECTS.contains(&quirk) {
            self.forget(&DIALECTS);
        }
        if on {
            self.0 |= 1 << quirk as u64;
        } else {
            self.forget(&[quirk]);
        }
    }

    /// Both sets together; where this one names a dialect of the dict, that of `wider` does not count.
    #[must_use]
    pub fn over(self, mut wider: Self) -> Self {
        if DIALECTS.into_iter().any(|dialect| self.has(dialect)) {
            wider.forget(&DIALECTS);
        }
        Self(self.0 | wider.0)
    }

    fn forget(&mut self, quirks: &[Quirk]) {
        for quirk in quirks {
            self.0 &= !(1 << *quirk as u64);
        }
    }

    /// Those that are on, in the order of [`Quirk::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Quirk> {
        Quirk::ALL.into_iter().filter(move |quirk| self.has(*quirk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(quirk: Quirk) -> Quirks {
        let mut only = Quirks::default();
        only.set(quirk, true);
        only
    }

    #[test]
    fn every_quirk_is_found_by_its_name_and_has_a_bit_of_its_own() {
        let mut all = Quirks::default();
        for quirk in Quirk::ALL {
            assert_eq!(quirk.name().parse(), Ok(quirk));
            assert!(!all.has(quirk), "{quirk} shares its bit");
            all = Quirks(all.0 | only(quirk).0);
            assert!(all.has(quirk));
        }
        assert_eq!(all.iter().count(), Quirk::ALL.len());
        assert_eq!(Quirk::of_imap().count(), Quirk::ALL.len() - 6);
        assert!("no-such-quirk".parse::<Quirk>().is_err());
    }

    #[test]
    fn one_dialect_is_spoken_at_a_time_and_a_mailbox_s_own_goes_before_the_host_s() {
        let mut own = only(Quirk::DictV2);
        own.set(Quirk::DictOutOfOrder, true);
        own.set(Quirk::DictV4, true);
        assert_eq!(own.iter().collect::<Vec<_>>(), [Quirk::DictV4, Quirk::DictOutOfOrder]);
        let everywhere = only(Quirk::DictV2);
        assert_eq!(own.over(everywhere), own);
        assert!(only(Quirk::SilentDrop).over(everywhere).has(Quirk::DictV2));
        own.set(Quirk::DictV4, false);
        assert!(own.over(everywhere).has(Quirk::DictV2));
    }
}
