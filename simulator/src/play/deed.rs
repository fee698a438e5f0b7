//! One thing that is done in a story, and how it is written: a word and what it is about.

use crate::peers::fault::Order;
use crate::peers::mail_store::Quirk;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

/// Something that users, mail host, relay or machine do. Mailboxes and devices by number, from 0.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// A message arrives.
    Deliver(usize),
    /// The oldest unseen message is read.
    Read(usize),
    /// All are marked read.
    ReadAll(usize),
    /// The newest message is marked unread.
    Unread(usize),
    /// The newest message is expunged.
    Expunge(usize),
    /// The newest message is moved to Trash.
    MoveOut(usize),
    /// The oldest message in Trash is moved back.
    MoveIn(usize),
    /// A device subscribes, or renews what it has, saying what it shows; for so long, where it says.
    Subscribe(usize, Option<Duration>),
    /// A device unsubscribes.
    Unsubscribe(usize),
    /// A device is no more, and nobody says so but the relay.
    DeviceGone(usize),
    /// The relay has this fault.
    Relay(Order),
    /// The token service has this fault.
    TokenService(Order),
    /// All connections of the mail host end at once.
    MassDisconnect,
    /// One mailbox's connection hangs: bytes vanish without an error.
    Hang(usize),
    /// The mail host is away for so long.
    SourceLost(Duration),
    /// UIDVALIDITY of a mailbox changes.
    BumpUidValidity(usize),
    /// The order of a mailbox's counts goes back: HIGHESTMODSEQ falls, and UIDVALIDITY too where this is true.
    OrderGoesBack(usize, bool),
    /// An oddity of the whole mail host is switched on or off.
    Quirk(Quirk, bool),
    /// The agent is stopped as its service manager stops it, and started.
    Restart,
    /// The agent is killed and starts again after so long.
    Kill(Duration),
    /// Its machine loses power: what was not forced to the disk is lost; it starts again after so long.
    PowerCut(Duration),
    /// The agent signs with another certificate at once; the relay learns of it after so long.
    RotateCertificate(Duration),
    /// The wall clock of the agent's machine is so far ahead from now on, in milliseconds; negative: behind.
    ClockJump(i64),
    /// Nothing can be written to the agent's disk for so long.
    DiskFull(Duration),
    /// Calls of the agent's store and notes are refused now and then, for so long.
    DiskFails(Duration),
    /// The agent is killed in its call of store or notes after so many more, and starts again after so long.
    KillAtCall(u32, Duration),
    /// Its machine loses power in that call.
    PowerCutAtCall(u32, Duration),
}

impl Deed {
    /// Whether it is a fault, not something that users do or a sound mail host does.
    pub const fn is_fault(&self) -> bool {
        !matches!(
            self,
            Self::Deliver(_)
                | Self::Read(_)
                | Self::ReadAll(_)
                | Self::Unread(_)
                | Self::Expunge(_)
                | Self::MoveOut(_)
                | Self::MoveIn(_)
                | Self::Subscribe(..)
                | Self::Unsubscribe(_)
                | Self::BumpUidValidity(_)
        )
    }

    /// The same, made simpler, simplest last: for whoever looks for the least that still fails.
    pub fn simpler(&self) -> Vec<Self> {
        let shorter = |span: &Duration, of: fn(Duration) -> Self| {
            let halves = [*span / 2, *span / 8];
            halves.into_iter().filter(|half| half.as_millis() > 0).map(of).collect()
        };
        match self {
            Self::Subscribe(device, Some(_)) => vec![Self::Subscribe(*device, None)],
            Self::Kill(pause) => shorter(pause, Self::Kill),
            Self::PowerCut(pause) => [vec![Self::Kill(*pause)], shorter(pause, Self::PowerCut)].concat(),
            Self::SourceLost(span) => shorter(span, Self::SourceLost),
            Self::DiskFull(span) => shorter(span, Self::DiskFull),
            Self::DiskFails(span) => shorter(span, Self::DiskFails),
            Self::PowerCutAtCall(calls, pause) => vec![Self::KillAtCall(*calls, *pause)],
            Self::RotateCertificate(span) => shorter(span, Self::RotateCertificate),
            Self::Relay(order) if order.rate < 1.0 => vec![Self::Relay(Order { rate: 1.0, ..order.clone() })],
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = Duration::as_millis;
        match self {
            Self::Deliver(mailbox) => write!(f, "deliver {mailbox}"),
            Self::Read(mailbox) => write!(f, "read {mailbox}"),
            Self::ReadAll(mailbox) => write!(f, "read-all {mailbox}"),
            Self::Unread(mailbox) => write!(f, "unread {mailbox}"),
            Self::Expunge(mailbox) => write!(f, "expunge {mailbox}"),
            Self::MoveOut(mailbox) => write!(f, "move-out {mailbox}"),
            Self::MoveIn(mailbox) => write!(f, "move-in {mailbox}"),
            Self::Subscribe(device, None) => write!(f, "subscribe {device}"),
            Self::Subscribe(device, Some(life)) => write!(f, "subscribe {device} {}ms", ms(life)),
            Self::Unsubscribe(device) => write!(f, "unsubscribe {device}"),
            Self::DeviceGone(device) => write!(f, "device-gone {device}"),
            Self::Relay(order) => {
                write!(f, "relay {}", serde_json::to_string(order).map_err(|_| fmt::Error)?)
            }
            Self::TokenService(order) => {
                write!(f, "token-service {}", serde_json::to_string(order).map_err(|_| fmt::Error)?)
            }
            Self::MassDisconnect => f.write_str("mass-disconnect"),
            Self::Hang(mailbox) => write!(f, "hang {mailbox}"),
            Self::SourceLost(span) => write!(f, "source-lost {}ms", ms(span)),
            Self::OrderGoesBack(mailbox, false) => write!(f, "order-goes-back {mailbox}"),
            Self::OrderGoesBack(mailbox, true) => write!(f, "uidvalidity-goes-back {mailbox}"),
            Self::BumpUidValidity(mailbox) => write!(f, "bump-uidvalidity {mailbox}"),
            Self::Quirk(quirk, is_on) => write!(f, "quirk-{} {quirk}", if *is_on { "on" } else { "off" }),
            Self::Restart => f.write_str("restart"),
            Self::Kill(pause) => write!(f, "kill {}ms", ms(pause)),
            Self::PowerCut(pause) => write!(f, "power-cut {}ms", ms(pause)),
            Self::RotateCertificate(span) => write!(f, "rotate-certificate {}ms", ms(span)),
            Self::ClockJump(ahead) => write!(f, "clock-jump {ahead}ms"),
            Self::DiskFull(span) => write!(f, "disk-full {}ms", ms(span)),
            Self::DiskFails(span) => write!(f, "disk-fails {}ms", ms(span)),
            Self::KillAtCall(calls, pause) => write!(f, "kill-at-call {calls} {}ms", ms(pause)),
            Self::PowerCutAtCall(calls, pause) => write!(f, "power-cut-at-call {calls} {}ms", ms(pause)),
        }
    }
}

/// A line that tells no deed.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no deed: expected a word like `deliver` and what it is about")]
pub struct NoDeed(pub String);

impl FromStr for Deed {
    type Err = NoDeed;

    fn from_str(line: &str) -> Result<Self, NoDeed> {
        deed(line).ok_or_else(|| NoDeed(line.to_owned()))
    }
}

fn deed(text: &str) -> Option<Deed> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let number = || rest.parse::<usize>().ok();
    Some(match word {
        "deliver" => Deed::Deliver(number()?),
        "read" => Deed::Read(number()?),
        "read-all" => Deed::ReadAll(number()?),
        "unread" => Deed::Unread(number()?),
        "expunge" => Deed::Expunge(number()?),
        "move-out" => Deed::MoveOut(number()?),
        "move-in" => Deed::MoveIn(number()?),
        "subscribe" => match rest.split_once(' ') {
            None => Deed::Subscribe(number()?, None),
            Some((device, time)) => Deed::Subscribe(device.parse().ok()?, Some(span(time)?)),
        },
        "unsubscribe" => Deed::Unsubscribe(number()?),
        "device-gone" => Deed::DeviceGone(number()?),
        _ => return trouble(word, rest),
    })
}

fn trouble(word: &str, rest: &str) -> Option<Deed> {
    Some(match word {
        "relay" => Deed::Relay(serde_json::from_str(rest).ok()?),
        "token-service" => Deed::TokenService(serde_json::from_str(rest).ok()?),
        "mass-disconnect" => Deed::MassDisconnect,
        "hang" => Deed::Hang(rest.parse().ok()?),
        "source-lost" => Deed::SourceLost(span(rest)?),
        "order-goes-back" => Deed::OrderGoesBack(rest.parse().ok()?, false),
        "uidvalidity-goes-back" => Deed::OrderGoesBack(rest.parse().ok()?, true),
        "bump-uidvalidity" => Deed::BumpUidValidity(rest.parse().ok()?),
        "quirk-on" => Deed::Quirk(rest.parse().ok()?, true),
        "quirk-off" => Deed::Quirk(rest.parse().ok()?, false),
        "restart" => Deed::Restart,
        "kill" => Deed::Kill(span(rest)?),
        "power-cut" => Deed::PowerCut(span(rest)?),
        "rotate-certificate" => Deed::RotateCertificate(span(rest)?),
        "clock-jump" => Deed::ClockJump(rest.strip_suffix("ms")?.parse().ok()?),
        "disk-full" => Deed::DiskFull(span(rest)?),
        "disk-fails" => Deed::DiskFails(span(rest)?),
        "kill-at-call" => {
            let (calls, pause) = at_call(rest)?;
            Deed::KillAtCall(calls, pause)
        }
        "power-cut-at-call" => {
            let (calls, pause) = at_call(rest)?;
            Deed::PowerCutAtCall(calls, pause)
        }
        _ => return None,
    })
}

/// `3 1500ms`
fn at_call(text: &str) -> Option<(u32, Duration)> {
    let (calls, pause) = text.split_once(' ')?;
    Some((calls.parse().ok()?, span(pause)?))
}

/// `1500ms`
fn span(text: &str) -> Option<Duration> {
    Some(Duration::from_millis(text.strip_suffix("ms")?.parse().ok()?))
}
