//! One connection's life: its four verbs, which commands its state allows, and how it ends. What commands do stands
//! beside, a file for each family.

use super::args::Command;
use super::login::Pending;
use super::push::Notify;
use super::reader::{Found, Reader};
use super::selected::{Selected, SyncRules};
use super::timer::{Timer, Timers};
use super::{Answer, Input, Output, Settings, Step};
use crate::peers::mail_store::{AccountId, MailStore, Quirk, Quirks};
use std::fmt;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// Commands that make no sense, at most, before the connection ends as Dovecot ends it.
const BAD_COMMANDS_MAX: u8 = 20;
/// Lines of one keep-alive with the quirk `keepalive-burst`.
const KEEPALIVE_BURST_LINES: usize = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    NotConnected,
    NotAuthenticated,
    TlsHandshake,
    Authenticated,
    /// Quirk `silent-drop`: open, and dead.
    Mute,
    Ended,
}

/// One connection of the simulated IMAP server.
#[derive(Debug)]
pub struct Session {
    pub(super) settings: Arc<Settings>,
    pub(super) timers: Timers,
    pub(super) pending: Option<Box<Pending>>,
    pub(super) selected: Option<Box<Selected>>,
    pub(super) notify: Option<Box<Notify>>,
    pub(super) is_condstore_enabled: bool,
    pub(super) is_tls: bool,
    /// The client said who it is.
    pub(super) has_sent_id: bool,
    /// [`MailStore::version`] that this session has told of.
    pub(super) told_version: u32,
    account: Option<AccountId>,
    idle_tag: Option<Box<str>>,
    reader: Reader,
    out: Vec<u8>,
    pub(super) seed: u64,
    disconnects: u32,
    phase: Phase,
    bad_commands: u8,
    wants_tls: bool,
    wants_close: bool,
}

impl Session {
    /// A connection that is about to be accepted. `seed` decides what real servers leave to chance.
    pub fn new(settings: Arc<Settings>, seed: u64) -> Self {
        Self {
            settings,
            timers: Timers::default(),
            pending: None,
            selected: None,
            notify: None,
            is_condstore_enabled: false,
            is_tls: false,
            has_sent_id: false,
            told_version: 0,
            account: None,
            idle_tag: None,
            reader: Reader::default(),
            out: Vec::new(),
            seed,
            disconnects: 0,
            phase: Phase::NotConnected,
            bad_commands: 0,
            wants_tls: false,
            wants_close: false,
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Duration, input: Input<'_>, store: &mut MailStore) {
        let step = &mut Step { now, store };
        if self.phase == Phase::Ended || self.falls_to_a_quirk(step, input) {
            return;
        }
        match input {
            Input::Connected { is_tls } => self.greet(step, is_tls),
            Input::Bytes(bytes) => self.read(step, bytes),
            Input::TlsStarted => self.resume_over_tls(step),
            Input::StoreChanged => self.look(step),
            Input::Timeout => {
                while let Some(timer) = self.timers.take_due(now) {
                    self.wake(step, timer);
                }
            }
            Input::Closed => self.end(step),
        }
    }

    /// What the caller is to do next; `None` when there is nothing more.
    pub fn poll_output(&mut self) -> Option<Output> {
        if !self.out.is_empty() {
            return Some(Output::Send(std::mem::take(&mut self.out)));
        }
        if std::mem::take(&mut self.wants_tls) {
            return Some(Output::StartTls);
        }
        std::mem::take(&mut self.wants_close).then_some(Output::Close)
    }

    /// When to say [`Input::Timeout`], unless something else happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// The account that is logged in: whose changes this session must hear of.
    pub fn account(&self) -> Option<AccountId> {
        self.account
    }

    /// Whether a change of the mailbox would be told by itself, without a command.
    pub fn is_watching(&self) -> bool {
        self.idle_tag.is_some() || self.notify.is_some()
    }

    /// Whether nothing has been told yet of what changed, and a timer is set to tell it.
    pub fn is_window_open(&self) -> bool {
        self.timers.is_set(Timer::Window)
    }

    pub(super) fn say(&mut self, text: fmt::Arguments<'_>) {
        self.out.write_fmt(text).expect("memory takes every write");
        self.out.extend_from_slice(b"\r\n");
    }

    pub(super) fn quirks(&self, store: &MailStore) -> Quirks {
        self.account.map_or(store.everywhere(), |account| store.quirks(account))
    }

    /// The log-in succeeded: from now on `account` is watched.
    pub(super) fn enter(&mut self, step: &mut Step<'_>, account: AccountId) {
        self.account = Some(account);
        self.phase = Phase::Authenticated;
        self.told_version = step.store.version(account);
        self.rearm_inactivity(step.now);
    }

    /// Says BYE and closes.
    pub(super) fn bye(&mut self, step: &mut Step<'_>, text: &str) {
        self.say(format_args!("* BYE {text}"));
        self.end(step);
        self.wants_close = true;
    }

    /// Closes without a word.
    pub(super) fn hang_up(&mut self, step: &mut Step<'_>) {
        self.end(step);
        self.wants_close = true;
    }

    /// Stays open, and answers nothing any more.
    pub(super) fn fall_silent(&mut self) {
        self.timers.stop_all();
        self.phase = Phase::Mute;
    }

    /// Decides what real servers leave to chance.
    pub(super) const fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn start_tls_after_answer(&mut self) {
        self.phase = Phase::TlsHandshake;
    }

    pub(super) fn finish(&mut self, step: &mut Step<'_>, tag: &str, answer: Answer) {
        match answer {
            Answer::Later => return,
            Answer::Ok(text) => self.say(format_args!("{tag} OK {text}")),
            Answer::No(text) => self.say(format_args!("{tag} NO {text}")),
            Answer::Bad(text) => {
                self.say(format_args!("{tag} BAD {text}"));
                self.bad_commands += 1;
            }
        }
        if self.bad_commands >= BAD_COMMANDS_MAX {
            self.bye(step, "Too many invalid IMAP commands.");
        }
    }

    fn greet(&mut self, step: &mut Step<'_>, is_tls: bool) {
        self.is_tls = is_tls;
        self.phase = Phase::NotAuthenticated;
        self.disconnects = step.store.disconnects();
        self.rearm_inactivity(step.now);
        if self.quirks(step.store).has(Quirk::Preauth) {
            self.enter(step, AccountId(0));
            let announced = self.announced(step.store);
            return self.say(format_args!("* PREAUTH {announced}Mail simulator ready."));
        }
        let announced = self.announced(step.store);
        self.say(format_args!("* OK {announced}Mail simulator ready."));
    }

    fn resume_over_tls(&mut self, step: &mut Step<'_>) {
        self.is_tls = true;
        self.phase = Phase::NotAuthenticated;
        self.rearm_inactivity(step.now);
    }

    fn read(&mut self, step: &mut Step<'_>, bytes: &[u8]) {
        self.reader.push(bytes);
        self.read_on(step);
        self.rearm_inactivity(step.now);
    }

    /// Carries out what was read, until something must be waited for.
    pub(super) fn read_on(&mut self, step: &mut Step<'_>) {
        while self.phase != Phase::Ended && !self.is_held_back() {
            match self.reader.next() {
                None => return,
                Some(Found::TooLong) => return self.bye(step, "Input line too long."),
                Some(Found::WantsContinuation) => self.say(format_args!("+ OK")),
                Some(Found::Command(line)) => self.line(step, &line),
            }
            if self.phase == Phase::TlsHandshake {
                self.reader.clear();
                self.timers.stop_all();
                self.wants_tls = true;
                return;
            }
        }
    }

    fn line(&mut self, step: &mut Step<'_>, line: &[u8]) {
        if let Some(tag) = self.idle_tag.take() {
            return self.leave_idle(step, &tag, line);
        }
        if self.pending.is_some() {
            return self.sasl_response(step, line);
        }
        match Command::parse(line) {
            Ok(command) => self.carry_out(step, command),
            Err(why) => self.finish(step, "*", Answer::Bad(format!("Error in IMAP command: {why}."))),
        }
    }

    fn carry_out(&mut self, step: &mut Step<'_>, command: Command) {
        let Command { tag, name, args } = command;
        let quirks = self.quirks(step.store);
        let (mut rules, mut is_frozen) = (SyncRules::ALL, false);
        let answer = match (name.as_str(), self.account) {
            ("CAPABILITY", _) => self.capability(step.store),
            ("NOOP" | "CHECK", _) => {
                self.flush_notify(step);
                Answer::ok(&format!("{name} completed."))
            }
            ("ID", _) => self.id(),
            ("LOGOUT", _) => {
                self.say(format_args!("* BYE Logging out"));
                self.say(format_args!("{tag} OK Logout completed."));
                self.end(step);
                self.wants_close = true;
                return;
            }
            (_, None) => self.before_login(step, &tag, &name, args),
            ("IDLE", Some(_)) if self.settings.offers_idle => return self.enter_idle(step, tag),
            ("STATUS" | "EXAMINE" | "SELECT" | "NOTIFY", Some(_)) if self.is_id_due(step.store) => {
                Answer::no("Unsafe login. Say who you are.")
            }
            (_, Some(account)) => {
                rules.tells_expunges = !matches!(name.as_str(), "SEARCH" | "FETCH" | "STORE");
                is_frozen = quirks.has(Quirk::FrozenView) && does_not_change(&name);
                self.after_login(step, account, &tag, &name, args)
            }
        };
        if !matches!(answer, Answer::Later) && !is_frozen {
            self.sync(step, rules);
        }
        if self.phase != Phase::Ended {
            self.finish(step, &tag, answer);
        }
        self.after_answer(step);
    }

    fn is_id_due(&self, store: &MailStore) -> bool {
        // Who announces nothing does not offer ID, and cannot demand it.
        let quirks = self.quirks(store);
        !self.has_sent_id && quirks.has(Quirk::IdDemanded) && !quirks.has(Quirk::CapabilityRefused)
    }

    pub(super) fn after_answer(&mut self, step: &mut Step<'_>) {
        let has_entered =
            self.phase == Phase::Authenticated && self.selected.is_none() && self.notify.is_none();
        if has_entered && self.quirks(step.store).has(Quirk::ByeAfterLogin) {
            self.bye(step, "Disconnected by server.");
        }
    }

    fn enter_idle(&mut self, step: &mut Step<'_>, tag: String) {
        let quirks = self.quirks(step.store);
        if quirks.has(Quirk::ByeAtIdle) {
            return self.bye(step, "Server is too busy for IDLE.");
        }
        if quirks.has(Quirk::IdleNeverBegins) {
            self.idle_tag = Some(tag.into());
            return;
        }
        if let Some(selected) =
            self.selected.as_deref().filter(|_| quirks.has(Quirk::ExistsBeforeContinuation))
        {
            let exists = selected.exists();
            self.say(format_args!("* {exists} EXISTS"));
        }
        let space = if quirks.has(Quirk::ContinuationUnspaced) { "" } else { " " };
        self.say(format_args!("+{space}idling"));
        self.idle_tag = Some(tag.into());
        self.timers.set(Timer::Keepalive, step.now + self.settings.keepalive);
        match self.account.filter(|_| self.notify.is_none()) {
            Some(account) if quirks.has(Quirk::IdleForgetsGap) => {
                self.told_version = step.store.version(account);
            }
            // Dovecot tells at once what a selected mailbox missed between two commands, without its window.
            Some(_) if self.selected.is_some() => self.flush(step),
            _ => self.look(step),
        }
    }

    fn leave_idle(&mut self, step: &mut Step<'_>, tag: &str, line: &[u8]) {
        self.timers.stop(Timer::Keepalive);
        self.timers.stop(Timer::Window);
        let quirks = self.quirks(step.store);
        if !quirks.has(Quirk::FrozenView) {
            self.sync(step, SyncRules::ALL);
        }
        if self.phase == Phase::Ended {
            return;
        }
        let tag = if quirks.has(Quirk::DoneUntagged) { "*" } else { tag };
        let answer = if line.eq_ignore_ascii_case(b"DONE") {
            Answer::ok("Idle completed.")
        } else {
            Answer::bad("Expected DONE.")
        };
        self.finish(step, tag, answer);
    }

    pub(super) fn is_idling(&self) -> bool {
        self.idle_tag.is_some()
    }

    fn wake(&mut self, step: &mut Step<'_>, timer: Timer) {
        match timer {
            Timer::Window | Timer::DeafLook => self.flush(step),
            Timer::Keepalive => {
                let is_burst = self.quirks(step.store).has(Quirk::KeepaliveBurst);
                for _ in 0..if is_burst { KEEPALIVE_BURST_LINES } else { 1 } {
                    self.say(format_args!("* OK Still here"));
                }
                self.timers.set(Timer::Keepalive, step.now + self.settings.keepalive);
            }
            Timer::Inactivity => self.bye(step, "Disconnected for inactivity."),
            Timer::Penalty => self.answer_login(step),
        }
    }

    /// IDLE may last (measured: Dovecot ends it never, NOTIFY after 30 min); the quirk's servers end it too, which
    /// is decided when the time has come.
    fn rearm_inactivity(&mut self, now: Duration) {
        let limit = match self.phase {
            Phase::NotAuthenticated => self.settings.login_inactivity,
            Phase::Authenticated => self.settings.inactivity,
            _ => return,
        };
        self.timers.set(Timer::Inactivity, now + limit);
    }

    /// Quirks that take hold of a session whatever it does.
    fn falls_to_a_quirk(&mut self, step: &mut Step<'_>, input: Input<'_>) -> bool {
        if input == Input::Closed || self.phase == Phase::NotConnected {
            return false;
        }
        let quirks = self.quirks(step.store);
        if self.phase == Phase::Mute {
            return true;
        }
        if self.disconnects != step.store.disconnects() {
            if self.seed.is_multiple_of(2) {
                self.say(format_args!("* BYE Server shutting down."));
            }
            self.end(step);
            self.wants_close = true;
            return true;
        }
        if self.account.is_some() && quirks.has(Quirk::SilentDrop) {
            self.timers.stop_all();
            self.out.clear();
            self.phase = Phase::Mute;
            return true;
        }
        let is_patient = self.is_idling() && !quirks.has(Quirk::ByeAfter30Min);
        if input == Input::Timeout && is_patient && self.timers.is_set(Timer::Inactivity) {
            self.rearm_inactivity(step.now);
        }
        false
    }

    fn end(&mut self, step: &mut Step<'_>) {
        if let Some(account) = self.account {
            step.store.log_out(account);
        }
        self.selected = None;
        self.notify = None;
        self.idle_tag = None;
        self.pending = None;
        self.reader.clear();
        self.timers.stop_all();
        self.phase = Phase::Ended;
    }
}

/// Commands after which a session with the quirk `frozen-view` has not looked at the mailbox.
fn does_not_change(command: &str) -> bool {
    matches!(
        command,
        "SEARCH" | "UID SEARCH" | "STATUS" | "FETCH" | "UID FETCH" | "LIST" | "NAMESPACE" | "ENABLE"
    )
}
