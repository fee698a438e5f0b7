//! Which of a dict server's connections must end: the pure half of its limits. Any process that may open the socket can
//! hold connections and half lines; the mail server's next delivery must get in whatever they do.
//!
//! A mail process connects again when it next writes, so that ending an idle connection costs nothing. One that ends in the
//! midst of a commit costs one report, which the sweep makes good.

use crate::time::Moment;
use foldhash::HashMap;
use std::collections::BTreeSet;
use std::time::Duration;

/// For how long a conversation may be in the midst of a line or a transaction, or silent since it connected, without one
/// answer. Dovecot writes a whole transaction at once.
pub const UNFINISHED_MAX: Duration = Duration::from_secs(10);
/// Bytes of lines whose end has not come yet, all conversations together. Beyond it the oldest such conversation ends.
pub const UNFINISHED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How a conversation is after something was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Its client loses nothing if it ends now.
    pub is_idle: bool,
    /// Something was answered: a commit, mostly.
    pub has_answered: bool,
    /// Bytes of a line whose end has not come yet.
    pub unfinished: usize,
}

#[derive(Clone, Copy, Debug)]
struct Connection {
    /// Idle: when it last wrote. Else: when it connected, stopped being idle, or was last answered.
    since: Moment,
    is_idle: bool,
    unfinished: usize,
}

/// The connections of one source.
#[derive(Debug)]
pub struct ConnectionLimits {
    max: usize,
    connections: HashMap<u64, Connection>,
    /// Who leaves first: the idle, and of both kinds the oldest. A flood must not cost a walk for each that comes.
    order: BTreeSet<Place>,
    next_number: u64,
    unfinished: usize,
}

/// Whether it is in the midst of something, since when it is as it is, and its number.
type Place = (bool, Moment, u64);

impl ConnectionLimits {
    /// Lets in so many connections at once.
    pub fn new(max: usize) -> Self {
        Self { max, connections: HashMap::default(), order: BTreeSet::new(), next_number: 0, unfinished: 0 }
    }

    /// Somebody connected. Returns its number, and the connection that must end for it.
    pub fn opened(&mut self, now: Moment) -> (u64, Option<u64>) {
        let leaves = if self.connections.len() >= self.max { self.free_one() } else { None };
        let number = self.next_number;
        self.next_number += 1;
        self.connections.insert(number, Connection { since: now, is_idle: false, unfinished: 0 });
        self.order.insert((true, now, number));
        (number, leaves)
    }

    /// Something was read of this connection. Returns another one, or this one, that must end.
    pub fn received(&mut self, number: u64, activity: Activity, now: Moment) -> Option<u64> {
        let connection = self.connections.get_mut(&number)?;
        let former = connection.place(number);
        if activity.is_idle || activity.has_answered || connection.is_idle {
            connection.since = now;
        }
        connection.is_idle = activity.is_idle;
        let before = std::mem::replace(&mut connection.unfinished, activity.unfinished);
        let place = connection.place(number);
        if place != former {
            self.order.remove(&former);
            self.order.insert(place);
        }
        self.unfinished = self.unfinished + activity.unfinished - before;
        if self.unfinished <= UNFINISHED_BYTES_MAX {
            return None;
        }
        let oldest = self.busy().find(|number| self.has_unfinished(*number));
        oldest.inspect(|number| self.closed(*number));
        oldest
    }

    /// The connection that ends where no further one can be accepted: an idle one where there is one.
    pub fn free_one(&mut self) -> Option<u64> {
        let leaves = self.order.first().map(|(_, _, number)| *number);
        leaves.inspect(|number| self.closed(*number));
        leaves
    }

    /// Connections that were in the midst of something for longer than [`UNFINISHED_MAX`].
    pub fn overdue(&mut self, now: Moment) -> Vec<u64> {
        let busy = self.order.range((true, Moment::START, 0)..);
        let is_overdue = |place: &&Place| now.since(place.1) > UNFINISHED_MAX;
        let overdue: Vec<u64> = busy.take_while(is_overdue).map(|(_, _, number)| *number).collect();
        for number in &overdue {
            self.closed(*number);
        }
        overdue
    }

    /// The connection is over.
    pub fn closed(&mut self, number: u64) {
        if let Some(connection) = self.connections.remove(&number) {
            self.order.remove(&connection.place(number));
            self.unfinished -= connection.unfinished;
        }
    }

    /// Those in the midst of something, the oldest first.
    fn busy(&self) -> impl Iterator<Item = u64> + '_ {
        self.order.range((true, Moment::START, 0)..).map(|(_, _, number)| *number)
    }

    fn has_unfinished(&self, number: u64) -> bool {
        self.connections.get(&number).is_some_and(|connection| connection.unfinished > 0)
    }
}

impl Connection {
    fn place(&self, number: u64) -> Place {
        (!self.is_idle, self.since, number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Activity = Activity { is_idle: true, has_answered: true, unfinished: 0 };

    fn half_line(unfinished: usize) -> Activity {
        Activity { is_idle: false, has_answered: false, unfinished }
    }

    fn at(seconds: u64) -> Moment {
        Moment::START.after(Duration::from_secs(seconds))
    }

    #[test]
    fn the_idle_one_that_was_silent_longest_leaves_first_then_the_oldest_in_the_midst_of_something() {
        let mut limits = ConnectionLimits::new(3);
        assert_eq!((0..3).map(|second| limits.opened(at(second)).1).collect::<Vec<_>>(), [None; 3]);
        assert_eq!(limits.received(1, IDLE, at(5)), None);
        assert_eq!(limits.received(2, IDLE, at(4)), None);
        assert_eq!(limits.opened(at(6)), (3, Some(2)));
        assert_eq!(limits.opened(at(6)), (4, Some(1)));
        // None is idle now: the first has been silent since it connected.
        assert_eq!(limits.received(3, half_line(7), at(7)), None);
        assert_eq!(limits.opened(at(8)), (5, Some(0)));
        assert_eq!(limits.opened(at(8)), (6, Some(3)));
        assert_eq!(limits.unfinished, 0);
    }

    #[test]
    fn half_lines_and_silence_end_in_time_and_whoever_commits_stays() {
        let mut limits = ConnectionLimits::new(10);
        for _ in 0..4 {
            limits.opened(at(0));
        }
        limits.received(0, IDLE, at(1));
        limits.received(1, half_line(5), at(9));
        limits.received(2, Activity { has_answered: true, ..half_line(5) }, at(9));
        assert_eq!(limits.overdue(at(10)), [0_u64; 0]);
        let mut overdue = limits.overdue(at(11));
        overdue.sort_unstable();
        assert_eq!(overdue, [1, 3]);
        // An idle one that begins a line has its own time for it.
        limits.received(0, half_line(1), at(3600));
        assert_eq!(limits.overdue(at(3610)), [2]);
        assert_eq!(limits.overdue(at(3611)), [0]);
        assert_eq!(limits.unfinished, 0);
    }

    #[test]
    fn unfinished_lines_have_a_limit_together() {
        let mut limits = ConnectionLimits::new(10_000);
        let line = UNFINISHED_BYTES_MAX / 1000;
        let ended: Vec<u64> = (0..3000)
            .filter_map(|second| {
                let (number, _) = limits.opened(at(second));
                limits.received(number, half_line(line), at(second))
            })
            .collect();
        assert_eq!(ended, (0..2000).collect::<Vec<u64>>());
        assert!(limits.unfinished <= UNFINISHED_BYTES_MAX);
    }
}
