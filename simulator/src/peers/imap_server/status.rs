//! STATUS (RFC 9051 §6.3.11): asked and pushed, in the order of items that Dovecot writes.

use super::args::Args;
use super::{Answer, Session, Step};
use crate::peers::mail_store::{AccountId, FolderId, Quirk, Status};
use std::fmt::Write as _;

/// Which numbers a STATUS line carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Items {
    pub(super) messages: bool,
    pub(super) recent: bool,
    pub(super) uidnext: bool,
    pub(super) uidvalidity: bool,
    pub(super) unseen: bool,
    pub(super) modseq: bool,
}

impl Items {
    /// Reads the names of a STATUS command; the error names the one that is unknown.
    fn parse(mut names: Args, knows_modseq: bool) -> Result<Self, String> {
        let mut items = Self::default();
        while names.left() > 0 {
            let name = names.text().unwrap_or_default().to_ascii_uppercase();
            match name.as_str() {
                "MESSAGES" => items.messages = true,
                "RECENT" => items.recent = true,
                "UIDNEXT" => items.uidnext = true,
                "UIDVALIDITY" => items.uidvalidity = true,
                "UNSEEN" => items.unseen = true,
                "HIGHESTMODSEQ" if knows_modseq => items.modseq = true,
                _ => return Err(name),
            }
        }
        if items == Self::default() { Err("(empty)".to_owned()) } else { Ok(items) }
    }

    /// `MESSAGES 2 UIDNEXT 3 …`
    pub(super) fn write(self, status: Status, recent: usize) -> String {
        let numbers = [
            ("MESSAGES", self.messages, u64::from(status.messages)),
            ("RECENT", self.recent, recent as u64),
            ("UIDNEXT", self.uidnext, u64::from(status.uidnext)),
            ("UIDVALIDITY", self.uidvalidity, u64::from(status.uidvalidity)),
            ("UNSEEN", self.unseen, u64::from(status.unseen)),
            ("HIGHESTMODSEQ", self.modseq, status.modseq),
        ];
        let mut line = String::new();
        for (name, _, number) in numbers.iter().filter(|(_, is_asked, _)| *is_asked) {
            let gap = if line.is_empty() { "" } else { " " };
            write!(line, "{gap}{name} {number}").expect("a String takes every write");
        }
        line
    }
}

impl Session {
    pub(super) fn status(&mut self, step: &mut Step<'_>, account: AccountId, mut args: Args) -> Answer {
        let (Some(name), Some(names)) = (args.text(), args.list()) else {
            return Answer::bad("Error in IMAP command STATUS: Missing arguments.");
        };
        let items = match Items::parse(names, self.settings.offers_condstore) {
            Ok(items) => items,
            Err(unknown) => {
                return Answer::Bad(format!("Error in IMAP command STATUS: Unknown status item {unknown}"));
            }
        };
        let Some(folder) = step.store.folder(account, &name) else {
            return Answer::no("[NONEXISTENT] Mailbox doesn't exist.");
        };
        if folder == FolderId::INBOX {
            step.store.touch_inbox(account);
        }
        let Some(mailbox) = step.store.mailbox(account, folder) else { return Answer::no("[NONEXISTENT]") };
        let (fresh, recent) = (mailbox.status(), mailbox.recent());
        let quirks = self.quirks(step.store);
        let is_frozen = quirks.has(Quirk::StatusFrozenWhenSelected) || quirks.has(Quirk::FrozenView);
        let selected = self.selected.as_deref().filter(|selected| selected.folder == folder);
        let is_selected = selected.is_some();
        let status = selected.filter(|_| is_frozen).map_or(fresh, |selected| selected.frozen(fresh));
        let items = items.write(status, recent);
        let is_atom = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./@".contains(&byte));
        let quote = if is_atom { "" } else { "\"" };
        self.say_status(step, &format!("{quote}{name}{quote}"), &items);
        if is_selected {
            Answer::ok("[CLIENTBUG] Status on selected mailbox completed.")
        } else {
            Answer::ok("Status completed.")
        }
    }

    /// A STATUS line, spaced as the quirk has it (sources.md §9.4).
    pub(super) fn say_status(&mut self, step: &Step<'_>, name: &str, items: &str) {
        if !self.quirks(step.store).has(Quirk::StatusSpaced) {
            return self.say(format_args!("* STATUS {name} ({items})"));
        }
        let moment = step.now.as_micros() as u64;
        match fastrand::Rng::with_seed(self.seed ^ moment).u8(0..6) {
            0 => self.say(format_args!("* STATUS {name} ({items} )")),
            1 => self.say(format_args!("* STATUS {name} ( {items})")),
            2 => self.say(format_args!("* STATUS {name}  ({items})")),
            3 => self.say(format_args!("* STATUS  {name} ({items})")),
            4 => self.say(format_args!("* STATUS {name} ({items}) ")),
            _ => self.say(format_args!("*  STATUS {name} ({})", items.replace(' ', "  "))),
        }
    }
}
