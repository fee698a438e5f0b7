//! Which troubles of sources the log has: a line where one begins, changes or ends, and not more of them than people read.
//! What is wrong is the sources' own to say.

use super::sources::SourceSnapshot;
use crate::time::Moment;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often the sources are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two lines about one source, shortest.
const REST: Duration = Duration::from_secs(10);

/// What the log says of the sources.
#[derive(Default)]
pub(super) struct TroubleLog(Mutex<State>);

#[derive(Default)]
struct State {
    looked_at: Option<Moment>,
    /// The last line about each source that ever had trouble, and when it was written.
    lines: BTreeMap<String, (Option<String>, Moment)>,
}

impl TroubleLog {
    /// Logs what changed since the last time.
    pub(super) fn look(&self, sources: impl FnOnce() -> Vec<SourceSnapshot>, now: Moment) {
        let mut state = self.0.lock();
        if state.looked_at.is_some_and(|at| now.since(at) < LOOK_EVERY) {
            return;
        }
        state.looked_at = Some(now);
        for SourceSnapshot { name, trouble, .. } in sources() {
            if !state.is_news(&name, trouble.as_deref(), now) {
                continue;
            }
            if let Some(trouble) = trouble {
                // It begins with the source's name.
                tracing::warn!("{trouble}");
            } else {
                tracing::info!("source {name}: all is well again");
            }
        }
    }
}

impl State {
    /// Whether the log should say so now; then that is what it says.
    fn is_news(&mut self, name: &str, trouble: Option<&str>, now: Moment) -> bool {
        let is_news = match self.lines.get(name) {
            None => trouble.is_some(),
            Some((said, at)) => said.as_deref() != trouble && now.since(*at) >= REST,
        };
        if is_news {
            self.lines.insert(name.to_owned(), (trouble.map(str::to_owned), now));
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_logged_when_it_begins_changes_and_ends_and_not_more_often_than_people_read() {
        let mut state = State::default();
        let mut now = Moment::START;
        let steps = [
            (0, None, false),
            (0, Some("silent"), true),
            (1, Some("silent"), false),
            (1, None, false),
            (1, Some("silent"), false),
            (9, Some("refused"), true),
            (1, None, false),
            (10, None, true),
            (20, None, false),
        ];
        for (seconds, trouble, is_logged) in steps {
            now = now.after(Duration::from_secs(seconds));
            assert_eq!(state.is_news("imap", trouble, now), is_logged, "{trouble:?} at {now:?}");
        }
    }
}
