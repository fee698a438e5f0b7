//! What each quirk of sources.md §7 does to a client that knows nothing of it: the same few commands, once to a server
//! with the quirk and once to one without. `imap.rs` shows that the agent does better.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

use mailbadge_sim::peers::imap_server::{Input, Output, Session, Settings};
use mailbadge_sim::peers::mail_store::{AccountId, MailStore, Quirk};
use std::sync::Arc;
use std::time::Duration;

const ACCOUNT: AccountId = AccountId(0);
/// Far above the window in which the server merges changes.
const MOMENT: Duration = Duration::from_secs(2);
/// NOTIFY as the agent arms it.
const NOTIFY: &str = "NOTIFY SET STATUS (MAILBOXES INBOX (MessageNew MessageExpunge FlagChange))";

/// A client that sends what it is told to, and its server.
struct Unarmed {
    quirk: Option<Quirk>,
    now: Duration,
    settings: Arc<Settings>,
    store: MailStore,
    session: Session,
    is_closed: bool,
    said: String,
}

impl Unarmed {
    fn new(quirk: Option<Quirk>) -> Self {
        let settings = Arc::<Settings>::default();
        let session = Session::new(settings.clone(), 1);
        let store = MailStore::new(2, "");
        let now = Duration::ZERO;
        let mut client = Self { quirk, now, settings, store, session, is_closed: false, said: String::new() };
        if let Some(quirk) = quirk.filter(|quirk| !is_switched_on_later(*quirk)) {
            client.store.set_quirk(None, quirk, true);
        }
        client
    }

    /// For those that are there from the middle on.
    fn switch_on(&mut self) {
        if let Some(quirk) = self.quirk {
            self.store.set_quirk(None, quirk, true);
            self.server(Input::StoreChanged);
        }
    }

    fn server(&mut self, input: Input<'_>) {
        self.session.handle(self.now, input, &mut self.store);
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(bytes) => self.said += &String::from_utf8(bytes).unwrap(),
                Output::Close => self.is_closed = true,
                Output::StartTls => panic!("nobody asked for TLS"),
            }
        }
    }

    /// What the server said since the last time.
    fn heard(&mut self) -> String {
        std::mem::take(&mut self.said)
    }

    fn connect(&mut self) {
        self.session = Session::new(self.settings.clone(), 1);
        self.is_closed = false;
        self.server(Input::Connected { is_tls: false });
    }

    fn log_in(&mut self, password: &str) -> String {
        self.connect();
        self.heard();
        self.say(&format!("LOGIN user1 {password}"))
    }

    /// Logged in with the right password.
    fn begin(&mut self) {
        let password = self.store.credentials().password.clone();
        self.log_in(&password);
        self.pass(MOMENT);
        self.heard();
    }

    fn say(&mut self, line: &str) -> String {
        self.server(Input::Bytes(format!("a1 {line}\r\n").as_bytes()));
        self.heard()
    }

    fn pass(&mut self, wait: Duration) -> String {
        let end = self.now + wait;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= end && !self.is_closed) {
            self.now = self.now.max(at);
            self.server(Input::Timeout);
        }
        self.now = end;
        self.heard()
    }

    /// Messages arrive; what the server pushes of it.
    fn deliver(&mut self, count: u32) -> String {
        for _ in 0..count {
            self.store.deliver(ACCOUNT).unwrap();
            self.server(Input::StoreChanged);
        }
        self.pass(MOMENT)
    }

    /// Whether the server says the true count there.
    fn is_true(&self, said: &str) -> bool {
        said.contains(&format!("UNSEEN {}", self.store.status(ACCOUNT).unwrap().unseen))
    }
}

fn is_switched_on_later(quirk: Quirk) -> bool {
    quirk.acts_once() || quirk == Quirk::SilentDrop
}

/// `* STATUS INBOX (NAME number …)` with single spaces (RFC 9051 §9, `mailbox-data`).
fn is_grammatical(line: &str) -> bool {
    let list = line.strip_prefix("* STATUS INBOX (").and_then(|list| list.strip_suffix(')'));
    list.is_some_and(|list| list.split(' ').all(|word| !word.is_empty()))
}

/// HIGHESTMODSEQ in a line.
fn modseq(said: &str) -> u64 {
    let digits = said.split("HIGHESTMODSEQ ").nth(1).unwrap();
    digits.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// Whether a client that does just this is right in what it believes afterwards.
fn is_right(quirk: Quirk, client: &mut Unarmed) -> bool {
    match quirk {
        Quirk::ByeAfterLogin
        | Quirk::AuthPenalty
        | Quirk::UserIpLimit
        | Quirk::ConnectionLimit
        | Quirk::PlainNotUnderstood
        | Quirk::IdDemanded
        | Quirk::CapabilityRefused
        | Quirk::Preauth
        | Quirk::DelegateFirst
        | Quirk::MassDisconnect => is_connection_right(quirk, client),
        Quirk::FrozenView
        | Quirk::IdleForgetsGap
        | Quirk::SearchEmptySilent
        | Quirk::SearchInPieces
        | Quirk::ByeAtIdle
        | Quirk::IdleNeverBegins
        | Quirk::DoneUntagged
        | Quirk::StatusInIdle => is_examined_right(quirk, client),
        Quirk::StatusFrozenWhenSelected
        | Quirk::NoFlagsInIdle
        | Quirk::ExistsBeforeContinuation
        | Quirk::ByeAfter30Min
        | Quirk::EsearchCountTotal
        | Quirk::StatusInUnselectedIdle
        | Quirk::ContinuationUnspaced
        | Quirk::KeepaliveBurst => is_idle_right(quirk, client),
        _ => is_notify_right(quirk, client),
    }
}

fn is_connection_right(quirk: Quirk, client: &mut Unarmed) -> bool {
    let password = client.store.credentials().password.clone();
    if quirk == Quirk::AuthPenalty {
        // It tries a wrong password again and again.
        for _ in 0..3 {
            client.log_in("wrong");
            client.pass(Duration::from_secs(30));
        }
        return (client.log_in(&password) + &client.pass(MOMENT)).contains("a1 OK");
    }
    if let Some(is_right) = is_log_in_right(quirk, client) {
        return is_right;
    }
    client.begin();
    match quirk {
        // It opens a second connection to ask on.
        Quirk::UserIpLimit | Quirk::ConnectionLimit => {
            let _first = std::mem::replace(&mut client.session, Session::new(client.settings.clone(), 1));
            (client.log_in(&password) + &client.pass(MOMENT)).contains("a1 OK")
        }
        // It thinks that its connections end one by one.
        Quirk::MassDisconnect => {
            client.say(NOTIFY);
            client.switch_on();
            client.pass(Duration::from_millis(100));
            !client.is_closed
        }
        // It thinks that it may begin anew, since the log-in worked.
        _ => !client.is_closed,
    }
}

fn is_log_in_right(quirk: Quirk, client: &mut Unarmed) -> Option<bool> {
    client.connect();
    let greeting = client.heard();
    Some(match quirk {
        // It authenticates as it was offered.
        Quirk::PlainNotUnderstood => {
            assert!(greeting.contains("AUTH=PLAIN"), "{greeting}");
            client.say("AUTHENTICATE PLAIN AHVzZXIxAHNlY3JldA==").contains("a1 OK")
        }
        // It reads at once.
        Quirk::IdDemanded => {
            client.begin();
            let said = client.say("STATUS INBOX (UNSEEN)");
            client.is_true(&said)
        }
        // It goes on where it knows what is offered.
        Quirk::CapabilityRefused => {
            greeting.contains("CAPABILITY") || client.say("CAPABILITY").contains("a1 OK")
        }
        // It logs in as Dovecot has it.
        Quirk::DelegateFirst => {
            let master = client.store.credentials().master.clone().unwrap();
            client.say(&format!("LOGIN user1*{} {}", master.user, master.password)).contains("a1 OK")
        }
        // It takes any greeting for an OK one, and the session for that of the mailbox that it wants.
        Quirk::Preauth => {
            client.store.deliver(ACCOUNT).unwrap();
            let password = client.store.credentials().password.clone();
            client.say(&format!("LOGIN user2 {password}"));
            client.pass(MOMENT);
            client.say("STATUS INBOX (UNSEEN)").contains("UNSEEN 0")
        }
        _ => return None,
    })
}

fn is_idle_right(quirk: Quirk, client: &mut Unarmed) -> bool {
    client.begin();
    match quirk {
        // It believes STATUS of what it has selected.
        Quirk::StatusFrozenWhenSelected => {
            client.say("SELECT INBOX");
            client.deliver(1);
            let said = client.say("STATUS INBOX (UNSEEN)");
            client.is_true(&said)
        }
        // It waits for flags in IDLE.
        Quirk::NoFlagsInIdle => {
            client.deliver(1);
            client.say("EXAMINE INBOX");
            client.say("IDLE");
            client.store.all_seen(ACCOUNT);
            client.server(Input::StoreChanged);
            client.pass(Duration::from_mins(1)).contains("FETCH")
        }
        // It takes the first line for the continuation.
        Quirk::ExistsBeforeContinuation => {
            client.say("EXAMINE INBOX");
            client.say("IDLE").starts_with('+')
        }
        // It waits for a plus and a space.
        Quirk::ContinuationUnspaced => {
            client.say("EXAMINE INBOX");
            client.say("IDLE").contains("+ ")
        }
        // It says IDLE once.
        Quirk::ByeAfter30Min => {
            client.say("EXAMINE INBOX");
            client.say("IDLE");
            client.pass(Duration::from_mins(31));
            !client.is_closed
        }
        // It counts by RETURN (COUNT).
        Quirk::EsearchCountTotal => {
            client.deliver(1);
            client.store.all_seen(ACCOUNT);
            client.deliver(1);
            client.say("EXAMINE INBOX");
            client.say("UID SEARCH RETURN (COUNT) UNSEEN").contains("COUNT 1")
        }
        // It takes an unselected IDLE for one that tells nothing.
        Quirk::StatusInUnselectedIdle => {
            client.say("IDLE");
            client.deliver(1).is_empty()
        }
        // It takes the time between two lines for the server's rhythm.
        _ => {
            client.say("EXAMINE INBOX");
            client.say("IDLE");
            client.pass(Duration::from_secs(130)).matches("Still here").count() == 1
        }
    }
}

fn is_examined_right(quirk: Quirk, client: &mut Unarmed) -> bool {
    client.begin();
    client.say("EXAMINE INBOX");
    match quirk {
        // It counts without NOOP, twice, since the first count may be answered before the server looks.
        Quirk::FrozenView => {
            client.deliver(1);
            client.say("SEARCH UNSEEN");
            client.say("SEARCH UNSEEN").starts_with("* SEARCH 1\r\n")
        }
        // It waits in IDLE for what changed before.
        Quirk::IdleForgetsGap => {
            client.deliver(1);
            (client.say("IDLE") + &client.pass(Duration::from_hours(1))).contains("* 1 EXISTS")
        }
        // It waits for a line with the count.
        Quirk::SearchEmptySilent => client.say("SEARCH UNSEEN").starts_with("* SEARCH\r\n"),
        // It believes the last line.
        Quirk::SearchInPieces => {
            client.deliver(7);
            client.say("NOOP");
            let said = client.say("SEARCH UNSEEN");
            said.lines().rfind(|line| line.starts_with("* SEARCH")) == Some("* SEARCH 1 2 3 4 5 6 7")
        }
        // It comes back at once.
        Quirk::ByeAtIdle => {
            client.say("IDLE");
            !client.is_closed
        }
        // It waits for the continuation.
        Quirk::IdleNeverBegins => {
            (client.say("IDLE") + &client.pass(Duration::from_hours(1))).starts_with('+')
        }
        // It waits for the tagged answer.
        Quirk::DoneUntagged => {
            client.say("IDLE");
            client.server(Input::Bytes(b"DONE\r\n"));
            (client.heard() + &client.pass(Duration::from_mins(10))).contains("a1 OK")
        }
        // It takes each line for one change more.
        _ => {
            client.say("IDLE");
            !client.deliver(1).contains("STATUS")
        }
    }
}

fn is_notify_right(quirk: Quirk, client: &mut Unarmed) -> bool {
    client.begin();
    match quirk {
        // It waits for pushes without ever asking, or being asked.
        Quirk::SilentDrop => {
            client.say(NOTIFY);
            client.switch_on();
            let said = client.deliver(1) + &client.pass(Duration::from_hours(1));
            client.is_true(&said) || client.is_closed
        }
        Quirk::NotifyDeafAfterRotation => {
            client.say(NOTIFY);
            client.pass(Duration::from_mins(6));
            client.deliver(250);
            let said = client.deliver(1);
            client.is_true(&said)
        }
        // It reads lines by the grammar alone.
        Quirk::StatusSpaced => {
            let said = client.say(NOTIFY) + &client.deliver(1) + &client.say("STATUS INBOX (UNSEEN)");
            let lines: Vec<&str> = said.lines().filter(|line| line.contains("STATUS INBOX")).collect();
            lines.len() >= 3 && lines.into_iter().all(is_grammatical)
        }
        // It takes each pushed line for a change.
        Quirk::DuplicateStatus => {
            client.say(NOTIFY);
            client.deliver(1).matches("* STATUS").count() == 1
        }
        // It orders readings by HIGHESTMODSEQ, be it alone or within one UIDVALIDITY.
        Quirk::UidValidityBump | Quirk::OrderGoesBack => {
            client.deliver(3);
            let before = modseq(&client.say("STATUS INBOX (HIGHESTMODSEQ)"));
            client.switch_on();
            modseq(&client.say("STATUS INBOX (HIGHESTMODSEQ)")) >= before
        }
        // It arms once more as it did before.
        Quirk::NotifyRearmToggles => {
            client.say(NOTIFY);
            client.deliver(1);
            client.say(NOTIFY);
            let said = client.deliver(1);
            client.is_true(&said)
        }
        // It waits for the STATUS that answers NOTIFY.
        Quirk::InboxMissingUntilAsked => {
            let said = client.say(NOTIFY);
            client.is_true(&said)
        }
        // It arms NOTIFY once and believes what is pushed.
        _ => {
            client.say(NOTIFY);
            client.deliver(1);
            let said = client.deliver(1);
            client.is_true(&said)
        }
    }
}

#[test]
fn a_client_that_knows_nothing_of_a_quirk_is_wrong_because_of_it() {
    let mut failures = Vec::new();
    for quirk in Quirk::of_imap() {
        if !is_right(quirk, &mut Unarmed::new(None)) {
            failures.push(format!("{quirk}: it is wrong without the quirk as well"));
        }
        if is_right(quirk, &mut Unarmed::new(Some(quirk))) {
            failures.push(format!("{quirk}: it is right nevertheless"));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
