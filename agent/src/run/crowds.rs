//! Who closes its oldest connections since more are held than it may hold: told for a while after it happened, so that a
//! person who asks hears of it. Nothing is wrong yet for devices, so that it is a notice and no reason to be unready.

use crate::counters::Count;
use crate::time::Moment;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// For so long after the last one it is told.
const TOLD_FOR: Duration = Duration::from_mins(1);

/// What is known of each that closed connections, by its name.
#[derive(Debug, Default)]
pub(super) struct Crowds {
    listeners: Mutex<Vec<(&'static str, Arc<Count>)>>,
    seen: Mutex<BTreeMap<String, Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    closed: u64,
    last: Option<Moment>,
}

impl Crowds {
    /// A listener, by the key of the configuration that says where, and what it counts.
    pub(super) fn add(&self, key: &'static str, evicted: Arc<Count>) {
        self.listeners.lock().push((key, evicted));
    }

    /// Looks at the listeners and at `sources`, each with how many connections it closed to make room, and returns a sentence
    /// for each that did so lately.
    pub(super) fn look(&self, sources: impl IntoIterator<Item = (String, u64)>, now: Moment) -> Vec<String> {
        let listeners: Vec<(String, u64)> =
            self.listeners.lock().iter().map(|(key, count)| ((*key).to_owned(), count.get())).collect();
        let mut seen = self.seen.lock();
        let mut told = Vec::new();
        for (name, closed) in listeners.into_iter().chain(sources) {
            let known = seen.entry(name.clone()).or_default();
            if std::mem::replace(&mut known.closed, closed) < closed {
                if known.last.is_none_or(|last| now.since(last) > TOLD_FOR) {
                    tracing::warn!(name, "more connections than it may hold; the oldest are closed");
                }
                known.last = Some(now);
            }
            if known.last.is_some_and(|last| now.since(last) <= TOLD_FOR) {
                told.push(format!(
                    "{name}: more connections than it may hold, so that the oldest are closed ({closed} so far); look who \
                     holds them (ss -xp, ss -tnp)"
                ));
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_closed_connections_is_told_for_a_while() {
        let (crowds, evicted) = (Crowds::default(), Arc::new(Count::default()));
        crowds.add("admin.listen", Arc::clone(&evicted));
        let at = |seconds| Moment::START.after(Duration::from_secs(seconds));
        let dict = |closed| [("dovecot".to_owned(), closed)];
        assert_eq!(crowds.look(dict(0), at(1)), [""; 0]);
        evicted.one();
        let told = crowds.look(dict(0), at(2));
        assert!(told.len() == 1 && told[0].starts_with("admin.listen: more connections"), "{told:?}");
        assert_eq!(crowds.look(dict(7), at(50)).len(), 2);
        let told = crowds.look(dict(7), at(100));
        assert!(told.len() == 1 && told[0].contains("dovecot") && told[0].contains("(7 so far)"), "{told:?}");
        assert_eq!(crowds.look(dict(7), at(200)), [""; 0]);
    }
}
