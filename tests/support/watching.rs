//! The IMAP source alone, watching mailboxes of a real Dovecot for a [`Recorder`], in a runtime of its own.

use crate::dovecot::{MASTER_PASSWORD, MASTER_USER};
use crate::process::wait_until;
use crate::recorder::Recorder;
use mailbadge::counters::SourceCounters;
use mailbadge::event::{MailboxId, Observer, SourceId};
use mailbadge::source::imap::driver::{ImapSource, start};
use mailbadge::source::imap::{Login, Settings, Watch};
use mailbadge::source::kind::Running;
use mailbadge::time::driver::Clock;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait until every mailbox is watched.
const LIMIT: Duration = Duration::from_mins(2);

/// A source that watches `u1`, `u2`, …; it stops when dropped.
pub struct Watching {
    runtime: tokio::runtime::Runtime,
    source: Option<ImapSource>,
    recorder: Arc<Recorder>,
    /// What the source counted.
    pub counters: Arc<SourceCounters>,
}

impl Watching {
    /// Starts it for so many users and waits until all are watched.
    pub fn start(settings: Settings, users: u32) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads for the source");
        let (recorder, counters) = (Arc::new(Recorder::default()), Arc::new(SourceCounters::default()));
        let inside = runtime.enter();
        let observer = Arc::clone(&recorder) as Arc<dyn Observer>;
        let source = start(settings, SourceId(0), observer, Clock::start(), counters.clone(), 1);
        drop(inside);
        let source = source.expect("settings of a test");
        (1..=users).for_each(|number| source.watch(MailboxId(number), &format!("u{number}").into()));
        let watching = Self { runtime, source: Some(source), recorder, counters };
        watching.wait_watched(users);
        watching
    }

    /// Waits until that many mailboxes are watched.
    pub fn wait_watched(&self, users: u32) {
        wait_until("all mailboxes watched", LIMIT, || {
            (self.counters.watched.get() == u64::from(users)).then_some(())
        });
    }

    /// The last count of `u<number>`.
    pub fn unseen(&self, number: u32) -> Option<u32> {
        self.recorder.last(number).map(|last| last.1)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(source) = self.source.take() {
            self.runtime.block_on(source.stop());
        }
    }
}

/// A source that logs in to this Dovecot as its master user.
pub fn settings(address: SocketAddr, watch: Watch, login_rate: u32) -> Settings {
    let password = MASTER_PASSWORD.to_owned().into();
    let login = Login::Master { user: MASTER_USER.into(), separator: "*".into(), password };
    Settings { port: address.port(), watch, login_rate, ..Settings::new("dovecot", "127.0.0.1", login) }
}
