//! What Dovecot's `notify_status` plugin writes to its dict server, as a pure machine: one connection, three dialects
//! (sources.md §2). Counts commits that are not answered, and ends like the real one where something else is said.

use super::mail_store::{Quirk, Quirks, Status};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

/// The key that holds an INBOX's numbers.
const KEY: &str = "priv/status/INBOX";
/// An answer is a short line; a longer one is none.
const ANSWER_BYTES_MAX: usize = 4096;
/// A commit that is held back for others to overtake it goes after that long, unless told otherwise.
const HOLD: Duration = Duration::from_millis(5);

/// How Dovecot of a certain age speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// 2.2.36 – 2.3.16: the user stands in the hello, so a connection is one user's.
    V2,
    /// 2.3.17 – 2.3.21: the user stands in each `B`.
    V3,
    /// 2.4: as [`Dialect::V3`], with an expiry behind the user.
    V4,
}

impl Dialect {
    /// What is spoken for a mailbox with these quirks; without one of them what Dovecot 2.3.19 speaks.
    pub const fn of(quirks: Quirks) -> Self {
        if quirks.has(Quirk::DictV2) {
            Self::V2
        } else if quirks.has(Quirk::DictV4) {
            Self::V4
        } else {
            Self::V3
        }
    }
}

impl FromStr for Dialect {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "dict-v2" => Ok(Self::V2),
            "dict-v3" => Ok(Self::V3),
            "dict-v4" => Ok(Self::V4),
            _ => Err(format!("unknown dialect {name:?}; known are dict-v2, dict-v3, dict-v4")),
        }
    }
}

/// How a connection behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// What is spoken.
    pub dialect: Dialect,
    /// Some commits are overtaken by later ones, as happens between Dovecot's processes (quirk `dict-out-of-order`).
    pub is_out_of_order: bool,
    /// The user's domain is in capitals (quirk `dict-domain-in-capitals`).
    pub is_in_capitals: bool,
    /// Such a commit goes after that long, overtaken or not.
    pub hold: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { dialect: Dialect::V3, is_out_of_order: false, is_in_capitals: false, hold: HOLD }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// The mailbox of `user` has changed; this is what STATUS says now.
    Changed {
        /// As Dovecot knows the user; with [`Dialect::V2`] always the same one.
        user: &'a str,
        /// The numbers now.
        status: Status,
        /// What [`Output::Committed`] gives back.
        token: u64,
    },
    /// The dict server said this.
    Bytes(&'a [u8]),
    /// The time of [`DovecotClient::poll_timeout`] has come.
    Timeout,
}

/// What the caller is to do or to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes.
    Send(Vec<u8>),
    /// The commit was answered: only now would the delivery go on.
    Committed {
        /// From [`Input::Changed`].
        token: u64,
        /// How long the answer took.
        waited: Duration,
    },
    /// The dict server said what Dovecot does not bear; this makes a real 2.3.19 log an error or crash.
    Broken(String),
}

#[derive(Clone, Copy, Debug)]
struct Commit {
    id: u32,
    token: u64,
    sent_at: Duration,
}

/// One connection of a Dovecot process to its dict server.
#[derive(Debug)]
pub struct DovecotClient {
    settings: Settings,
    random: fastrand::Rng,
    next_id: u32,
    user_said: bool,
    out: Vec<u8>,
    done: VecDeque<Output>,
    tail: Vec<u8>,
    unanswered: VecDeque<Commit>,
    held: Option<(Commit, Duration)>,
}

impl DovecotClient {
    /// A connection that has just been made; the hello goes out with the first change.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            random: fastrand::Rng::with_seed(seed),
            next_id: 1,
            user_said: false,
            out: Vec::new(),
            done: VecDeque::new(),
            tail: Vec::new(),
            unanswered: VecDeque::new(),
            held: None,
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Duration, input: Input<'_>) {
        match input {
            Input::Changed { user, status, token } => self.change(now, user, status, token),
            Input::Bytes(bytes) => self.read(now, bytes),
            Input::Timeout => {
                if let Some((commit, _)) = self.held.take_if(|(_, until)| *until <= now) {
                    self.commit(commit);
                }
            }
        }
    }

    /// What the caller is to do next; `None` when there is nothing more.
    pub fn poll_output(&mut self) -> Option<Output> {
        if !self.out.is_empty() {
            return Some(Output::Send(std::mem::take(&mut self.out)));
        }
        self.done.pop_front()
    }

    /// When to say [`Input::Timeout`].
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.held.map(|(_, until)| until)
    }

    /// Commits without an answer so far, held ones included.
    pub fn outstanding(&self) -> usize {
        self.unanswered.len() + usize::from(self.held.is_some())
    }

    fn change(&mut self, now: Duration, user: &str, status: Status, token: u64) {
        let user = &*if self.settings.is_in_capitals { in_capitals(user) } else { Cow::Borrowed(user) };
        if !self.user_said {
            self.user_said = true;
            self.hello(user);
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1).max(1);
        let user = escaped(user);
        let begin = match self.settings.dialect {
            Dialect::V2 => format!("B{id}"),
            Dialect::V3 => format!("B{id}\t{user}"),
            Dialect::V4 => format!("B{id}\t{user}\t0"),
        };
        self.line(&begin);
        let Status { messages, unseen, uidnext, uidvalidity, modseq } = status;
        let value = format!(
            r#"{{"messages":{messages},"unseen":{unseen},"uidnext":{uidnext},"uidvalidity":{uidvalidity},"modseq":{modseq}}}"#
        );
        self.line(&format!("S{id}\t{KEY}\t{}", escaped(&value)));
        let commit = Commit { id, token, sent_at: now };
        if self.settings.is_out_of_order && self.held.is_none() && self.random.bool() {
            self.held = Some((commit, now + self.settings.hold));
        } else {
            self.commit(commit);
        }
    }

    fn hello(&mut self, user: &str) {
        let hello = match self.settings.dialect {
            Dialect::V2 => format!("H2\t2\t0\t{}\tunseen", escaped(user)),
            Dialect::V3 => "H3\t2\t0\t\tunseen".to_owned(),
            Dialect::V4 => "H4\t0\t0\t\tunseen".to_owned(),
        };
        self.line(&hello);
    }

    fn commit(&mut self, commit: Commit) {
        self.line(&format!("C{}", commit.id));
        self.unanswered.push_back(commit);
    }

    fn line(&mut self, line: &str) {
        self.out.extend_from_slice(line.as_bytes());
        self.out.push(b'\n');
    }

    fn read(&mut self, now: Duration, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        while let Some(end) = self.tail.iter().position(|byte| *byte == b'\n') {
            let rest = self.tail.split_off(end + 1);
            let line = std::mem::replace(&mut self.tail, rest);
            self.answer(now, line.trim_ascii_end());
        }
        if self.tail.len() > ANSWER_BYTES_MAX {
            self.tail.clear();
            self.done.push_back(Output::Broken("an answer without end".to_owned()));
        }
    }

    /// `O<id>` answers the oldest commit; anything else is not borne.
    fn answer(&mut self, now: Duration, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let id = text.strip_prefix('O').and_then(|id| id.parse::<u32>().ok());
        match self.unanswered.front() {
            Some(oldest) if Some(oldest.id) == id => {
                let waited = now.saturating_sub(oldest.sent_at);
                self.done.push_back(Output::Committed { token: oldest.token, waited });
                self.unanswered.pop_front();
            }
            _ => self.done.push_back(Output::Broken(format!("invalid commit reply: {text}"))),
        }
    }
}

/// Dovecot's escaping of a value between tabs: byte 1 and a character.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        let code = match character {
            '\0' => '0',
            '\u{1}' => '1',
            '\t' => 't',
            '\r' => 'r',
            '\n' => 'n',
            other => {
                escaped.push(other);
                continue;
            }
        };
        write!(escaped, "\u{1}{code}").expect("a String takes every write");
    }
    escaped
}

/// The name with its domain in capitals.
fn in_capitals(user: &str) -> Cow<'_, str> {
    match user.rsplit_once('@') {
        Some((local, domain)) => Cow::Owned(format!("{local}@{}", domain.to_ascii_uppercase())),
        None => Cow::Borrowed(user),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: Status =
        Status { messages: 1, unseen: 1, uidnext: 2, uidvalidity: 1_795_424_325, modseq: 2 };
    const VALUE: &str = r#"{"messages":1,"unseen":1,"uidnext":2,"uidvalidity":1795424325,"modseq":2}"#;

    fn sent(client: &mut DovecotClient) -> String {
        let mut text = String::new();
        while let Some(output) = client.poll_output() {
            let Output::Send(bytes) = output else { panic!("{output:?}") };
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        text
    }

    fn client(dialect: Dialect) -> DovecotClient {
        let mut client = DovecotClient::new(Settings { dialect, ..Settings::default() }, 1);
        client.handle(Duration::ZERO, Input::Changed { user: "u1", status: STATUS, token: 7 });
        client
    }

    #[test]
    fn each_dialect_is_written_as_it_was_measured() {
        let table = [
            ("dict-v2", "H2\t2\t0\tu1\tunseen\nB1\n"),
            ("dict-v3", "H3\t2\t0\t\tunseen\nB1\tu1\n"),
            ("dict-v4", "H4\t0\t0\t\tunseen\nB1\tu1\t0\n"),
        ];
        for (name, start) in table {
            let mut client = client(name.parse().unwrap());
            assert_eq!(sent(&mut client), format!("{start}S1\tpriv/status/INBOX\t{VALUE}\nC1\n"));
            client.handle(Duration::ZERO, Input::Changed { user: "u\t1", status: STATUS, token: 8 });
            assert!(!sent(&mut client).contains(['H', '\u{0}']));
            assert_eq!(client.outstanding(), 2);
        }
        assert!("dict-v5".parse::<Dialect>().is_err());
    }

    #[test]
    fn an_answer_ends_the_wait_of_the_oldest_commit() {
        let mut client = client(Dialect::V3);
        sent(&mut client);
        client.handle(Duration::from_millis(1), Input::Bytes(b"O"));
        assert_eq!(client.poll_output(), None);
        client.handle(Duration::from_millis(3), Input::Bytes(b"1\n"));
        let waited = Duration::from_millis(3);
        assert_eq!(client.poll_output(), Some(Output::Committed { token: 7, waited }));
        assert_eq!(client.outstanding(), 0);
    }

    #[test]
    fn what_dovecot_does_not_bear_is_told() {
        for answer in [&b"O2\n"[..], b"N\n", b"\n", b"O1x\n", b"F1\n", &[b'x'; 5000]] {
            let mut client = client(Dialect::V3);
            sent(&mut client);
            client.handle(Duration::ZERO, Input::Bytes(answer));
            assert!(matches!(client.poll_output(), Some(Output::Broken(_))), "{answer:?}");
        }
    }

    #[test]
    fn out_of_order_a_commit_is_overtaken_and_held_no_longer_than_it_was_to_be() {
        let settings = Settings { is_out_of_order: true, ..Settings::default() };
        let mut client = DovecotClient::new(settings, 1);
        for token in 0..50 {
            client.handle(Duration::ZERO, Input::Changed { user: "u1", status: STATUS, token });
        }
        let until = client.poll_timeout().unwrap();
        client.handle(until.saturating_sub(Duration::from_micros(1)), Input::Timeout);
        let mut text = sent(&mut client);
        client.handle(until, Input::Timeout);
        let last = sent(&mut client);
        assert!(last.starts_with('C'), "{last}");
        text.push_str(&last);
        let ids: Vec<u32> = text.lines().filter_map(|line| line.strip_prefix('C')?.parse().ok()).collect();
        assert!(ids.windows(2).any(|pair| pair[0] > pair[1]), "{ids:?}");
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (1..=50).collect::<Vec<_>>());
        assert_eq!(client.outstanding(), 50);
    }
}
