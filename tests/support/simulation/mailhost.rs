//! The mail host: the simulated store and its IMAP sessions, and the connections that carry bytes to and fro.

use mailbadge::event::MailboxId;
use mailbadge::source::imap::connection::Connection as Client;
use mailbadge_sim::peers::imap_server::{self, Session as Server};
use mailbadge_sim::peers::mail_store::{AccountId, Change, Flags, MailStore, Quirk, Status};
use mailbadge_sim::play::Plan;
use mailbadge_sim::world::Seed;
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
    /// How often the order of each mailbox went back.
    orders: BTreeMap<usize, u32>,
    seed: Seed,
    /// Connections are refused.
    pub is_away: bool,
}

/// Oddities under which a count cannot be learned at all; they end with the faults.
const BARRIERS: [Quirk; 2] = [Quirk::ByeAfterLogin, Quirk::SilentDrop];

impl MailHost {
    /// The mailboxes of this plan.
    pub fn new(plan: &Plan) -> Self {
        let mut store = MailStore::new(plan.mailboxes, "");
        let changes: Arc<Mutex<Vec<(AccountId, Status)>>> = Arc::default();
        let heard = Arc::clone(&changes);
        store.subscribe(move |change| {
            if let Change::Inbox { account, status, .. } = change {
                heard.lock().push((*account, *status));
            }
        });
        let settings = Arc::new(imap_server::Settings {
            offers_condstore: plan.has_modseq,
            offers_esearch: plan.has_esearch,
            ..imap_server::Settings::default()
        });
        let connections = BTreeMap::new();
        Self {
            store,
            connections,
            settings,
            changes,
            connections_made: 0,
            orders: BTreeMap::new(),
            seed: plan.seed,
            is_away: false,
        }
    }

    /// Switches an oddity of the whole host.
    pub fn set_quirk(&mut self, quirk: Quirk, is_on: bool, now: Duration) {
        self.store.set_quirk(None, quirk, is_on);
        for connection in self.connections.values_mut() {
            if let Some(server) = connection.server.as_mut() {
                server.handle(now, imap_server::Input::StoreChanged, &mut self.store);
            }
        }
    }

    /// No more faults.
    pub fn calm(&mut self, now: Duration) {
        self.is_away = false;
        // A server finds out that a client is out of reach: the place that its session takes is free again.
        for connection in self.connections.values_mut().filter(|connection| connection.is_hung) {
            if let Some(mut server) = connection.server.take() {
                server.handle(now, imap_server::Input::Closed, &mut self.store);
            }
        }
        for quirk in BARRIERS {
            self.set_quirk(quirk, false, now);
        }
    }

    /// The name of a mailbox.
    pub fn name(&self, mailbox: usize) -> Arc<str> {
        self.store.name(account(mailbox)).map(Arc::clone).expect("the plan names mailboxes that exist")
    }

    /// Index files of a mailbox are deleted, or a backup is restored.
    pub fn order_goes_back(&mut self, mailbox: usize, is_validity: bool) {
        *self.orders.entry(mailbox).or_default() += 1;
        self.store.order_goes_back(account(mailbox), is_validity);
    }

    /// How often that happened.
    pub fn order(&self, mailbox: usize) -> u32 {
        self.orders.get(&mailbox).copied().unwrap_or_default()
    }

    /// The truth about a mailbox.
    pub fn status(&self, mailbox: usize) -> Status {
        self.store.status(account(mailbox)).expect("the plan names mailboxes that exist")
    }

    /// The agent connects, to nobody while the host is away; gives the connection's number.
    pub fn connect(&mut self, mailbox: MailboxId, number: u32, client: Client) -> u32 {
        self.connections_made += 1;
        let name = format!("imap session {}", self.connections_made);
        let server = || Server::new(Arc::clone(&self.settings), self.seed.stream(&name).u64(..));
        let connection = Connection {
            mailbox,
            number,
            client: Some(client),
            server: (!self.is_away).then(server),
            is_hung: false,
            arrival: [0, 0],
        };
        self.connections.insert(self.connections_made, connection);
        self.connections_made
    }

    /// Whether the agent has a connection of this mailbox open.
    pub fn is_connected(&self, mailbox: MailboxId) -> bool {
        self.connections
            .values()
            .any(|connection| connection.mailbox == mailbox && connection.client.is_some())
    }

    /// The uid of the oldest unseen message, of the newest message.
    pub fn uids(&self, mailbox: usize) -> (Option<u32>, Option<u32>) {
        let messages = self.store.messages(account(mailbox));
        let unseen = messages.iter().find(|message| !message.flags.contains(Flags::SEEN));
        (unseen.map(|message| message.uid), messages.last().map(|message| message.uid))
    }

    /// The newest message is moved out of INBOX, or the oldest in Trash back.
    pub fn move_message(&mut self, mailbox: usize, is_out: bool) {
        let account = account(mailbox);
        let uid = if is_out {
            self.uids(mailbox).1
        } else {
            let trash = self.store.folder(account, "Trash");
            let oldest = trash.and_then(|trash| self.store.mailbox(account, trash)?.messages().first());
            oldest.map(|message| message.uid)
        };
        if let Some(uid) = uid {
            if is_out {
                self.store.move_out(account, uid)
            } else {
                self.store.move_in(account, uid)
            };
        }
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
