//! The server: it answers each command with lines of the grammar, whatever order the commands come in.

use support::grammar::{Grammar, Piece, mutated, written};

/// What it offers.
const CAPABILITIES: [&str; 2] = [
    "IMAP4rev1 SASL-IR AUTH=PLAIN IDLE NOTIFY ESEARCH CONDSTORE",
    "IMAP4rev1 + sasl-ir AUTH=plain X-NEW=5 Idle NOTIFY",
];

/// A server with one mailbox.
pub(super) struct Peer {
    /// Draws what it says.
    pub(super) grammar: Grammar,
    /// The truth.
    pub(super) unseen: u32,
    /// Whether NOTIFY is answered by BADEVENT.
    pub(super) refuses_notify: bool,
    /// Whether its greeting is any that the grammar has.
    pub(super) greets_otherwise: bool,
    is_mutated: bool,
    capabilities: &'static str,
    /// Grows with each EXISTS: a number that is known is no news.
    exists: u32,
    idle_tag: Option<String>,
    said: Vec<u8>,
}

impl Peer {
    pub(super) fn new(mut grammar: Grammar, is_mutated: bool) -> Self {
        let unseen = grammar.rng.u32(0..50);
        let capabilities = grammar.rng.choice(CAPABILITIES).unwrap_or_default();
        Self {
            grammar,
            unseen,
            refuses_notify: false,
            greets_otherwise: false,
            is_mutated,
            capabilities,
            exists: 1000,
            idle_tag: None,
            said: Vec::new(),
        }
    }

    /// What it has said since the last time.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.said)
    }

    fn say(&mut self, production: &str, given: &[(&str, &str)]) {
        let pieces: Vec<Piece> = self.grammar.draw(production, given);
        if self.is_mutated {
            self.said.extend(mutated(&pieces, &mut self.grammar.rng));
            let ends: [&[u8]; 4] = [b"\r\n", b"\n", b" \r\n", b"\t \r\n"];
            self.said.extend(self.grammar.rng.choice(ends).unwrap_or(b"\r\n"));
        } else {
            self.said.extend(written(&pieces));
            self.said.extend(b"\r\n");
        }
    }

    pub(super) fn greet(&mut self) {
        let greeting = if self.greets_otherwise { "greeting" } else { "greeting-ok" };
        self.say(greeting, &[]);
    }

    /// Lines that say nothing of INBOX, some of them in no grammar.
    pub(super) fn noise(&mut self) {
        for _ in 0..self.grammar.rng.usize(0..4) {
            self.say("response-data", &[]);
            if self.is_mutated && self.grammar.rng.u8(0..4) == 0 {
                let garbage: [&[u8]; 5] =
                    [b"\r\n", b"\xff\0\xfe\r\n", b"b7 OK\r\n", b"* 7 X-NEW\r\n", b"* \r\n"];
                self.said.extend(self.grammar.rng.choice(garbage).unwrap_or_default());
            }
        }
    }

    /// Another number of messages is unseen, and a line of this kind reports that.
    pub(super) fn change(&mut self, kind: &str) {
        self.unseen = (self.unseen + self.grammar.rng.u32(1..9)) % 60;
        self.exists += 1;
        let (unseen, exists) = (self.unseen.to_string(), self.exists.to_string());
        self.say(kind, &[("unseen", &unseen), ("exists", &exists), ("any", "77")]);
    }

    pub(super) fn end(&mut self) {
        self.say("response-fatal", &[]);
    }

    /// Takes what the client sends, whole lines.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        for line in text.lines() {
            if line == "DONE" {
                let tag = self.idle_tag.take().expect("DONE ends an IDLE");
                self.finish(&tag);
            } else {
                let (tag, command) = line.split_once(' ').expect("a tag and a command");
                self.carry_out(tag, command);
            }
        }
    }

    fn finish(&mut self, tag: &str) {
        self.say("response-tagged", &[("tag", tag), ("state", "OK")]);
    }

    fn carry_out(&mut self, tag: &str, command: &str) {
        let capabilities = [("tag", tag), ("capabilities", self.capabilities)];
        let verb = command.trim_start_matches("UID ").split(' ').next().unwrap_or_default();
        match verb {
            "CAPABILITY" => self.say("capability-data", &capabilities),
            "AUTHENTICATE" | "LOGIN" => return self.say("response-tagged-caps", &capabilities),
            "NOTIFY" if self.refuses_notify && !command.contains("NONE") => {
                return self.say("notify-badevent", &[("tag", tag)]);
            }
            "NOTIFY" if !command.contains("NONE") => self.status(),
            "STATUS" => self.status(),
            "EXAMINE" | "SELECT" => {
                self.exists += 1;
                let exists = self.exists.to_string();
                self.say("exists", &[("exists", &exists)]);
            }
            "SEARCH" => self.search(tag, command),
            "IDLE" => {
                self.idle_tag = Some(tag.to_owned());
                return self.say("continue-req", &[]);
            }
            "LOGOUT" => self.end(),
            _ => {}
        }
        self.finish(tag);
    }

    fn status(&mut self) {
        let unseen = self.unseen.to_string();
        self.say("status-inbox", &[("unseen", &unseen)]);
    }

    fn search(&mut self, tag: &str, command: &str) {
        if command.contains("RETURN") {
            let (count, quoted) = (self.unseen.to_string(), format!("\"{tag}\""));
            return self.say("esearch-response", &[("count", &count), ("quoted-tag", &quoted)]);
        }
        let first = self.grammar.rng.u32(1..1000);
        let numbers: Vec<String> = std::iter::once(String::new())
            .chain((0..self.unseen).map(|at| (first + at).to_string()))
            .collect();
        self.say("search", &[("numbers", &numbers.join(" "))]);
    }
}
