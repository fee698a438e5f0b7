//! A server that answers by the grammars of RFC 9051 §9, RFC 5465 and RFC 7162, at first to the letter and then with
//! everything mutated but the value that is needed. The agent's session reads the right count each time, and hears of every
//! kind of change. Every alternative of every production is drawn; the last line says how many there are.

mod peer;
mod rules;

use mailbadge::event::News;
use mailbadge::source::imap::exchange::{Ending, Errand, Input, Output};
use mailbadge::source::imap::session::Session;
use mailbadge::source::imap::{Login, Settings, Watch};
use mailbadge::time::Now;
use peer::Peer;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;
use support::grammar::Grammar;

/// Conversations of each kind.
const CONVERSATIONS: u64 = 120;
/// Changes in each.
const CHANGES: usize = 12;
/// Within this the agent has read what a change was about: it asks at most ten times a second.
const MOMENT: Duration = Duration::from_secs(3);

/// The agent's end and the server's, without delay between.
struct Conversation {
    now: Now,
    session: Session,
    peer: Peer,
    /// What was read last.
    unseen: Option<u32>,
    /// Lines that were taken for a change, or a count.
    heard: usize,
    ending: Option<Ending>,
    /// What the server sent, for a complaint.
    log: Vec<u8>,
}

impl Conversation {
    fn new(watch: Watch, errand: Errand, peer: Peer, seed: u64) -> Self {
        let login = Login::Master {
            user: "agent".into(),
            separator: "*".into(),
            password: "secret".to_owned().into(),
        };
        let settings = Settings { watch, ..Settings::new("grammar", "127.0.0.1", login) };
        let session = Session::new(Arc::new(settings), Arc::default(), "u1".into(), errand, seed);
        let now = Now::default().after(Duration::from_secs(1000));
        Self { now, session, peer, unseen: None, heard: 0, ending: None, log: Vec::new() }
    }

    fn input(&mut self, input: Input<'_>) {
        self.session.handle(self.now, input);
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(outgoing) => self.peer.read(outgoing.bytes()),
                Output::News(News::Reading(reading)) => {
                    self.unseen = Some(reading.unseen);
                    self.heard += 1;
                }
                Output::News(News::Hint) | Output::Noticed => self.heard += 1,
                Output::Close(ending) => self.ending = Some(ending),
                _ => {}
            }
        }
    }

    /// What the server has to say reaches the session, in pieces of any length, until neither says more.
    fn exchange(&mut self) {
        while self.ending.is_none() {
            let bytes = self.peer.take();
            if bytes.is_empty() {
                return;
            }
            self.log.extend(&bytes);
            let step = self.peer.grammar.rng.choice([1, 7, usize::MAX]).unwrap_or(1);
            bytes.chunks(step.min(bytes.len())).for_each(|piece| self.input(Input::Bytes(piece)));
        }
    }

    fn pass(&mut self, wait: Duration) {
        let end = self.now.after(wait);
        self.exchange();
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= end.moment) {
            self.now = self.now.after(at.since(self.now.moment));
            self.input(Input::Timeout);
            self.exchange();
        }
        self.now = end;
    }

    fn begin(&mut self) {
        self.input(Input::Connected);
        self.peer.greet();
        self.pass(MOMENT);
    }

    #[track_caller]
    fn complain(&self, what: &str) -> ! {
        let tail = self.log.split_at(self.log.len().saturating_sub(2500)).1;
        panic!("{what}; it read {:?}, ended {:?}, of\n{}", self.unseen, self.ending, tail.escape_ascii())
    }

    #[track_caller]
    fn check(&self, what: &str) {
        if self.unseen != Some(self.peer.unseen) || self.ending.is_some() {
            self.complain(&format!("{what}: {} are unseen", self.peer.unseen));
        }
    }
}

/// By which productions a change is reported to a client that watches so.
fn kinds(watch: Watch) -> &'static [&'static str] {
    match watch {
        Watch::Notify => &["status-inbox", "status-inbox-partial", "notify-overflow"],
        Watch::IdleUnselected => &["status-inbox", "status-inbox-partial"],
        _ => &["exists", "message-data-expunge", "message-data-fetch", "expunged-resp", "status-inbox"],
    }
}

fn watch(watch: Watch, mut peer: Peer, seed: u64) -> Grammar {
    peer.refuses_notify = watch == Watch::Notify && seed % 5 == 4;
    let reported = if peer.refuses_notify { Watch::Idle } else { watch };
    let mut talk = Conversation::new(watch, Errand::Watch, peer, seed);
    talk.begin();
    talk.check("at first");
    for kind in kinds(reported).iter().cycle().skip(seed as usize % 5).take(CHANGES) {
        talk.peer.noise();
        talk.pass(MOMENT);
        let before = talk.heard;
        talk.peer.change(kind);
        talk.pass(MOMENT);
        if talk.heard == before {
            talk.complain(&format!("{watch:?}: nothing was heard of {kind}"));
        }
        talk.peer.noise();
        talk.pass(MOMENT);
        talk.check(kind);
    }
    talk.peer.end();
    talk.pass(MOMENT);
    if !matches!(talk.ending, Some(Ending::Bye(_))) {
        talk.complain("BYE was not heard");
    }
    talk.peer.grammar
}

fn visit(peer: Peer, seed: u64) -> Grammar {
    let mut talk = Conversation::new(Watch::Auto, Errand::Visit, peer, seed);
    talk.begin();
    if talk.unseen != Some(talk.peer.unseen) || talk.ending != Some(Ending::Done) {
        talk.complain("a visit");
    }
    talk.peer.grammar
}

/// One that the server turns away, or takes for somebody who is logged in already: it ends, or goes on, and never hangs.
fn greeted_otherwise(mut peer: Peer, seed: u64) -> Grammar {
    peer.greets_otherwise = true;
    let mut talk = Conversation::new(Watch::Auto, Errand::Watch, peer, seed);
    talk.begin();
    talk.pass(Duration::from_mins(2));
    if talk.ending.is_none() && talk.unseen != Some(talk.peer.unseen) {
        talk.complain("a greeting that was not understood");
    }
    talk.peer.grammar
}

fn play(is_mutated: bool) -> String {
    let mut grammar = Grammar::new(&rules::productions(), rules::TERMINALS, 9051);
    for seed in 0..CONVERSATIONS {
        let peer = |grammar| Peer::new(grammar, is_mutated);
        for way in [Watch::Notify, Watch::Idle, Watch::IdleUnselected] {
            grammar = watch(way, peer(grammar), seed);
        }
        grammar = visit(peer(grammar), seed);
        grammar = greeted_otherwise(peer(grammar), seed);
    }
    assert_eq!(grammar.missing(), Vec::<String>::new(), "never drawn");
    grammar.coverage()
}

#[test]
fn what_follows_the_grammar_is_read_and_heard() {
    let drawn = play(false);
    writeln!(std::io::stderr().lock(), "{drawn} of RFC 9051 §9, RFC 5465 and RFC 7162, to the letter")
        .unwrap();
}

#[test]
fn with_everything_mutated_but_the_needed_values_it_is_read_and_heard_too() {
    let drawn = play(true);
    writeln!(std::io::stderr().lock(), "{drawn} of RFC 9051 §9, RFC 5465 and RFC 7162, mutated").unwrap();
}
