//! The demo's mail server: the simulator's own, or a private real Dovecot.

use mailbadge_sim::peers::mail_store::{AccountId, Flags, MailStore};
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use support::dovecot::{Dovecot, USER_PASSWORD};
use support::imap_client::ImapClient;
use support::lmtp::LmtpClient;

/// What a person does to a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// A message arrives.
    Deliver,
    /// One message is read.
    Read,
    /// All are read.
    ReadAll,
    /// The newest is deleted.
    Delete,
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Deliver => "delivered",
            Self::Read => "read one",
            Self::ReadAll => "read all",
            Self::Delete => "deleted",
        })
    }
}

/// Mailboxes that can be worked on.
pub(crate) enum Mail {
    /// The simulator's.
    Simulated(Arc<Mutex<MailStore>>),
    /// A real server's.
    Real(Box<Dovecot>),
}

impl Mail {
    /// The names of its first `count` mailboxes.
    pub(crate) fn names(&self, count: usize) -> Vec<String> {
        match self {
            Self::Simulated(store) => {
                store.lock().names().take(count).map(|(_, name)| name.to_string()).collect()
            }
            Self::Real(_) => (1..=count).map(|number| format!("u{number}")).collect(),
        }
    }

    /// Does it; nothing where there is nothing to do it to.
    pub(crate) fn apply(&self, mailbox: &str, deed: Deed) -> io::Result<()> {
        match self {
            Self::Simulated(store) => {
                let mut store = store.lock();
                let account = store.find(mailbox).ok_or_else(|| io::Error::other("no such mailbox"))?;
                simulated(&mut store, account, deed);
                Ok(())
            }
            Self::Real(dovecot) => {
                real(dovecot, mailbox, deed).map_err(|error| unanswered(deed, mailbox, &error))
            }
        }
    }

    /// STATUS UNSEEN.
    pub(crate) fn unseen(&self, mailbox: &str) -> io::Result<u32> {
        match self {
            Self::Simulated(store) => {
                let store = store.lock();
                let status = store.find(mailbox).and_then(|account| store.status(account));
                status.map(|status| status.unseen).ok_or_else(|| io::Error::other("no such mailbox"))
            }
            Self::Real(dovecot) => client(dovecot.imap(), mailbox)
                .and_then(|mut client| client.status_unseen("INBOX"))
                .map_err(|error| unanswered("STATUS", mailbox, &error)),
        }
    }
}

fn simulated(store: &mut MailStore, account: AccountId, deed: Deed) {
    let messages = store.messages(account);
    let unseen =
        messages.iter().find(|message| !message.flags.contains(Flags::SEEN)).map(|message| message.uid);
    let newest = messages.last().map(|message| message.uid);
    match (deed, unseen, newest) {
        (Deed::Deliver, ..) => {
            store.deliver(account);
        }
        (Deed::Read, Some(uid), _) => {
            store.set_seen(account, uid, true);
        }
        (Deed::ReadAll, ..) => {
            store.all_seen(account);
        }
        (Deed::Delete, _, Some(uid)) => {
            store.expunge(account, uid);
        }
        (Deed::Read | Deed::Delete, ..) => {}
    }
}

fn client(address: SocketAddr, mailbox: &str) -> io::Result<ImapClient> {
    ImapClient::connect(address, mailbox, USER_PASSWORD)
}

/// The demo's own Dovecot ended, most likely: its files go with the demo.
fn unanswered(what: impl fmt::Display, mailbox: &str, error: &io::Error) -> io::Error {
    let text = format!(
        "the demo's Dovecot does not answer ({what}, {mailbox}): {error}; was it stopped? Start the demo again"
    );
    io::Error::new(error.kind(), text)
}

fn real(dovecot: &Dovecot, mailbox: &str, deed: Deed) -> io::Result<()> {
    if deed == Deed::Deliver {
        return LmtpClient::connect(dovecot.lmtp())?.deliver(mailbox).map(drop);
    }
    let mut client = client(dovecot.imap(), mailbox)?;
    if client.select("INBOX")? == 0 {
        return Ok(());
    }
    match deed {
        Deed::Read => client.store("*", '+', "\\Seen"),
        Deed::ReadAll => client.store("1:*", '+', "\\Seen"),
        Deed::Deliver | Deed::Delete => client.expunge("*"),
    }
}
