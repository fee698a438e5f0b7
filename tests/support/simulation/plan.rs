//! What happens in a story, as data drawn from the seed: who there is, what users do, what goes wrong and when it stops.

use mailbadge::source::imap::Watch;
use mailbadge_sim::peers::fault::{Kind, Order};
use std::time::Duration;

/// Faults and users' doings end by then; what follows is waiting for the truth.
pub const TROUBLE: Duration = Duration::from_mins(8);
/// How long after the last fault a device may show something else than the truth. The longest chain: a black-holed
/// NOTIFY connection is found by its next re-arming (2 min + 30 s for the answer), the log-in then waits out the
/// governor's longest back-off (2 min), a visit before it may hang as long as a log-in may (30 s); a batch under way
/// hangs for its whole time-out (10 s), the relay is then left alone for the longest wait a fault asked for (1 min), and
/// a token for the longest gap between two attempts (1 min); a sweep finds what no source told (2 min, jittered up to
/// its double). Together under 12 min.
pub const BOUND: Duration = Duration::from_mins(12);

/// Where counts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A connection for each mailbox.
    Imap(Watch),
    /// Events with MODSEQ, late, out of order and lossy; IMAP only sweeps.
    EventsAndSweep,
}

/// Something that happens at a time of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// A message arrives.
    Deliver(usize),
    /// The oldest unseen message is read.
    Read(usize),
    /// The newest message is marked unread.
    Unread(usize),
    /// All are marked read.
    ReadAll(usize),
    /// The newest message is expunged.
    Expunge(usize),
    /// A device subscribes or renews, saying what it shows.
    Subscribe(usize),
    /// A device unsubscribes.
    Unsubscribe(usize),
    /// The relay has this fault for a while.
    Fault(Order),
    /// All IMAP connections end at once.
    MassDisconnect,
    /// One mailbox's connection hangs: bytes vanish without an error.
    Hang(usize),
    /// UIDVALIDITY changes.
    BumpUidValidity(usize),
    /// The agent is killed and starts again after so long.
    Kill(Duration),
}

/// A whole story before it is told.
#[derive(Clone, Debug)]
pub struct Plan {
    /// All randomness comes from here.
    pub seed: u64,
    /// Mailboxes.
    pub mailboxes: usize,
    /// Devices; device `i` belongs to mailbox `i % mailboxes`.
    pub devices: usize,
    /// Where counts come from.
    pub source: Source,
    /// Whether the relay reports (`Prefer: return=representation`).
    pub is_reporting: bool,
    /// Chance of a lost packet on the way to the relay and back, in percent each.
    pub loss_percent: u32,
    /// What happens when, in order.
    pub deeds: Vec<(Duration, Deed)>,
}

impl Plan {
    /// Draws the story of this seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x706c_616e);
        let mailboxes = rng.usize(1..=5);
        let devices = mailboxes * rng.usize(1..=2);
        let sources = [
            Source::Imap(Watch::Notify),
            Source::Imap(Watch::Idle),
            Source::Imap(Watch::Poll),
            Source::EventsAndSweep,
        ];
        let source = sources.get(rng.usize(..sources.len())).copied().unwrap_or(Source::EventsAndSweep);
        let count = rng.usize(20..=120);
        let mut deeds: Vec<(Duration, Deed)> =
            (0..count).map(|_| (at(&mut rng), deed(&mut rng, mailboxes, devices))).collect();
        deeds.sort_by_key(|(at, _)| *at);
        let (is_reporting, loss_percent) = (rng.bool(), if rng.bool() { rng.u32(0..20) } else { 0 });
        Self { seed, mailboxes, devices, source, is_reporting, loss_percent, deeds }
    }
}

/// In bursts: deeds fall into a few seconds as often as anywhere.
fn at(rng: &mut fastrand::Rng) -> Duration {
    let trouble = TROUBLE.as_micros() as u64;
    if rng.bool() {
        Duration::from_micros(rng.u64(0..trouble))
    } else {
        let burst = rng.u64(0..8) * (trouble / 8);
        Duration::from_micros(burst + rng.u64(0..2_000_000))
    }
}

fn deed(rng: &mut fastrand::Rng, mailboxes: usize, devices: usize) -> Deed {
    let (mailbox, device) = (rng.usize(..mailboxes), rng.usize(..devices));
    match rng.u32(0..100) {
        0..35 => Deed::Deliver(mailbox),
        35..55 => Deed::Read(mailbox),
        55..62 => Deed::Unread(mailbox),
        62..67 => Deed::ReadAll(mailbox),
        67..72 => Deed::Expunge(mailbox),
        72..78 => Deed::Subscribe(device),
        78..81 => Deed::Unsubscribe(device),
        81..92 => Deed::Fault(fault(rng)),
        92..94 => Deed::MassDisconnect,
        94..96 => Deed::Hang(mailbox),
        96..97 => Deed::BumpUidValidity(mailbox),
        _ => Deed::Kill(Duration::from_millis(rng.u64(1..20_000))),
    }
}

fn fault(rng: &mut fastrand::Rng) -> Order {
    let seconds = rng.u32(1..60);
    let kinds = [
        Kind::Refuse,
        Kind::Reset,
        Kind::BlackHole,
        Kind::Delay { ms: rng.u64(1..8_000) },
        Kind::Cut { after_bytes: rng.u32(0..50) },
        Kind::Unauthorized,
        Kind::BackOff { ms: u64::from(seconds) * 1000 },
        Kind::CanRetry,
        Kind::TooLarge,
        Kind::TooManyRequests { retry_after_s: seconds },
        Kind::Unavailable { retry_after_s: seconds },
        Kind::Internal,
        Kind::Html { status: 502 },
        Kind::AnswerLost,
        Kind::Duplicate,
        Kind::OverBudget,
    ];
    let kind = kinds.get(rng.usize(..kinds.len())).cloned().unwrap_or(Kind::Internal);
    let duration_ms = Some(rng.u64(100..40_000));
    Order { kind, rate: if rng.bool() { 1.0 } else { rng.f64() }, duration_ms, count: None }
}
