//! What machines want done after an event, until none wants anything more.

use super::super::agent::{IMAP, identity};
use super::{Event, World, micros};
use bytes::Bytes;
use mailbadge::event::{MailboxId, News};
use mailbadge::flow::{Input, Output};
use mailbadge::forwarder::answer::Failure;
use mailbadge::forwarder::wire::EMPTY_BATCH;
use mailbadge::source::imap::exchange;
use mailbadge::source::imap::roster::{self, Report};
use mailbadge::source::imap::session::Session;
use mailbadge::time::Now;
use mailbadge_sim::peers::imap_server;
use std::sync::Arc;
use std::time::Duration;

impl World {
    pub(super) fn pump(&mut self) {
        loop {
            let before = self.events;
            let is_active = self.pump_roster() | self.pump_connections() | self.pump_flow();
            if !is_active && before == self.events {
                break;
            }
        }
        self.host.sweep_closed();
    }

    fn pump_roster(&mut self) -> bool {
        let mut is_active = false;
        while let Some(output) = self.agent.as_mut().and_then(|agent| agent.roster.poll_output()) {
            is_active = true;
            let now = self.clock();
            match output {
                roster::Output::Connect { mailbox, name, errand, number, .. } => {
                    let seed = self.rng.u64(..);
                    let Some(agent) = &self.agent else { continue };
                    let (settings, traits) = (Arc::clone(&agent.imap), Arc::clone(&agent.traits));
                    let client = Session::new(settings, traits, name, errand, seed);
                    let connection = self.host.connect(mailbox, number, client);
                    let latency = self.latency();
                    self.after(latency, Event::Connected(connection));
                }
                roster::Output::Ask(mailbox, _) => {
                    let asked = self.host.connections.values_mut().filter(|c| c.mailbox == mailbox);
                    for client in asked.filter_map(|connection| connection.client.as_mut()) {
                        client.handle(now, exchange::Input::Ask);
                    }
                }
                roster::Output::HangUp(mailbox) => {
                    let of_mailbox = self.host.connections.iter_mut().filter(|(_, c)| c.mailbox == mailbox);
                    let numbers: Vec<u32> = of_mailbox
                        .filter_map(|(number, connection)| connection.client.take().map(|_| *number))
                        .collect();
                    for number in numbers {
                        self.after(Duration::from_millis(1), Event::ServerClosed(number));
                    }
                }
            }
        }
        is_active
    }

    fn latency(&mut self) -> Duration {
        Duration::from_micros(self.rng.u64(50..20_000))
    }

    fn pump_connections(&mut self) -> bool {
        let mut is_active = false;
        for number in self.host.connections.keys().copied().collect::<Vec<_>>() {
            while let Some(output) = self.client_output(number) {
                is_active = true;
                self.client_says(number, output);
            }
            while let Some(output) = self.server_output(number) {
                is_active = true;
                match output {
                    imap_server::Output::Send(bytes) => {
                        self.transmit(number, 1, Event::ToClient(number, bytes));
                    }
                    imap_server::Output::Close => {
                        self.transmit(number, 1, Event::ClientClosed(number));
                        if let Some(connection) = self.host.connections.get_mut(&number) {
                            connection.server = None;
                        }
                    }
                    imap_server::Output::StartTls => {}
                }
            }
        }
        is_active
    }

    fn client_output(&mut self, number: u32) -> Option<exchange::Output> {
        self.host.connections.get_mut(&number)?.client.as_mut()?.poll_output()
    }

    fn server_output(&mut self, number: u32) -> Option<imap_server::Output> {
        self.host.connections.get_mut(&number)?.server.as_mut()?.poll_output()
    }

    /// Bytes or an end travel to one side, never overtaking those before; a hung connection swallows them.
    fn transmit(&mut self, number: u32, side: usize, event: Event) {
        let latency = micros(self.latency());
        let Some(connection) = self.host.connections.get_mut(&number).filter(|c| !c.is_hung) else { return };
        let Some(last) = connection.arrival.get_mut(side) else { return };
        *last = (*last).max(self.now + latency);
        let at = *last;
        self.push(at, event);
    }

    fn client_says(&mut self, number: u32, output: exchange::Output) {
        let Some((mailbox, roster_number)) =
            self.host.connections.get(&number).map(|c| (c.mailbox, c.number))
        else {
            return;
        };
        let report = match output {
            exchange::Output::Send(bytes) => {
                let bytes = bytes.bytes().to_vec();
                return self.transmit(number, 0, Event::ToServer(number, bytes));
            }
            exchange::Output::News(news) => return self.news(mailbox, roster_number, news),
            exchange::Output::LoggedIn => Report::LoggedIn,
            exchange::Output::Watching(method) => Report::Watching(method),
            exchange::Output::LoginRefused { refusal, text } => Report::Refused(refusal, text),
            exchange::Output::Close(ending) => {
                if let Some(connection) = self.host.connections.get_mut(&number) {
                    connection.client = None;
                }
                self.transmit(number, 0, Event::ServerClosed(number));
                Report::Ended(ending)
            }
            exchange::Output::StartTls | exchange::Output::Noticed | exchange::Output::Skipped => return,
        };
        self.report(mailbox, roster_number, report);
    }

    fn report(&mut self, mailbox: MailboxId, number: u32, report: Report) {
        let now = self.clock();
        if let Some(agent) = &mut self.agent {
            agent.roster.handle(now, roster::Input::Connection(mailbox, number, report));
        }
    }

    fn news(&mut self, mailbox: MailboxId, number: u32, news: News) {
        let now = self.clock();
        let is_answer = matches!(news, News::Reading(reading) if reading.asked_at.is_some());
        if let Some(agent) = &mut self.agent {
            agent.observe(mailbox, IMAP, news, now);
        }
        if is_answer {
            self.report(mailbox, number, Report::Read);
        }
    }

    fn pump_flow(&mut self) -> bool {
        let mut is_active = false;
        let now = self.clock();
        while let Some(output) = self.agent.as_mut().and_then(|agent| agent.flow.poll_output(now)) {
            is_active = true;
            match output {
                Output::AskChallenge => self.send(None, None, Bytes::from_static(EMPTY_BATCH)),
                Output::Sign(claims) => {
                    let signed = identity().1.sign(&claims).map_err(|error| error.to_string());
                    self.tell_flow(Input::Signed(signed), now);
                }
                // The simulated cloud trusts the agent directly: nobody is asked for a token.
                Output::Exchange(_) => {
                    self.tell_flow(Input::Exchanged(Err(Failure::Connect("nobody there".to_owned()))), now);
                }
                Output::Fetch(fetch) => {
                    self.tell_flow(Input::Fetched { name: fetch.name, is_good: false }, now);
                }
                Output::Post(post) => self.post(post),
                Output::Forget { key, .. } => drop(self.disk.subscriptions.remove(&key)),
            }
        }
        is_active
    }

    pub(super) fn tell_flow(&mut self, input: Input, now: Now) {
        if let Some(agent) = &mut self.agent {
            agent.flow.handle(input, now);
        }
    }
}
