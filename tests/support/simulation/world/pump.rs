//! What machines want done after an event, until none wants anything more.

use super::super::agent::IMAP;
use super::super::tokens;
use super::{Event, Waiting, World, micros};
use bytes::Bytes;
use mailbadge::event::{MailboxId, News};
use mailbadge::flow::{Input, Output};
use mailbadge::forwarder::wire::EMPTY_BATCH;
use mailbadge::source::imap::exchange;
use mailbadge::source::imap::roster::{self, Report};
use mailbadge::source::imap::session::Session;
use mailbadge::time::Now;
use mailbadge_sim::peers::imap_server;
use mailbadge_sim::world::Rule;
use std::sync::Arc;
use std::time::Duration;

impl World {
    pub(super) fn pump(&mut self) {
        loop {
            let before = self.agenda.noted();
            let is_active = self.pump_roster() | self.pump_connections() | self.pump_flow();
            if !is_active && before == self.agenda.noted() {
                break;
            }
        }
        self.host.sweep_closed();
    }

    fn pump_roster(&mut self) -> bool {
        let mut is_active = false;
        while let Some(output) = self.agent.as_mut().and_then(|agent| agent.roster.poll_output()) {
            is_active = true;
            let now = self.now();
            match output {
                roster::Output::Connect { mailbox, name, errand, number, .. } => {
                    let (seed, latency) = (self.rng.u64(..), self.imap.latency());
                    if self.host.is_away {
                        let event = Event::Unreachable(self.life, mailbox.0 as usize, number);
                        self.after(latency, event);
                        continue;
                    }
                    let Some(agent) = &self.agent else { continue };
                    let (settings, traits) = (Arc::clone(&agent.imap), Arc::clone(&agent.traits));
                    let client = Session::new(settings, traits, name, errand, seed);
                    let connection = self.host.connect(mailbox, number, client);
                    self.after(latency, Event::Connected(connection));
                }
                roster::Output::Ask(mailbox, _) => {
                    let asked = self.host.connections.values_mut().filter(|c| c.mailbox == mailbox);
                    for client in asked.filter_map(|connection| connection.client.as_mut()) {
                        client.handle(now, exchange::Input::Ask);
                    }
                }
                roster::Output::Note(text) => tracing::warn!("{text}"),
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
        let (rule, latency) = (self.imap.rule(), micros(self.imap.latency()));
        let now = self.clock.micros();
        let Some(connection) = self.host.connections.get_mut(&number).filter(|c| !c.is_hung) else { return };
        let Some(last) = connection.arrival.get_mut(side) else { return };
        *last = (*last).max(now + latency);
        match (rule, event) {
            (Rule::Cut(per_mille), Event::ToServer(_, bytes) | Event::ToClient(_, bytes)) => {
                let at = *last;
                self.cut(number, side, bytes, usize::from(per_mille), at);
            }
            (Rule::SlowBytes(rate), event @ (Event::ToServer(..) | Event::ToClient(..))) => {
                *last += 1_000_000 / u64::from(rate.max(1));
                self.agenda.note(*last, event);
            }
            (_, event) => self.agenda.note(*last, event),
        }
    }

    /// A part of it arrives, then both sides see the connection end.
    fn cut(&mut self, number: u32, side: usize, mut bytes: Vec<u8>, per_mille: usize, at: u64) {
        self.report.faults += 1;
        bytes.truncate(bytes.len() * per_mille / 1000);
        let part = if side == 0 { Event::ToServer(number, bytes) } else { Event::ToClient(number, bytes) };
        self.agenda.note(at, part);
        self.agenda.note(at, Event::ServerClosed(number));
        self.agenda.note(at, Event::ClientClosed(number));
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
            exchange::Output::LoggedIn => {
                self.checker.logged_in(mailbox.0 as usize);
                Report::LoggedIn
            }
            exchange::Output::Watching(method) => Report::Watching(method),
            exchange::Output::Alert(text) => Report::Alert(text),
            exchange::Output::LoginRefused { refusal, text } => Report::Refused(refusal, text),
            exchange::Output::Close(ending) => {
                if let Some(connection) = self.host.connections.get_mut(&number) {
                    connection.client = None;
                }
                self.transmit(number, 0, Event::ServerClosed(number));
                if ending != exchange::Ending::Done {
                    self.checker.lost(mailbox.0 as usize);
                }
                Report::Ended(ending)
            }
            exchange::Output::StartTls | exchange::Output::Noticed | exchange::Output::Skipped => return,
        };
        self.tell_roster(mailbox, roster_number, report);
    }

    pub(super) fn tell_roster(&mut self, mailbox: MailboxId, number: u32, report: Report) {
        let now = self.now();
        if let Some(agent) = &mut self.agent {
            agent.roster.handle(now, roster::Input::Connection(mailbox, number, report));
        }
    }

    fn news(&mut self, mailbox: MailboxId, number: u32, news: News) {
        let now = self.now();
        let is_answer = matches!(news, News::Reading(reading) if reading.asked_at.is_some());
        if let Some(agent) = &mut self.agent {
            agent.observe(mailbox, IMAP, news, now);
        }
        if is_answer {
            self.tell_roster(mailbox, number, Report::Read);
        }
    }

    fn pump_flow(&mut self) -> bool {
        let mut is_active = false;
        let now = self.now();
        while let Some(output) = self.agent.as_mut().and_then(|agent| agent.flow.poll_output(now)) {
            is_active = true;
            match output {
                Output::AskChallenge => {
                    let request = self.request(None, Bytes::from_static(EMPTY_BATCH));
                    self.send(Waiting::Challenge, request);
                }
                Output::Sign(claims) => {
                    let Some(agent) = &self.agent else { continue };
                    let signed = agent.sign(&claims);
                    self.tell_flow(Input::Signed(signed), now);
                }
                Output::Exchange(request) => self.send(Waiting::Token, tokens::request(&request)),
                // Documents are read once, when a process starts.
                Output::Fetch(fetch) => {
                    self.tell_flow(Input::Fetched { name: fetch.name, is_good: false }, now);
                }
                Output::Post(post) => self.post(post),
                Output::Forget { mailbox, key } => {
                    let Some(agent) = &self.agent else { continue };
                    agent.gone.push(mailbox, key);
                    self.tick_soon();
                }
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
