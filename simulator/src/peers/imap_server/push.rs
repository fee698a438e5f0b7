//! What is told without being asked: NOTIFY's STATUS lines (RFC 5465) and IDLE's news, each after the window in
//! which changes are merged, and the quirks of both.

use super::args::Args;
use super::selected::SyncRules;
use super::status::Items;
use super::timer::Timer;
use super::{Answer, Session, Step};
use crate::peers::mail_store::{AccountId, Quirk, Status};

/// What BADEVENT lists.
const EVENTS: &str = "MessageNew MessageExpunge FlagChange";

/// An armed NOTIFY on INBOX.
#[derive(Debug)]
pub(super) struct Notify {
    tells_messages: bool,
    tells_flags: bool,
    /// What the client knows; `None` while INBOX was missing at arming.
    told: Option<Status>,
    /// Which of the mailbox's logs is watched (quirk `notify-deaf-after-rotation`).
    log: u32,
    /// Pushes are off (quirk `notify-rearm-toggles`).
    is_off: bool,
}

/// What a NOTIFY command asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Nothing,
    Inbox { with_status: bool, tells_messages: bool, tells_flags: bool },
}

impl Wanted {
    /// `NONE` or `SET [STATUS] (filter (events)) …`; the error is the whole answer.
    fn parse(mut args: Args) -> Result<Self, Answer> {
        if args.skip("NONE") {
            return Ok(Self::Nothing);
        }
        if !args.skip("SET") {
            return Err(Answer::bad("Error in IMAP command NOTIFY: Unknown subcommand."));
        }
        let with_status = args.skip("STATUS");
        let (mut tells_messages, mut tells_flags) = (false, false);
        while let Some(mut group) = args.list() {
            let covers_inbox = covers_inbox(&mut group)?;
            let Some(mut events) = group.list() else {
                if group.skip("NONE") {
                    continue;
                }
                return Err(Answer::bad("Error in IMAP command NOTIFY: Missing events."));
            };
            let (mut new, mut expunge, mut flags) = (false, false, false);
            while let Some(event) = events.text() {
                match event.to_ascii_lowercase().as_str() {
                    "messagenew" => new = true,
                    "messageexpunge" => expunge = true,
                    "flagchange" => flags = true,
                    _ => return Err(Answer::No(format!("[BADEVENT ({EVENTS})] Unsupported event."))),
                }
            }
            if new != expunge || (flags && !new) {
                return Err(Answer::bad("MessageNew and MessageExpunge must be together."));
            }
            tells_messages |= covers_inbox && new;
            tells_flags |= covers_inbox && flags;
        }
        if args.left() > 0 {
            return Err(Answer::bad("Error in IMAP command NOTIFY: Invalid event group."));
        }
        Ok(Self::Inbox { with_status, tells_messages, tells_flags })
    }
}

/// Reads a filter (RFC 5465 §6) up to its events.
fn covers_inbox(group: &mut Args) -> Result<bool, Answer> {
    let filter = group.text().unwrap_or_default().to_ascii_lowercase();
    match filter.as_str() {
        "inboxes" | "personal" => Ok(true),
        "selected" | "selected-delayed" | "subscribed" => Ok(false),
        "mailboxes" | "subtree" => {
            if let Some(mut names) = group.list() {
                let mut covers = false;
                while let Some(name) = names.text() {
                    covers |= name.eq_ignore_ascii_case("INBOX");
                }
                return Ok(covers);
            }
            Ok(group.text().is_some_and(|name| name.eq_ignore_ascii_case("INBOX")))
        }
        _ => Err(Answer::bad("Error in IMAP command NOTIFY: Unknown mailbox filter.")),
    }
}

impl Session {
    pub(super) fn notify_command(&mut self, step: &mut Step<'_>, account: AccountId, args: Args) -> Answer {
        let wanted = match Wanted::parse(args) {
            Ok(wanted) => wanted,
            Err(answer) => return answer,
        };
        self.flush_notify(step);
        self.timers.stop(Timer::Window);
        self.timers.stop(Timer::DeafLook);
        let toggles = self.quirks(step.store).has(Quirk::NotifyRearmToggles);
        let was_on = self.notify.take().is_some_and(|notify| !notify.is_off);
        let Wanted::Inbox { with_status, tells_messages, tells_flags } = wanted else {
            return Answer::ok("NOTIFY completed.");
        };
        self.told_version = step.store.version(account);
        let told = step.store.status(account).filter(|_| step.store.is_inbox_there(account));
        if let Some(status) = told.filter(|_| with_status) {
            let items = self.all_items().write(status, 0);
            self.say_status(step, "INBOX", &items);
        }
        let log = self.told_version / self.settings.rotation_changes.max(1);
        self.notify =
            Some(Box::new(Notify { tells_messages, tells_flags, told, log, is_off: toggles && was_on }));
        Answer::ok("NOTIFY completed.")
    }

    /// The store changed, or watching begins: opens the window, unless it is open or we are deaf.
    pub(super) fn look(&mut self, step: &mut Step<'_>) {
        let Some(account) = self.account() else { return };
        let version = step.store.version(account);
        if version == self.told_version || !self.is_watching() || self.is_window_open() {
            return;
        }
        if self.is_deaf(step, version) {
            if !self.timers.is_set(Timer::DeafLook) {
                self.timers.set(Timer::DeafLook, step.now + self.settings.deaf_look);
            }
        } else if self.settings.window.is_zero() {
            self.flush(step);
        } else {
            self.timers.set(Timer::Window, step.now + self.settings.window);
        }
    }

    /// Tells what changed in the window that is over.
    pub(super) fn flush(&mut self, step: &mut Step<'_>) {
        let quirks = self.quirks(step.store);
        let told_version = self.told_version;
        self.flush_notify(step);
        let Some(account) = self.account().filter(|_| self.is_idling()) else { return };
        if self.selected.is_some() {
            let is_changed = step.store.version(account) != told_version;
            if is_changed && quirks.has(Quirk::StatusInIdle) {
                self.push_status(step, account, Items { modseq: false, ..self.all_items() });
            }
            self.sync(step, SyncRules { tells_flags: !quirks.has(Quirk::NoFlagsInIdle), ..SyncRules::ALL });
        } else if quirks.has(Quirk::StatusInUnselectedIdle) && self.notify.is_none() {
            let items = Items { messages: true, unseen: true, ..Items::default() };
            self.push_status(step, account, items);
        }
    }

    /// Tells what NOTIFY has to tell, at once.
    pub(super) fn flush_notify(&mut self, step: &mut Step<'_>) {
        let Some(account) = self.account() else { return };
        let version = step.store.version(account);
        if version == std::mem::replace(&mut self.told_version, version) {
            return;
        }
        let Some(mut notify) = self.notify.take() else { return };
        let Some(status) = step.store.status(account) else { return };
        let quirks = self.quirks(step.store);
        if quirks.has(Quirk::NotificationOverflow) {
            self.say(format_args!("* OK [NOTIFICATIONOVERFLOW] Too many changes, notifications are off."));
            return;
        }
        let was_missing = notify.told.is_none();
        let mut items = self.items_to_tell(&notify, status);
        items.unseen &= !(items.messages && quirks.has(Quirk::NotifyWithoutUnseen));
        notify.told = Some(status);
        self.notify = Some(notify);
        for _ in 0..if was_missing { 2 } else { 1 } {
            self.push_status(step, account, items);
        }
    }

    fn push_status(&mut self, step: &mut Step<'_>, account: AccountId, items: Items) {
        let Some(status) = step.store.status(account) else { return };
        let line = items.write(status, 0);
        let is_doubled = self.quirks(step.store).has(Quirk::DuplicateStatus);
        for _ in 0..if line.is_empty() { 0 } else { 1 + usize::from(is_doubled) } {
            self.say_status(step, "INBOX", &line);
        }
    }

    /// Which numbers Dovecot pushes for which kind of change (measured; sources.md §4.2).
    fn items_to_tell(&self, notify: &Notify, now: Status) -> Items {
        let Some(told) = notify.told else { return self.all_items() };
        if told.uidvalidity != now.uidvalidity {
            return self.all_items();
        }
        let is_other_messages = told.messages != now.messages || told.uidnext != now.uidnext;
        if is_other_messages && notify.tells_messages {
            return Items { uidvalidity: false, ..self.all_items() };
        }
        let modseq = self.settings.offers_condstore && notify.tells_flags;
        Items { unseen: notify.tells_flags && told.unseen != now.unseen, modseq, ..Items::default() }
    }

    fn all_items(&self) -> Items {
        let modseq = self.settings.offers_condstore;
        Items { messages: true, uidnext: true, uidvalidity: true, unseen: true, modseq, recent: false }
    }

    fn is_deaf(&self, step: &Step<'_>, version: u32) -> bool {
        let Some(notify) = self.notify.as_deref() else { return false };
        let log = version / self.settings.rotation_changes.max(1);
        let is_rotated = notify.log != log;
        notify.is_off || (is_rotated && self.quirks(step.store).has(Quirk::NotifyDeafAfterRotation))
    }
}
