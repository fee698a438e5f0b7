//! SEARCH in a session's view, with RETURN (RFC 9051 §6.4.4, RFC 4731), and FETCH of what the simulator keeps of a
//! message: its uid and flags.

use super::args::{Args, NumberSet};
use super::selected::Selected;
use super::{Answer, Session, Step};
use crate::peers::mail_store::{Flags, Message, Quirk};

/// Nested NOTs, at most.
const NOT_DEPTH_MAX: usize = 8;
/// Numbers of one line with the quirk `search-in-pieces`.
const PIECE: usize = 3;

/// One search key: all keys of a command must hold.
enum Key {
    All,
    Has(Flags),
    Lacks(Flags),
    Places(NumberSet),
    Uids(NumberSet),
    Not(Box<Self>),
}

impl Key {
    fn parse(args: &mut Args, selected: &Selected, depth: usize) -> Option<Self> {
        let word = args.text()?.to_ascii_uppercase();
        let last_place = selected.view.len() as u32;
        let last_uid = selected.view.last().map_or(1, |last| last.uid);
        Some(match word.as_str() {
            "ALL" => Self::All,
            "SEEN" => Self::Has(Flags::SEEN),
            "UNSEEN" => Self::Lacks(Flags::SEEN),
            "DELETED" => Self::Has(Flags::DELETED),
            "UNDELETED" => Self::Lacks(Flags::DELETED),
            "FLAGGED" => Self::Has(Flags::FLAGGED),
            "UNFLAGGED" => Self::Lacks(Flags::FLAGGED),
            "ANSWERED" => Self::Has(Flags::ANSWERED),
            "UNANSWERED" => Self::Lacks(Flags::ANSWERED),
            "NOT" if depth < NOT_DEPTH_MAX => Self::Not(Box::new(Self::parse(args, selected, depth + 1)?)),
            "UID" => Self::Uids(NumberSet::parse(&args.text()?, last_uid)?),
            _ => Self::Places(NumberSet::parse(&word, last_place)?),
        })
    }

    fn holds(&self, place: u32, message: Message) -> bool {
        match self {
            Self::All => true,
            Self::Has(flag) => message.flags.contains(*flag),
            Self::Lacks(flag) => !message.flags.contains(*flag),
            Self::Places(set) => set.contains(place),
            Self::Uids(set) => set.contains(message.uid),
            Self::Not(key) => !key.holds(place, message),
        }
    }

    fn is_unseen(&self) -> bool {
        matches!(self, Self::Lacks(flag) if *flag == Flags::SEEN)
    }
}

/// What RETURN asks for.
#[derive(Clone, Copy, Default)]
struct Returned {
    count: bool,
    all: bool,
    min: bool,
    max: bool,
}

impl Returned {
    fn parse(mut names: Args) -> Option<Self> {
        let mut returned = Self { all: names.left() == 0, ..Self::default() };
        while let Some(name) = names.text() {
            match name.to_ascii_uppercase().as_str() {
                "COUNT" => returned.count = true,
                "ALL" => returned.all = true,
                "MIN" => returned.min = true,
                "MAX" => returned.max = true,
                _ => return None,
            }
        }
        Some(returned)
    }
}

impl Session {
    /// `[UID] SEARCH [RETURN (…)] keys`.
    pub(super) fn search(&mut self, step: &mut Step<'_>, tag: &str, mut args: Args, by_uid: bool) -> Answer {
        let quirks = self.quirks(step.store);
        let counts_all = quirks.has(Quirk::EsearchCountTotal);
        let Some(selected) = self.selected.as_deref() else { return Answer::bad("No mailbox selected.") };
        let returned = if self.settings.offers_esearch && args.skip("RETURN") {
            match args.list().and_then(Returned::parse) {
                Some(returned) => Some(returned),
                None => return Answer::bad("Error in IMAP command SEARCH: Unknown RETURN option."),
            }
        } else {
            None
        };
        if args.skip("CHARSET") {
            args.text();
        }
        let mut keys = Vec::new();
        while args.left() > 0 {
            match Key::parse(&mut args, selected, 0) {
                Some(key) => keys.push(key),
                None => return Answer::bad("Error in IMAP command SEARCH: Unknown argument."),
            }
        }
        if keys.is_empty() {
            return Answer::bad("Error in IMAP command SEARCH: Missing search parameters.");
        }
        let numbered = (1..).zip(&selected.view);
        let found = numbered.filter(|(place, message)| keys.iter().all(|key| key.holds(*place, **message)));
        let found: Vec<u32> =
            found.map(|(place, message)| if by_uid { message.uid } else { place }).collect();
        if found.is_empty() && quirks.has(Quirk::SearchEmptySilent) {
            return Answer::ok("Search completed.");
        }
        if quirks.has(Quirk::SearchInPieces) && !found.is_empty() {
            for piece in found.chunks(PIECE) {
                self.say(format_args!("{}", listed(piece)));
            }
            return Answer::ok("Search completed.");
        }
        let answer = match returned {
            Some(returned) => {
                let is_total = counts_all && keys.iter().any(Key::is_unseen);
                let count = if is_total { selected.exists() } else { found.len() };
                esearch(tag, by_uid, returned, &found, count)
            }
            None => listed(&found),
        };
        self.say(format_args!("{answer}"));
        Answer::ok("Search completed.")
    }

    /// `[UID] FETCH set items`: UID, FLAGS and MODSEQ, whatever else is asked for is refused.
    pub(super) fn fetch(&mut self, mut args: Args, by_uid: bool) -> Answer {
        let Some(selected) = self.selected.as_deref() else { return Answer::bad("No mailbox selected.") };
        let Some(uids) = args.text().and_then(|set| selected.chosen(&set, by_uid)) else {
            return Answer::bad("Invalid message set.");
        };
        let mut names = args.list().unwrap_or(args);
        while let Some(name) = names.text() {
            if !matches!(name.to_ascii_uppercase().as_str(), "UID" | "FLAGS") {
                return Answer::no("[CANNOT] The simulator keeps only UID and FLAGS of a message.");
            }
        }
        let numbered = (1..).zip(&selected.view);
        let chosen = numbered.filter(|(_, message)| uids.binary_search(&message.uid).is_ok());
        let line = |(place, message): (u32, &Message)| {
            format!("* {place} FETCH (UID {} FLAGS ({}))", message.uid, message.flags)
        };
        let lines: Vec<String> = chosen.map(line).collect();
        for line in lines {
            self.say(format_args!("{line}"));
        }
        Answer::ok("Fetch completed.")
    }
}

/// `* SEARCH 2 5 7`.
fn listed(found: &[u32]) -> String {
    found.iter().fold("* SEARCH".to_owned(), |line, number| line + " " + &number.to_string())
}

/// `* ESEARCH (TAG "a1") UID COUNT 5` (RFC 4731 §3.1); MIN, MAX and ALL are left out where nothing was found.
fn esearch(tag: &str, by_uid: bool, returned: Returned, found: &[u32], count: usize) -> String {
    let mut line = format!("* ESEARCH (TAG \"{tag}\")");
    if by_uid {
        line.push_str(" UID");
    }
    let parts = [
        ("MIN", returned.min, found.first().map(u32::to_string)),
        ("MAX", returned.max, found.last().map(u32::to_string)),
        ("ALL", returned.all, NumberSet::write(found)),
        ("COUNT", returned.count, Some(count.to_string())),
    ];
    for (name, is_asked, value) in parts {
        if let Some(value) = value.filter(|_| is_asked) {
            line = line + " " + name + " " + &value;
        }
    }
    line
}
