//! Commands of a logged-in session that need no file of their own: the table of all of them, ENABLE, LIST, CREATE,
//! NAMESPACE and APPEND.

use super::args::Args;
use super::selected::flags;
use super::{Answer, Session, Step};
use crate::peers::mail_store::{AccountId, Flags};

impl Session {
    pub(super) fn after_login(
        &mut self,
        step: &mut Step<'_>,
        account: AccountId,
        tag: &str,
        name: &str,
        mut args: Args,
    ) -> Answer {
        match name {
            "STATUS" => self.status(step, account, args),
            "NOTIFY" if self.settings.offers_notify => self.notify_command(step, account, args),
            "SELECT" => self.select(step, account, args, false),
            "EXAMINE" => self.select(step, account, args, true),
            "CLOSE" => self.unselect(step, account, true),
            "UNSELECT" => self.unselect(step, account, false),
            "SEARCH" => self.search(step, tag, args, false),
            "UID SEARCH" => self.search(step, tag, args, true),
            "FETCH" => self.fetch(args, false),
            "UID FETCH" => self.fetch(args, true),
            "STORE" => self.store(step, account, args, false),
            "UID STORE" => self.store(step, account, args, true),
            "EXPUNGE" => self.expunge(step, account, None),
            "UID EXPUNGE" => match args.text() {
                Some(set) => self.expunge(step, account, Some(&set)),
                None => Answer::bad("Error in IMAP command UID EXPUNGE: Missing message set."),
            },
            "MOVE" => self.move_messages(step, account, args, false),
            "UID MOVE" => self.move_messages(step, account, args, true),
            "APPEND" => append(step, account, args),
            "CREATE" => create(step, account, args),
            "LIST" => self.list(step, account, args),
            "NAMESPACE" => {
                self.say(format_args!("* NAMESPACE ((\"\" \"/\")) NIL NIL"));
                Answer::ok("Namespace completed.")
            }
            "ENABLE" => self.enable(args),
            "LOGIN" | "AUTHENTICATE" | "STARTTLS" => Answer::bad("Already logged in."),
            _ => Answer::Bad(format!("Error in IMAP command {name}: Unknown command.")),
        }
    }

    fn enable(&mut self, mut args: Args) -> Answer {
        let mut enabled = "";
        while let Some(name) = args.text() {
            if name.eq_ignore_ascii_case("CONDSTORE") && self.settings.offers_condstore {
                self.is_condstore_enabled = true;
                enabled = " CONDSTORE";
            }
        }
        self.say(format_args!("* ENABLED{enabled}"));
        Answer::ok("Enabled.")
    }

    /// `LIST reference pattern` with `*` and `%` (RFC 9051 §6.3.9); the simulator's folders lie side by side.
    fn list(&mut self, step: &mut Step<'_>, account: AccountId, mut args: Args) -> Answer {
        let (Some(_), Some(pattern)) = (args.text(), args.text()) else {
            return Answer::bad("Error in IMAP command LIST: Missing arguments.");
        };
        if pattern.is_empty() {
            self.say(format_args!("* LIST (\\Noselect) \"/\" \"\""));
        }
        step.store.folder(account, "Trash");
        let names = std::iter::once("INBOX").chain(step.store.folders(account));
        for name in names.filter(|name| matches_pattern(name, &pattern)) {
            self.say(format_args!("* LIST (\\HasNoChildren) \"/\" \"{name}\""));
        }
        Answer::ok("List completed.")
    }
}

/// `*` and `%` mean the same where folders have no hierarchy; one of them, at any place, is understood.
fn matches_pattern(name: &str, pattern: &str) -> bool {
    match pattern.split_once(['*', '%']) {
        Some((before, after)) => {
            name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
        }
        None => name == pattern || (name == "INBOX" && pattern.eq_ignore_ascii_case("INBOX")),
    }
}

/// `APPEND mailbox [(flags)] [date] literal` (RFC 9051 §6.3.12); the text itself is not kept.
fn append(step: &mut Step<'_>, account: AccountId, mut args: Args) -> Answer {
    let Some(name) = args.text() else {
        return Answer::bad("Error in IMAP command APPEND: Missing mailbox.");
    };
    let flags = args.list().map_or(Flags::NONE, flags);
    if !(1..=2).contains(&args.left()) {
        return Answer::bad("Error in IMAP command APPEND: Missing message.");
    }
    let Some(folder) = step.store.folder(account, &name) else {
        return Answer::no("[TRYCREATE] Mailbox doesn't exist.");
    };
    let uid = step.store.append(account, folder, flags);
    let uidvalidity = step.store.mailbox(account, folder).map(|mailbox| mailbox.status().uidvalidity);
    match uid.zip(uidvalidity) {
        Some((uid, uidvalidity)) => Answer::Ok(format!("[APPENDUID {uidvalidity} {uid}] Append completed.")),
        None => Answer::no("[TRYCREATE] Mailbox doesn't exist."),
    }
}

fn create(step: &mut Step<'_>, account: AccountId, mut args: Args) -> Answer {
    let Some(name) = args.text().filter(|name| !name.is_empty()) else {
        return Answer::bad("Error in IMAP command CREATE: Missing mailbox.");
    };
    if name.contains(['"', '\\']) || name.chars().any(char::is_control) {
        return Answer::no("[CANNOT] Invalid mailbox name.");
    }
    match step.store.create_folder(account, &name) {
        Some(_) => Answer::ok("Create completed."),
        None => Answer::no("[ALREADYEXISTS] Mailbox exists, or there are too many."),
    }
}
