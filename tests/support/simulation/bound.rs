//! How long after the last fault a device may show something else than the truth: sums of what the agent and its mail
//! host wait for, each named. The figures stand here once more, apart from the agent's own: a wait that grows there breaks a
//! story here.

use super::cloud;
use mailbadge_sim::peers::fault::Kind;
use mailbadge_sim::peers::mail_store::Quirk;
use mailbadge_sim::play::{Deed, Plan, Telling};
use mailbadge_sim::world::Weather;
use std::time::Duration;

/// Longest time between two reconciling reads of a mailbox.
pub const SWEEP: Duration = Duration::from_mins(2);
/// Longest time until NOTIFY or IDLE is armed anew.
pub const REARM: Duration = Duration::from_mins(2);
/// Time between two visits where a mailbox is polled.
pub const POLL: Duration = Duration::from_secs(20);
/// What a command or a log-in may take before its connection is given up.
const COMMAND: Duration = Duration::from_secs(30);
/// Longest back-off of a log-in after a connection was lost.
const LOGIN_WAIT: Duration = Duration::from_mins(2);
/// The longest wait that a fault in a plan asks for, and until a halted relay is tried again (protocol.md §1.6).
const LEFT_ALONE: Duration = Duration::from_mins(1);
/// The longest back-off (protocol.md §1.6).
const BACK_OFF: Duration = Duration::from_mins(1);
/// The longest time between two attempts at a token.
const TOKEN_GAP: Duration = Duration::from_mins(1);
/// For how long no limit of the mail server is supposed after one that did not prove true: mailboxes that it turns away
/// are named as unknown meanwhile.
const DOUBTED: Duration = Duration::from_mins(10);
/// How long a device or a notification that the relay called invalid is put aside (protocol.md §1.6).
const ASIDE: Duration = Duration::from_hours(1);
/// Until a service manager has started the agent again, however often that failed.
pub const START_AGAIN: Duration = Duration::from_secs(5);
/// How often the ledger looks.
pub const TICK: Duration = Duration::from_millis(250);
/// How long after a refused call of its store the agent may put off what depends on it: a certificate is read again.
pub const READ_AGAIN: Duration = Duration::from_secs(10);
/// How long a mailbox that nobody subscribes to may keep its connection.
pub const LET_GO: Duration = Duration::from_secs(10);
/// How often expired subscriptions are looked for.
pub const EXPIRE_EVERY: Duration = Duration::from_mins(1);
/// Holding, latencies, the mail server's window of merging: seconds, taken together.
const HOLD: Duration = Duration::from_secs(10);

/// For how long the agent may believe something wrong of a mailbox without saying that it does not know: two sweep periods,
/// or its turn after a start; and an answer that was on its way when the count changed.
pub const SILENCE: Duration = Duration::from_secs(2 * 120 + 60 + 30 + 10);

/// From a correction of the sweep until its mailbox is asked again: the agent divides its interval by 4, by 2 where others
/// were read meanwhile. One that does not hurry takes four fifths of it at least.
pub const CORRECTION: Duration = Duration::from_secs(120 * 3 / 4);

/// The bound for the end of this plan.
///
/// To notice that a connection is dead: its next arming and an answer that does not come. To have another one: a log-in
/// that waits out its back-off, one more that hangs and waits again. Then a sweep finds what no source told. To send it: a
/// batch under way hangs for its time-out, the relay asked for a wait or halted us, the token is got after the longest gap,
/// once more because its first answer was refused, and after the longest back-off.
pub fn of(plan: &Plan) -> Duration {
    if plan.faults() == 0 && plan.weather == Weather::default() && plan.events == (0, 0) {
        return calm(plan.telling);
    }
    let source = SWEEP + POLL + HOLD;
    let connection = REARM + COMMAND + 2 * (LOGIN_WAIT + COMMAND);
    let relay = cloud::TIMEOUT + LEFT_ALONE + 2 * TOKEN_GAP + BACK_OFF;
    let full = if plan.deeds.iter().any(|(_, deed)| limits(deed)) { DOUBTED } else { Duration::ZERO };
    let again = if plan.deeds.iter().any(|(_, deed)| puts_aside(deed)) { ASIDE } else { Duration::ZERO };
    START_AGAIN + connection + source + relay + full + again
}

/// Where nothing fails no count waits for a sweep: it is told, or found by the next visit. But IDLE: what comes and goes
/// within the server's window is told to nobody.
fn calm(telling: Telling) -> Duration {
    match telling {
        Telling::Events | Telling::Notify => HOLD,
        Telling::Idle => SWEEP + HOLD,
        Telling::Poll => POLL + HOLD,
    }
}

/// Whether the mail server lets in fewer sessions than there are mailboxes from now on.
fn limits(deed: &Deed) -> bool {
    matches!(deed, Deed::Quirk(Quirk::ConnectionLimit, true))
}

/// Whether the relay may call a device or a notification invalid because of this: then nothing is sent to it for
/// [`ASIDE`] unless its mailbox changes.
fn puts_aside(deed: &Deed) -> bool {
    match deed {
        Deed::Relay(order) => matches!(order.kind, Kind::BadRequest | Kind::ClockOffset { .. }),
        Deed::ClockJump(_) => true,
        _ => false,
    }
}
