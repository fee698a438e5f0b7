//! The selected state: SELECT, EXAMINE, a session's own view of the mailbox and what is told when the view catches
//! up (RFC 9051 §5.2, §7.5), and the commands that change messages.

use super::args::{Args, NumberSet};
use super::{Answer, Session, Step};
use crate::peers::mail_store::{AccountId, FlagChange, Flags, FolderId, Mailbox, Message, Status};

/// What PERMANENTFLAGS and FLAGS list.
const ALL_FLAGS: &str = "\\Answered \\Flagged \\Deleted \\Seen \\Draft";

/// A session's selected mailbox, as that session has been told of it.
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) folder: FolderId,
    pub(super) view: Vec<Message>,
    is_read_only: bool,
    uidvalidity: u32,
    modseq: u64,
    orders: u32,
}

impl Selected {
    pub(super) fn exists(&self) -> usize {
        self.view.len()
    }

    /// `fresh` with the numbers that this session's view has instead.
    pub(super) fn frozen(&self, fresh: Status) -> Status {
        let unseen = self.view.iter().filter(|message| !message.flags.contains(Flags::SEEN)).count() as u32;
        let uidnext = self.view.last().map_or(1, |last| last.uid + 1);
        Status { messages: self.view.len() as u32, unseen, uidnext, modseq: self.modseq, ..fresh }
    }

    /// The uids that a set of sequence numbers, or of uids, means in this view.
    pub(super) fn chosen(&self, set: &str, by_uid: bool) -> Option<Vec<u32>> {
        let last = if by_uid { self.view.last().map_or(1, |last| last.uid) } else { self.view.len() as u32 };
        let set = NumberSet::parse(set, last)?;
        let numbered = (1..).zip(&self.view);
        let chosen =
            numbered.filter(|(place, message)| set.contains(if by_uid { message.uid } else { *place }));
        Some(chosen.map(|(_, message)| message.uid).collect())
    }

    fn forget_flags(&mut self, uids: &[u32], mailbox: &Mailbox) {
        for known in self.view.iter_mut().filter(|known| uids.binary_search(&known.uid).is_ok()) {
            if let Ok(place) = mailbox.messages().binary_search_by_key(&known.uid, |message| message.uid) {
                known.flags = mailbox.messages().get(place).map_or(known.flags, |message| message.flags);
            }
        }
    }
}

/// What may be told when a view catches up.
#[derive(Clone, Copy, Debug)]
pub(super) struct SyncRules {
    /// EXPUNGE must wait while FETCH, STORE and SEARCH run (RFC 9051 §7.5.1).
    pub(super) tells_expunges: bool,
    pub(super) tells_flags: bool,
}

impl SyncRules {
    pub(super) const ALL: Self = Self { tells_expunges: true, tells_flags: true };
}

/// The lines of one catching up, by kind.
#[derive(Default)]
struct News {
    expunged: Vec<usize>,
    flags: Vec<(usize, Flags)>,
    has_more: bool,
}

impl Session {
    pub(super) fn select(
        &mut self,
        step: &mut Step<'_>,
        account: AccountId,
        mut args: Args,
        is_read_only: bool,
    ) -> Answer {
        self.selected = None;
        let Some(name) = args.text() else {
            return Answer::bad("Error in IMAP command SELECT: Missing mailbox.");
        };
        let Some(folder) = step.store.folder(account, &name) else {
            return Answer::no("[NONEXISTENT] Mailbox doesn't exist.");
        };
        self.is_condstore_enabled |= args.list().is_some_and(|mut options| options.skip("CONDSTORE"));
        if folder == FolderId::INBOX {
            step.store.touch_inbox(account);
            self.told_version = step.store.version(account);
        }
        let Some(mailbox) = step.store.mailbox(account, folder) else { return Answer::no("[NONEXISTENT]") };
        let permanent = if is_read_only { "" } else { ALL_FLAGS };
        self.tell_selected(mailbox, permanent);
        let Status { uidvalidity, modseq, .. } = mailbox.status();
        let (view, orders) = (mailbox.messages().to_vec(), mailbox.orders());
        self.selected = Some(Box::new(Selected { folder, view, is_read_only, uidvalidity, modseq, orders }));
        if is_read_only {
            return Answer::ok("[READ-ONLY] Examine completed.");
        }
        step.store.change(account, folder, |mailbox| {
            mailbox.clear_recent();
            false
        });
        Answer::ok("[READ-WRITE] Select completed.")
    }

    fn tell_selected(&mut self, mailbox: &Mailbox, permanent: &str) {
        let status = mailbox.status();
        self.say(format_args!("* FLAGS ({ALL_FLAGS})"));
        self.say(format_args!("* OK [PERMANENTFLAGS ({permanent})] Flags permitted."));
        self.say(format_args!("* {} EXISTS", status.messages));
        self.say(format_args!("* {} RECENT", mailbox.recent()));
        let first_unseen = mailbox.messages().iter().position(|message| !message.flags.contains(Flags::SEEN));
        if let Some(place) = first_unseen {
            self.say(format_args!("* OK [UNSEEN {}] First unseen.", place + 1));
        }
        self.say(format_args!("* OK [UIDVALIDITY {}] UIDs valid", status.uidvalidity));
        self.say(format_args!("* OK [UIDNEXT {}] Predicted next UID", status.uidnext));
        if self.settings.offers_condstore {
            self.say(format_args!("* OK [HIGHESTMODSEQ {}] Highest", status.modseq));
        }
    }

    /// CLOSE and UNSELECT.
    pub(super) fn unselect(&mut self, step: &mut Step<'_>, account: AccountId, expunges: bool) -> Answer {
        let Some(selected) = self.selected.take() else { return Answer::bad("No mailbox selected.") };
        if expunges && !selected.is_read_only {
            step.store.change(account, selected.folder, |mailbox| {
                !mailbox.remove(|message| message.flags.contains(Flags::DELETED)).is_empty()
            });
        }
        Answer::ok("Close completed.")
    }

    /// Lets the view catch up with the mailbox and tells what differs.
    pub(super) fn sync(&mut self, step: &mut Step<'_>, rules: SyncRules) {
        let (Some(account), Some(mut selected)) = (self.account(), self.selected.take()) else { return };
        let Some(mailbox) = step.store.mailbox(account, selected.folder) else { return };
        let status = mailbox.status();
        if status.uidvalidity != selected.uidvalidity {
            return self.bye(step, "IMAP session state is inconsistent, please relogin.");
        }
        if selected.folder == FolderId::INBOX && self.notify.is_none() {
            self.told_version = step.store.version(account);
        }
        if (mailbox.orders(), status.modseq) != (selected.orders, selected.modseq) {
            let recent = mailbox.recent();
            let (view, news) = catch_up(&selected.view, mailbox.messages(), rules);
            selected.view = view;
            // What may not be told yet must still differ at the next look.
            if rules.tells_expunges && rules.tells_flags {
                (selected.orders, selected.modseq) = (mailbox.orders(), status.modseq);
            }
            self.tell(&news, selected.view.len(), recent, status.modseq);
        }
        self.selected = Some(selected);
    }

    fn tell(&mut self, news: &News, exists: usize, recent: usize, modseq: u64) {
        for place in &news.expunged {
            self.say(format_args!("* {place} EXPUNGE"));
        }
        if news.has_more {
            self.say(format_args!("* {exists} EXISTS"));
            self.say(format_args!("* {recent} RECENT"));
        }
        for (place, flags) in &news.flags {
            if self.is_condstore_enabled {
                self.say(format_args!("* {place} FETCH (MODSEQ ({modseq}) FLAGS ({flags}))"));
            } else {
                self.say(format_args!("* {place} FETCH (FLAGS ({flags}))"));
            }
        }
    }

    /// The selected mailbox, where its messages may be changed.
    fn writable(&mut self) -> Result<&mut Selected, Answer> {
        match self.selected.as_deref_mut() {
            None => Err(Answer::bad("No mailbox selected.")),
            Some(selected) if selected.is_read_only => {
                Err(Answer::no("[NOPERM] Mailbox is opened read-only."))
            }
            Some(selected) => Ok(selected),
        }
    }

    /// `[UID] STORE set [+-]FLAGS[.SILENT] (flags)` (RFC 9051 §6.4.6).
    pub(super) fn store(
        &mut self,
        step: &mut Step<'_>,
        account: AccountId,
        mut args: Args,
        by_uid: bool,
    ) -> Answer {
        let selected = match self.writable() {
            Ok(selected) => selected,
            Err(answer) => return answer,
        };
        let (Some(set), Some(how)) = (args.text(), args.text()) else {
            return Answer::bad("Error in IMAP command STORE: Missing arguments.");
        };
        let how = how.to_ascii_uppercase();
        let (how, is_silent) = how.strip_suffix(".SILENT").map_or((how.as_str(), false), |how| (how, true));
        let flags = flags(args);
        let change = match how {
            "+FLAGS" => FlagChange::Add(flags),
            "-FLAGS" => FlagChange::Remove(flags),
            "FLAGS" => FlagChange::Replace(flags),
            _ => return Answer::bad("Error in IMAP command STORE: Unknown item."),
        };
        let Some(uids) = selected.chosen(&set, by_uid) else { return Answer::bad("Invalid message set.") };
        step.store.change(account, selected.folder, |mailbox| {
            mailbox.store(change, |message| uids.binary_search(&message.uid).is_ok())
        });
        if let Some(mailbox) = step.store.mailbox(account, selected.folder).filter(|_| is_silent) {
            selected.forget_flags(&uids, mailbox);
        }
        Answer::ok("Store completed.")
    }

    /// EXPUNGE and UID EXPUNGE (RFC 4315).
    pub(super) fn expunge(&mut self, step: &mut Step<'_>, account: AccountId, set: Option<&str>) -> Answer {
        let selected = match self.writable() {
            Ok(selected) => selected,
            Err(answer) => return answer,
        };
        let uids = match set.map(|set| selected.chosen(set, true)) {
            None => None,
            Some(Some(uids)) => Some(uids),
            Some(None) => return Answer::bad("Invalid message set."),
        };
        let is_meant = |message: &Message| {
            message.flags.contains(Flags::DELETED)
                && uids.as_ref().is_none_or(|uids| uids.binary_search(&message.uid).is_ok())
        };
        step.store.change(account, selected.folder, |mailbox| !mailbox.remove(is_meant).is_empty());
        Answer::ok("Expunge completed.")
    }

    /// `[UID] MOVE set mailbox` (RFC 6851).
    pub(super) fn move_messages(
        &mut self,
        step: &mut Step<'_>,
        account: AccountId,
        mut args: Args,
        by_uid: bool,
    ) -> Answer {
        let selected = match self.writable() {
            Ok(selected) => selected,
            Err(answer) => return answer,
        };
        let (Some(set), Some(name)) = (args.text(), args.text()) else {
            return Answer::bad("Error in IMAP command MOVE: Missing arguments.");
        };
        let Some(uids) = selected.chosen(&set, by_uid) else { return Answer::bad("Invalid message set.") };
        let from = selected.folder;
        let Some(to) = step.store.folder(account, &name) else {
            return Answer::no("[TRYCREATE] Mailbox doesn't exist.");
        };
        let is_meant = |message: &Message| uids.binary_search(&message.uid).is_ok();
        let pairs = step.store.move_messages(account, from, to, is_meant);
        let (old, new): (Vec<u32>, Vec<u32>) = pairs.into_iter().unzip();
        let uidvalidity = step.store.mailbox(account, to).map_or(0, |mailbox| mailbox.status().uidvalidity);
        if let (Some(old), Some(new)) = (NumberSet::write(&old), NumberSet::write(&new)) {
            self.say(format_args!("* OK [COPYUID {uidvalidity} {old} {new}] Moved UIDs."));
        }
        Answer::ok("Move completed.")
    }
}

/// Flags of a STORE or APPEND, in a list or bare.
pub(super) fn flags(mut args: Args) -> Flags {
    let mut names = args.list().unwrap_or(args);
    let mut flags = Flags::NONE;
    while let Some(name) = names.text() {
        flags = flags.with(Flags::named(&name).unwrap_or_default());
    }
    flags
}

/// The view that follows from what is known and what is true, and what must be told of it; both by ascending uid.
fn catch_up(known: &[Message], truth: &[Message], rules: SyncRules) -> (Vec<Message>, News) {
    let mut view = Vec::with_capacity(truth.len());
    let mut news = News::default();
    let mut truth = truth.iter().peekable();
    for message in known {
        let found = truth.next_if(|real| real.uid == message.uid);
        match found {
            Some(real) if rules.tells_flags && real.flags != message.flags => {
                view.push(*real);
                news.flags.push((view.len(), real.flags));
            }
            None if rules.tells_expunges => news.expunged.push(view.len() + 1),
            Some(_) | None => view.push(*message),
        }
    }
    news.has_more = truth.peek().is_some();
    view.extend(truth);
    (view, news)
}
