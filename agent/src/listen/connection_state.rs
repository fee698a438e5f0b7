//! What a connection does now, until when it may, and which one makes room for another.
//!
//! A peer can hold a connection by sending nothing, half a head or half a body, and by not taking its answer. Each of
//! these has a limit in time, counted from its beginning and not from the last byte.

use super::limits::Limits;
use crate::time::Moment;

/// What a connection does. In the order of who makes room first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing has come since the last answer was sent.
    Idle,
    /// No whole head has come: since the connection was accepted, or since the head's first byte.
    Head,
    /// The answer is being sent.
    Answer,
    /// A request is being received or worked on.
    Work,
}

/// What a connection does, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionState {
    phase: Phase,
    since: Moment,
    /// All of the answer was handed over to be sent.
    is_answered: bool,
}

impl ConnectionState {
    /// Of a connection accepted at `now`.
    pub const fn accepted(now: Moment) -> Self {
        Self { phase: Phase::Head, since: now, is_answered: false }
    }

    /// What it does.
    pub const fn phase(self) -> Phase {
        self.phase
    }

    /// Bytes came from the peer.
    pub fn received(&mut self, now: Moment) {
        if self.phase == Phase::Idle {
            self.enter(Phase::Head, now);
        }
    }

    /// A whole head came.
    pub fn asked(&mut self, now: Moment) {
        self.enter(Phase::Work, now);
    }

    /// The answer's head is there.
    pub fn answering(&mut self, now: Moment) {
        self.enter(Phase::Answer, now);
    }

    /// The answer's last byte was handed over to be sent.
    pub fn answered(&mut self) {
        self.is_answered = self.phase == Phase::Answer;
    }

    /// The system took all that was handed over.
    pub fn flushed(&mut self, now: Moment) {
        if self.is_answered {
            self.enter(Phase::Idle, now);
        }
    }

    fn enter(&mut self, phase: Phase, now: Moment) {
        *self = Self { phase, since: now, is_answered: false };
    }

    /// When the connection is closed unless something happens.
    pub fn deadline(self, limits: &Limits) -> Moment {
        self.since.after(match self.phase {
            Phase::Idle => limits.idle_time,
            Phase::Head => limits.head_time,
            Phase::Answer => limits.answer_time,
            Phase::Work => limits.work_time,
        })
    }
}

/// Which connection makes room for a new one: the oldest of those that have no request under way; without such, the one
/// whose peer has left its answer lying longest; without such, the oldest.
pub fn makes_room<Id>(connections: impl Iterator<Item = (Id, ConnectionState)>) -> Option<Id> {
    // A half head is no request: who sends one and no more must not outlive an idle connection that came later.
    let rank = |phase| if phase == Phase::Head { Phase::Idle } else { phase };
    connections.min_by_key(|(_, state)| (rank(state.phase), state.since)).map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Moment {
        Moment::START.after(Duration::from_secs(seconds))
    }

    const LIMITS: Limits = Limits {
        head_time: Duration::from_secs(10),
        work_time: Duration::from_secs(30),
        answer_time: Duration::from_secs(40),
        idle_time: Duration::from_secs(75),
        ..Limits::of(4)
    };

    /// What happens to a connection, one second after the other.
    type Event = fn(&mut ConnectionState, Moment);

    const RECEIVED: Event = ConnectionState::received;
    const ASKED: Event = ConnectionState::asked;
    const ANSWERING: Event = ConnectionState::answering;
    const ANSWERED: Event = |state, _| state.answered();
    const FLUSHED: Event = ConnectionState::flushed;

    fn after(events: &[Event]) -> ConnectionState {
        let mut state = ConnectionState::accepted(at(0));
        for (second, event) in (1..).zip(events) {
            event(&mut state, at(second));
        }
        state
    }

    #[test]
    fn each_phase_ends_at_its_limit_counted_from_its_beginning() {
        let rows: [(&[Event], Phase, u64); 10] = [
            (&[], Phase::Head, 10),
            (&[RECEIVED, RECEIVED, RECEIVED], Phase::Head, 10),
            (&[FLUSHED], Phase::Head, 10),
            (&[ASKED, RECEIVED, FLUSHED], Phase::Work, 31),
            (&[ASKED, ANSWERING, FLUSHED], Phase::Answer, 42),
            (&[ASKED, ANSWERING, ANSWERED], Phase::Answer, 42),
            (&[ASKED, ANSWERING, ANSWERED, FLUSHED], Phase::Idle, 79),
            (&[ASKED, ANSWERING, ANSWERED, FLUSHED, RECEIVED, RECEIVED], Phase::Head, 15),
            (&[ASKED, ANSWERING, ANSWERED, FLUSHED, RECEIVED, ASKED], Phase::Work, 36),
            // A pipelined request: its head was there before the first answer was sent.
            (&[ASKED, ANSWERING, ANSWERED, ASKED, FLUSHED], Phase::Work, 34),
        ];
        for (events, phase, deadline) in rows {
            let state = after(events);
            assert_eq!((state.phase(), state.deadline(&LIMITS)), (phase, at(deadline)), "{events:?}");
        }
    }

    /// What a connection does, and since which second.
    type Row = (Phase, u64);

    #[test]
    fn the_oldest_without_a_request_makes_room_then_who_leaves_his_answer_then_the_oldest() {
        let rows: [(&[Row], Option<usize>); 7] = [
            (&[], None),
            (&[(Phase::Idle, 5), (Phase::Idle, 3), (Phase::Idle, 4)], Some(1)),
            (&[(Phase::Idle, 5), (Phase::Head, 3)], Some(1)),
            (&[(Phase::Idle, 3), (Phase::Head, 5)], Some(0)),
            (&[(Phase::Work, 1), (Phase::Answer, 2), (Phase::Idle, 9)], Some(2)),
            (&[(Phase::Work, 1), (Phase::Answer, 9), (Phase::Answer, 8)], Some(2)),
            (&[(Phase::Work, 7), (Phase::Work, 6)], Some(1)),
        ];
        for (connections, expected) in rows {
            let states = connections.iter().map(|&(phase, since)| {
                let mut state = ConnectionState::accepted(at(0));
                state.enter(phase, at(since));
                state
            });
            assert_eq!(makes_room(states.enumerate()), expected, "{connections:?}");
        }
    }
}
