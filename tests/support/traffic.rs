//! Changes of mailboxes, many and fast, told as Dovecot's plugin tells them: who cannot be told is not waited for, as a
//! mail server that gives up.

use mailbadge_sim::peers::dovecot_client::{DovecotClient, Input, Output, Settings};
use mailbadge_sim::peers::mail_store::{AccountId, MailStore};
use parking_lot::Mutex;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Changes told before the answers are read.
const TOGETHER: u64 = 32;
/// Messages in an INBOX, at most.
const MESSAGES_MAX: usize = 50;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What nobody listening costs a mail process, far less than Dovecot's own (sources.md §2): else nearly all changes would
/// fall into the moments after a kill.
const NOBODY: Duration = Duration::from_millis(20);

/// Changes that were made, and of these how many the agent was told of, answered.
#[derive(Debug, Default)]
pub struct Counted {
    /// Made.
    pub made: AtomicU64,
    /// Told and answered.
    pub told: AtomicU64,
}

/// One mail process that changes mailboxes.
pub struct Traffic {
    store: Arc<Mutex<MailStore>>,
    socket: PathBuf,
    rng: fastrand::Rng,
    connection: Option<(UnixStream, DovecotClient)>,
}

impl Traffic {
    /// Changes the mailboxes of this store, and tells of it at this socket.
    pub fn new(store: Arc<Mutex<MailStore>>, socket: &Path, seed: u64) -> Self {
        Self { store, socket: socket.to_owned(), rng: fastrand::Rng::with_seed(seed), connection: None }
    }

    /// Goes on until so many were made by all together, or until it is over.
    pub fn run(&mut self, most: u64, counted: &Counted, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) && counted.made.load(Ordering::Relaxed) < most {
            self.some(counted);
        }
    }

    /// A few changes, told together.
    pub fn some(&mut self, counted: &Counted) {
        if self.connection.is_none() {
            self.connection = self.connect().ok();
        }
        if self.connection.is_none() {
            thread::sleep(NOBODY);
        }
        let mut told = 0;
        for token in 0..TOGETHER {
            let (name, status) = self.change();
            counted.made.fetch_add(1, Ordering::Relaxed);
            if let Some((_, client)) = &mut self.connection {
                client.handle(Duration::ZERO, Input::Changed { user: &name, status, token });
                told += 1;
            }
        }
        match self.converse(told) {
            Ok(answered) => drop(counted.told.fetch_add(answered, Ordering::Relaxed)),
            Err(_) => self.connection = None,
        }
    }

    fn connect(&mut self) -> io::Result<(UnixStream, DovecotClient)> {
        let stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok((stream, DovecotClient::new(Settings::default(), self.rng.u64(..))))
    }

    /// A message comes, one or all are read, or the oldest goes.
    fn change(&mut self) -> (Arc<str>, mailbadge_sim::peers::mail_store::Status) {
        let mut store = self.store.lock();
        let account = AccountId(self.rng.u32(..store.count() as u32));
        let before = store.status(account);
        let (oldest, count) = {
            let messages = store.messages(account);
            (messages.first().map(|message| message.uid), messages.len())
        };
        match (self.rng.u8(0..10), oldest) {
            (0..3, Some(_)) => drop(store.all_seen(account)),
            (3..5, Some(uid)) => drop(store.expunge(account, uid)),
            (_, Some(uid)) if count >= MESSAGES_MAX => drop(store.expunge(account, uid)),
            _ => {}
        }
        // Nothing was to be read or to go: something comes, so that every call is a change.
        if store.status(account) == before {
            store.deliver(account);
        }
        let status = store.status(account).expect("the account is there");
        (store.name(account).map(Arc::clone).expect("the account is there"), status)
    }

    /// Sends what is to be sent, and reads until so many commits are answered.
    fn converse(&mut self, told: u64) -> io::Result<u64> {
        let Some((stream, client)) = &mut self.connection else { return Ok(0) };
        let mut answered = 0;
        let mut buffer = [0; 4096];
        loop {
            while let Some(output) = client.poll_output() {
                match output {
                    Output::Send(bytes) => stream.write_all(&bytes)?,
                    Output::Committed { .. } => answered += 1,
                    Output::Broken(what) => return Err(io::Error::other(what)),
                }
            }
            if answered >= told {
                return Ok(answered);
            }
            let count = stream.read(&mut buffer)?;
            let bytes = buffer.get(..count).filter(|bytes| !bytes.is_empty());
            let bytes = bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            client.handle(Duration::ZERO, Input::Bytes(bytes));
        }
    }
}
