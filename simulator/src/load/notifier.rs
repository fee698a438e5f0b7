//! The mail server's side of a source that is told: Dovecot's connections or Cyrus's datagrams.

use super::dict::{self, DictPool};
use super::notify::NotifySocket;
use super::{Args, Source};
use crate::peers::dovecot_client::Settings;
use crate::peers::mail_store::AccountId;
use crate::serve::notifiers::StatusChange;
use anyhow::Result;
use hdrhistogram::Histogram;
use std::path::PathBuf;
use std::time::Instant;

/// Who tells the agent of changes.
pub(super) enum Notifier {
    Dovecot(DictPool),
    Cyrus(Box<NotifySocket>),
}

impl Notifier {
    /// Connects to the agent as the load test's source wants it; with IMAP nobody tells. `file` names a file in the
    /// agent's folder.
    pub(super) async fn connect(
        args: &Args,
        file: impl Fn(&str) -> PathBuf,
        started: Instant,
    ) -> Result<Option<Self>> {
        let socket = |name: &str| args.dict.clone().unwrap_or_else(|| file(name));
        Ok(match args.source {
            Source::Imap => None,
            Source::Dovecot => {
                let (dialect, is_out_of_order) = (args.dialect, args.out_of_order);
                let client = Settings { dialect, is_out_of_order, ..Settings::default() };
                let connections = args.dict_connections as usize;
                let options =
                    dict::Options { socket: socket("dict.sock"), connections, client, seed: args.seed };
                Some(Self::Dovecot(DictPool::connect(&options, args.mailboxes as usize, started).await?))
            }
            Source::Cyrus => {
                let socket = NotifySocket::connect(&socket("cyrus.sock"), args.seed, started)?;
                Some(Self::Cyrus(Box::new(socket)))
            }
        })
    }

    /// Tells of a change; waits where the mail server would. Not to be called from a task.
    pub(super) fn tell_blocking(&mut self, account: AccountId, change: StatusChange) {
        match self {
            Self::Dovecot(pool) => pool.tell_blocking(account, change),
            Self::Cyrus(socket) => socket.tell_blocking(&change),
        }
    }

    /// The same from a task.
    pub(super) async fn tell(&mut self, account: AccountId, change: StatusChange) {
        match self {
            Self::Dovecot(pool) => pool.tell(account, change).await,
            Self::Cyrus(socket) => tokio::task::block_in_place(|| socket.tell_blocking(&change)),
        }
    }

    /// Forgets the waits measured so far.
    pub(super) fn begin(&mut self) {
        match self {
            Self::Dovecot(pool) => pool.begin(),
            Self::Cyrus(socket) => socket.begin(),
        }
    }

    /// How long the mail server waited each time, in microseconds.
    pub(super) fn waits(&self) -> Histogram<u64> {
        match self {
            Self::Dovecot(pool) => pool.waits(),
            Self::Cyrus(socket) => socket.waits(),
        }
    }

    /// Changes told that the agent did not answer yet; Cyrus wants no answer.
    pub(super) fn unanswered(&self) -> u64 {
        match self {
            Self::Dovecot(pool) => pool.unanswered(),
            Self::Cyrus(_) => 0,
        }
    }

    /// What went wrong first.
    pub(super) fn failure(&self) -> Option<String> {
        match self {
            Self::Dovecot(pool) => pool.failure(),
            Self::Cyrus(socket) => socket.failure(),
        }
    }
}
