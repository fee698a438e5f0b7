//! The mail host: the simulated store and its IMAP sessions, and the connections that carry bytes to and fro.

use mailbadge::event::MailboxId;
use mailbadge::source::imap::session::Session as Client;
use mailbadge_sim::peers::imap_server::{self, Session as Server};
use mailbadge_sim::peers::mail_store::{AccountId, Change, Flags, MailStore, Status};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// One TCP connection with a machine at either end.
pub struct Connection {
    /// Whose.
    pub mailbox: MailboxId,
    /// The roster's number for it.
    pub number: u32,
    /// The agent's end, while the agent has it open.
    pub client: Option<Client>,
    /// The mail host's end, while the mail host has it open.
    pub server: Option<Server>,
    /// Bytes vanish, and nobody is told.
    pub is_hung: bool,
    /// Nothing sent later arrives earlier: when the last bytes arrive at the server and at the client.
    pub arrival: [u64; 2],
}

/// The mail host.
pub struct MailHost {
    /// The truth.
    pub store: MailStore,
    /// Connections by their number in this story.
    pub connections: BTreeMap<u32, Connection>,
    settings: Arc<imap_server::Settings>,
    changes: Arc<Mutex<Vec<(AccountId, Status)>>>,
    connections_made: u32,
    seed: u64,
}

impl MailHost {
    /// `count` mailboxes; NOTIFY and IDLE as offered.
    pub fn new(seed: u64, count: usize) -> Self {
        let mut store = MailStore::new(count, "");
        let changes: Arc<Mutex<Vec<(AccountId, Status)>>> = Arc::default();
        let heard = Arc::clone(&changes);
        store.subscribe(move |change| {
            if let Change::Inbox { account, status, .. } = change {
                heard.lock().push((*account, *status));
            }
        });
        let settings = Arc::new(imap_server::Settings::default());
        Self { store, connections: BTreeMap::new(), settings, changes, connections_made: 0, seed }
    }

    /// The name of a mailbox.
    pub fn name(&self, mailbox: usize) -> Arc<str> {
        self.store.name(account(mailbox)).map(Arc::clone).expect("the plan names mailboxes that exist")
    }

    /// The truth about a mailbox.
    pub fn status(&self, mailbox: usize) -> Status {
        self.store.status(account(mailbox)).expect("the plan names mailboxes that exist")
    }

    /// The agent connects; gives the connection's number.
    pub fn connect(&mut self, mailbox: MailboxId, number: u32, client: Client) -> u32 {
        self.connections_made += 1;
        let server = Server::new(Arc::clone(&self.settings), self.seed ^ u64::from(self.connections_made));
        let connection = Connection {
            mailbox,
            number,
            client: Some(client),
            server: Some(server),
            is_hung: false,
            arrival: [0, 0],
        };
        self.connections.insert(self.connections_made, connection);
        self.connections_made
    }

    /// The uid of the oldest unseen message, of the newest message.
    pub fn uids(&self, mailbox: usize) -> (Option<u32>, Option<u32>) {
        let messages = self.store.messages(account(mailbox));
        let unseen = messages.iter().find(|message| !message.flags.contains(Flags::SEEN));
        (unseen.map(|message| message.uid), messages.last().map(|message| message.uid))
    }

    /// INBOXes that changed since this was last asked.
    pub fn changed(&self) -> Vec<(usize, Status)> {
        let changes = std::mem::take(&mut *self.changes.lock());
        changes.into_iter().map(|(account, status)| (account.0 as usize, status)).collect()
    }

    /// Tells the sessions of a mailbox that it changed.
    pub fn tell(&mut self, mailbox: usize, now: Duration) {
        for connection in self.connections.values_mut() {
            if let Some(server) = connection.server.as_mut()
                && server.account() == Some(account(mailbox))
            {
                server.handle(now, imap_server::Input::StoreChanged, &mut self.store);
            }
        }
    }

    /// Hands an input to a server's end.
    pub fn serve(&mut self, connection: u32, input: imap_server::Input<'_>, now: Duration) {
        let end = self.connections.get_mut(&connection).and_then(|connection| connection.server.as_mut());
        if let Some(server) = end {
            server.handle(now, input, &mut self.store);
        }
    }

    /// Forgets connections that neither end has open.
    pub fn sweep_closed(&mut self) {
        self.connections.retain(|_, connection| connection.client.is_some() || connection.server.is_some());
    }

    /// The next timer of any end.
    pub fn next_timeout(&self) -> Option<u64> {
        let of_servers = self.connections.values().filter_map(|c| c.server.as_ref()?.poll_timeout());
        let of_clients = self.connections.values().filter_map(|c| c.client.as_ref()?.poll_timeout());
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        of_servers.map(micros).chain(of_clients.map(mailbadge::time::Moment::micros)).min()
    }
}

/// The account of a mailbox.
pub fn account(mailbox: usize) -> AccountId {
    AccountId(u32::try_from(mailbox).unwrap_or(u32::MAX))
}
