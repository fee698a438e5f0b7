//! What machines want done after an event, until none wants anything more.

use super::super::agent::IMAP;
use super::super::tokens;
use super::{Event, HELD_UP_MAX, Waiting, World, micros};
use bytes::Bytes;
use mailbadge::event::{MailboxId, News, Verdict};
use mailbadge::flow::{Input, Output};
use mailbadge::forwarder::wire::EMPTY_BATCH;
use mailbadge::source::imap::connection::{self, Connection, Wish};
use mailbadge::source::imap::exchange::{Ending, Errand};
use mailbadge::source::imap::roster::{self, ConnectionReport};
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
            match output {
                roster::Output::Connect { mailbox, name, errand, is_sweep, number } => {
                    self.connect(mailbox, name, (errand, is_sweep), number);
                }
                roster::Output::Ask(mailbox, false) => self.wish(mailbox, Wish::Ask),
                roster::Output::Ask(mailbox, true) => self.wish(mailbox, Wish::Sweep),
                roster::Output::HangUp(mailbox) => self.wish(mailbox, Wish::HangUp),
                roster::Output::Note(text) => tracing::warn!("{text}"),
            }
        }
        is_active
    }

    fn connect(&mut self, mailbox: MailboxId, name: Arc<str>, errand: (Errand, bool), number: u32) {
        let (seed, latency) = (self.rng.u64(..), self.imap.latency());
        self.checker.asks(mailbox.0 as usize, errand.1);
        let Some(agent) = &self.agent else { return };
        let (settings, traits) = (Arc::clone(&agent.imap), Arc::clone(&agent.traits));
        let (errand, is_sweep) = errand;
        let client = Connection::new(Session::new(settings, traits, name, errand, seed), is_sweep);
        let connection = self.host.connect(mailbox, number, client);
        let is_away = self.host.is_away;
        self.after(
            latency,
            if is_away { Event::Unreachable(connection) } else { Event::Connected(connection) },
        );
    }

    fn wish(&mut self, mailbox: MailboxId, wish: Wish) {
        let now = self.now();
        self.checker.asks(mailbox.0 as usize, wish == Wish::Sweep);
        let of_mailbox = self.host.connections.values_mut().filter(|c| c.mailbox == mailbox);
        for client in of_mailbox.filter_map(|connection| connection.client.as_mut()) {
            client.handle(now, connection::Input::Wish(wish));
        }
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

    fn client_output(&mut self, number: u32) -> Option<connection::Output> {
        let now = self.now();
        let counters = &self.agent.as_ref()?.counters;
        self.host.connections.get_mut(&number)?.client.as_mut()?.poll_output(now, counters)
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

    fn client_says(&mut self, number: u32, output: connection::Output) {
        let Some((mailbox, roster_number)) =
            self.host.connections.get(&number).map(|c| (c.mailbox, c.number))
        else {
            return;
        };
        match output {
            connection::Output::Send(bytes) => {
                let bytes = bytes.bytes().to_vec();
                self.transmit(number, 0, Event::ToServer(number, bytes));
            }
            connection::Output::StartTls => {}
            connection::Output::Observe(news) => self.observe(number, mailbox, news),
            connection::Output::Report(report) => self.report(mailbox, roster_number, report),
            connection::Output::Close => {
                if let Some(connection) = self.host.connections.get_mut(&number) {
                    connection.client = None;
                }
                self.transmit(number, 0, Event::ServerClosed(number));
            }
        }
    }

    fn observe(&mut self, number: u32, mailbox: MailboxId, news: News) {
        let now = self.now();
        let Some(agent) = &mut self.agent else { return };
        let verdict = agent.observe(mailbox, IMAP, news, now);
        if matches!(news, News::Reading(reading) if reading.asked_at.is_some()) {
            self.checker.is_answered(mailbox.0 as usize, verdict == Verdict::Changed);
        }
        self.hear(number, connection::Input::Verdict(verdict), now);
    }

    fn report(&mut self, mailbox: MailboxId, number: u32, report: ConnectionReport) {
        match &report {
            ConnectionReport::LoggedIn => self.checker.logged_in(mailbox.0 as usize),
            ConnectionReport::Ended(Ending::Done) => self.checker.visited(mailbox.0 as usize),
            ConnectionReport::Ended(_) | ConnectionReport::Unreachable(_) => {
                self.checker.lost(mailbox.0 as usize);
            }
            _ => {}
        }
        let now = self.now();
        if let Some(agent) = &mut self.agent {
            agent.roster.handle(now, roster::Input::Connection(mailbox, number, report));
        }
    }

    /// One turn of the relay loop, where something woke it. It is held up now and then before it asks until when it may
    /// sleep, as a thread of a busy host is.
    fn pump_flow(&mut self) -> bool {
        let mut is_active = false;
        let now = self.now();
        if !self.agent.as_ref().is_some_and(|agent| agent.is_relay_loop_awake(now)) {
            return false;
        }
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
        let held_up = if self.held_up.u8(0..4) == 0 { self.held_up.u64(0..HELD_UP_MAX) } else { 0 };
        if let Some(agent) = &mut self.agent {
            agent.sleeps_until = agent.flow.poll_timeout(now.after(Duration::from_micros(held_up)));
        }
        is_active
    }

    pub(super) fn tell_flow(&mut self, input: Input, now: Now) {
        if let Some(agent) = &mut self.agent {
            agent.tell_flow(input, now);
        }
    }
}
